"""Files of a hub folder that a model's own ``save_pretrained`` does not write."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Json: TypeAlias = Mapping[str, Any]

DENSE: Json = {
    "in_features": 32,
    "out_features": 24,
    "bias": True,
    "activation_function": "torch.nn.modules.activation.Tanh",
    "module_input_name": "sentence_embedding",
    "module_output_name": "sentence_embedding",
}
PROMPTS: Json = {
    "__version__": {"sentence_transformers": "6.2.0"},
    "model_type": "SentenceTransformer",
    "prompts": {"query": "query: ", "document": "passage: "},
    "default_prompt_name": None,
    "similarity_fn_name": "cosine",
}
POOLING_TYPE = "sentence_transformer.modules.pooling.Pooling"


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def put_template_in_config(folder: Path) -> None:
    """Keep the chat template where folders saved before transformers 5 have it."""
    template = folder / "chat_template.jinja"
    path = folder / "tokenizer_config.json"
    write_json(path, {**read_json(path), "chat_template": template.read_text(encoding="utf-8")})
    template.unlink()


def write_older_special_tokens(folder: Path) -> None:
    """Describe special tokens by dictionaries, as folders saved before transformers 5 do."""
    path = folder / "tokenizer_config.json"
    config = read_json(path)
    for name in ("bos_token", "eos_token", "unk_token"):
        config[name] = {
            "__type": "AddedToken",
            "content": config[name],
            "lstrip": False,
            "normalized": True,
            "rstrip": False,
            "single_word": False,
        }
    write_json(path, {key: config[key] for key in sorted(config) if key != "backend"})


def write_sentence_modules(folder: Path, *, pooling: str) -> None:
    """Make ``folder`` a sentence encoder in the layout that the hub's older ones have."""
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    chosen = {f"pooling_mode_{mode}": mode == pooling for mode in modes}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **chosen})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": False})
    write_json(
        folder / "config_sentence_transformers.json",
        {"__version__": {"sentence_transformers": "2.0.0"}},
    )
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    _write_modules(folder, [(path, f"sentence_transformers.models.{name}") for path, name in parts])


def _write_modules(folder: Path, parts: Sequence[tuple[str, str]]) -> None:
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": name}
        for number, (path, name) in enumerate(parts)
    ]
    write_json(folder / "modules.json", modules)


def write_dense_modules(folder: Path) -> None:
    """Make ``folder`` a sentence encoder with prompts and a dense layer, in today's layout."""
    weights = np.random.default_rng(0).normal(0, 0.2, (24, 33)).astype(np.float32)
    dense = folder / "2_Dense"
    write_json(dense / "config.json", DENSE)
    parameters = {"linear.weight": weights[:, :32].copy(), "linear.bias": weights[:, 32].copy()}
    importlib.import_module("safetensors.numpy").save_file(parameters, dense / "model.safetensors")
    pooling = {"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True}
    write_json(folder / "1_Pooling" / "config.json", pooling)
    write_json(folder / "sentence_bert_config.json", {"transformer_task": "feature-extraction"})
    write_json(folder / "config_sentence_transformers.json", PROMPTS)
    types = ["base.modules.transformer.Transformer", POOLING_TYPE, "base.modules.dense.Dense"]
    paths = ["", "1_Pooling", "2_Dense"]
    _write_modules(
        folder,
        [(path, f"sentence_transformers.{name}") for path, name in zip(paths, types, strict=True)],
    )
