"""Weights on the model hub: safetensors, JSON and tokenizer files of one commit, no code."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from backprop import folders, manifest
from backprop.errors import IntegrityError, OfflineError, SourceError
from backprop.optional import load
from backprop.progress import progress

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

__all__ = ["HubSource"]

COMMIT = re.compile(r"[0-9a-f]{40}")
TAKEN = ("*.safetensors", "*.json", "*.txt", "*.model", "*.spm", "*.jinja", "*.tiktoken")
LEFT = ("onnx/*", "openvino/*", "coreml/*", "original/*", "runs/*", "*/onnx/*", "*/openvino/*")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Listed:
    """What is known of a file before it comes.

    Args:
        size_bytes: None where it isn't known.
        sha256: of its bytes, ``""`` where it isn't known.
        git_sha1: of its bytes as git counts them, for small files, else ``""``.
    """

    size_bytes: int | None = None
    sha256: str = ""
    git_sha1: str = ""


@dataclass(frozen=True)
class HubSource:
    """Files of one repository on the model hub.

    Args:
        repo: ``"organisation/name"``.
        revision: a commit; or a branch or tag, or None for the main branch, whose commit is
            then looked up once.
        files: sha256 by file name, ``""`` where it isn't known; None for every file in a
            format that holds no code.
    """

    repo: str
    revision: str | None = None
    files: Mapping[str, str] | None = None

    @property
    def label(self) -> str:
        """Return the source as people write it."""
        return f"{self.repo}@{self.revision}" if self.revision else self.repo

    @property
    def identity(self) -> str:
        """Return text that is equal for equal content once the source is pinned."""
        files = None if self.files is None else dict(self.files)
        return json.dumps([self.repo, self.revision, files], sort_keys=True)

    @property
    def is_pinned(self) -> bool:
        """Return whether ``revision`` is a commit, which never changes."""
        return self.revision is not None and COMMIT.fullmatch(self.revision) is not None

    def pinned(self, commit: str) -> HubSource:
        """Return the same source at ``commit``."""
        return replace(self, revision=commit)

    def latest(self) -> str:
        """Return the commit ``revision`` stands for now, or for the hub's own cache offline.

        Raises:
            OfflineError: the hub is out of reach and its cache has none.
            SourceError: the hub refused.
        """
        try:
            return str(self._info().sha)
        except OfflineError as unreachable:
            return self._cached_snapshot(unreachable).name

    def download(self, folder: Path) -> None:
        """Write the files into the empty ``folder``, each checked as far as hashes are known.

        The transfer goes through huggingface_hub's cache, which resumes broken downloads and is
        shared with other programs; our folder holds hard links to it (copies on another disk),
        because that cache can be pruned file by file and is not verified when read.

        Raises:
            OfflineError: the hub is out of reach and its cache has not all files.
            SourceError: the hub refused, or has no safetensors.
            IntegrityError: a file has other bytes than listed.
        """
        try:
            wanted = self._wanted(self._listed())
            snapshot = self._transfer(wanted)
        except OfflineError as unreachable:
            snapshot = self._cached_snapshot(unreachable)
            found = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*")]
            wanted = self._wanted(dict.fromkeys([*found, *(self.files or ())], Listed()))
        wrong = _take(snapshot, folder, wanted)
        if wrong:
            # The hub's cache would give the same damaged files for ever.
            wrong = _take(self._transfer(wrong, force=True), folder, wrong)
        if wrong:
            raise IntegrityError(
                f"{self.label}: these files have other bytes than the hub or the catalogue lists: "
                f"{', '.join(wrong)}; try again, or report it if it stays so."
            )
        _check_shards(folder, self.label)

    def _info(self) -> ModelInfo:
        from huggingface_hub import HfApi

        return self._ask(
            HfApi(library_name="backprop").model_info,
            self.repo,
            revision=self.revision,
            files_metadata=True,
        )

    def _listed(self) -> dict[str, Listed]:
        return {
            file.rfilename: Listed(file.size, sha256=file.lfs.sha256)
            if file.lfs
            else Listed(file.size, git_sha1=file.blob_id or "")
            for file in self._info().siblings or ()
        }

    def _wanted(self, listed: Mapping[str, Listed]) -> dict[str, Listed]:
        chosen = [name for name in listed if _is_taken(name)] if self.files is None else self.files
        wanted = {}
        for name in sorted(chosen):
            if name not in listed or not _is_taken(name):
                raise SourceError(
                    f"{self.label} has no file {name!r} of a kind that is loaded "
                    f"({' '.join(TAKEN)}); choose another repository or revision."
                )
            sha256 = (self.files or {}).get(name) or listed[name].sha256
            wanted[name] = replace(listed[name], sha256=sha256)
        if not any(name.endswith(".safetensors") for name in wanted):
            raise SourceError(
                f"{self.label} has no safetensors (its files: {', '.join(sorted(listed)[:20])}), "
                "and pickled weights are not loaded; choose a repository that has them."
            )
        return wanted

    def _transfer(self, wanted: Mapping[str, Listed], *, force: bool = False) -> Path:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.file_download import repo_folder_name

        kept = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=self.repo, repo_type="model"))
        before_bytes = folders.tree_bytes(kept)
        with progress(
            f"Fetching {self.label}",
            measure=lambda: folders.tree_bytes(kept) - before_bytes,
            size_bytes=sum(facts.size_bytes or 0 for facts in wanted.values()),
        ):
            return Path(
                self._ask(
                    snapshot_download,
                    self.repo,
                    revision=self.revision,
                    allow_patterns=list(wanted),
                    force_download=force,
                    tqdm_class=_silent_bar(),
                    library_name="backprop",
                )
            )

    def _cached_snapshot(self, unreachable: OfflineError) -> Path:
        """Return what the hub's own cache has, or raise why the hub itself wasn't reached."""
        from huggingface_hub import snapshot_download

        try:
            return Path(
                self._ask(
                    snapshot_download,
                    self.repo,
                    revision=self.revision,
                    local_files_only=True,
                    allow_patterns=list(self.files or TAKEN),
                    ignore_patterns=list(LEFT),
                )
            )
        except OfflineError:
            raise unreachable from None

    def _ask(self, function: Callable[..., Result], *args: object, **options: object) -> Result:
        """Return what the hub's library answers, its errors as ours."""
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        # The transport's own base error; which package it comes from depends on the version.
        transport_error = load("huggingface_hub.errors:HTTPError")
        try:
            return function(*args, **options)
        except HfHubHTTPError as error:
            raise SourceError(f"The model hub refused {self.label}: {error}") from error
        except (ConnectionError, TimeoutError, LocalEntryNotFoundError, transport_error) as error:
            raise OfflineError(
                f"The model hub can't be reached for {self.label}: {error}"
            ) from error
        except ValueError as error:
            raise SourceError(f"{self.label!r} is no repository on the hub: {error}") from error


