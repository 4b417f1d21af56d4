"""``finetune``: checked data in, the best weights in the model, a report out."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backprop import data as training_data
from backprop.data import Data
from backprop.errors import UnsupportedTaskError
from backprop.finetuning.adapters import lora
from backprop.finetuning.answers import Answers, Ask
from backprop.finetuning.choice import Choice, choose, form_of
from backprop.finetuning.few import are_few, prototypes, with_names
from backprop.finetuning.heads import Cached, Head, cache, solve
from backprop.finetuning.loaders import Validation, user_step
from backprop.finetuning.objectives import Objective, objective_for
from backprop.finetuning.options import Options, lengths_of
from backprop.finetuning.recipes import Recipe, recipe_for
from backprop.finetuning.thresholds import fold_thresholds
from backprop.finetuning.weights import class_weights, freeze_embeddings
from backprop.metrics import Measures
from backprop.models.base import BaseModel, PathModel
from backprop.models.pair_encoder import PairEncoder
from backprop.report import Report
from backprop.trainer import History, Settings, fit

__all__ = ["finetune"]

logger = logging.getLogger(__name__)

OWN_CLASSES = (PathModel, PairEncoder)
"""Pretrained models, for which recipes were measured; a user's own may need many epochs."""


def finetune(model: BaseModel, task: str, params: Any, options: Options, ask: Ask) -> Report:
    """Train ``model`` in place on ``params`` and return how it went.

    Args:
        model: what learns.
        task: task string.
        params: training data in any form ``backprop.data.read`` knows.
        options: see ``Task.finetune``.
        ask: asks the model, as the task does.

    Raises:
        UnsupportedTaskError: the model can't learn the task.
        InputError: faults of the data or the options.
    """
    started = time.perf_counter()
    if not model.learns(task):
        raise UnsupportedTaskError(
            f"{model.name or type(model).__name__} can't be finetuned on {task!r}. Models that "
            f"can: backprop models --task {task} --finetunable."
        )
    data = training_data.read(task, params, variant=options.variant, columns=options.columns)
    lengths = lengths_of(data.training, options.lengths, task)
    train, aside = training_data.split(data, options.validation_split, seed=options.seed)
    torch.manual_seed(options.seed)
    weights = class_weights(options.class_weights, data, train)
    options.check()
    given = len(train)
    if options.train_dataloader is None and are_few(data, train) and model.classifies(task):
        data, train = with_names(data, train)
    objective = objective_for(data)(
        model, data, lengths, Answers(ask, _asked(task, lengths)), weights
    )
    objective.prepare()
    try:
        run = _Run(objective, options, train, aside, given)
        run.note_cut()
        run.learn()
    finally:
        model.eval()
        model.class_weights = None
        model.forget_handlers()
    return run.report(time.perf_counter() - started)


def _asked(task: str, lengths: Mapping[str, int]) -> dict[str, Any]:
    """Return the options that answers are asked for with."""
    return {"max_length": lengths["max_output_length"]} if task == "text-generation" else {}


