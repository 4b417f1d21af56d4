"""Finetuning and evaluation of any model on any task: one path for all of them."""

from backprop.finetuning.evaluation import evaluate
from backprop.finetuning.options import Options
from backprop.finetuning.run import finetune

__all__ = ["Options", "evaluate", "finetune"]
