"""How good answers are: from answers and the truth to figures."""

from backprop.metrics.classification import thresholds
from backprop.metrics.measure import MAIN, Measures, main_figure, measure

__all__ = ["MAIN", "Measures", "main_figure", "measure", "thresholds"]
