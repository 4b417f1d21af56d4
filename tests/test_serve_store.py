"""The hub's database and files: whole or absent, on each database and storage there is."""

from __future__ import annotations

import importlib.util
import itertools
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import select, text

from backprop import artefact, folders, manifest
from backprop.errors import ArtefactError, InputError, NotFoundError
from backprop.manifest import Digest
from backprop.serve.faults import HTTPFault
from backprop.serve.settings import Settings
from backprop.serve.store import Hub, Version, blobs, checks
from backprop.serve.store.database import BLOBS, FILES, open_engine, reading, writing
from tests import hub_tools
from tests.guard import run_python
from tests.hub_tools import digests, put, put_all, saved, sha256, vet
from tests.kills import killed_at_each_step

NUMBERS = itertools.count()

on_both_databases = pytest.mark.parametrize("settings", ["folder", "postgresql"], indirect=True)
on_both_storages = pytest.mark.parametrize("settings", ["folder", "s3"], indirect=True)
on_each = pytest.mark.parametrize("settings", ["folder", "postgresql", "s3"], indirect=True)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    programs = hub_tools.postgresql_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL's programs: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'psycopg[binary]'")
    with hub_tools.postgresql(programs) as url:
        yield url


@pytest.fixture(scope="module")
def object_store() -> Iterator[str]:
    for package in ("s3fs", "moto", "flask", "flask_cors"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install s3fs 'moto[s3]' flask flask-cors")
    with hub_tools.object_store() as address:
        yield address


@pytest.fixture
def place() -> Iterator[Path]:
    with hub_tools.quick_folder() as folder:
        yield folder


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """What a server uses by default, or what a test's mark asks for instead."""
    local = Settings(data=place / "data", upload_bytes=1 << 20)
    kind = getattr(request, "param", "folder")
    if kind == "postgresql":
        return replace(local, database_url=new_database(request.getfixturevalue("postgresql")))
    if kind == "s3":
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("object_store"))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        return replace(local, storage_url=f"s3://bucket-{next(NUMBERS)}/blobs")
    return local


@pytest.fixture
def hub(settings: Settings) -> Iterator[Hub]:
    with opened(settings) as hub:
        yield hub


