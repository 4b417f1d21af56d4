"""The saved folder: whole or absent, and every damage seen."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backprop import artefact, folders, manifest
from backprop.errors import ArtefactError, InputError
from tests.kills import killed_at_each_step

ROOT = Path(__file__).parents[1]
FILES = ("config.json", "model.safetensors", "1_Pooling/config.json")


def builder(version: str, size_bytes: int = 40) -> Callable[[Path], None]:
    """Return a build function whose every file says which version it is of."""

    def build(folder: Path) -> None:
        for name in FILES:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"{version} ".ljust(size_bytes, "."))

    return build


def save(path: Path, version: str = "old") -> Path:
    return artefact.write(path, builder(version), {"class": "STModel", "name": version})


def version_of(path: Path) -> str:
    """Return the version all of the folder agrees on, after verifying it."""
    saved = artefact.read(path)
    versions = {(saved.folder / name).read_text().split()[0] for name in FILES}
    assert versions == {saved.meta["name"]}
    return versions.pop()


def no_renameat2(*args: object, **options: object) -> None:
    raise OSError(errno.ENOSYS, "no C library")


def litter(folder: Path) -> list[str]:
    return [child.name for child in folder.iterdir() if child.name.startswith(".")]


def test_write_then_read_returns_meta_and_files(tmp_path: Path) -> None:
    details: artefact.Json = {"shape": (3, 4), "labels": {"0": "é"}, "none": None}
    meta: dict[str, artefact.Json] = {"class": "STModel", "details": details}
    path = artefact.write(tmp_path / "model", builder("new"), meta)
    saved = artefact.read(str(path))
    assert saved.folder == path
    expected = {"shape": [3, 4], "labels": {"0": "é"}, "none": None}
    assert saved.meta == {"format": 1, "class": "STModel", "details": expected}
    assert sorted(p.name for p in path.iterdir()) == [
        "1_Pooling",
        "backprop.json",
        "config.json",
        "manifest.json",
        "model.safetensors",
    ]
    assert artefact.is_artefact(path)
    assert litter(tmp_path) == []


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = save(tmp_path / "model")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("exchange", [True, False])
def test_write_replaces_an_older_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(ctypes, "CDLL", no_renameat2)
    path = save(tmp_path / "model", "old")
    (tmp_path / "link").symlink_to(path)
    assert version_of(save(tmp_path / "link", "new")) == "new"
    assert (tmp_path / "link").is_symlink() and version_of(path) == "new"
    assert litter(tmp_path) == []


def test_a_failing_build_keeps_the_older_model(tmp_path: Path) -> None:
    path = save(tmp_path / "model", "old")

    def fail(folder: Path) -> None:
        (folder / "config.json").write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        artefact.write(path, fail, {})
    assert version_of(path) == "old"
    assert litter(tmp_path) == []


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("three years")
    (tmp_path / "file").write_text("x")
    for name in ("thesis", "file"):
        with pytest.raises(ArtefactError, match="is not a saved model"):
            save(tmp_path / name)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "three years"
    (tmp_path / "empty").mkdir()
    assert version_of(save(tmp_path / "empty")) == "old"


@pytest.mark.parametrize(
    ("meta", "place"),
    [
        ({"details": {"labels": {0: "cat"}}}, r"meta\['details'\]\['labels'\]"),
        ({"details": [1, {1, 2}]}, r"meta\['details'\]\[1\] is a set"),
        ({"score": float("nan")}, r"meta\['score'\] is nan"),
    ],
)
def test_meta_that_json_would_alter_is_refused_by_place(
    tmp_path: Path, meta: dict[str, artefact.Json], place: str
) -> None:
    with pytest.raises(InputError, match=place):
        artefact.write(tmp_path / "model", builder("new"), meta)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a/b/c/d.json", ".hidden", "-x", "spa ce", "backprop.json"])
def test_a_model_may_not_write_such_a_file(tmp_path: Path, name: str) -> None:
    def build(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")

    with pytest.raises(ArtefactError):
        artefact.write(tmp_path / "model", build, {})
    assert list(tmp_path.iterdir()) == []


def test_damage_to_any_byte_is_detected(tmp_path: Path) -> None:
    path = save(tmp_path / "model")
    flips = 0
    for file in (p for p in path.rglob("*") if p.is_file()):
        whole = file.read_bytes()
        for place in range(len(whole)):
            damaged = bytearray(whole)
            damaged[place] ^= 32  # the case of a letter, for one
            file.write_bytes(damaged)
            with pytest.raises(ArtefactError):
                artefact.read(path)
            flips += 1
        for cut in (b"", whole[:-1], whole + b"\n"):
            file.write_bytes(cut)
            with pytest.raises(ArtefactError):
                artefact.read(path)
        file.write_bytes(whole)
    assert flips > 500
    assert version_of(path) == "old"


def add_file(folder: Path) -> None:
    (folder / "extra.json").write_text("{}")


def remove_file(folder: Path) -> None:
    (folder / "config.json").unlink()


def link_file(folder: Path) -> None:
    real = folder.parent / "config.json"
    (folder / "config.json").rename(real)
    (folder / "config.json").symlink_to(real)


def link_folder(folder: Path) -> None:
    real = folder.parent / "1_Pooling"
    (folder / "1_Pooling").rename(real)
    (folder / "1_Pooling").symlink_to(real)


def make_pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def pipe_for_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")


def huge_manifest(folder: Path) -> None:
    with (folder / "manifest.json").open("ab") as file:
        file.truncate(1 << 40)


def deep_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 100_000)


def unlist_meta(folder: Path) -> None:
    files = manifest.read_manifest(folder / "manifest.json")
    del files["backprop.json"]
    (folder / "backprop.json").unlink()
    manifest.write_manifest(folder / "manifest.json", files)


def list_outside(folder: Path) -> None:
    (folder.parent / "secret").write_text("x")
    files = manifest.read_manifest(folder / "manifest.json")
    files["../secret"] = manifest.digest(folder.parent / "secret")
    manifest.write_manifest(folder / "manifest.json", files)


@pytest.mark.parametrize(
    "harm",
    [
        add_file,
        remove_file,
        link_file,
        link_folder,
        make_pipe,
        pipe_for_manifest,
        huge_manifest,
        deep_manifest,
        unlist_meta,
        list_outside,
        shutil.rmtree,
    ],
)
def test_a_folder_that_was_tampered_with_is_refused(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    path = save(tmp_path / "model")
    harm(path)
    with pytest.raises(ArtefactError, match="model"):
        artefact.read(path)


@pytest.mark.parametrize(
    "facts",
    [
        {"sha256": "0" * 64},
        {"sha256": "0" * 64, "size_bytes": 1, "mode": 1},
        {"sha256": "0" * 64, "size_bytes": -1},
        {"sha256": "0" * 64, "size_bytes": True},
        {"sha256": "0" * 64, "size_bytes": 1 << 60},
        {"sha256": "0" * 63, "size_bytes": 1},
        {"sha256": 7, "size_bytes": 1},
        [],
        None,
    ],
)
def test_a_manifest_with_odd_facts_is_refused(tmp_path: Path, facts: object) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"files": {"a": facts}}, indent=2, sort_keys=True) + "\n")
    with pytest.raises(manifest.FolderFault):
        manifest.read_manifest(path)


def test_a_format_of_a_newer_version_says_so(tmp_path: Path) -> None:
    path = artefact.write(tmp_path / "model", builder("new"), {"format": 2})
    with pytest.raises(ArtefactError, match="has format 2; this version reads 1"):
        artefact.read(path)


def test_names() -> None:
    for name in ("abc", "a-b_0", "x" * 100):
        assert artefact.check_name(name) == name
    refused: tuple[object, ...] = ("ab", "x" * 101, "Abc", "a.b", "abc\n", "é" * 3, "", None, 3)
    for wrong in refused:
        with pytest.raises(InputError, match="model name"):
            artefact.check_name(wrong)


def test_default_path_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path))
    assert artefact.default_path("my-model") == tmp_path / "my-model"
    monkeypatch.delenv("BACKPROP_CACHE")
    assert artefact.default_path("my-model") == Path.home() / ".cache" / "backprop" / "my-model"


@pytest.mark.parametrize("exchange", [True, False])
def test_a_kill_before_any_step_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(ctypes, "CDLL", no_renameat2)
    path = save(tmp_path / "model", "old")
    seen = []
    for _ in killed_at_each_step(lambda: save(path, "new")):
        seen.append(version_of(path))
        save(path, "old")
        assert litter(tmp_path) == []
    assert seen.count("old") > 10
    assert seen.count("new") > 2


def test_a_kill_at_a_first_save_leaves_nothing_or_all(tmp_path: Path) -> None:
    path = tmp_path / "model"
    seen = []
    for _ in killed_at_each_step(lambda: save(path, "new")):
        seen.append(path.exists())
        assert not path.exists() or version_of(path) == "new"
        shutil.rmtree(path, ignore_errors=True)
    assert seen.count(False) > 10
    assert True in seen


WRITER = f"""
import os, sys
from pathlib import Path
from backprop import artefact
for i in range(10_000):
    version = f"v{{os.getpid()}}-{{i}}"
    def build(folder):
        (folder / "1_Pooling").mkdir()
        for name in {FILES}:
            (folder / name).write_text(f"{{version}} ".ljust(300_000))
    artefact.write(Path(sys.argv[1]), build, {{"name": version}})
    if i == 0:
        print("ready", flush=True)
