"""Models by name: the catalogue, saved folders, hub repositories; saving and loading."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backprop import artefact, catalogue
from backprop.catalogue import Entry
from backprop.client.references import is_reference
from backprop.errors import ArtefactError, InputError, NotFoundError
from backprop.models import NAMES
from backprop.models.listing import table
from backprop.models.places import (
    fetch,
    fetch_repository,
    is_repository,
    read_json,
    saved_folder,
)
from backprop.models.ready import identity_of
from backprop.optional import load as load_name

if TYPE_CHECKING:
    import torch

    from backprop.models.base import BaseModel

    Loader = Callable[[str | torch.device | None], BaseModel]

__all__ = ["CLASSES", "AutoModel", "build", "find", "load_folder"]

CLASSES = frozenset(NAMES) - {"AutoModel", "BaseModel", "PathModel"}
"""The only classes a saved folder or the catalogue can name."""

HEADS = (
    ("ForSequenceClassification", "HFSeqTCModel"),
    ("ForCausalLM", "HFCausalLMTGModel"),
    ("LMHeadModel", "HFCausalLMTGModel"),
    ("ForConditionalGeneration", "HFSeq2SeqTGModel"),
    ("ForQuestionAnswering", "SpanQA"),
    ("ForImageClassification", "HFImageModel"),
    ("CLIPModel", "CLIP"),
    ("SiglipModel", "CLIP"),
)
"""End of a hub model's architecture name to our class, for models outside the catalogue."""


class AutoModel:
    """Any supported model by its name."""

    @staticmethod
    def list_models(
        task: str | None = None,
        return_dict: bool = False,
        display: bool = False,
        limit: int | None = None,
        aliases: Mapping[str, str] | None = None,
        **filters: Any,
    ) -> Any:
        """Return the models there are, each as a dictionary with its ``name`` and all else.

        Args:
            task: only models that do this task.
            return_dict: return a dictionary of these by name instead of a list.
            display: print a table and return nothing.
            limit: at most so many.
            aliases: further names, each to the name it stands for, shown too.
            filters: ``language``, ``size``, ``licence``, ``finetunable`` and ``offline`` of
                ``catalogue.entries``.

        Raises:
            InputError: ``limit`` is below 1.
        """
        if limit is not None and limit < 1:
            raise InputError(f"limit must be at least 1; received {limit}.")
        found = catalogue.entries(task=task, **filters)[:limit]
        if display:
            table(found, aliases or {}, task)
            return None
        described = {entry.name: catalogue.as_dict(entry) for entry in found}
        return described if return_dict else list(described.values())

    @staticmethod
    def from_pretrained(
        name: str | Path,
        aliases: Mapping[str, str] | None = None,
        device: str | torch.device | None = None,
        *,
        api_url: str | None = None,
        api_key: str | None = None,
    ) -> BaseModel:
        """Return the model called ``name``, fetched if need be.

        Args:
            name: a catalogue name or alias, the name or path of a saved model, a folder in hub
                format, a hub repository (``owner/name``), or a model of a server's hub
                (``hub://name@version``).
            aliases: further names, each to the name it stands for.
            device: such as ``"cpu"`` or ``"cuda:0"``.
            api_url: where the server is; ``$BACKPROP_API_URL`` by default.
            api_key: of the server; ``$BACKPROP_API_KEY`` by default.

        Raises:
            NotFoundError: there is no such model; the message lists near ones.
            SourceError: its weights can't be fetched.
            ArtefactError: it was saved, and its folder is damaged.
        """
        chosen = str((aliases or {}).get(str(name), name))
        if is_reference(chosen):
            chosen = str(saved_folder(chosen, api_url=api_url, api_key=api_key))
        return find(chosen)(device)


def find(name: str) -> Loader:
    """Return what loads the model called ``name``, having loaded nothing yet.

    Raises:
        NotFoundError: there is no such model.
    """
    try:
        entry = catalogue.get(name)
    except NotFoundError as error:
        folder = saved_folder(name)
        if folder is not None:
            return lambda device: load_folder(folder, device)
        if is_repository(name):
            return lambda device: load_folder(fetch_repository(name), device)
        raise error
    return lambda device: load_entry(entry, device)


