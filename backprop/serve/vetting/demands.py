"""How much memory a configuration asks for, so that a tiny file can't ask for terabytes.

transformers makes every weight that a configuration tells of; those that the weights' file lacks
are made up. So the sizes a configuration gives are held against the tensors there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from backprop.serve.vetting.refusing import refuse
from backprop.serve.vetting.weights import Shapes

__all__ = ["check_demands", "demanded"]

SLACK = 1 << 22
"""Weights that may be missing whatever the size: a new head, an adapter of positions."""

MOST_TOKENS_OF_IMAGE = 4096
MOST_MASK = 1 << 28
MOST_ROTATION = 1 << 26


def check_demands(config: Mapping[str, Any], shapes: Shapes, where: str) -> None:
    """Refuse a configuration that asks for much more than the file of weights holds.

    Args:
        config: every value is within its own bounds already.
        shapes: of the tensors in the file.
        where: the configuration's file.

    Raises:
        ArtefactError: it does.
    """
    there = sum(math.prod(shape) for shape in shapes.values())
    asked = demanded(config)
    if asked > 2 * there + SLACK:
        refuse(
            where,
            f"its sizes ask for at least {asked:,} weights, but the file of weights has {there:,}",
        )
    for own in (config, *_inner(config)):
        _check_tables(own, where)


def _check_tables(config: Mapping[str, Any], where: str) -> None:
    """Refuse what is computed from sizes alone and held in memory."""
    positions = _most(config, "max_position_embeddings", "n_positions")
    layers = _most(config, "num_hidden_layers", "n_layer")
    if config.get("model_type") == "gpt2" and positions**2 * layers > MOST_MASK:
        refuse(where, f"{positions:,} positions in {layers} layers need too large a mask")
    heads = max(1, _most(config, "num_attention_heads", "n_head"))
    width = _most(config, "head_dim") or _width(config) // heads
    if "rope_parameters" in config and positions * width > MOST_ROTATION:
        refuse(where, f"{positions:,} positions of width {width:,} need too large a table")
    if _patches(config) > MOST_TOKENS_OF_IMAGE:
        refuse(where, f"its images have more than {MOST_TOKENS_OF_IMAGE:,} patches")


def demanded(config: Mapping[str, Any]) -> int:
    """Return how many weights a model of this configuration has at least.

    Counted are embeddings, the matrices of each layer, and the classes' layer; what only some of
    the types have is left out, so that no whole model is ever taken for one that lacks weights.
    """
    kind = config.get("model_type")
    if kind == "efficientnet":
        return _convolutions(config) + _labels(config) * _most(config, "hidden_dim")
    if kind == "efficientnet-lite":
        return 1280 * max(_labels(config), _most(config, "num_classes"))
    width = _width(config)
    narrow = _most(config, "embedding_size") if kind in NARROW else 0
    rows = _most(config, "vocab_size") + _learned_positions(config)
    patch = _most(config, "patch_size")
    pixels = patch**2 * (_most(config, "num_channels") or 3) * width if patch else 0
    own = rows * (narrow or width) + _labels(config) * width + pixels + _patches(config) * width
    inner = _inner(config)
    projected = _most(config, "projection_dim") * sum(map(_width, inner))
    return own + _layers(config, width) + projected + sum(map(demanded, inner))


def _layers(config: Mapping[str, Any], width: int) -> int:
    """Return the weights of the layers: of each kind that the configuration gives a number of."""
    if config.get("model_type") == "albert":  # they share their weights
        return max(1, _most(config, "num_hidden_groups")) * _layer(config, width, *WIDE)
    sides = sum(
        _most(config, f"{side}_layers") * _layer(config, width, f"{side}_ffn_dim")
        for side in ("encoder", "decoder")
    )
    either = _most(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    if config.get("model_type") in ("t5", "mt5"):
        either += _most(config, "num_decoder_layers") or either
    alike = 0 if sides and config.get("model_type") in SIDED else either
    return max(sides, alike * _layer(config, width, *WIDE))


def _layer(config: Mapping[str, Any], width: int, *wide_names: str) -> int:
    """Return the weights of a layer's attention and of both matrices of its wide part."""
    heads = _most(config, "num_attention_heads", "num_heads", "n_head")
    each = _most(config, "head_dim", "d_kv", "d_head", "attention_head_size")
    inner = max(width, heads * each) + _most(config, "num_key_value_heads") * each
    wide = _most(config, *wide_names)
    if not wide and config.get("model_type") in ("gpt2", "dinov2"):
        wide = int(width * float(config.get("mlp_ratio") or 4))
    return 2 * width * inner + 2 * width * wide


WIDE = ("intermediate_size", "d_ff", "n_inner", "d_inner", "hidden_dim")
NARROW = frozenset({"albert", "deberta", "deberta-v2", "electra"})
"""Types whose embeddings may be narrower than their layers."""

SIDED = frozenset({"bart", "mbart", "pegasus"})


def _width(config: Mapping[str, Any]) -> int:
    return _most(config, "hidden_size", "d_model", "n_embd", "dim")


def _learned_positions(config: Mapping[str, Any]) -> int:
    if config.get("model_type") in LEARNED:
        return _most(config, "max_position_embeddings", "n_positions")
    return 0


LEARNED = frozenset(
    {
        *("albert", "bart", "bert", "camembert", "deberta", "distilbert", "electra", "gpt2"),
        *("mbart", "mpnet", "pegasus", "roberta", "xlm-roberta"),
        *("clip_text_model", "siglip_text_model"),
    }
)
"""Types with a weight for each position."""


def _labels(config: Mapping[str, Any]) -> int:
    labels = config.get("id2label")
    return max(len(labels) if isinstance(labels, dict) else 0, _most(config, "num_labels"))


def _patches(config: Mapping[str, Any]) -> int:
    side, patch = _most(config, "image_size"), _most(config, "patch_size")
    return (side // patch) ** 2 if side and patch else 0


def _convolutions(config: Mapping[str, Any]) -> int:
    """Return about the weights of EfficientNet's blocks, of which each is repeated."""
    stages = [
        config.get(key) or []
        for key in ("in_channels", "out_channels", "num_block_repeats", "expand_ratios")
    ]
    wide, deep = config.get("width_coefficient", 2.0), config.get("depth_coefficient", 3.1)
    total = 0.0
    for before, after, blocks, expand in zip(*stages, strict=False):
        first = before * (before + after) if expand > 1 else before * after
        again = max(0.0, blocks * deep - 1) * 2 * after**2
        total += 0.7 * wide**2 * expand * (first + again)
    return int(total)


def _inner(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = [config.get("text_config"), config.get("vision_config")]
    return [own for own in found if isinstance(own, dict)]


def _most(config: Mapping[str, Any], *names: str) -> int:
    """Return the largest of these: some types know one size by several names."""
    return max([0, *(own for name in names if type(own := config.get(name)) is int)])
