"""Models for others: sent to a server, or to a repository of the Hugging Face hub."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import TYPE_CHECKING, Any

from backprop import artefact, catalogue, manifest
from backprop.client import address
from backprop.errors import ArtefactError, InputError, NotFoundError
from backprop.models.auto import CLASSES
from backprop.models.cards import card
from backprop.models.places import saved_folder
from backprop.optional import load

if TYPE_CHECKING:
    from backprop.client.sending import Uploaded
    from backprop.models.base import BaseModel

__all__ = ["push_to_hub", "upload"]

CARD = "README.md"


def upload(
    model: BaseModel | str | Path,
    name: str | None = None,
    description: str | None = None,
    tasks: list[str] | None = None,
    details: Mapping[str, Any] | None = None,
    path: str | Path | None = None,
    api_key: str | None = None,
    *,
    api_url: str | None = None,
) -> Uploaded:
    """Return the version that a server made of a model, which it serves from now on.

    The model is saved first. Files that the server has are not sent again, and an upload that broke
    off goes on where it was when the same line runs again.

    Args:
        model: a model of one of backprop's classes, or the name or folder of a saved one.
        name: of the model on the server; its own by default.
        description: for people; its own by default.
        tasks: task strings; its own by default.
        details: anything else, JSON; its own by default.
        path: folder to save it in and keep; by default it is saved aside and deleted again.
        api_key: that may write; ``$BACKPROP_API_KEY`` by default.
        api_url: where the server is; ``$BACKPROP_API_URL`` by default.

    Returns:
        Its ``name``, ``version`` and ``url``; ``print`` shows ``name@version``.

    Raises:
        InputError: it is of a class of your own, the name is not valid, or no server is known.
        RemoteError: the server could not be reached, or refused.
    """
    server = address.of_hub(api_url, api_key)
    _refuse_taken(name or _name(model))
    with _saved(model, name, description, tasks, details, path) as found:
        listed = manifest.read_manifest(found.folder / artefact.MANIFEST)
        own = manifest.digest(found.folder / artefact.MANIFEST)
        sent: Uploaded = load("backprop.client.sending:send_folder")(
            server,
            str(found.meta["name"]),
            found.folder,
            {**listed, artefact.MANIFEST: own},
            description=str(found.meta.get("description") or ""),
        )
    return sent


def push_to_hub(
    model: BaseModel | str | Path,
    repo_id: str,
    *,
    name: str | None = None,
    description: str | None = None,
    tasks: list[str] | None = None,
    details: Mapping[str, Any] | None = None,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
) -> str:
    """Return the address of the commit that put a model into a Hugging Face repository.

    The repository is made where there is none. Its page shows the model's card.

    Args:
        model: as for ``upload``.
        repo_id: ``owner/name``.
        name: of the model; its own by default, else that of the repository.
        description: as for ``upload``.
        tasks: as for ``upload``.
        details: as for ``upload``.
        private: whether others can't see a new repository; what the owner's account says by
            default.
        token: of Hugging Face; by default that of ``hf auth login`` or ``$HF_TOKEN``.
        revision: branch; the main one by default.
        commit_message: for its history.
        create_pr: propose the commit instead of making it.

    Raises:
        InputError: it is of a class of your own, ``repo_id`` is not valid, or there is no token.
        RemoteError: the hub could not be reached, or refused.
    """
    fallback = re.sub(r"[^a-z0-9_-]+", "-", repo_id.rpartition("/")[2].lower()).strip("-")
    with _saved(model, name, description, tasks, details, None, fallback=fallback) as found:
        commit: str = load("backprop.client.hugging_face:push")(
            found.folder,
            repo_id,
            private=private,
            token=token,
            revision=revision,
            message=commit_message or f"{found.meta['name']}, saved by backprop",
            create_pr=create_pr,
        )
    return commit


def _name(model: BaseModel | str | Path) -> str:
    if isinstance(model, (str, Path)):
        return str(_read(model).meta["name"])
    return str(getattr(model, "name", None) or "")


def _refuse_taken(name: str) -> None:
    """Refuse the name of a catalogue model before anything is saved or sent.

    Raises:
        InputError: it is one, or no name at all.
    """
    artefact.check_name(name)
    entry = catalogue.find(name)
    if entry is not None:
        raise InputError(
            f"{name!r} is the name of the catalogue's {entry.name}, which every server has; give "
            "yours another one: upload(name='my-model')."
        )


@contextmanager
def _saved(
    model: BaseModel | str | Path,
    name: str | None,
    description: str | None,
    tasks: list[str] | None,
    details: Mapping[str, Any] | None,
    path: str | Path | None,
    *,
    fallback: str = "",
) -> Iterator[artefact.Artefact]:
    """Give the saved model that is to be sent, from a folder that may go afterwards.

    Raises:
        InputError: it is of a class of the caller's own.
    """
    with tempfile.TemporaryDirectory(prefix="backprop-") as aside:
        place = Path(path) if path is not None else Path(aside, "model")
        if isinstance(model, (str, Path)):
            found = _read(model)
            changes = {"name": name, "description": description, "tasks": tasks, "details": details}
            changes = {key: value for key, value in changes.items() if value is not None}
            if path is not None or any(found.meta.get(k) != own for k, own in changes.items()):
                found = _copied(found, {**found.meta, **changes}, place)
        else:
            _refuse_own(load("backprop.models.saving:describe")(model))
            name = name or getattr(model, "name", None) or fallback
            save = load("backprop.models.saving:save")
            found = artefact.read(save(model, name, description, tasks, details, path=place))
        yield found


def _read(name: str | Path) -> artefact.Artefact:
    """Return a saved model by its name or folder, every byte of it checked.

    Raises:
        NotFoundError: there is none.
        InputError: it was not saved by us, or is of a class of somebody's own.
    """
    folder = saved_folder(str(name))
    if folder is None:
        raise NotFoundError(
            f"There is no saved model {str(name)!r}; save one first: backprop.save(model, "
            "'my-model'), or backprop finetune … --output my-model."
        )
    if not any(folder.iterdir()):
        raise InputError(f"The folder {str(name)!r} is empty; pass one that a model was saved in.")
    if not artefact.was_saved(folder):
        raise InputError(
            f"{str(name)!r} is a folder of another library's form; load it and pass the model: "
            "upload(AutoModel.from_pretrained(path), name='my-model')."
        )
    found = artefact.read(folder)
    _refuse_own(found.meta)
    return found


def _refuse_own(meta: Mapping[str, Any]) -> None:
    """Refuse what only its own code could open, which no server runs.

    Raises:
        InputError: it, or a part of it, is of a class of the caller's own.
    """
    kind = meta.get("class")
    if kind not in CLASSES:
        shown = str(kind).removeprefix("user:")
        raise InputError(
            f"The model is of the class {shown}, which is not one of backprop's: opening it "
            "elsewhere would run its pickled code, so it is not sent. Send a model of one of: "
            f"{', '.join(sorted(CLASSES))}."
        )
    for part in (meta.get("parts") or {}).values():
        _refuse_own(part)


def _copied(found: artefact.Artefact, meta: Mapping[str, Any], place: Path) -> artefact.Artefact:
    """Return a copy of a saved model that says something else of itself.

    Raises:
        ArtefactError: ``place`` holds something else.
    """
    artefact.check_name(meta["name"])
    known = {"description": "", "details": {}, "version": "", "card": "", **meta}

    def build(folder: Path) -> None:
        leave = ignore_patterns(artefact.META, artefact.MANIFEST, CARD)
        copytree(found.folder, folder, ignore=leave, dirs_exist_ok=True)
        (folder / CARD).write_text(card(known), "utf-8")

    del known["format"]
    if place.resolve() == found.folder.resolve():
        raise ArtefactError(f"{str(place)!r} is where the model is; choose another path.")
    return artefact.read(artefact.write(place, build, known))
