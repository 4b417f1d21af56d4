"""The training loop: weights, rows and a loss in; the best weights and how they came about out."""

from backprop.trainer.fitting import fit
from backprop.trainer.history import Epoch, History
from backprop.trainer.settings import DEFAULT_ROWS, Settings

__all__ = ["DEFAULT_ROWS", "Epoch", "History", "Settings", "fit"]