def new_database(url: str) -> str:
    name = f"hub{next(NUMBERS)}"
    server = sqlalchemy.create_engine(
        url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    server.dispose()
    return url.replace("/postgres?", f"/{name}?")


def upload(hub: Hub, name: str = "mine", word: str = "one", **options: Any) -> Any:
    return hub.commit(name, put_all(hub, saved(word)), **options)


def blob_rows(hub: Hub) -> set[str]:
    with reading(hub.engine) as connection:
        return set(connection.execute(select(BLOBS.c.sha256)).scalars())


# --- Versions ----------------------------------------------------------------------------


@on_both_databases
def test_a_version_is_what_was_committed(hub: Hub) -> None:
    files = saved("one")
    version = hub.commit("mine", put_all(hub, files), "first", by="k1")

    assert (version.name, version.number, version.description) == ("mine", 1, "first")
    assert dict(version.files) == digests(files)
    assert version.meta == {"format": 1, "class": "Tiny", "name": "one"}
    assert version.card == "# A model that says one"
    assert abs(version.created.timestamp() - time.time()) < 60
    assert str(version.created.tzinfo) == "UTC"
    assert version == hub.version("mine") == hub.version("mine", "1") == hub.version("mine", 1)
    assert hub.model("mine").latest == version


@on_each
def test_a_local_folder_of_a_version_holds_its_files(hub: Hub) -> None:
    files = saved("one")
    folder = hub.materialise(hub.commit("mine", put_all(hub, files)))

    assert manifest.describe(folder) == digests(files)
    assert artefact.read(folder).meta["name"] == "one"
    assert hub.materialise(hub.version("mine")) == folder


@on_both_databases
def test_versions_count_up_and_a_number_is_never_given_twice(hub: Hub) -> None:
    for word in ("one", "two", "three"):
        upload(hub, word=word)
    assert [each.number for each in hub.versions("mine")] == [3, 2, 1]
    assert hub.model("mine").versions == [1, 2, 3]

    hub.delete("mine", 3)
    assert hub.version("mine").meta["name"] == "two"
    assert upload(hub, word="four").number == 4

    hub.delete("mine")
    assert hub.models() == []
    for gone in (
        lambda: hub.model("mine"),
        lambda: hub.delete("mine"),
        lambda: hub.version("mine"),
    ):
        with pytest.raises(NotFoundError, match="'mine'"):
            gone()
    assert upload(hub, word="five").number == 5


def test_the_same_content_has_the_same_digest_and_is_stored_once(hub: Hub) -> None:
    first, second, other = upload(hub), upload(hub, "yours"), upload(hub, word="two")

    assert first.digest == second.digest != other.digest
    assert hub.materialise(first) == hub.materialise(second) != hub.materialise(other)
    assert blob_rows(hub) == {
        each.sha256 for version in (first, other) for each in version.files.values()
    }


@on_both_databases
def test_models_are_listed_by_name_with_their_newest_version(hub: Hub) -> None:
    upload(hub, "zebra")
    upload(hub, "apple", "one")
    upload(hub, "apple", "two")
    hub.set_alias("apple", "stable", 1)

    assert [each.name for each in hub.models()] == ["apple", "zebra"]
    apple = hub.model("apple")
    assert (apple.versions, apple.latest.meta["name"]) == ([1, 2], "two")
    assert apple.aliases == {"stable": 1}


@on_both_databases
def test_an_alias_that_was_set_is_not_lost_to_a_delete_meanwhile(hub: Hub) -> None:
    upload(hub, word="last")
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            number = upload(hub).number
            calls = [
                pool.submit(hub.set_alias, "mine", "live", number),
                pool.submit(hub.delete, "mine", number),
            ]
            is_set, is_deleted = (call.exception() is None for call in calls)
            assert is_set != is_deleted
            if is_set:
                assert hub.version("mine", "live").number == number
                hub.delete_alias("mine", "live")


@on_both_databases
def test_an_alias_is_rolled_back_and_forward_and_holds_its_version(hub: Hub) -> None:
    upload(hub, word="one")
    upload(hub, word="two")
    for number in (2, 1, 2, 1):
        hub.set_alias("mine", "stable", number)
        assert hub.version("mine", "stable").number == number

    with pytest.raises(NotFoundError, match="version 3"):
        hub.set_alias("mine", "stable", 3)
    with pytest.raises(NotFoundError):
        hub.set_alias("none", "stable", 1)
    hub.set_alias("mine", "other", 2)
    hub.delete_alias("mine", "other")
    with pytest.raises(NotFoundError):
        hub.delete_alias("mine", "other")
    with pytest.raises(NotFoundError, match=r"'stabel'.* its aliases are: stable\.$"):
        hub.version("mine", "stabel")
    with pytest.raises(HTTPFault, match="aliases mean: stable") as told:
        hub.delete("mine", 1)
    assert told.value.status == 409
    assert hub.version("mine", "stable").number == 1
    hub.set_alias("mine", "stable", 2)
    hub.delete("mine", 1)
    assert hub.version("mine", "stable").number == 2
    hub.delete("mine")
    with pytest.raises(NotFoundError):
        hub.version("mine", "stable")


@on_both_databases
def test_many_at_once_get_distinct_numbers(hub: Hub) -> None:
    files = put_all(hub, saved())
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: hub.commit("mine", files).number, range(24)))
    assert sorted(numbers) == list(range(1, 25)) == hub.model("mine").versions


@on_both_databases
def test_two_hubs_share_a_database_and_a_storage(settings: Settings, hub: Hub) -> None:
    with opened(settings) as other:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: upload((hub, other)[i % 2], word=str(i % 3)), range(12)))
        assert hub.model("mine").versions == list(range(1, 13))
        assert hub.models() == other.models()


def test_what_vetting_refuses_leaves_no_version_and_no_folder(hub: Hub, settings: Settings) -> None:
    files = put_all(hub, saved(kind="Refused"))
    with pytest.raises(ArtefactError, match="'Refused' is not served"):
        hub.commit("mine", files)
    assert hub.models() == []
    assert [each for each in (settings.data / "models").iterdir() if each.is_dir()] == []


