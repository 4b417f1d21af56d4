"""The only files that an upload may hold, by place: what every class of ours saves, and no more."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from backprop import manifest
from backprop.serve.vetting.refusing import refuse, shown

__all__ = ["MODULES", "WEIGHTS", "Place", "check_places", "model_places"]

KIB, MIB = 1 << 10, 1 << 20

WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|classifier\.safetensors")
MODULES = re.compile(r"[1-9]_(Pooling|Normalize|Dense)")

TOP: Mapping[str, int] = {
    "backprop.json": manifest.MAX_JSON_BYTES,
    "manifest.json": manifest.MAX_JSON_BYTES,
    "README.md": MIB,
}
"""Files of the top folder alone, each with the most bytes it may have."""

OF_MODEL: Mapping[str, int] = {
    "config.json": 4 * MIB,
    "generation_config.json": 64 * KIB,
    "model.safetensors.index.json": 8 * MIB,
    "tokenizer.json": 64 * MIB,
    "tokenizer_config.json": 4 * MIB,
    "special_tokens_map.json": MIB,
    "chat_template.jinja": 256 * KIB,
    "spiece.model": 16 * MIB,
    "preprocessor_config.json": 64 * KIB,
    "modules.json": 16 * KIB,
    "sentence_bert_config.json": 64 * KIB,
    "config_sentence_transformers.json": 64 * KIB,
}
"""Files of a model: in the top folder, or in that of a part."""

OF_MODULE: Mapping[str, int] = {"config.json": 16 * KIB}
"""Files of a folder such as ``1_Pooling``."""

NAMED_TEMPLATE = re.compile(r"additional_chat_templates/[a-z0-9_-]{1,40}\.jinja")
"""Templates for other uses than chat, which transformers keeps by name."""

MOST_FILES = 256
PICKLES = re.compile(r".*\.(dill|pkl|pickle|bin|pt|pth|ckpt|joblib|npy|npz|h5|msgpack|onnx)", re.I)
CODE = re.compile(r".*\.(py|pyc|pyd|so|dll|dylib|sh|js|exe|bat)", re.I)


@dataclass(frozen=True)
class Place:
    """A folder of the upload that holds one model.

    Args:
        folder: where it is.
        prefix: how messages name it: empty at the top, else such as ``image/``.
        files: names below it, relative, with sizes in bytes.
    """

    folder: Path
    prefix: str
    files: Mapping[str, int]

    def where(self, name: str) -> str:
        """Return how messages name a file."""
        return f"{self.prefix}{name}"


def check_places(folder: Path, parts: Sequence[str]) -> dict[str, int]:
    """Return every file below ``folder`` with its size, once each has a place here.

    Args:
        folder: the upload.
        parts: the folders of the models it is composed of, if it is.

    Raises:
        ArtefactError: a link, a special file, or a name or size that is not allowed.
    """
    files: dict[str, int] = {}
    for name, size in _walk(folder):
        if len(files) == MOST_FILES:
            refuse("the upload", f"it holds more than {MOST_FILES} files")
        most = _most_bytes(name, parts)
        if most is None:
            _refuse_name(name)
        if size > most:
            refuse(name, f"it has {size:,} bytes; at most {most:,} are allowed for this file")
        files[name] = size
    return files


def model_places(folder: Path, files: Mapping[str, int], parts: Sequence[str]) -> list[Place]:
    """Return the folders that hold a model each: the parts, or else the top."""
    if not parts:
        own = {name: size for name, size in files.items() if name not in TOP}
        return [Place(folder, "", own)]
    return [
        Place(
            folder / part,
            f"{part}/",
            {
                name.removeprefix(f"{part}/"): size
                for name, size in files.items()
                if name.startswith(f"{part}/")
            },
        )
        for part in parts
    ]


def _walk(folder: Path) -> Iterator[tuple[str, int]]:
    pending = sorted(folder.iterdir())
    while pending:
        child = pending.pop()
        name = child.relative_to(folder).as_posix()
        try:
            manifest.check_path(name)
        except manifest.FolderFault:
            refuse("the upload", f"the path {shown(name)} is not allowed", "remove the file")
        facts = child.lstat()
        if stat.S_ISDIR(facts.st_mode):
            pending += sorted(child.iterdir())
        elif stat.S_ISREG(facts.st_mode):
            yield name, facts.st_size
        else:
            refuse(name, "it is a link or a special file", "upload the file itself")


def _most_bytes(name: str, parts: Sequence[str]) -> int | None:
    """Return the most bytes a file may have; None where no such file may be."""
    if name in TOP:
        return TOP[name]
    if not parts:
        return _most_in_model(name)
    part, _, inner = name.partition("/")
    return _most_in_model(inner) if part in parts else None


def _most_in_model(name: str) -> int | None:
    if WEIGHTS.fullmatch(name):
        return manifest.MAX_FILE_BYTES
    if NAMED_TEMPLATE.fullmatch(name):
        return OF_MODEL["chat_template.jinja"]
    module, slash, inner = name.partition("/")
    if slash and MODULES.fullmatch(module):
        dense = module.endswith("_Dense") and inner == "model.safetensors"
        return manifest.MAX_FILE_BYTES if dense else OF_MODULE.get(inner)
    return OF_MODEL.get(name)


def _refuse_name(name: str) -> NoReturn:
    if PICKLES.fullmatch(name):
        what, remedy = "weights of this kind can hold code", "save them as safetensors"
    elif CODE.fullmatch(name):
        what, remedy = "code that comes with a model is never run", "leave it out"
    else:
        what = "no model of backprop has a file of this name here"
        remedy = "upload the folder that backprop.save made and nothing else"
    refuse(shown(name).strip("'"), what, remedy)
