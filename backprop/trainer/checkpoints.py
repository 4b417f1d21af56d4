"""The folder a killed run goes on from: whole or absent, of this run or refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from backprop import folders, manifest
from backprop.errors import ArtefactError, InputError
from backprop.trainer.flattening import flatten, unflatten
from backprop.trainer.history import Position
from backprop.trainer.settings import Settings

__all__ = ["Checkpoint", "Saved", "identity"]

MANIFEST, STATE, NOW, BEST = "manifest.json", "state.json", "now.safetensors", "best.safetensors"
FORMAT = 1
"""Raised when a checkpoint of an earlier release can't be read any more."""

DAMAGE = (
    *(manifest.FolderFault, SafetensorError, OSError, RecursionError),
    *(AttributeError, LookupError, TypeError, ValueError),  # whole, but not what ``write`` writes
)

# Where and how often it is kept has no say in what is computed.
NO_PART = {"checkpoint", "checkpoint_every_s", "fingerprint"}

HASH = re.compile(r"[0-9a-f]{16,}")


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds.

    Args:
        position: how far the run had come.
        now: trained weights and buffers as they were then; empty if the run had finished.
        best: those of the best epoch; empty before there is one.
        optimisation: the state of ``Optimisation``; None if the run had finished.
    """

    position: Position
    now: dict[str, Tensor]
    best: dict[str, Tensor]
    optimisation: dict[str, Any] | None


class Checkpoint:
    """One run's folder.

    Args:
        folder: made when first written; an existing one is replaced only if it is a checkpoint.
        identity: what this run is; see ``identity``.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder.expanduser().absolute()
        self.identity = dict(identity)

    def read(self) -> Saved | None:
        """Return what the folder holds; None where there is nothing yet.

        Raises:
            InputError: it is no checkpoint, or that of another run.
            ArtefactError: it is damaged.
        """
        folders.restore(self.folder)
        if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
            return None
        if not (self.folder / MANIFEST).is_file() or not (self.folder / STATE).is_file():
            raise InputError(
                f"checkpoint={str(self.folder)!r} is there and is no checkpoint, so it is left "
                "alone; name a folder that is empty or does not exist."
            )
        with self._damage_told():
            listed = manifest.read_manifest(self.folder / MANIFEST)
            manifest.verify(self.folder, listed, ignore={MANIFEST})
            state = manifest.read_json(self.folder / STATE)
        self._check_identity(state)
        with self._damage_told():
            return self._saved(state)

    def _saved(self, state: Mapping[str, Any]) -> Saved:
        now, best = load_file(self.folder / NOW), load_file(self.folder / BEST)
        position = Position.from_json(unflatten(state["position"], {}))
        optimisation = unflatten(state["optimisation"], now)
        now = {name: now[name] for name in now if not name.startswith("optimisation.")}
        return Saved(position, now, best, optimisation)

    @contextmanager
    def _damage_told(self) -> Iterator[None]:
        """Turn whatever reading a damaged or made-up folder leads to into ArtefactError."""
        try:
            yield
        except DAMAGE as fault:
            raise ArtefactError(
                f"The checkpoint {str(self.folder)!r} is damaged: {fault}; delete the folder to "
                "train from the start."
            ) from fault

    def write(self, saved: Saved) -> None:
        """Replace what the folder holds; a kill at any moment leaves the old or the new."""
        tensors = dict(saved.now)
        state = {
            "format": FORMAT,
            "identity": self.identity,
            "position": flatten(saved.position.to_json(), {}, ""),
            "optimisation": flatten(saved.optimisation, tensors, "optimisation"),
        }
        with folders.building(self.folder) as new:
            save_file(_plain(tensors), new / NOW)
            save_file(_plain(saved.best), new / BEST)
            (new / STATE).write_text(json.dumps(state, allow_nan=False), "utf-8")
            manifest.write_manifest(new / MANIFEST, manifest.describe(new))

    def _check_identity(self, state: Mapping[str, Any]) -> None:
        found = state.get("identity")
        theirs: Mapping[str, Any] = found if isinstance(found, dict) else {}
        names = dict.fromkeys([*self.identity, *theirs])
        ours = self.identity
        differing = [name for name in names if theirs.get(name) != ours.get(name)]
        if state.get("format") == FORMAT and not differing:
            return
        listed = [_change(name, theirs.get(name), ours.get(name)) for name in differing]
        raise InputError(
            f"The checkpoint {str(self.folder)!r} is of another run: "
            f"{'; '.join(listed) or 'an older release wrote it'}. Pass the same data and settings "
            "to go on with it; to train anew, delete the folder or name another."
        )


def _change(name: str, before: Any, now: Any) -> str:
    if any(isinstance(each, str) and HASH.fullmatch(each) for each in (before, now)):
        return f"{name}: no longer the same"
    return f"{name} was {before!r}, now {now!r}"


def identity(settings: Settings, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return by name all that a run's outcome follows from, as JSON.

    Args:
        settings: its ``fingerprint`` is taken apart if it is a JSON object.
        facts: of the data and weights.
    """
    chosen = {name: value for name, value in asdict(settings).items() if name not in NO_PART}
    return {**_entries(settings.fingerprint), **facts, **chosen, "torch": str(torch.__version__)}


def _entries(fingerprint: str) -> dict[str, Any]:
    try:
        entries = json.loads(fingerprint)
    except ValueError:
        entries = None
    return entries if isinstance(entries, dict) else {"fingerprint": fingerprint}


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
