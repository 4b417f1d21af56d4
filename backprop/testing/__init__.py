"""Whether a model meets the requirements of a model; ``check_model`` is the way in."""

from typing import TYPE_CHECKING

from backprop.optional import lazy

if TYPE_CHECKING:
    from backprop.testing.check import check_model as check_model
    from backprop.testing.check import check_models as check_models
    from backprop.testing.report import Check as Check
    from backprop.testing.report import Report as Report

NAMES = {
    "Check": "backprop.testing.report:Check",
    "Report": "backprop.testing.report:Report",
    "check_model": "backprop.testing.check:check_model",
    "check_models": "backprop.testing.check:check_models",
}
"""Public name to where it is, imported when first used: ``reopen`` must start without torch."""

__all__ = sorted(NAMES)
__getattr__, __dir__ = lazy(__name__, NAMES)
