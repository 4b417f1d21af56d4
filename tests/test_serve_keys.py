"""Keys: what is stored, what is accepted, how soon a change by another process is seen."""

from __future__ import annotations

import hmac
import logging
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool
from typer.testing import CliRunner

from backprop.cli import keys as cli
from backprop.errors import InputError, NotFoundError
from backprop.serve.freshness import FileReader, TimedReader, reader_of
from backprop.serve.keys import ALL, KEYS, MOST_CHARACTERS, SCOPES, Keys
from backprop.serve.store.database import open_engine
from tests import hub_tools
from tests.guard import run_python

FORM = re.compile(r"bp_([a-z0-9]{12})_([A-Za-z0-9-]{32,})")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine("", tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture
def keys(engine: Engine) -> Iterator[Keys]:
    keys = Keys(engine)
    yield keys
    keys.close()


def another(keys: Keys, folder: Path) -> Iterator[Keys]:
    engine = open_engine("", folder)
    other = Keys(engine)
    yield other
    other.close()
    engine.dispose()


@pytest.fixture
def other(keys: Keys, tmp_path: Path) -> Iterator[Keys]:
    """The same keys, as another process has them."""
    yield from another(keys, tmp_path)


def altered(presented: str, place: int) -> str:
    """Return a key with another character at ``place``."""
    new = "b" if presented[place] == "a" else "a"
    return presented[:place] + new + presented[place + 1 :]


# What a key is


def test_a_key_has_its_id_and_a_secret_in_one_word(keys: Keys) -> None:
    key, presented = keys.create("infer", "laptop")
    match = FORM.fullmatch(presented)
    assert match and match[1] == key.id
    assert (key.scope, key.name, key.revoked) == ("infer", "laptop", None)
    assert abs((datetime.now(timezone.utc) - key.created).total_seconds()) < 60


def test_no_two_keys_share_anything(keys: Keys) -> None:
    made = [FORM.fullmatch(keys.create("infer")[1]) for _ in range(20)]
    assert len({each[1] for each in made if each}) == len({each[2] for each in made if each}) == 20


def test_the_database_holds_the_hash_and_not_the_secret(keys: Keys, tmp_path: Path) -> None:
    _, presented = keys.create("admin")
    secret = presented.rpartition("_")[2].encode()
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert any(b"access_keys" in content for content in files)
    assert not any(secret in content for content in files)


def test_a_key_survives_a_restart(keys: Keys, other: Keys) -> None:
    key, presented = keys.create("write", "Zoë")
    assert other.list() == [key]
    assert other.check(presented) == key


@pytest.mark.parametrize("scope", ["", "root", "Infer", "infer "])
def test_an_unknown_scope_is_refused(keys: Keys, scope: str) -> None:
    with pytest.raises(InputError, match="infer, write, admin"):
        keys.create(scope)


@pytest.mark.parametrize("name", ["a" * 101, "two\nlines", "\x1b[31m"])
def test_a_name_that_would_spoil_a_list_is_refused(keys: Keys, name: str) -> None:
    with pytest.raises(InputError, match="printable"):
        keys.create("infer", name)


@pytest.mark.parametrize("has", range(3))
@pytest.mark.parametrize("needs", range(3))
def test_a_scope_includes_those_before_it(keys: Keys, has: int, needs: int) -> None:
    key, _ = keys.create(SCOPES[has])
    assert key.allows(SCOPES[needs]) is (has >= needs)


# What is accepted


def test_the_key_that_was_made_is_accepted_and_its_neighbours_are_not(keys: Keys) -> None:
    key, presented = keys.create("infer")
    keys.create("admin")
    assert keys.check(presented) == key
    for place in range(len(presented)):
        assert keys.check(altered(presented, place)) is None
        assert keys.check(presented[:place]) is None
    for wrong in (presented + "a", " " + presented, presented + " ", presented.upper()):
        assert keys.check(wrong) is None


def test_the_secret_of_one_key_does_not_open_another(keys: Keys) -> None:
    (key, first), (_, second) = keys.create("infer"), keys.create("admin")
    assert keys.check(f"bp_{key.id}_{second.rpartition('_')[2]}") is None
    assert keys.check(first) == key


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.one_of(st.none(), st.text(), st.text().map("bp_{}".format)))
def test_nothing_else_is_a_key(keys: Keys, presented: str | None) -> None:
    if not keys.any():
        keys.create("admin")
    assert keys.check(presented) is None


