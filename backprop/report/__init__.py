"""What ``finetune`` gives back: how it went, and how good the model is now."""

from backprop.report.report import Report

__all__ = ["Report"]
