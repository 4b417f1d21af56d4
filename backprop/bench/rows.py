"""What is measured: a line of the table each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["COLD", "ROWS", "Cold", "Row"]


@dataclass(frozen=True)
class Row:
    """Two sides that do the same work.

    Args:
        title: for people.
        peer: name of a side in ``sides``.
        ours: the same.
        items: what a round does, in number.
        unit: of the items.
        compare: ``cosine``, ``equal`` or nothing: how results are compared.
        asked: least ratio of speeds that the project has set itself.
        rounds: turns of each side, after one to warm up.
    """

    title: str
    peer: str
    ours: str
    items: int
    unit: str
    compare: str
    asked: float
    rounds: int = 5


@dataclass(frozen=True)
class Cold:
    """Two programs from their start to their first result.

    Args:
        title: for people.
        peer: Python code.
        ours: the same.
        asked: see ``Row``.
        most_s: seconds that ours may take.
    """

    title: str
    peer: str
    ours: str
    asked: float
    most_s: float


SHORT = "The train to London was late again."

ROWS: Mapping[str, Row] = {
    "vectors": Row(
        "texts of mixed length to vectors",
        "sentence_transformers_many",
        "vectors_many",
        512,
        "texts",
        "cosine",
        2.0,
    ),
    "vector": Row(
        "one short text to a vector",
        "sentence_transformers_one",
        "vectors_one",
        20,
        "texts",
        "cosine",
        4.0,
        rounds=9,
    ),
    "prompt": Row(
        "one prompt, 64 new tokens",
        "transformers_prompt",
        "generation_prompt",
        64,
        "tokens",
        "equal",
        3.0,
    ),
    "prompts": Row(
        "16 prompts, 64 new tokens each",
        "transformers_prompts",
        "generation_prompts",
        1024,
        "tokens",
        "equal",
        1.7,
        rounds=3,
    ),
    "loop": Row(
        "16 prompts, by transformers one by one",
        "transformers_loop",
        "generation_prompts",
        1024,
        "tokens",
        "equal",
        12.0,
        rounds=1,
    ),
    "images": Row(
        "JPEG files to ImageNet classes",
        "transformers_images",
        "image_classes",
        64,
        "images",
        "equal",
        4.0,
        rounds=3,
    ),
    "nli": Row(
        "zero-shot, 20 labels, the same NLI model of BERT's base size",
        "transformers_zero_shot",
        "nli_zero_shot",
        4,
        "texts",
        "ranking",
        3.0,
        rounds=3,
    ),
    "zero-shot": Row(
        "zero-shot, 20 labels, our default",
        "transformers_zero_shot",
        "default_zero_shot",
        4,
        "texts",
        "",
        30.0,
        rounds=3,
    ),
}

VECTOR = f"({SHORT!r})"
"""The call of either side."""

COLD: Mapping[str, Cold] = {
    "cold": Cold(
        "process start to first vector",
        "from sentence_transformers import SentenceTransformer\n"
        "from backprop.bench.sides import folder\n"
        "SentenceTransformer(str(folder('all-minilm-l6-v2')), device='cpu').encode" + VECTOR,
        "import backprop\nbackprop.TextVectorisation()" + VECTOR,
        15.0,
        0.9,
    ),
    "load": Cold(
        "process start to first token",
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "from backprop.bench.sides import folder\n"
        "path = folder('smollm2-135m-instruct')\n"
        "tokens = AutoTokenizer.from_pretrained(path)('The train', return_tensors='pt')\n"
        "model = AutoModelForCausalLM.from_pretrained(path)\n"
        "model.generate(**tokens, max_new_tokens=1, do_sample=False)",
        "import backprop\nbackprop.TextGeneration()('The train', max_length=1)",
        3.0,
        1.5,
    ),
}