@pytest.mark.parametrize(
    "form", ["bp_{id}_", "bp_{id}", "{id}_", "bp__", "", "_", "bp_{id}_é\ud800"]
)
def test_a_malformed_key_is_refused(keys: Keys, form: str) -> None:
    key, _ = keys.create("admin")
    assert keys.check(form.format(id=key.id)) is None


def test_the_hash_itself_is_no_key(keys: Keys, engine: Engine) -> None:
    key, _ = keys.create("admin")
    with engine.connect() as connection:
        digest = connection.execute(KEYS.select()).one().secret_sha256
    assert keys.check(f"bp_{key.id}_{digest}") is None


def test_a_hash_is_compared_whatever_is_presented(keys: Keys) -> None:
    key, presented = keys.create("infer")
    tried = (presented, f"bp_{'0' * 12}_{'a' * 43}", "nonsense", f"bp_{key.id}_short")
    for each in tried:
        with mock.patch.object(hmac, "compare_digest", wraps=hmac.compare_digest) as compared:
            keys.check(each)
        assert [len(value) for value in compared.call_args.args] == [64, 64]


def test_what_is_too_long_is_not_even_hashed(keys: Keys) -> None:
    with mock.patch.object(hmac, "compare_digest", wraps=hmac.compare_digest) as compared:
        assert keys.check("a" * (MOST_CHARACTERS + 1)) is None
        assert not compared.called
        keys.check("a" * MOST_CHARACTERS)
        assert compared.called


def test_a_revoked_key_is_refused_for_good(keys: Keys) -> None:
    key, presented = keys.create("admin")
    keys.revoke(key.id)
    assert keys.check(presented) is None
    assert keys.find(key.id) is None
    revoked = keys.list()[0].revoked
    keys.revoke(key.id)
    assert revoked and keys.list()[0].revoked == revoked


def test_a_key_that_was_seen_is_revoked_by_itself_and_not_shown_again(keys: Keys) -> None:
    key, presented = keys.create("admin")
    assert keys.revoke(presented) == key.id
    assert keys.check(presented) is None
    secret = presented.rpartition("_")[2]
    for never in (
        f"bp_{'0' * 12}_{secret}",
        f"Bearer bp_{'0' * 12}_{secret}",
        f"{'0' * 12}_{secret}",
    ):
        with pytest.raises(NotFoundError, match="'000000000000'; see") as told:
            keys.revoke(never)
        assert secret not in str(told.value)


def test_there_is_no_key_to_revoke_that_was_never_made(keys: Keys) -> None:
    with pytest.raises(NotFoundError, match="backprop keys list"):
        keys.revoke("0" * 12)


def test_a_revoked_key_still_counts_as_one(keys: Keys) -> None:
    assert not keys.any()
    key, _ = keys.create("admin")
    keys.revoke(key.id)
    assert keys.any()


def test_a_scope_that_nobody_knows_allows_nothing(keys: Keys, engine: Engine) -> None:
    key, presented = keys.create("infer")
    with engine.begin() as connection:
        connection.execute(KEYS.update().values(scope="superuser"))
    assert keys.check(presented) is None
    assert keys.any()


# How soon a change is seen


def test_what_another_process_changes_is_seen_at_the_next_request(
    keys: Keys, tmp_path: Path
) -> None:
    assert not keys.any()
    code = f"""
        from pathlib import Path
        from backprop.serve.keys import Keys
        from backprop.serve.store.database import open_engine
        keys = Keys(open_engine("", Path({str(tmp_path)!r})))
        print(keys.create("infer")[1])
        gone, text = keys.create("admin")
        keys.revoke(gone.id)
        print(text)
    """
    process = run_python(code)
    assert process.returncode == 0, process.stderr
    good, gone = process.stdout.split()
    assert keys.check(good)
    assert keys.check(gone) is None


def test_a_revocation_elsewhere_is_seen_at_the_next_request(keys: Keys, other: Keys) -> None:
    key, presented = keys.create("infer")
    for _ in range(3):
        assert keys.check(presented)
    other.revoke(key.id)
    assert keys.check(presented) is None