"""


def test_kills_at_random_moments_leave_a_whole_model(tmp_path: Path) -> None:
    path = save(tmp_path / "model", "old")
    moment = random.Random(5)
    versions = set()
    for _ in range(15):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
            time.sleep(moment.uniform(0, 0.1))
            assert writer.poll() is None
            writer.send_signal(signal.SIGKILL)
        versions.add(version_of(path))
    assert len(versions) > 5
    save(path, "old")
    assert litter(tmp_path) == []


def test_a_reader_beside_a_writer_sees_whole_models_only(tmp_path: Path) -> None:
    path = save(tmp_path / "model", "old")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=-1)
    try:
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        names, until = set(), time.monotonic() + 1.5
        while time.monotonic() < until:
            names.add(artefact.read(path).meta["name"])
    finally:
        writer.kill()
        writer.communicate()
    assert len(names) > 2


def test_the_folder_of_a_living_writer_is_not_swept(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        folders.sweep(tmp_path)
        save(tmp_path / "model", "between")
        builder("outer")(folder)

    artefact.write(tmp_path / "model", build, {"name": "outer"})
    assert version_of(tmp_path / "model") == "outer"


def test_where_folders_have_no_locks_only_old_leftovers_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lock(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", no_lock)
    young, old = tmp_path / ".model.0123abcd.tmp", tmp_path / ".model.4567abcd.tmp"
    for leftover in (young, old):
        leftover.mkdir()
    os.utime(old, (time.time() - 90_000,) * 2)
    assert version_of(save(tmp_path / "model")) == "old"
    assert litter(tmp_path) == [young.name]
