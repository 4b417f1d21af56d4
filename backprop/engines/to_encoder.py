"""Text encoders of transformers for ONNX Runtime, each layer by six of its fused operators."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from backprop.engines.graph import Graph
from backprop.engines.onnx import FILE
from backprop.engines.torch import as_array

__all__ = ["converts", "write"]

Weights = NDArray[np.float32]


def converts(encoder: nn.Module) -> bool:
    """Return whether a transformers encoder is built like BERT, with the published GELU."""
    config = getattr(encoder, "config", None)
    activation = getattr(config, "hidden_act", getattr(config, "activation", ""))
    absolute = getattr(config, "position_embedding_type", "absolute") == "absolute"
    decodes = getattr(config, "is_decoder", False)
    known = getattr(config, "model_type", "") in PARTS
    return known and activation == "gelu" and absolute and not decodes


def write(encoder: Any, folder: Path, bits: int = 32) -> None:
    """Write an encoder into ``folder``: tokens in, hidden states out, padding on the right.

    Args:
        encoder: one that ``converts`` says yes to.
        folder: empty.
        bits: see ``Graph``.
    """
    with Graph(folder / FILE, bits=bits) as graph:
        _write(graph, encoder)


def _write(graph: Graph, encoder: Any) -> None:
    heads = getattr(encoder.config, "num_attention_heads", None) or encoder.config.n_heads
    epsilon = float(encoder.embeddings.LayerNorm.eps)
    hidden, lengths = _embeddings(graph, encoder, epsilon)
    for layer in PARTS[encoder.config.model_type](encoder):
        mixed = _attention(graph, layer, hidden, lengths, heads)
        hidden = _added(graph, mixed, hidden, layer.mixed, layer.mixed_norm)
        wide = graph.linear(hidden, as_array(layer.wide.weight))
        opened = graph.op("BiasGelu", wide, graph.weight(as_array(layer.wide.bias)), own=True)
        hidden = _added(graph, opened, hidden, layer.narrow, layer.narrow_norm)
    graph.named("Identity", [hidden], ["hidden"])
    graph.output("hidden", ["rows", "length", encoder.config.hidden_size])


def _embeddings(graph: Graph, encoder: Any, epsilon: float) -> tuple[str, str]:
    """Return the first hidden states and the rows' lengths."""
    own = encoder.embeddings
    ids = graph.input("input_ids", ["rows", "length"], "INT32")
    mask = graph.input("attention_mask", ["rows", "length"], "INT32")
    places = as_array(own.position_embeddings.weight)
    if own.position_embeddings.padding_idx is not None:
        # Models like RoBERTa count from there.
        places = places[own.position_embeddings.padding_idx + 1 :]
    types, kinds = "", getattr(own, "token_type_embeddings", None)
    segments = ""
    if kinds is not None and kinds.num_embeddings > 1:
        segments = graph.input("token_type_ids", ["rows", "length"], "INT32")
        types = graph.weight(as_array(kinds.weight))
    elif kinds is not None:
        places = places + as_array(kinds.weight)[0]
    norm = own.LayerNorm
    inputs = [
        *(ids, segments, graph.weight(as_array(own.word_embeddings.weight)), graph.weight(places)),
        *(types, graph.weight(as_array(norm.weight)), graph.weight(as_array(norm.bias)), mask),
    ]
    hidden, lengths = graph.ops("EmbedLayerNormalization", inputs, 2, own=True, epsilon=epsilon)
    return hidden, lengths


@dataclass(frozen=True)
class Layer:
    """The parts of a layer, whatever a model calls them."""

    queries: nn.Linear
    keys: nn.Linear
    values: nn.Linear
    mixed: nn.Linear
    mixed_norm: nn.LayerNorm
    wide: nn.Linear
    narrow: nn.Linear
    narrow_norm: nn.LayerNorm


def _bert(encoder: Any) -> list[Layer]:
    return [
        Layer(
            *(own.attention.self.query, own.attention.self.key, own.attention.self.value),
            *(own.attention.output.dense, own.attention.output.LayerNorm),
            *(own.intermediate.dense, own.output.dense, own.output.LayerNorm),
        )
        for own in encoder.encoder.layer
    ]


def _distilbert(encoder: Any) -> list[Layer]:
    return [
        Layer(
            *(own.attention.q_lin, own.attention.k_lin, own.attention.v_lin),
            *(own.attention.out_lin, own.sa_layer_norm),
            *(own.ffn.lin1, own.ffn.lin2, own.output_layer_norm),
        )
        for own in encoder.transformer.layer
    ]


PARTS = {
    "bert": _bert,
    "roberta": _bert,
    "xlm-roberta": _bert,
    "camembert": _bert,
    "distilbert": _distilbert,
}
"""``model_type`` to what finds the layers."""


def _attention(graph: Graph, layer: Layer, hidden: str, lengths: str, heads: int) -> str:
    """Return what the tokens of each row give each other."""
    parts = (layer.queries, layer.keys, layer.values)
    bias = graph.weight(np.concatenate([as_array(own.bias) for own in parts]))
    if graph.bits == 32:
        weight = np.concatenate([as_array(own.weight) for own in parts])
        inputs = [hidden, graph.weight(weight.T), bias, lengths]
        return graph.op("Attention", *inputs, own=True, num_heads=heads, mask_filter_value=LEAST)
    each = [graph.linear(hidden, as_array(own.weight)) for own in parts]
    inputs = [*each, bias, lengths]
    return graph.op(
        "MultiHeadAttention", *inputs, own=True, num_heads=heads, mask_filter_value=LEAST
    )


LEAST = float(np.finfo(np.float32).min)
"""Score of padding."""


def _added(graph: Graph, branch: str, hidden: str, layer: nn.Linear, norm: nn.LayerNorm) -> str:
    """Return the norm of the hidden states with the branch, through its last layer, added."""
    found = graph.linear(branch, as_array(layer.weight))
    scales = [graph.weight(as_array(own)) for own in (norm.weight, norm.bias, layer.bias)]
    epsilon = float(norm.eps)
    return graph.op("SkipLayerNormalization", found, hidden, *scales, own=True, epsilon=epsilon)
