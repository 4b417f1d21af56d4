"""Tiny models with random, seeded weights, saved as hub folders, so that tests load real files.

``folder("t5")`` is the way in; ``KINDS`` lists what there is. Nothing here is imported from torch
or transformers before a model is built, so ``photo`` and ``texts`` serve torch-free tests too.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import random
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tests import tiny_files
from tests.tiny_kinds import KINDS
from tests.tiny_tokenizers import TEXT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["KINDS", "build", "folder", "photo", "texts"]

ACCENTED = ["café", "naïve", "Zürich", "—", "“quoted”", "ﬁne", "ｗｉｄｅ", "日本", "😀"]


def build(kind: str, folder: Path) -> Path:
    """Return ``folder`` once it holds a new model of ``kind``, the same on every call.

    Args:
        kind: a key of ``KINDS``.
        folder: made when missing.
    """
    entry = KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    settings = dict(entry.settings)
    if entry.labels:
        settings["id2label"] = dict(enumerate(entry.labels))
        settings["label2id"] = {label: number for number, label in enumerate(entry.labels)}
    if entry.tokenizer is not None:
        tokenizer = entry.tokenizer()
        tokenizer.save_pretrained(folder)
        settings = _with_vocabulary(settings, tokenizer)
    model_class = getattr(importlib.import_module("transformers"), entry.model)
    with _seeded(kind):
        model = model_class(model_class.config_class(**settings))
        entry.prepare(model)
    model.eval().save_pretrained(folder)
    if entry.pixels:
        tiny_files.write_json(folder / "preprocessor_config.json", entry.pixels)
    entry.finish(folder)
    return folder


@functools.cache
def folder(kind: str) -> Path:
    """Return a folder with the model of ``kind``, built once a process; treat it as read-only."""
    return build(kind, _session_folder() / kind)


def photo(seed: int = 0, size: tuple[int, int] = (64, 48), mode: str = "RGB") -> Image.Image:
    """Return a made-up picture: a colour gradient, a disc and some noise, the same each time.

    Args:
        seed: another number gives another picture.
        size: width and height in pixels.
        mode: any mode of Pillow.
    """
    random_numbers = np.random.default_rng(seed)
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    start, across, down, disc = random_numbers.uniform(0, 255, (4, 3))
    pixels = start + x[..., None] * (across - start) / 2 + y[..., None] * (down - start) / 2
    centre_x, centre_y = random_numbers.uniform(0.3, 0.7, 2)
    pixels[(x - centre_x) ** 2 + (y - centre_y) ** 2 < 0.06] = disc
    pixels += random_numbers.normal(0, 8, pixels.shape)
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if mode.startswith(("I", "F")):
        return picture.convert("L").convert(mode)
    if mode in ("RGBA", "LA", "PA"):
        picture.putalpha(Image.fromarray((x * 255).astype(np.uint8)))
    return picture.convert(mode)


def texts(n: int, seed: int = 0) -> list[str]:
    """Return ``n`` texts of very different lengths, from one word to some hundred.

    The lengths repeat every eight, so eight texts have them all.
    """
    chance = random.Random(seed)
    words = [*TEXT.split(), *ACCENTED]
    lengths = [round(base * chance.uniform(1, 1.4)) for base in (1, 40, 3, 300, 8, 1, 120, 16)]
    return [" ".join(chance.choices(words, k=lengths[number % 8])) for number in range(n)]


@functools.cache
def _session_folder() -> Path:
    holder = tempfile.TemporaryDirectory(prefix="tiny-models-")
    atexit.register(holder.cleanup)
    return Path(holder.name)


@contextmanager
def _seeded(name: str) -> Iterator[None]:
    """Seed torch from ``name``, on one thread, and put both back as they were afterwards."""
    torch = importlib.import_module("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the last bits of a sum depend on how many there are
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(name.encode()))
            yield
    finally:
        torch.set_num_threads(threads)


def _with_vocabulary(
    settings: tiny_files.Json, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """Return ``settings`` with the tokenizer's size and special ids where they say nothing else."""
    found: dict[str, Any] = {"vocab_size": len(tokenizer)}
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if getattr(tokenizer, name) is not None:
            found[name] = getattr(tokenizer, name)
    if "text_config" in settings:
        return {**settings, "text_config": {**found, **settings["text_config"]}}
    return {**found, **settings}
