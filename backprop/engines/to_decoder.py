"""Decoders of transformers for ONNX Runtime, each layer by a handful of its fused operators."""

from __future__ import annotations

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backprop.engines.graph import Graph
from backprop.engines.memory import EMBEDDINGS, EXACT, POSITIONS, QUICK, SHAPE, Shape
from backprop.engines.torch import as_array

__all__ = ["converts", "write"]

Weights = NDArray[np.float32]
Attend = Callable[[str], str]
"""Adds a layer's attention to a graph: queries, keys and values, packed, to what they give."""


def converts(module: Any) -> bool:
    """Return whether a transformers model is one that is written here."""
    kind = KINDS.get(module.config.model_type)
    return kind is not None and kind.fits(module.config)


def write(module: Any, folder: Path) -> None:
    """Write a decoder into ``folder``: exactly, and once more in 8 bits, to guess tokens with.

    Args:
        module: a transformers model that ``converts`` says yes to.
        folder: empty.
    """
    network = KINDS[module.config.model_type](module)
    np.save(folder / EMBEDDINGS, as_array(module.get_input_embeddings().weight))
    if network.positions is not None:
        np.save(folder / POSITIONS, network.positions)
    for name, bits in ((EXACT, 32), (QUICK, 8)):
        with Graph(folder / name, bits=bits) as graph:
            _write(graph, network, as_array(module.get_output_embeddings().weight))
    (folder / SHAPE).write_text(json.dumps(asdict(network.shape)), "utf-8")


class Kind(ABC):
    """A kind of decoder.

    Args:
        module: of transformers.
    """

    shape: Shape
    positions: Weights | None = None
    """Vectors of places, added to those of tokens, shape (places, width)."""

    rotation: tuple[Weights, Weights] | None = None
    """Cosines and sines that turn queries and keys, each of shape (places, head size / 2)."""

    @abstractmethod
    def __init__(self, module: Any) -> None: ...

    @staticmethod
    @abstractmethod
    def fits(config: Any) -> bool:
        """Return whether a model with this configuration is written as it is meant."""

    @abstractmethod
    def layer(
        self, graph: Graph, number: int, branch: str, residual: str, attend: Attend
    ) -> tuple[str, str]:
        """Add a layer; what it adds to the residual is left to the next: (branch, residual)."""

    @abstractmethod
    def end(self, graph: Graph, branch: str, residual: str) -> str:
        """Add what comes before the last layer."""


def _write(graph: Graph, network: Kind, head: Weights) -> None:
    """Write all between the vectors of tokens and the logits of the places that are picked."""
    shape = network.shape
    branch = graph.input("vectors", ["rows", "length", shape.width])
    last = graph.input("last", ["rows"], "INT32")
    longest = graph.input("longest", [1], "INT32")
    pick = graph.input("pick", ["picked"], "INT64")
    cache: list[str | int] = ["rows", shape.kv_heads, "room", shape.head_size]
    turns = [graph.weight(own) for own in network.rotation or ()]

    def attend(number: int, packed: str) -> str:
        held = [graph.input(f"{kind}_{number}", cache) for kind in ("keys", "values")]
        names = [f"attended_{number}", f"new_keys_{number}", f"new_values_{number}"]
        graph.named(
            "GroupQueryAttention",
            [packed, "", "", *held, last, longest, *turns],
            names,
            own=True,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=int(bool(turns)),
        )
        for name in names[1:]:
            graph.output(name, cache)
        return names[0]

    residual = ""
    for number in range(shape.layers):
        own = functools.partial(attend, number)
        branch, residual = network.layer(graph, number, branch, residual, own)
    hidden = network.end(graph, branch, residual)
    flat = graph.op("Reshape", hidden, graph.weight(np.array([-1, shape.width], np.int64)))
    chosen = graph.op("Gather", flat, pick, axis=0)
    graph.named("Identity", [graph.linear(chosen, head)], ["logits"])
    graph.output("logits", ["picked", shape.vocabulary])


class Llama(Kind):
    """Llama and models that are built like it."""

    def __init__(self, module: Any) -> None:
        config, self.body = module.config, module.model
        self.shape = Shape(
            width=config.hidden_size,
            places=config.max_position_embeddings,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_size=self.body.layers[0].self_attn.head_dim,
            vocabulary=config.vocab_size,
        )
        self.rotation = _rotation(module, config.max_position_embeddings)

    @staticmethod
    def fits(config: Any) -> bool:
        """Whether positions and attention are of the plain sort."""
        rope = getattr(config, "rope_parameters", None) or {}
        plain = rope.get("rope_type", "default") in ("default", "linear", "llama3")
        whole = rope.get("partial_rotary_factor", 1.0) == 1.0
        window = getattr(config, "use_sliding_window", True) and getattr(
            config, "sliding_window", None
        )
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        known = config.hidden_act in ("silu", "swish") and size % HEAD_SIZES == 0
        return bool(plain and whole and not window and known)

    def layer(
        self, graph: Graph, number: int, branch: str, residual: str, attend: Attend
    ) -> tuple[str, str]:
        """Add a layer."""
        own = self.body.layers[number]
        normed, residual = self._norm(graph, own.input_layernorm, branch, residual)
        mixer = own.self_attn
        packed = _linear(graph, normed, mixer.q_proj, mixer.k_proj, mixer.v_proj)
        branch = _linear(graph, attend(packed), mixer.o_proj)
        normed, residual = self._norm(graph, own.post_attention_layernorm, branch, residual)
        both = _linear(graph, normed, own.mlp.gate_proj, own.mlp.up_proj)
        gate, up = graph.ops("Split", [both], 2, axis=-1, num_outputs=2)
        # With a factor of 1 this is SiLU.
        opened = graph.op("Mul", graph.op("QuickGelu", gate, own=True, alpha=1.0), up)
        return _linear(graph, opened, own.mlp.down_proj), residual

    def end(self, graph: Graph, branch: str, residual: str) -> str:
        """Add the last norm."""
        return self._norm(graph, self.body.norm, branch, residual)[0]

    def _norm(self, graph: Graph, norm: Any, branch: str, residual: str) -> tuple[str, str]:
        kind, epsilon = "SimplifiedLayerNormalization", float(norm.variance_epsilon)
        return _normed(graph, kind, [norm.weight], epsilon, branch, residual)


