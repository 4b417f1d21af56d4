"""Save and load any model: ours as files, a user's own class by their own word."""

from __future__ import annotations

import importlib.metadata
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dill
import torch
from safetensors.torch import load_model, save_model

from backprop import artefact, catalogue
from backprop.errors import ArtefactError, InputError, NotFoundError
from backprop.models import auto
from backprop.models.base import BaseModel, without_progress_bars
from backprop.models.cards import card, description_of
from backprop.models.fast import parts_of
from backprop.models.places import saved_folder

__all__ = ["describe", "load", "save"]

PICKLE = "model.dill"
WEIGHTS = "model.safetensors"


def save(
    model: BaseModel,
    name: str | None = None,
    description: str | None = None,
    tasks: list[str] | None = None,
    details: Mapping[str, Any] | None = None,
    path: str | Path | None = None,
) -> Path:
    """Return the folder the model was saved in; the model itself stays as it is.

    The folder appears whole or not at all; one that was there is replaced at once.

    Args:
        model: any model; a class of your own is saved with ``dill`` beside its weights.
        name: 3 to 100 characters of a-z, 0-9, ``-`` and ``_``; the model's own by default.
        description: for people; the model's own by default, or what it was finetuned for.
        tasks: task strings; the model's own by default.
        details: anything else, JSON; the model's own by default.
        path: the folder; ``<cache>/<name>`` by default.

    Raises:
        InputError: there is no name, or it breaks the rule.
    """
    name = artefact.check_name(name or model.name)
    if path is None and catalogue.find(name) is not None:
        if name == model.name:
            raise InputError(
                f"The model still has the name of the catalogue's {name!r}; give it one of its "
                "own: save('my-model')."
            )
        raise InputError(
            f"{name!r} is the name of a catalogue model, by which the saved one could not be "
            "loaded; pass another name, or a path."
        )
    meta = {
        **describe(model),
        "name": name,
        "description": description or description_of(model.description, model.report),
        "tasks": list(tasks or model.tasks),
        "details": dict(details or model.details or {}),
        "version": importlib.metadata.version("backprop"),
        "card": model.card,
        **({"report": dict(model.report)} if model.report else {}),
    }
    if not meta["tasks"]:
        raise InputError(f"{name} has no tasks (received {tasks!r}); pass tasks=['emotion'], say.")

    def build(folder: Path) -> None:
        _write_files(model, folder)
        (folder / "README.md").write_text(card(meta), "utf-8")

    return artefact.write(path or artefact.default_path(name), build, meta)


def load(
    name_or_path: str | Path,
    *,
    model_class: type[BaseModel] | None = None,
    trust_pickle: bool = False,
    device: str | torch.device | None = None,
    api_key: str | None = None,
    api_url: str | None = None,
) -> BaseModel:
    """Return a saved model, every byte of it checked.

    Args:
        name_or_path: the name it was saved by, or its folder; or ``hub://name@version``, which is
            fetched from a server once (``hub://name`` is its latest version).
        model_class: the class of a model of your own; its weights are put into ``model_class()``
            and nothing is unpickled.
        trust_pickle: unpickle a model of your own; this runs code from the folder, so say it only
            of folders you or people you trust made.
        device: such as ``"cpu"`` or ``"cuda:0"``.
        api_key: of the server; ``$BACKPROP_API_KEY`` by default.
        api_url: where the server is; ``$BACKPROP_API_URL`` by default.

    Raises:
        NotFoundError: there is no such folder, or version on the server.
        ArtefactError: it is damaged, or holds pickled code and neither argument says what to do.
    """
    folder = saved_folder(str(name_or_path), api_url=api_url, api_key=api_key)
    if folder is None:
        raise NotFoundError(
            f"There is no saved model {str(name_or_path)!r}; catalogue models are loaded by "
            "backprop.models.AutoModel.from_pretrained(name)."
        )
    if not artefact.was_saved(folder):
        return auto.load_folder(folder, device)
    found = artefact.read(folder)
    if found.meta.get("class") in auto.CLASSES:
        return auto.build(found.folder, found.meta, device).eval()
    if model_class is not None:
        model = _refill(model_class(), found.folder / WEIGHTS)
    elif trust_pickle:
        model = _unpickle(found.folder / PICKLE)
    else:
        return auto.build(found.folder, found.meta, device)  # says what may be passed
    for key in ("name", "description", "details"):
        setattr(model, key, found.meta.get(key))
    model.card = str(found.meta.get("card", ""))
    model.report = found.meta.get("report")
    model.tasks = list(found.meta["tasks"])
    return model.to(device).eval() if device is not None else model.eval()


def describe(model: BaseModel) -> dict[str, Any]:
    """Return the class and settings of a model, and of those it is made of."""
    class_name = type(model).__name__
    if not _is_ours(model):
        return {"class": f"user:{class_name}", "settings": {}}
    described: dict[str, Any] = {"class": class_name, "settings": model.settings()}
    parts = parts_of(model)
    if parts:
        described["parts"] = {
            part: {**describe(own), "name": own.name, "tasks": list(own.tasks)}
            for part, own in parts.items()
        }
    return described


def _is_ours(model: BaseModel) -> bool:
    kind = type(model)
    return kind.__module__.startswith("backprop.models.") and kind.__name__ in auto.CLASSES


def _write_files(model: BaseModel, folder: Path) -> None:
    if not _is_ours(model):
        _write_user_model(model, folder)
        return
    for part, own in parts_of(model).items():
        (folder / part).mkdir()
        _write_files(own, folder / part)
    if not parts_of(model):
        with without_progress_bars():
            model.save_files(folder)


def _write_user_model(model: BaseModel, folder: Path) -> None:
    """Write the weights, loadable without unpickling, and the whole object by dill."""
    save_model(model, str(folder / WEIGHTS), metadata={"format": "pt"})
    buffer = io.BytesIO()
    try:
        dill.dump(model, buffer, recurse=True)
    except Exception as error:  # dill raises whatever the object's own hooks raise
        raise InputError(
            f"{type(model).__name__} can't be pickled with dill ({error}); keep open files, locks "
            "and the like out of the model's attributes."
        ) from error
    (folder / PICKLE).write_bytes(buffer.getvalue())


def _refill(model: BaseModel, weights: Path) -> BaseModel:
    try:
        load_model(model, str(weights))
    except RuntimeError as error:
        raise ArtefactError(
            f"The saved weights do not fit {type(model).__name__} ({error}); pass the class that "
            "was saved."
        ) from error
    return model


def _unpickle(path: Path) -> BaseModel:
    with path.open("rb") as file:
        model: BaseModel = dill.load(file)
    return model
