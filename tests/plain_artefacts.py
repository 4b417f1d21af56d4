"""A small saved model as a dictionary of files, made without torch, for tests of what is let in."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

__all__ = ["CONFIG", "META", "Files", "as_json", "plain", "sealed", "with_json", "write"]

Files = dict[str, bytes]

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "good", "bad", "so", "very"]

CONFIG: Mapping[str, Any] = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "vocab_size": len(WORDS),
    "id2label": {"0": "bad", "1": "good"},
    "label2id": {"bad": 0, "good": 1},
}
META: Mapping[str, Any] = {
    "format": 1,
    "class": "HFSeqTCModel",
    "settings": {},
    "name": "plain-model",
    "description": "Says good or bad.",
    "tasks": ["text-classification"],
    "details": {},
    "version": "1.0.0",
    "card": "",
}
SHAPES: Mapping[str, tuple[int, ...]] = {
    "embeddings.word_embeddings.weight": (len(WORDS), 8),
    "embeddings.position_embeddings.weight": (16, 8),
    "embeddings.token_type_embeddings.weight": (2, 8),
    "embeddings.LayerNorm.weight": (8,),
    "embeddings.LayerNorm.bias": (8,),
    **{
        f"encoder.layer.0.{layer}.{name}": shape if name == "weight" else shape[:1]
        for layer, shape in {
            "attention.self.query": (8, 8),
            "attention.self.key": (8, 8),
            "attention.self.value": (8, 8),
            "attention.output.dense": (8, 8),
            "intermediate.dense": (16, 8),
            "output.dense": (8, 16),
        }.items()
        for name in ("weight", "bias")
    },
    **{
        f"encoder.layer.0.{layer}.LayerNorm.{name}": (8,)
        for layer in ("attention.output", "output")
        for name in ("weight", "bias")
    },
    "pooler.dense.weight": (8, 8),
    "pooler.dense.bias": (8,),
}


@functools.cache
def _weights() -> bytes:
    chance = np.random.default_rng(0)
    tensors = {
        f"bert.{name}": chance.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in SHAPES.items()
    }
    tensors["classifier.weight"] = chance.normal(0, 0.3, (2, 8)).astype(np.float32)
    tensors["classifier.bias"] = np.zeros(2, np.float32)
    return save(tensors, {"format": "pt"})


def tokenizer() -> dict[str, Any]:
    """Return the content of a ``tokenizer.json`` of whole words."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                **{"id": i, "content": word, "special": True, "normalized": False},
                **{"single_word": False, "lstrip": False, "rstrip": False},
            }
            for i, word in enumerate(WORDS[:5])
        ],
        "normalizer": {
            **{"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True},
            **{"strip_accents": None, "lowercase": True},
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            **{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"},
            "max_input_chars_per_word": 100,
            "vocab": {word: i for i, word in enumerate(WORDS)},
        },
    }


def as_json(content: object) -> bytes:
    return json.dumps(content, indent=1).encode()


def plain() -> Files:
    """Return a text classifier's files, all but the manifest."""
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    special = {f"{name}_token": token for name, token in names.items()}
    return {
        "backprop.json": as_json(META),
        "README.md": b"# plain-model\n\nSays good or bad.\n",
        "config.json": as_json(CONFIG),
        "model.safetensors": _weights(),
        "tokenizer.json": as_json(tokenizer()),
        "tokenizer_config.json": as_json({"tokenizer_class": "BertTokenizer", **special}),
    }


def with_json(name: str, change: Mapping[str, Any] | None = None, **more: Any) -> Files:
    """Return the plain files with further keys in one that holds JSON; None takes a key away."""
    files = plain()
    content = {**json.loads(files.get(name, b"{}")), **(change or {}), **more}
    return files | {name: as_json({k: own for k, own in content.items() if own is not None})}


def sealed(files: Files) -> Files:
    """Return the files with a manifest that is true of them, unless they have one."""
    if "manifest.json" in files:
        return files
    listed = {
        name: {"sha256": hashlib.sha256(own).hexdigest(), "size_bytes": len(own)}
        for name, own in files.items()
    }
    text = json.dumps({"files": listed}, indent=2, sort_keys=True) + "\n"
    return files | {"manifest.json": text.encode()}


def write(files: Files, folder: Path) -> Path:
    """Return ``folder``, made anew with these files."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
