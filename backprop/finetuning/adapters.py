"""LoRA: small trained factors beside frozen weights, merged into them at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from backprop.errors import InputError

__all__ = ["lora"]

RANK = 16


@contextmanager
def lora(module: nn.Module, skipped: nn.Module | None = None, rank: int = RANK) -> Iterator[int]:
    """Give the module's linear layers factors that alone are trained; merge them at the end.

    After the block the module has the layers it had, with other weights, whatever ended it. Layers
    that were frozen before stay as they are.

    Args:
        module: what is trained.
        skipped: a layer that is trained as a whole instead, the head.
        rank: of the factors.

    Yields:
        The number of layers that have factors.

    Raises:
        InputError: there is no layer to give factors to.

    Source: Hu et al. 2021, arXiv:2106.09685.
    """
    # Output layers that share the token embeddings' weights would change those too when merged.
    shared = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Embedding)}
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if _is_fit(layer)
        and layer is not skipped
        and layer.weight.requires_grad
        and id(layer.weight) not in shared
    }
    names = list(layers)
    if not names:
        raise InputError(
            f"method='lora' needs linear layers and {type(module).__name__} has none beside its "
            "head; use method='full' or method='head'."
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=_only(names),
        fan_in_fan_out=any(_is_transposed(layer) for layer in layers.values()),
    )
    trained = [each for each in module.parameters() if each.requires_grad]
    try:
        module.requires_grad_(False)
        inject_adapter_in_model(config, module)
        if skipped is not None:
            skipped.requires_grad_(True)
        yield len(names)
    finally:
        _merge(module)
        module.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)


def _is_fit(layer: nn.Module) -> bool:
    """Whether factors suit a layer: matrices, also as convolutions of one pixel."""
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1) and layer.groups == 1
    return type(layer) is nn.Linear or _is_transposed(layer)


def _is_transposed(layer: nn.Module) -> bool:
    """Whether a layer is GPT-2's own linear layer, whose matrix lies the other way round."""
    return type(layer).__name__ == "Conv1D"


def _only(names: list[str]) -> str:
    """Return a pattern that matches these names as a whole, which peft's lists do not."""
    return "|".join(name.replace(".", r"\.") for name in names)


def _merge(module: nn.Module) -> None:
    found = [
        (name, layer) for name, layer in module.named_modules() if isinstance(layer, BaseTunerLayer)
    ]
    for name, layer in found:
        layer.merge()
        owner, _, own = name.rpartition(".")
        setattr(module.get_submodule(owner), own, layer.get_base_layer())
    module.__dict__.pop("peft_config", None)  # else the next time counts as a second adapter