def test_missing_files_are_listed(hub: Hub) -> None:
    files = saved()
    put_all(hub, {path: files[path] for path in list(files)[2:]})
    with pytest.raises(ArtefactError) as caught:
        hub.commit("mine", digests(files))
    assert all(repr(path) in str(caught.value) for path in list(files)[:2])
    assert repr(list(files)[2]) not in str(caught.value)


def test_a_size_that_is_not_the_files_is_refused(hub: Hub) -> None:
    files = put_all(hub, saved())
    wrong = {**files, "config.json": replace(files["config.json"], size_bytes=3)}
    with pytest.raises(ArtefactError, match=r"'config.json' was uploaded with 2 bytes, not 3"):
        hub.commit("mine", wrong)


@pytest.mark.parametrize("change", ["changed", "added", "missing"])
def test_files_must_agree_with_the_artefacts_own_list(hub: Hub, change: str) -> None:
    files = dict(saved())
    if change == "changed":
        files["config.json"] = b"[]"
    elif change == "added":
        files["more.txt"] = b"more"
    else:
        del files["config.json"]
    with pytest.raises(ArtefactError, match=r"'manifest.json' does not agree"):
        hub.commit("mine", put_all(hub, files))
    assert hub.models() == []


# --- Stored files ------------------------------------------------------------------------


@on_both_storages
def test_a_file_is_known_once_it_is_stored(hub: Hub) -> None:
    assert hub.shelf.size(sha256(b"words")) is None
    put(hub, b"words")
    assert hub.shelf.size(sha256(b"words")) == 5
    put(hub, b"")
    assert hub.shelf.size(sha256(b"")) == 0
    assert list(hub.shelf.parts._folder.glob("*.part")) == []


@on_both_storages
def test_files_of_versions_can_be_read_and_no_others(hub: Hub) -> None:
    upload(hub)
    file, size_bytes = hub.shelf.open(sha256(saved()["config.json"]))
    with file:
        assert (file.read(), size_bytes) == (b"{}", 2)
    put(hub, b"of no version")
    for content in (b"of no version", b"not there"):
        with pytest.raises(NotFoundError):
            hub.shelf.open(sha256(content))


@on_each
def test_deleting_frees_files_that_no_version_needs(hub: Hub) -> None:
    first, second = upload(hub, word="one"), upload(hub, word="two")
    folder = hub.materialise(first)
    put(hub, b"of an upload that goes on")

    hub.delete("mine", 1)
    assert not folder.exists()
    # Uploaded a moment ago, so all is kept as if a commit were about to come.
    assert hub.collect() == 0
    only_first = {each.sha256 for each in first.files.values()} - {
        each.sha256 for each in second.files.values()
    }
    assert hub.collect(grace_s=0) == len(only_first) + 1
    assert blob_rows(hub) == {each.sha256 for each in second.files.values()}
    assert hub.collect(grace_s=0) == 0
    assert manifest.describe(hub.materialise(hub.version("mine"))) == dict(second.files)


@on_both_databases
def test_asking_for_a_file_keeps_it_for_a_while(hub: Hub) -> None:
    name = put(hub, b"words")
    with writing(hub.engine) as connection:
        connection.execute(BLOBS.update().values(used_at=time.time() - 10_000))
    assert hub.shelf.size(name) == 5
    assert hub.collect() == 0
    with writing(hub.engine) as connection:
        connection.execute(BLOBS.update().values(used_at=time.time() - 10_000))
    assert hub.collect() == 1
    assert hub.shelf.size(name) is None


@on_both_storages
def test_a_file_without_a_row_and_a_row_without_a_file_are_cleared_away(hub: Hub) -> None:
    row_only, file_only = put(hub, b"row only"), put(hub, b"file only")
    hub.shelf._blobs.delete(row_only)
    with writing(hub.engine) as connection:
        connection.execute(BLOBS.delete().where(BLOBS.c.sha256 == file_only))
    assert hub.shelf.size(row_only) is None
    assert hub.shelf.size(file_only) is None
    put(hub, b"row only")  # it can be sent again
    assert hub.shelf.size(row_only) == 8

    hub.shelf._blobs.delete(row_only)
    assert hub.collect() == 0
    assert hub.collect(grace_s=0) == 2
    assert list(hub.shelf._blobs.names()) == []
    assert blob_rows(hub) == set()