class _Run:
    """One finetuning, step by step."""

    def __init__(
        self,
        objective: Objective,
        options: Options,
        train: Sequence[int],
        aside: Sequence[int],
        given: int,
    ) -> None:
        self.objective = objective
        self.model = objective.model
        self.options = options
        self.train = train
        self.aside = aside
        self.given = given  # training rows; further ones are the names of labels
        self.layer = self.model.head(objective.data.task)
        self.choice = self._choose()
        self.history: History | None = None
        self.head: Head | None = None
        self.cached_aside: Cached | None = None
        self.warnings: list[str] = []
        self.thresholds: dict[str, float] | None = None

    @property
    def data(self) -> Data:
        """The rows."""
        return self.objective.data

    def _choose(self) -> Choice:
        custom = (
            self.options.step or self.options.configure_optimizers or self.options.train_dataloader
        )
        if custom is not None and self.options.method == "auto":
            return Choice("full", "the training steps or optimiser are your own.")
        choice = choose(self.options.method, self.objective, self.train, self.options.epochs)
        if choice.why:
            logger.info("method=%r: %s", choice.method, choice.why)
        return choice

    def note_cut(self) -> None:
        """Tell how many texts are over their limit: the rest of them is not learnt from."""
        samples, task = self.objective.samples, self.data.task
        lost = [
            self.model.cut(samples.params(row, side), task)
            for row in (*self.train[: self.given], *self.aside)
            for side in range(len(samples.sides))
        ]
        cut = [tokens for tokens in lost if tokens]
        if cut:
            limits = ", ".join(f"{name}={value}" for name, value in self.lengths.items())
            self.warnings.append(
                f"{len(cut)} of {len(lost)} texts were over the limit ({limits or 'the model'}); "
                f"{sum(cut)} tokens were cut."
            )
            logger.warning("%s", self.warnings[-1])

    @property
    def lengths(self) -> dict[str, Any]:
        """The task's own arguments."""
        extra = self.objective.samples.extra
        return {name: extra[name] for name in dict(self.data.training.arguments) if name in extra}

    def learn(self) -> None:
        """Train by the chosen method, and choose thresholds where rows have several labels."""
        if self.layer is not None and self.options.step is None:
            self._solve_head(self.layer)
        if self.choice.method != "head":
            self._fit()
        self.model.eval()
        self.model.forget_handlers()
        self.measured = self._measure()
        if self.data.multi_label and self.aside and self.layer is not None:
            self.thresholds = self._folded(self.layer)
            self.model.forget_handlers()
            self.measured = self._measure()
        if self.choice.method == "head" and self.layer is not None:
            self._use_all_rows(self.layer)

    def _folded(self, layer: nn.Linear) -> dict[str, float]:
        """Return each label's threshold, which from now on is a half."""
        # Where the layers below have stayed as they were, so has what reaches the last one.
        kept = self.cached_aside if self.choice.method == "head" else None
        found = fold_thresholds(layer, kept or cache(self.objective, layer, self.aside))
        return dict(zip(self.data.labels, found, strict=True))

    def _solve_head(self, layer: nn.Linear) -> None:
        """Solve for the last layer, which the other methods start from too.

        Source: Kumar et al. 2022, arXiv:2202.10054: what the layers below know is better kept
        when the last one fits before they change.
        """
        self.cached = cache(self.objective, layer, self.train)
        self.cached_aside = cache(self.objective, layer, self.aside) if self.aside else None
        if self._is_few():
            self.head = prototypes(self.cached, len(self.data.labels))
        else:
            self.head = solve(self.cached, self.cached_aside, **self._classes())
        self.head.put(layer)

    def _use_all_rows(self, layer: nn.Linear) -> None:
        """Solve once more with the validation rows too, now that they have judged."""
        if self.cached_aside is None or self.head is None or not _is_share(self.options):
            return
        both = self.cached.joined(self.cached_aside)
        again = solve(both, None, strengths=(self.head.strength,), **self._classes())
        if self.thresholds:
            again = again.shifted(self.thresholds.values())
        again.put(layer)

    def _classes(self) -> dict[str, Any]:
        return {
            "classes": len(self.data.labels),
            "multi_label": self.data.multi_label,
            "class_weights": self.objective.class_weights,
        }

    def _fit(self) -> None:
        validation = Validation(self.objective, self.aside, self.options)
        guarded = validation.is_measured and isinstance(self.model, OWN_CLASSES)
        before = self._state() if guarded else None
        baseline = validation.figures()[validation.monitor] if before is not None else None
        frozen = freeze_embeddings(self.model) if self.choice.method == "full" else []
        around = lora(self.model, self.layer) if self.choice.method == "lora" else nullcontext()
        try:
            with around:
                self.history = self._trained(validation)
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
        best = self._best(validation.monitor)
        if before is not None and baseline is not None and best is not None:
            worse = best < baseline if validation.maximise else best > baseline
            if worse:
                self.model.load_state_dict(before)
                self.warnings.append(
                    "Training made it no better, so the model has the layers it came with"
                    f"{' and a new last one' if self.head is not None else ''}."
                )

    def _best(self, monitor: str) -> float | None:
        assert self.history is not None
        found = [each for each in self.history.epochs if each.number == self.history.best_epoch]
        return found[0].metrics.get(monitor) if found else None

    def _state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def _trained(self, validation: Validation) -> History:
        objective, options = self.objective, self.options
        lengths = None
        if objective.samples.has_lengths and options.train_dataloader is None:
            lengths = [objective.samples.length(row) for row in self.train]
        groups = objective.groups
        return fit(
            self.model,
            rows=len(self.train),
            lengths=lengths,
            batch=lambda own: objective.batch([self.train[i] for i in own]),
            step=user_step(options.step) if options.step is not None else objective.loss,
            validate=validation.figures if validation.is_possible else None,
            settings=self._settings(validation),
            groups=[groups[row] for row in self.train] if groups is not None else None,
            configure_optimizers=options.configure_optimizers,
            parameter_groups=self._parameter_groups,
            train_dataloader=options.train_dataloader,
            show=options.show,
            title=f"{self.data.task}: {self.model.name or type(self.model).__name__}",
        )

    def _parameter_groups(self, module: nn.Module) -> list[dict[str, Any]]:
        """Return the last layer's weights with a learning rate of their own, and all others.

        A learning rate of the caller's own holds for all.
        """
        recipe = self._recipe()
        chosen = self.options.learning_rate is not None
        if self.layer is None or self.head is None or chosen or recipe.head_rate == 1:
            return [{"params": list(module.parameters())}]
        own = list(self.layer.parameters())
        known = set(map(id, own))
        others = [parameter for parameter in module.parameters() if id(parameter) not in known]
        norm = float(self.cached.inputs.norm(dim=1).mean().clamp_min(1e-12))
        rate = recipe.learning_rate * recipe.head_rate / norm
        return [{"params": others}, {"params": own, "lr": rate, "weight_decay": 0.0}]

    def _recipe(self) -> Recipe:
        form = "few" if self._is_few() else form_of(self.objective)
        return recipe_for(form, self.choice.method)

    def _is_few(self) -> bool:
        """Whether texts or emotions are learnt as ``few`` describes; images were not measured."""
        wanted = self.choice.method == "full" and form_of(self.objective) == "classes"
        return wanted and are_few(self.data, self.train)

    def _settings(self, validation: Validation) -> Settings:
        options = self.options
        recipe = self._recipe()
        planned = options.learning_rate is None and isinstance(self.model, OWN_CLASSES)
        rows_per_step = options.optimal_batch_size
        if rows_per_step is None and options.batch_size is None:
            rows_per_step = recipe.rows_per_step
        return Settings(
            # The rate has fallen to nothing by then.
            epochs=min(options.epochs, recipe.passes) if planned else options.epochs,
            batch_size=options.batch_size,
            optimal_batch_size=rows_per_step,
            # Without rows to judge by nothing says when to stop.
            early_stopping_epochs=options.early_stopping_epochs if validation.is_possible else 0,
            learning_rate=options.learning_rate or recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            warmup=recipe.warmup,
            decay_epochs=min(options.epochs, recipe.passes) if planned else None,
            seed=options.seed,
            monitor=validation.monitor,
            maximise=validation.maximise,
            checkpoint=Path(options.checkpoint) if options.checkpoint is not None else None,
            fingerprint=self._fingerprint(),
        )

    def _fingerprint(self) -> str:
        """Return what makes this run itself: a checkpoint of another is refused."""
        options = self.options
        if options.checkpoint is None:
            return ""
        return json.dumps(
            {
                "data": training_data.fingerprint(self.data),
                "rows": [list(map(int, self.train)), list(map(int, self.aside))],
                "model": [self.model.name, type(self.model).__name__],
                "method": self.choice.method,
                "lengths": self.lengths,
                "class_weights": str(options.class_weights),
            }
        )

    def _measure(self) -> Measures | None:
        return self.objective.measures(self.aside) if self.aside else None

    def report(self, seconds: float) -> Report:
        """Return what the user gets."""
        history, measured = self.history, self.measured
        epochs = [asdict(epoch) for epoch in history.epochs] if history else []
        report = Report(
            task=self.data.task,
            variant=self.data.variant,
            model=self.model.name or type(self.model).__name__,
            method=self.choice.method,
            why=self.choice.why,
            labels=self.data.labels,
            rows={"train": self.given, "validation": len(self.aside)},
            settings=self._shown_settings(),
            history=epochs,
            best_epoch=history.best_epoch if history else 0,
            stopped=history.stopped if history else "epochs",
            metrics=dict(measured.values) if measured else {},
            main=measured.main if measured else "",
            per_class=measured.per_class if measured else None,
            confusion=measured.confusion if measured else None,
            thresholds=self.thresholds,
            seconds=seconds,
            warnings=self.warnings,
        )
        self.model.card = report.card()
        return report

    def _shown_settings(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"seed": self.options.seed}
        if self.head is not None:
            shown["head"] = f"C={self.head.strength:g}" if self.head.strength else "prototypes"
            shown["head_passes"] = self.head.passes
        if self.history is not None:
            recipe = self._recipe()
            shown["learning_rate"] = self.options.learning_rate or recipe.learning_rate
            shown["batch_size"] = self.history.batch_size
            shown["rows_per_step"] = self.history.rows_per_step
        return {**shown, **dict(self.options.lengths)}


def _is_share(options: Options) -> bool:
    """Whether rows were kept aside by share, rather than named by the caller."""
    return not isinstance(options.validation_split, (tuple, list))