def load_entry(entry: Entry, device: str | torch.device | None = None) -> BaseModel:
    """Return a catalogue model.

    Raises:
        SourceError: its weights can't be fetched.
    """
    model_class = load_name(NAMES[entry.model])
    common = {
        "name": entry.name,
        "description": entry.description,
        "tasks": list(entry.tasks),
        "device": device,
    }
    settings = json.loads(json.dumps(dict(entry.settings)))
    if "parts" in settings:
        parts = {
            part: load_entry(catalogue.get(name), device)
            for part, name in settings.pop("parts").items()
        }
        model = _checked(model_class(**parts, **settings, **common))
    else:
        model = _checked(model_class(fetch(entry), **settings, **common))
    return load_name("backprop.models.fast:loaded_as")(model, identity_of(entry))  # type: ignore[no-any-return]


def load_folder(folder: Path, device: str | torch.device | None = None) -> BaseModel:
    """Return the model in ``folder``: one we saved, or one in hub format.

    Raises:
        ArtefactError: it is damaged, holds pickled code, or is no model.
    """
    if not artefact.was_saved(folder):
        model_class, settings = infer(folder)
        return _checked(model_class(folder, device=device, **settings))
    found = artefact.read(folder)
    model = _checked(build(found.folder, found.meta, device))
    return load_name("backprop.models.fast:loaded_as")(model, identity_of(found.folder))  # type: ignore[no-any-return]


def build(
    folder: Path, meta: Mapping[str, Any], device: str | torch.device | None = None
) -> BaseModel:
    """Return the model that a verified folder holds.

    Raises:
        ArtefactError: its class is not one of ours.
    """
    if not isinstance(meta.get("class"), str) or meta["class"] not in CLASSES:
        raise ArtefactError(
            f"{folder.name} holds a model of class {meta.get('class')!r}, which is not one of "
            "backprop's; load it with backprop.load(path, model_class=YourClass), or, if you "
            "trust who made it, backprop.load(path, trust_pickle=True)."
        )
    common = {key: meta.get(key) for key in COMMON}
    _check_meta(meta, folder)
    parts = {part: build(folder / part, own, device) for part, own in meta.get("parts", {}).items()}
    place: Sequence[Any] = () if parts else (folder,)
    model_class = load_name(NAMES[meta["class"]])
    model: BaseModel = model_class(
        *place, **parts, **meta.get("settings", {}), **common, device=device
    )
    model.card = str(meta.get("card", ""))
    model.report = meta.get("report")
    return model


COMMON = ("name", "description", "tasks", "details")
RESERVED = {*COMMON, "device", "model_class", "model_path", "tokenizer_path"}
"""Arguments of a model's class that no file may set."""


def _check_meta(meta: Mapping[str, Any], folder: Path) -> None:
    """Refuse settings and parts of a form that ``save`` never writes.

    Raises:
        ArtefactError: one of them has another form.
    """
    settings, parts = meta.get("settings", {}), meta.get("parts", {})
    fine = isinstance(settings, dict) and not RESERVED & set(settings)
    fine = fine and isinstance(parts, dict) and all(map(str.isidentifier, parts))
    if not fine or not all(isinstance(part, dict) for part in parts.values()):
        raise ArtefactError(f"{folder.name} has a backprop.json of an unknown form; save it again.")


def infer(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Return our class for a folder in hub format, and settings for it.

    Raises:
        ArtefactError: its architecture is not one we know.
    """
    if (folder / "modules.json").is_file():
        return load_name(NAMES["STModel"]), {}
    if not (folder / "config.json").is_file():
        raise ArtefactError(
            f"{folder.name} is no model: it has neither backprop.json nor config.json."
        )
    config = read_json(folder / "config.json")
    if config.get("model_type") == "efficientnet-lite":
        return load_name(NAMES["EfficientNet"]), {}
    [architecture] = config.get("architectures", [""])[:1] or [""]
    if str(architecture).endswith("Model") and not (folder / "tokenizer_config.json").is_file():
        return load_name(NAMES["HFImageModel"]), {}
    for ending, name in HEADS:
        if str(architecture).endswith(ending):
            labels = [str(label).lower() for label in config.get("id2label", {}).values()]
            is_nli = name == "HFSeqTCModel" and any(own.startswith("entail") for own in labels)
            return load_name(NAMES["HFNLIModel" if is_nli else name]), {}
    raise ArtefactError(
        f"{folder.name} has the architecture {architecture!r}, which no class of backprop does a "
        f"task with; known endings: {', '.join(ending for ending, _ in HEADS)}."
    )


def _checked(model: BaseModel) -> BaseModel:
    """Return ``model`` in evaluation mode."""
    model.eval()
    return model
