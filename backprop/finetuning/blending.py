"""Between the weights of before and after: often better than either, and it costs no training."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

__all__ = ["SHARES", "blend"]

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5)
"""Of the way from the weights of before to those of after."""


def blend(module: nn.Module, before: Mapping[str, Tensor], judge: Callable[[], float]) -> float:
    """Give the module the weights on the line between before and now that judge best.

    Args:
        module: with its weights of after training.
        before: its state when training began.
        judge: returns a figure of which more is better, for the module as it is.

    Returns:
        The share of the way that was best; 1 leaves the weights as they are.

    Source: WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903.
    """
    after = {name: value.clone() for name, value in module.state_dict().items()}
    best, kept = judge(), 1.0
    for share in SHARES:
        module.load_state_dict(_between(before, after, share))
        figure = judge()
        if figure > best:
            best, kept = figure, share
    module.load_state_dict(_between(before, after, kept) if kept < 1 else after)
    return kept


def _between(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Return weights part of the way; what is no float, such as a count, is that of after."""
    return {
        name: before[name].lerp(value, share) if value.is_floating_point() else value
        for name, value in after.items()
    }