@on_both_databases
def test_collecting_never_takes_a_file_from_an_upload_or_a_version(hub: Hub) -> None:
    """With no grace at all a commit may be told to send a file again, and no more than that."""
    stop, errors = threading.Event(), list[BaseException]()

    def collect() -> None:
        while not stop.wait(0.02):
            try:
                hub.collect(grace_s=0)
            except BaseException as error:
                errors.append(error)
                return

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for number in range(8):
            while True:
                try:
                    version = upload(hub, word=str(number % 2))
                except ArtefactError as error:
                    assert "upload it again" in str(error) or "not uploaded" in str(error)
                else:
                    break
            assert manifest.describe(hub.materialise(version)) == dict(version.files)
            if number % 4 == 2:
                hub.delete("mine", version.number)
    finally:
        stop.set()
        collector.join()
    assert errors == []
    for version in hub.versions("mine"):
        assert {each.sha256 for each in version.files.values()} <= set(hub.shelf._blobs.names())


def test_damage_of_stored_bytes_is_found(hub: Hub, place: Path) -> None:
    version = upload(hub)
    weights = version.files["weights.safetensors"].sha256
    stored = place / "data" / "blobs" / weights
    folder = hub.materialise(version)
    (folder / "config.json").write_text("[]")
    assert hub.materialise(version) == folder  # built anew from what is stored
    assert (folder / "config.json").read_text() == "{}"

    stored.write_bytes(b"!" * 1000)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ArtefactError, match=r"'weights.safetensors' is damaged"):
        hub.materialise(version)
    assert stored.exists()  # the only copy of a version's file is for a person to judge
    stored.unlink()
    assert hub.shelf.size(weights) is None
    put_all(hub, saved())
    assert manifest.describe(hub.materialise(version)) == dict(version.files)


def test_a_sweep_never_takes_the_part_of_who_comes_next(hub: Hub, place: Path) -> None:
    name, parts = sha256(b"one two"), hub.shelf.parts
    swept = parts.claim(name)
    assert swept is not None
    swept.discard()
    (place / "data" / "blobs" / ".parts" / f"{name}.lock").unlink()
    following = parts.claim(name)
    assert following is not None
    with following:
        swept.close()
        following.append(b"one two")
        assert following.finish() == name


def test_a_part_goes_on_where_it_was_left_and_one_at_a_time_adds_to_it(hub: Hub) -> None:
    name, parts = sha256(b"one two"), hub.shelf.parts
    first = parts.claim(name)
    assert first is not None and parts.claim(name) is None
    first.append(b"one ")
    first.close()
    assert parts.kept(name) == 4
    second = parts.claim(name)
    assert second is not None and second.size == 4
    with second:
        second.append(b"two")
        assert second.finish() == name
    parts.sweep(3600)
    assert parts.kept(name) == 7
    parts.sweep(0)
    assert parts.kept(name) == 0 and list(parts._folder.iterdir()) == []


def test_the_lock_of_a_part_ends_with_its_process(hub: Hub) -> None:
    name = sha256(b"words")
    child = os.fork()
    if child == 0:
        part = hub.shelf.parts.claim(name)
        if part is not None:
            part.append(b"wo")
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    part = hub.shelf.parts.claim(name)
    assert part is not None and part.size == 2
    part.close()


def send(hub: Hub, files: Mapping[str, bytes]) -> None:
    put(hub, files["weights.safetensors"])


def commit(hub: Hub, files: Mapping[str, bytes]) -> None:
    hub.commit("mine", digests(files))


def commit_anew(hub: Hub, files: Mapping[str, bytes]) -> None:
    if not is_there(hub):
        hub.commit("mine", put_all(hub, files))


def delete(hub: Hub, files: Mapping[str, bytes]) -> None:
    if is_there(hub):
        hub.delete("mine")


