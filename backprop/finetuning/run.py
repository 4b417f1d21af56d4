"""``finetune``: checked data in, the best weights in the model, a report out."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from backprop import data as training_data
from backprop.data import Data
from backprop.errors import UnsupportedTaskError
from backprop.finetuning.adapters import lora
from backprop.finetuning.answers import Answers, Ask
from backprop.finetuning.checks import check_rows, cut, repeated, unmeasured
from backprop.finetuning.choice import Choice, choose, form_of
from backprop.finetuning.few import are_few, with_names
from backprop.finetuning.heads import MANY_ROWS, answering_quickly, solvable
from backprop.finetuning.last_layer import LastLayer
from backprop.finetuning.loaders import Validation, user_step
from backprop.finetuning.objectives import Objective, objective_for
from backprop.finetuning.options import Options, lengths_of
from backprop.finetuning.plans import identity, settings
from backprop.finetuning.recipes import Recipe, is_measured, recipe_for
from backprop.finetuning.restoring import PutBack
from backprop.finetuning.weights import class_weights, freeze_embeddings
from backprop.metrics import Measures
from backprop.models.base import BaseModel
from backprop.report import Report
from backprop.trainer import History, Settings, fit
from backprop.trainer.processes import Processes
from backprop.trainer.randomness import kept

__all__ = ["finetune"]

logger = logging.getLogger(__name__)


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
    options.check()
    data = training_data.read(task, params, variant=options.variant, columns=options.columns)
    lengths = lengths_of(data.training, options.lengths, task)
    train, aside = training_data.split(data, options.share, seed=options.seed)
    written = hasattr(model, "writer")
    weights = class_weights(options.class_weights, data, train, written=written)
    given, few = len(train), False
    if options.train_dataloader is None and model.classifies(task):
        few = are_few(data, train)
        data, train = with_names(data, train) if few else (data, train)
    answers = Answers(ask, _asked(task, lengths), written=written)
    objective = objective_for(data)(model, data, lengths, answers, weights)
    weights_before, engine_before = model.class_weights, model.engine
    model.engine = "torch"  # weights that change at each step are not worth converting
    # Moves the model to this process's device before anything is computed there.
    processes = Processes(model)
    with kept(model.device):
        torch.manual_seed(options.seed)
        try:
            with PutBack(model, model.head(task)) as undo:
                objective.prepare()
                run = _Run(objective, options, train, aside, given, undo, processes, few=few)
                run.learn()
        finally:
            model.eval()
            model.class_weights, model.engine = weights_before, engine_before
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
        undo: PutBack,
        processes: Processes,
        *,
        few: bool,
    ) -> None:
        self.objective = objective
        self.model = objective.model
        self.options = options
        self.train = train
        self.aside = aside
        self.undo = undo
        self.processes = processes
        self.given = given  # training rows; further ones are the names of labels
        self.few = few
        layer = solvable(self.model, objective.data.task)
        self.last = LastLayer(objective, layer, train, aside) if layer is not None else None
        step = options.step
        self._loss = user_step(step) if step is not None else objective.loss
        self.history: History | None = None
        self.measured: Measures | None = None
        self.is_put_back = self.uses_all_rows = False
        self.planned_epochs = 0
        self.warnings: list[str] = []
        self.thresholds: dict[str, float] | None = None
        self._look_at_rows()
        self.choice = self._choose()

    @property
    def data(self) -> Data:
        """The rows."""
        return self.objective.data

    @property
    def _is_of_params(self) -> bool:
        """Whether what is learnt are the rows of ``params``, rather than a loader's."""
        return self.options.train_dataloader is None

    def _choose(self) -> Choice:
        custom = (
            self.options.step or self.options.configure_optimizers or self.options.train_dataloader
        )
        if custom is not None and self.options.method == "auto":
            return Choice("full", "the training steps or optimiser are your own.")
        choice = self.processes.from_main(lambda: choose(self.objective, self.train, self.options))
        if choice.why:
            logger.info("method=%r: %s", choice.method, choice.why)
        return choice

    def _look_at_rows(self) -> None:
        """Refuse rows that the model can't take, and note what else is odd about them."""
        samples, options = self.objective.samples, self.options
        own = self.train[: self.given] if options.train_dataloader is None else []
        check_rows(samples, [*own, *self.aside])
        self._warn(cut(samples, [*own, *self.aside]))
        self._warn(repeated(self.data, self.train if self._is_of_params else [], self.aside))
        self._warn(unmeasured(self.data, self.aside))
        if options.train_dataloader is not None and self.aside and options.val_dataloader is None:
            self._warn(
                f"train_dataloader has batches of its own: the figures are of {len(self.aside)} "
                "rows of params, which must not be among them."
            )

    def _warn(self, sentence: str) -> None:
        if sentence:
            self.warnings.append(sentence)
            logger.warning("%s", sentence)

    @property
    def lengths(self) -> dict[str, Any]:
        """The task's own arguments."""
        extra = self.objective.samples.extra
        return {name: extra[name] for name in dict(self.data.training.arguments) if name in extra}

    def learn(self) -> None:
        """Train by the chosen method, and choose thresholds where rows have several labels."""
        if self.last is not None and self.options.step is None and self._is_of_params:
            self.last.solve()
        if self.choice.method != "head":
            self._fit()
        self.model.eval()
        try:
            self._judge()
        except KeyboardInterrupt:
            if self.history is None:
                raise
            self._warn("Ctrl-C ended the measuring; evaluate gives the figures.")
        solved = self.choice.method == "head" or self.is_put_back
        if self.last is not None and solved and _is_share(self.options):
            self.uses_all_rows = self.last.use_all_rows(self.thresholds)

    def _judge(self) -> None:
        """Measure the model, with each label's own threshold where rows have several."""
        if self.data.multi_label and self.aside and self.last is not None:
            self.thresholds = self.last.thresholds(trained=self.choice.method != "head")
            self.last.fold(self.thresholds)
        self.model.forget_handlers()
        if not self.aside:
            return
        task, last = self.data.task, self.last
        quick = self.choice.method == "head" and last is not None and len(self.aside) >= MANY_ROWS
        with answering_quickly(self.model, task, last.layer) if quick and last else nullcontext():
            self.measured = self.objective.measures(self.aside)

    def _fit(self) -> None:
        validation = Validation(self.objective, self.aside, self.options)
        guarded = validation.is_measured and is_measured(self.model) and self._is_of_params
        before = self._state() if guarded else None
        # A loader that gives nothing is found before anything is trained.
        looks = before is not None or self.options.val_dataloader is not None
        baseline = self.processes.from_main(validation.figures) if looks else None
        if self._is_few() and self.last is not None:
            self.last.start_from_means()
        frozen = freeze_embeddings(self.model) if self.choice.method == "full" else []
        skipped = self.model.head(self.data.task)
        around = lora(self.model, skipped) if self.choice.method == "lora" else nullcontext()
        try:
            with around:
                self.history = self._trained(validation)
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
        if before is not None and baseline is not None:
            self._keep_the_better(before, baseline, validation)

    def _keep_the_better(
        self, before: dict[str, Tensor], baseline: Mapping[str, float], validation: Validation
    ) -> None:
        """Put the weights of before back where training made them no better."""
        figures = self._best()
        if figures is not None:
            worse, why = validation.is_worse(figures, baseline), "Training made it no better"
        else:  # Ctrl-C in the first epoch, whose weights nothing has judged
            worse, why = True, "No epoch has ended"
        if not worse:
            return
        self.is_put_back = True
        self.model.load_state_dict(before)
        is_solved = self.last is not None and self.last.head is not None
        if self.last is not None:
            self.last.put_back()
        new = " and a new last one" if is_solved else ""
        if not is_solved and self.last is not None:
            new = " and a new last one, which is untrained"
        self._warn(f"{why}, so the model has the layers it came with{new}.")

    def _best(self) -> dict[str, float] | None:
        """Return the figures of the epoch whose weights were kept; None without one."""
        assert self.history is not None
        number = self.history.best_epoch
        found = [each.metrics for each in self.history.epochs if each.number == number]
        return found[0] if found else None

    def _state(self) -> dict[str, Tensor]:
        state = self.model.state_dict()
        return {name: value.to("cpu", copy=True) for name, value in state.items()}

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
            step=self._loss,
            validate=validation.figures if validation.is_possible else None,
            settings=self._settings(validation),
            groups=[groups[row] for row in self.train] if groups is not None else None,
            together=objective.together,
            configure_optimizers=options.configure_optimizers,
            parameter_groups=self._parameter_groups,
            train_dataloader=options.train_dataloader,
            before_first_step=self.undo.keep,
            show=options.show,
            title=f"{self.data.task}: {self.model.name or type(self.model).__name__}",
        )

    def _parameter_groups(self, module: nn.Module) -> list[dict[str, Any]]:
        """Return the last layer's weights with a learning rate of their own, and all others.

        A learning rate of the caller's own holds for all.
        """
        recipe = self._recipe()
        chosen = self.options.learning_rate is not None
        norm = self.last.norm if self.last is not None else None
        if self.last is None or norm is None or chosen or recipe.head_rate == 1:
            return [{"params": list(module.parameters())}]
        own = self.last.weights()
        known = set(map(id, own))
        others = [parameter for parameter in module.parameters() if id(parameter) not in known]
        rate = recipe.learning_rate * recipe.head_rate / norm
        return [{"params": others}, {"params": own, "lr": rate, "weight_decay": 0.0}]

    def _recipe(self) -> Recipe:
        form = "few" if self._is_few() else form_of(self.objective)
        return recipe_for(form, self.choice.method)

    def _is_few(self) -> bool:
        """Whether texts or emotions are learnt as ``few`` describes; images were not measured."""
        is_known = is_measured(self.model) and self.choice.method == "full"
        return is_known and self.few and form_of(self.objective) == "classes"

    def _settings(self, validation: Validation) -> Settings:
        rows = (self.train, self.aside)
        own = identity(
            self.objective, self.options, self.choice, rows, self.lengths, self._recipe()
        )
        chosen = settings(self.objective, self.options, self._recipe(), validation, own)
        self.planned_epochs = chosen.epochs
        return chosen

    def report(self, seconds: float) -> Report:
        """Return what the user gets."""
        history, measured = self.history, self.measured
        is_from_epoch = history is not None and not self.is_put_back
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
            best_epoch=history.best_epoch if history and is_from_epoch else 0,
            stopped=history.stopped if history else "",
            metrics=dict(measured.values) if measured else {},
            main=measured.main if measured else "",
            per_class=measured.per_class if measured else None,
            confusion=measured.confusion if measured else None,
            thresholds=self.thresholds,
            seconds=seconds,
            warnings=self.warnings,
        )
        self.model.card = report.card()
        self.model.report = _kept(json.loads(report.to_json()))
        return report

    def _shown_settings(self) -> dict[str, Any]:
        options = self.options
        shown: dict[str, Any] = {"seed": options.seed}
        if _is_share(options):
            shown["validation_split"] = options.validation_split
        if options.class_weights is not None:
            shown["class_weights"] = options.class_weights
        if len(self.train) > self.given:
            shown["label_names_as_rows"] = len(self.train) - self.given
        head = self.last.head if self.last is not None else None
        if head is not None:
            began = "head" if self.history is None or self.is_put_back else "head_began_with"
            shown[began] = f"C={head.strength:g}" if head.strength else "class means"
            shown["head_passes"] = head.passes
        if self.uses_all_rows:
            shown["head_after_the_figures"] = "solved with the validation rows too"
        if self.history is not None:
            shown["epochs"] = self.planned_epochs
            if options.configure_optimizers is None:
                rate = options.learning_rate
                shown["learning_rate"] = self._recipe().learning_rate if rate is None else rate
            shown["batch_size"] = self.history.batch_size
            shown["rows_per_step"] = self.history.rows_per_step
        return {**shown, **dict(self.data.training.arguments), **dict(options.lengths)}


def _kept(report: dict[str, Any]) -> dict[str, Any]:
    """Return what is saved with the model of a report: no table that grows with labels squared."""
    matrix = report.get("confusion") or []
    return {**report, "confusion": matrix if len(matrix) <= MOST_IN_MATRIX else None}


MOST_IN_MATRIX = 100


def _is_share(options: Options) -> bool:
    """Whether rows were kept aside by share, rather than named by the caller."""
    return not isinstance(options.validation_split, (tuple, list))