def _is_taken(name: str) -> bool:
    try:
        manifest.check_path(name)
    except manifest.FolderFault:
        return False
    return any(fnmatch(name, kind) for kind in TAKEN) and not any(fnmatch(name, k) for k in LEFT)


def _take(snapshot: Path, folder: Path, wanted: Mapping[str, Listed]) -> dict[str, Listed]:
    """Put the wanted files into ``folder``; return those whose bytes are not as listed."""
    for name in wanted:
        source, target = (snapshot / name).resolve(), folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except FileNotFoundError as error:
            raise OfflineError(f"The hub's cache has no {name!r} in {snapshot}") from error
        except OSError:
            shutil.copyfile(source, target)
    return {name: facts for name, facts in wanted.items() if _differs(folder / name, facts)}


def _differs(path: Path, listed: Listed) -> bool:
    size_bytes = path.stat().st_size
    if listed.size_bytes not in (None, size_bytes):
        return True
    if listed.sha256:
        return manifest.digest(path).sha256 != listed.sha256
    if listed.git_sha1:
        content = b"blob %d\0" % size_bytes + path.read_bytes()
        return hashlib.sha1(content, usedforsecurity=False).hexdigest() != listed.git_sha1
    return False


def _check_shards(folder: Path, label: str) -> None:
    """Raise if an index names a part that is missing, as half a snapshot of the cache would."""
    for index in folder.rglob("*.safetensors.index.json"):
        try:
            parts = set(manifest.read_json(index)["weight_map"].values())
        except (manifest.FolderFault, AttributeError, KeyError) as error:
            raise IntegrityError(f"{label}: {index.name!r} lists no weights ({error!r})") from error
        for part in sorted(parts):
            if not (index.parent / part).exists():
                raise OfflineError(f"{label} is not whole: {index.name!r} names {part!r}")


def _silent_bar() -> type:
    """Return a tqdm that shows nothing: ours is the one bar."""
    bar = load("tqdm:tqdm")
    return type("SilentBar", (bar,), {"__init__": partialmethod(bar.__init__, disable=True)})