def clear(hub: Hub, files: Mapping[str, bytes]) -> None:
    delete(hub, files)
    hub.collect(grace_s=0)


def is_there(hub: Hub) -> bool:
    return "mine" in [model.name for model in hub.models()]


# What is killed, and what makes its start as it was.
STAGES = {"put": (send, clear), "commit": (commit, delete), "delete": (clear, commit_anew)}


@contextmanager
def opened(settings: Settings) -> Iterator[Hub]:
    hub = Hub(settings, vet=vet)
    try:
        yield hub
    finally:
        hub.close()


def assert_whole(hub: Hub, version: Version) -> None:
    """Build the folder from the stored files, since nothing else proves they are all there."""
    folders.remove(hub.materialise(version))
    assert manifest.describe(hub.materialise(version)) == dict(version.files)
    assert version.meta["class"] == "Tiny"


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_at_any_step_leaves_each_version_whole_or_absent(place: Path, stage: str) -> None:
    settings = Settings(data=place / "data")
    files = saved("two", few=True)
    work, renew = STAGES[stage]
    with opened(settings) as hub:
        kept = upload(hub, "kept", "one")
        commit_anew(hub, files)
        renew(hub, files)

    def run() -> None:
        with opened(settings) as hub:
            work(hub, files)

    for _ in killed_at_each_step(run):
        with opened(settings) as hub:
            assert hub.version("kept") == kept
            for version in hub.versions("mine") if is_there(hub) else []:
                assert_whole(hub, version)
            renew(hub, files)
    with opened(settings) as hub:
        assert_whole(hub, kept)


# --- Database ----------------------------------------------------------------------------


def test_sqlite_is_as_safe_as_it_can_be(hub: Hub) -> None:
    with reading(hub.engine) as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {
        "journal_mode": "delete",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
    }


def test_a_writer_waits_for_another_and_a_reader_does_not(hub: Hub) -> None:
    upload(hub)
    with ThreadPoolExecutor(1) as pool:
        with writing(hub.engine) as connection:
            connection.execute(BLOBS.update().values(used_at=1.0))
            waiting = pool.submit(hub.delete, "mine", 1)
            assert hub.model("mine").versions == [1]
            assert not waiting.done()
        waiting.result(timeout=30)
    assert hub.models() == []


@on_both_databases
def test_a_query_of_several_statements_sees_one_moment(hub: Hub) -> None:
    upload(hub)
    with reading(hub.engine) as connection:
        assert connection.execute(select(FILES.c.number).distinct()).scalars().all() == [1]
        if hub.engine.dialect.name == "postgresql":
            upload(hub, word="two")
        assert connection.execute(select(FILES.c.number).distinct()).scalars().all() == [1]


@pytest.mark.parametrize("url", ["mysql://u:pw@h/d", "sqlite://", "sqlite:///:memory:", "pw"])
def test_other_databases_are_refused_without_showing_the_url(place: Path, url: str) -> None:
    with pytest.raises(InputError, match="database_url") as caught:
        open_engine(url, place)
    assert "pw" not in str(caught.value)


