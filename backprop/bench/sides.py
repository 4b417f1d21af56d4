"""What is timed: each side is a function that prepares, and returns what does a round's work.

A round returns its result as JSON: lists of numbers, or of texts. Peers are written as their own
documentation shows them.
"""

from __future__ import annotations

import csv
import functools
import random
import tempfile
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from backprop import catalogue
from backprop.bench.rows import SHORT
from backprop.models.places import fetch
from backprop.optional import load

__all__ = ["SIDES", "folder"]

Round = Callable[[], Any]

ENCODER, WRITER, LOOKER = "all-minilm-l6-v2", "smollm2-135m-instruct", "efficientnet-lite0"
NEW_TOKENS = 64

LABELS = (
    *("sport", "politics", "culture", "science", "business", "weather", "health", "travel"),
    *("food", "music", "film", "law", "crime", "history", "nature", "fashion", "gardening"),
    *("education", "religion", "technology"),
)


def folder(name: str) -> Path:
    """Return the folder of a catalogue model in hub format."""
    return fetch(catalogue.get(name))


# --- Inputs --------------------------------------------------------------------------------


@functools.cache
def texts(count: int) -> list[str]:
    """Return texts of 1 to 12 sentences, the same each time, of the examples that come with us."""
    examples = resources.files("backprop.examples")
    minutes = (examples / "council.txt").read_text("utf-8").replace("\n", " ").split(".")
    with (examples / "mail.csv").open("r", encoding="utf-8") as file:
        mails = [row["text"] for row in csv.DictReader(file)]
    sentences = [f"{own.strip()}." for own in minutes if own.strip()] + mails
    lengths = (1, 1, 2, 1, 4, 1, 2, 12, 1, 3, 1, 6)
    order = random.Random(0)
    return [" ".join(order.sample(sentences, lengths[i % len(lengths)])) for i in range(count)]


def prompts(count: int) -> list[str]:
    """Return instructions of different lengths."""
    return [f"Summarise in your own words: {text}" for text in texts(count)]


@functools.cache
def photos(count: int) -> list[str]:
    """Return the paths of JPEG files of usual size, made of a photo that comes with us."""
    image = load("PIL.Image").open(str(resources.files("backprop.examples") / "cat.jpg"))
    place = Path(tempfile.mkdtemp(prefix="backprop-bench-"))
    paths = []
    for i in range(count):
        width, height = image.size
        left, top = (i * 7) % (width // 5), (i * 5) % (height // 5)
        part = image.crop((left, top, left + width * 4 // 5, top + height * 4 // 5))
        path = place / f"{i}.jpg"
        part.convert("RGB").resize((640, 480)).save(path, quality=90)
        paths.append(str(path))
    return paths


# --- Peers ---------------------------------------------------------------------------------


def _sentence_transformers(own: list[str]) -> Round:
    kind = load("sentence_transformers:SentenceTransformer")
    model = kind(str(folder(ENCODER)), device="cpu")
    return lambda: model.encode(own).tolist()


def _one_by_one(make: Callable[[list[str]], Round]) -> Round:
    """Return a round of twenty calls with a short text each."""
    run = make([SHORT])
    return lambda: [run() for _ in range(20)][0]


def _transformers_writer(own: list[str], *, batched: bool) -> Round:
    transformers, torch = load("transformers"), load("torch")
    path = folder(WRITER)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, padding_side="left")
    model = transformers.AutoModelForCausalLM.from_pretrained(path)
    chats = [[{"role": "user", "content": text}] for text in own]

    def written(some: list[Any]) -> list[str]:
        inputs = tokenizer.apply_chat_template(
            some,
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.inference_mode():
            output = model.generate(
                **inputs, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False
            )
        new = output[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]

    if batched:
        return lambda: written(chats)
    return lambda: [text for chat in chats for text in written([chat])]


def _transformers_images() -> Round:
    peers = load("backprop.bench.pipelines")
    pipe = peers.image_pipeline(folder(LOOKER))
    paths = photos(64)
    return lambda: [found[0]["label"] for found in pipe(paths, batch_size=16, top_k=1)]


def _transformers_zero_shot() -> Round:
    pipe = load("backprop.bench.pipelines").zero_shot_pipeline(_nli())
    own = texts(4)
    return lambda: [dict(zip(f["labels"], f["scores"], strict=True)) for f in pipe(own, LABELS)]


@functools.cache
def _nli() -> Path:
    """Return an NLI model of BERT's base size with random weights, the same each time."""
    place = Path(tempfile.gettempdir()) / "backprop-bench-nli"
    if not (place / "config.json").exists():
        load("backprop.bench.pipelines").write_nli(folder(ENCODER), place)
    return place


# --- Ours ----------------------------------------------------------------------------------


def _vectors(own: list[str]) -> Round:
    task = load("backprop:TextVectorisation")()
    return lambda: task(own)


def _generation(own: list[str]) -> Round:
    task = load("backprop:TextGeneration")()
    return lambda: task(own, max_length=NEW_TOKENS, min_length=NEW_TOKENS)


def _image_classes() -> Round:
    task = load("backprop:ImageClassification")()
    paths = photos(64)
    return lambda: [next(iter(found)) for found in task(paths, top_k=1)]


def _zero_shot(model: str | None) -> Round:
    task = load("backprop:TextClassification")(model)
    own = texts(4)
    return lambda: task(own, list(LABELS), multi_label=False)


SIDES: Mapping[str, Callable[[], Round]] = {
    "sentence_transformers_many": lambda: _sentence_transformers(texts(512)),
    "sentence_transformers_one": lambda: _one_by_one(_sentence_transformers),
    "transformers_prompt": lambda: _transformers_writer(prompts(1), batched=True),
    "transformers_prompts": lambda: _transformers_writer(prompts(16), batched=True),
    "transformers_loop": lambda: _transformers_writer(prompts(16), batched=False),
    "transformers_images": _transformers_images,
    "transformers_zero_shot": _transformers_zero_shot,
    "vectors_many": lambda: _vectors(texts(512)),
    "vectors_one": lambda: _one_by_one(_vectors),
    "generation_prompt": lambda: _generation(prompts(1)),
    "generation_prompts": lambda: _generation(prompts(16)),
    "image_classes": _image_classes,
    "nli_zero_shot": lambda: _zero_shot(str(_nli())),
    "default_zero_shot": lambda: _zero_shot(None),
}