def test_while_the_database_is_locked_what_is_known_answers_at_once(
    keys: Keys, other: Keys, tmp_path: Path
) -> None:
    key, presented = keys.create("infer")
    assert keys.check(presented)
    other.revoke(key.id)
    lock = sqlite3.connect(tmp_path / "server.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    start = time.perf_counter()
    assert keys.check(presented)
    assert time.perf_counter() - start < 1
    lock.rollback()
    lock.close()
    assert keys.check(presented) is None


def test_checking_leaves_no_lock_behind(keys: Keys, tmp_path: Path) -> None:
    _, presented = keys.create("infer")
    for _ in range(3):
        assert keys.check(presented)
    writer = sqlite3.connect(tmp_path / "server.db", timeout=0)
    writer.execute("BEGIN EXCLUSIVE")
    writer.rollback()
    writer.close()


def test_rows_are_read_only_when_something_changed(keys: Keys, engine: Engine) -> None:
    keys.create("infer")
    reader = reader_of(engine, ALL)
    assert isinstance(reader, FileReader)
    first = reader.changed()
    assert first is not None and len(first) == 1
    assert reader.changed() is None
    keys.create("infer")
    second = reader.changed()
    assert second is not None and len(second) == 2
    reader.close()


def test_a_database_that_cannot_be_read_at_the_start_is_no_empty_one(tmp_path: Path) -> None:
    lock = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    engine = create_engine(f"sqlite:///{tmp_path}/a.db", connect_args={"timeout": 0})
    with pytest.raises(OperationalError):
        Keys(engine)
    lock.close()
    engine.dispose()


def test_a_database_that_is_locked_at_the_first_request_is_no_empty_one(
    keys: Keys, tmp_path: Path
) -> None:
    _, presented = keys.create("infer")
    for later in another(keys, tmp_path):
        lock = sqlite3.connect(tmp_path / "server.db", isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        assert later.any() and later.check(presented)
        lock.close()


def test_threads_check_and_change_at_once(keys: Keys) -> None:
    _, presented = keys.create("infer")
    failed: list[object] = []

    def check() -> None:
        failed.extend(None for _ in range(300) if keys.check(presented) is None)

    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        keys.create("write")
    for thread in threads:
        thread.join()
    assert failed == []


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def memory() -> Iterator[Engine]:
    """A database without a file that could be watched, as one on a server."""
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    yield engine
    engine.dispose()


def test_other_databases_are_read_once_a_second_at_most(memory: Engine) -> None:
    keys, clock, asked = Keys(memory), Clock(), []
    event.listen(memory, "before_cursor_execute", lambda *values: asked.append(values[2]))
    reader = TimedReader(memory, ALL, clock=clock)
    for _ in range(10):
        reader.changed()
        clock.now += 0.09
    assert len(asked) == 1
    keys.create("infer")
    asked.clear()
    assert reader.changed() is None
    clock.now += 0.5
    rows = reader.changed()
    assert rows is not None and len(rows) == 1
    assert len(asked) == 1
    assert isinstance(reader_of(memory, ALL), TimedReader)


def test_a_request_does_not_wait_for_a_database_that_hangs(memory: Engine) -> None:
    Keys(memory)
    clock, release, hangs = Clock(), threading.Event(), True
    event.listen(memory, "before_cursor_execute", lambda *_: hangs and release.wait(30) and None)
    reader = TimedReader(memory, ALL, clock=clock, patience_s=0.05)
    start = time.perf_counter()
    assert reader.changed() is None
    first = time.perf_counter() - start
    clock.now += 100
    for _ in range(100):
        assert reader.changed() is None
    assert time.perf_counter() - start < first + 0.5
    hangs = False
    release.set()
    # The answer of then is old by now: it is read anew, not taken for fresh.
    deadline = time.perf_counter() + 10
    while (rows := reader.changed()) is None and time.perf_counter() < deadline:
        clock.now += 1
    assert rows is not None


def test_what_is_known_stays_where_a_database_is_gone(
    memory: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys(memory)
    _, presented = keys.create("infer")
    with memory.begin() as connection:
        connection.execute(text("DROP TABLE access_keys"))
    with caplog.at_level(logging.WARNING, "backprop.serve"):
        assert keys.check(presented)
    assert "could not be read" in caplog.text
    assert "access_keys" not in caplog.text


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URL of a real PostgreSQL server that runs as long as these tests."""
    programs = hub_tools.postgresql_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL's programs: apt-get install postgresql")
    with hub_tools.postgresql(programs) as url:
        yield url


def test_on_postgresql_a_change_elsewhere_is_seen_within_a_second(
    postgresql: str, tmp_path: Path
) -> None:
    engines = [open_engine(postgresql, tmp_path) for _ in range(2)]
    ours, theirs = map(Keys, engines)
    key, presented = theirs.create("write", "Zoë")
    assert theirs.check(presented) == key
    assert soon(lambda: ours.check(presented) == key)
    assert ours.list() == [key]
    theirs.revoke(key.id)
    assert theirs.check(presented) is None
    assert soon(lambda: ours.check(presented) is None)
    for engine in engines:
        engine.dispose()


def test_on_postgresql_many_servers_start_at_once(postgresql: str, tmp_path: Path) -> None:
    engines = [open_engine(postgresql, tmp_path) for _ in range(8)]
    with engines[0].begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS access_keys"))
    with ThreadPoolExecutor(len(engines)) as pool:
        assert [keys.list() for keys in pool.map(Keys, engines)] == [[]] * len(engines)
    for engine in engines:
        engine.dispose()


def soon(is_so: Callable[[], bool]) -> bool:
    """Return whether something is so within a second, and the time that a busy machine adds."""
    end = time.perf_counter() + 3
    while not is_so():
        if time.perf_counter() > end:
            return False
        time.sleep(0.02)
    return True


# The command


def invoke(*arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(cli.app, arguments)
    if result.exception:
        raise result.exception
    return result.stdout, result.stderr


def test_the_command_makes_a_key_that_a_running_server_takes(keys: Keys, tmp_path: Path) -> None:
    out, err = invoke("create", "--scope", "write", "--name", "ci", "--data", str(tmp_path))
    assert FORM.fullmatch(out.removesuffix("\n"))
    assert "only once" in err and out.strip() not in err
    key = keys.check(out.strip())
    assert key and (key.scope, key.name) == ("write", "ci")


def test_the_command_lists_and_revokes(keys: Keys, tmp_path: Path) -> None:
    key, presented = keys.create("infer", "laptop")
    url = f"sqlite:///{tmp_path}/server.db"
    out, _ = invoke("list", "--database", url)
    assert out.split("\t")[:2] == [key.id, "infer"]
    assert "active\tlaptop" in out and presented.rpartition("_")[2] not in out
    assert invoke("revoke", key.id, "--database", url)[0] == f"{key.id}\n"
    assert "revoked" in invoke("list", "--database", url)[0]
    assert keys.check(presented) is None


def test_the_command_takes_a_folder_that_is_not_there_for_a_mistake(tmp_path: Path) -> None:
    folder = tmp_path / "mistyped"
    for arguments in (("list",), ("revoke", "0" * 12)):
        for place in (("--data", str(folder)), ("--database", f"sqlite:///{folder}/x.db")):
            with pytest.raises(InputError, match="no server's database at .*mistyped"):
                invoke(*arguments, *place)
    assert not folder.exists()
    folder.mkdir()
    with pytest.raises(InputError, match="no server's database"):
        invoke("list", "--data", str(folder))
    assert list(folder.iterdir()) == []
    open_engine("", folder).connect().close()
    out, err = invoke("list", "--data", str(folder))
    assert out == "" and err == f"no keys in {folder / 'server.db'}\n"


def test_the_command_says_which_scopes_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="infer, write, admin"):
        invoke("create", "--scope", "root", "--data", str(tmp_path))


def test_the_command_imports_a_database_only_when_it_runs() -> None:
    process = run_python("import sys, backprop.cli.keys\nprint('sqlalchemy' in sys.modules)")
    assert process.stdout == "False\n", process.stderr


def test_the_command_needs_no_torch(tmp_path: Path) -> None:
    code = f"""
        import sys
        from backprop.cli.keys import app
        app(["create", "--scope", "infer", "--data", {str(tmp_path)!r}], standalone_mode=False)
        assert "torch" not in sys.modules
    """
    process = run_python(code, blocked=("torch", "transformers"))
    assert process.returncode == 0, process.stderr