def test_a_database_that_is_not_there_is_said_without_the_password(place: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(InputError, match="can't be opened") as caught:
        open_engine(f"postgresql://hub:secret@/none?host={place}", place)
    assert "secret" not in str(caught.value)


def test_a_newer_layout_is_refused(place: Path) -> None:
    open_engine("", place).dispose()
    engine = open_engine("", place)
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO hub_schema VALUES (99)"))
    engine.dispose()
    with pytest.raises(InputError, match="layout 99"):
        open_engine("", place)


@pytest.mark.parametrize("url", ["nonsense://x", "ftp://127.0.0.1:1/x"])
def test_a_storage_that_is_not_there_is_refused(place: Path, url: str) -> None:
    with pytest.raises(InputError, match=f"{url.partition(':')[0]}"):
        blobs.open_blobs(url, place)


def test_a_failing_storage_is_a_503_that_names_nothing(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def info(self, key: str) -> dict[str, int]:
            raise PermissionError(f"secret-host says no to {key}")

    put(hub, b"words")
    hub.shelf._blobs._system = Broken()
    with pytest.raises(HTTPFault) as caught:
        hub.shelf.size(sha256(b"words"))
    assert caught.value.status == 503
    assert "secret" not in str(caught.value)


def test_the_servers_files_are_for_its_user_only(hub: Hub, place: Path) -> None:
    for path in ("data", "data/blobs", "data/models"):
        assert (place / path).stat().st_mode & 0o077 == 0


def test_the_store_needs_no_torch() -> None:
    code = "import backprop.serve.hub_routes, sys; assert 'torch' not in sys.modules"
    done = run_python(code, blocked=("torch", "transformers", "dill"))
    assert done.returncode == 0, done.stderr


# --- What may be said --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["ab", "UPPER", "a/b", "../up", "a" * 101, 3, None, "a\nb", "ä-b-c"]
)
def test_names_that_are_none_are_refused(hub: Hub, name: Any) -> None:
    with pytest.raises(InputError, match="not valid"):
        hub.commit(name, {})


@pytest.mark.parametrize("name", ["all-minilm-l6-v2", "t5-base", "english"])
def test_names_of_the_catalogue_are_refused(hub: Hub, name: str) -> None:
    with pytest.raises(HTTPFault, match="catalogue") as caught:
        hub.commit(name, {})
    assert caught.value.status == 409


def test_paths_are_plain() -> None:
    good: dict[Any, Any] = dict(digests(saved()))
    word: dict[str, Any] = {"sha256": sha256(b""), "size_bytes": 0}
    for path in (
        *("/etc/passwd", "../x", "a/../b", "a//b", ".hidden", "a/b/c/d", "", "a\\b", "a\0b"),
        *("x" * 201, "a/", "ä", "a\nb", "C:x", 3),
    ):
        with pytest.raises(InputError, match="path"):
            checks.check_files({**good, path: word}, 100_000)
    for path in ("CONFIG.json", "config.json/x", "1_pooling/config.json", "1_Pooling"):
        with pytest.raises(InputError, match="rename one"):
            checks.check_files({**good, path: word}, 100_000)


def test_files_are_bounded() -> None:
    good: dict[str, Any] = dict(digests(saved()))
    word: dict[str, Any] = {"sha256": sha256(b""), "size_bytes": 0}
    many = {f"f{i}": word for i in range(63)}
    refused: list[Any] = [None, [], {}, "x", 3, many, {**good, **many}]
    for wrong in refused:
        with pytest.raises(InputError):
            checks.check_files(wrong, 100_000)
    refused = [
        *(None, [], {}, {"sha256": sha256(b"")}, {**word, "more": 1}, {**word, "size_bytes": -1}),
        *({**word, "size_bytes": value} for value in (True, 1.0, "1", None)),
        *({**word, "sha256": value} for value in ("", "A" * 64, "0" * 63, "0" * 65, 3, None)),
    ]
    for facts in refused:
        with pytest.raises(InputError):
            checks.check_files({**good, "x": facts}, 100_000)
    with pytest.raises(HTTPFault) as caught:
        checks.check_files({**good, "x": Digest(sha256(b""), 100_001)}, 100_000)
    assert caught.value.status == 413
    for needed in ("manifest.json", "backprop.json"):
        with pytest.raises(InputError, match=needed):
            checks.check_files({p: d for p, d in good.items() if p != needed}, 100_000)


@pytest.mark.parametrize("alias", ["latest", "3", "", "A", "a" * 51, "a b", "ä", None, 3])
def test_aliases_that_are_none_are_refused(alias: Any) -> None:
    with pytest.raises(InputError, match="alias"):
        checks.check_alias(alias)


@pytest.mark.parametrize("ref", ["0", "9" * 10, "²", "", "a b", "9" * 400, 0, 2**31])
def test_versions_that_are_none_are_refused(hub: Hub, ref: Any) -> None:
    upload(hub)
    with pytest.raises(InputError):
        hub.version("mine", ref)


@pytest.mark.parametrize("words", ["a\0b", "\x1b[2J", "\ud800", "a" * 2001, 3, None])
def test_descriptions_are_plain_text(words: Any) -> None:
    with pytest.raises(InputError, match="description"):
        checks.check_description(words)
