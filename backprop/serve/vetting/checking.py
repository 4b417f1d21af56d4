"""All checks of an upload, in the order that lets each rely on those before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backprop import manifest
from backprop.serve.vetting.config import check_config, check_generation
from backprop.serve.vetting.meta import check_meta, part_names
from backprop.serve.vetting.pieces import check_pieces
from backprop.serve.vetting.pixels import check_pixels
from backprop.serve.vetting.places import NAMED_TEMPLATE, Place, check_places, model_places
from backprop.serve.vetting.refusing import refuse
from backprop.serve.vetting.sentences import check_sentences
from backprop.serve.vetting.strict import read_object, read_text
from backprop.serve.vetting.templates import check_template, render_template
from backprop.serve.vetting.tokenizer import check_tokenizer
from backprop.serve.vetting.tokens import check_special_tokens, check_tokenizer_config
from backprop.serve.vetting.weights import check_weights

__all__ = ["check"]


def check(folder: Path) -> dict[str, Any]:
    """Return what ``backprop.json`` says, once all of an upload is found fit to be served.

    Names and sizes come first, so that no file is opened that should not be there; then the
    manifest, so that what is read is what was meant; then what each file says.

    Raises:
        ArtefactError: it may not be served.
    """
    parts = _parts_by_name(folder)
    files = check_places(folder, parts)
    for name in ("backprop.json", "manifest.json", "README.md"):
        if name not in files:
            refuse(name, "it is missing", "upload the whole folder that backprop.save made")
    _check_manifest(folder)
    meta = read_object(folder / "backprop.json", "backprop.json", manifest.MAX_JSON_BYTES)
    check_meta(meta)
    if part_names(meta) != parts:
        refuse("backprop.json", f"a {meta['class']} is saved in other folders")
    read_text(folder / "README.md", "README.md", 1 << 20)
    for place in model_places(folder, files, parts):
        _check_model(place, meta["parts"][place.folder.name] if parts else meta)
    return meta


def _parts_by_name(folder: Path) -> tuple[str, ...]:
    """Return the parts that the folders tell of, since names are checked before any reading."""
    return ("image", "text") if (folder / "image").is_dir() else ()


def _check_manifest(folder: Path) -> None:
    """Refuse files that differ from what the manifest says of them."""
    try:
        listed = manifest.read_manifest(folder / "manifest.json")
        manifest.verify(folder, listed, ignore=("manifest.json",))
    except manifest.FolderFault as fault:
        refuse("manifest.json", f"the upload is not as it was saved ({str(fault)[:300]})")


def _check_model(place: Place, meta: Mapping[str, Any]) -> None:
    shapes = check_weights(place)
    shapes |= check_sentences(place, needed=meta["class"] == "STModel")
    check_config(place, shapes)
    check_generation(place)
    check_pixels(place)
    check_tokenizer(place)
    check_special_tokens(place)
    check_pieces(place)
    templates = dict(check_tokenizer_config(place))
    for name in place.files:
        if name == "chat_template.jinja" or NAMED_TEMPLATE.fullmatch(name):
            templates[place.where(name)] = read_text(
                place.folder / name, place.where(name), 1 << 18
            )
    for where, source in templates.items():
        check_template(source, where)
        render_template(source, where)