HEAD_SIZES, PLAIN_HEAD_SIZES = 16, 8
"""ONNX Runtime knows heads of multiples of these sizes only, turned by their places or not."""


class GPT2(Kind):
    """GPT-2."""

    def __init__(self, module: Any) -> None:
        config, self.body = module.config, module.transformer
        self.shape = Shape(
            width=config.n_embd,
            places=config.n_positions,
            layers=config.n_layer,
            heads=config.n_head,
            kv_heads=config.n_head,
            head_size=config.n_embd // config.n_head,
            vocabulary=config.vocab_size,
        )
        self.positions = as_array(self.body.wpe.weight)

    @staticmethod
    def fits(config: Any) -> bool:
        """Whether attention and activation are as they were published."""
        plain = config.scale_attn_weights and not config.scale_attn_by_inverse_layer_idx
        known = config.activation_function in ("gelu_new", "gelu_pytorch_tanh")
        crossed = config.add_cross_attention
        size = config.n_embd // config.n_head
        return bool(plain and known and not crossed and size % PLAIN_HEAD_SIZES == 0)

    def layer(
        self, graph: Graph, number: int, branch: str, residual: str, attend: Attend
    ) -> tuple[str, str]:
        """Add a layer."""
        own = self.body.h[number]
        normed, residual = self._norm(graph, own.ln_1, branch, residual)
        packed = self._linear(graph, normed, own.attn.c_attn)
        branch = self._linear(graph, attend(packed), own.attn.c_proj)
        normed, residual = self._norm(graph, own.ln_2, branch, residual)
        wide = own.mlp.c_fc
        product = graph.linear(normed, as_array(wide.weight.T))
        opened = graph.op("FastGelu", product, graph.weight(as_array(wide.bias)), own=True)
        return self._linear(graph, opened, own.mlp.c_proj), residual

    def end(self, graph: Graph, branch: str, residual: str) -> str:
        """Add the last norm."""
        return self._norm(graph, self.body.ln_f, branch, residual)[0]

    def _norm(
        self, graph: Graph, norm: nn.LayerNorm, branch: str, residual: str
    ) -> tuple[str, str]:
        scales = [norm.weight, norm.bias]
        return _normed(graph, "LayerNormalization", scales, norm.eps, branch, residual)

    def _linear(self, graph: Graph, values: str, layer: Any) -> str:
        """Add a layer whose weights lie the other way round."""
        return graph.linear(values, as_array(layer.weight.T), as_array(layer.bias))


KINDS: dict[str, type[Kind]] = {"llama": Llama, "mistral": Llama, "qwen2": Llama, "gpt2": GPT2}
"""``model_type`` to how its models are written."""


def _normed(
    graph: Graph, kind: str, scales: Sequence[Tensor], epsilon: float, branch: str, residual: str
) -> tuple[str, str]:
    """Return the norm of the residual with the branch added, and that itself."""
    own = [graph.weight(as_array(scale)) for scale in scales]
    if not residual:
        return graph.op(kind, branch, *own, axis=-1, epsilon=epsilon), branch
    normed, _, _, total = graph.ops(
        f"Skip{kind}", [branch, residual, *own], 4, own=True, epsilon=epsilon
    )
    return normed, total


def _linear(graph: Graph, values: str, *layers: nn.Linear) -> str:
    """Add several linear layers as one, their outputs side by side."""
    weight = np.concatenate([as_array(layer.weight) for layer in layers])
    biases: list[Tensor | None] = [layer.bias for layer in layers]
    own = [as_array(bias) for bias in biases if bias is not None]
    bias = np.concatenate(own) if own else None
    return graph.linear(values, weight, bias)


def _rotation(module: Any, places: int) -> tuple[Weights, Weights]:
    """Return cosines and sines by the model's own rule."""
    numbers = torch.arange(places)[None]
    with torch.inference_mode():
        cosines, sines = module.model.rotary_emb(torch.zeros(1), numbers)
    half = cosines.shape[-1] // 2
    return as_array(cosines[0, :, :half]), as_array(sines[0, :, :half])
