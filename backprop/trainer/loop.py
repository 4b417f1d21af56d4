"""The training loop: epochs of steps, each followed by validation, and the best weights kept."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from backprop.errors import BackpropError, InputError
from backprop.trainer.batches import Plan
from backprop.trainer.checkpoints import Checkpoint, Saved, identity
from backprop.trainer.display import Display
from backprop.trainer.feeds import Feed, Work
from backprop.trainer.history import Epoch, History, Position, Stopped, is_better
from backprop.trainer.interrupts import Interrupts
from backprop.trainer.optimisers import Optimisation
from backprop.trainer.passes import Passes
from backprop.trainer.processes import Processes
from backprop.trainer.randomness import seed_all
from backprop.trainer.settings import Settings
from backprop.trainer.weights import Weights

__all__ = ["Run"]

logger = logging.getLogger(__package__)

# On a GPU, looking at a loss waits for it; so it is looked at once in so many steps.
CHECK_EVERY = {"cpu": 1}
CHECK_EVERY_ELSEWHERE = 50

# Writing checkpoints takes at most this part of the time, however often they are asked for.
WRITING_SHARE = 0.05


class Run:
    """One run under way.

    Args:
        module: what is trained.
        passes: computes a step's gradients.
        feed: gives the steps.
        validate: see ``fit``.
        settings: all the numbers.
        processes: this one and its fellows.
        shown: shows progress.
    """

    optimisation: Optimisation
    before_first_step: Callable[[], None] | None = None

    def __init__(
        self,
        module: nn.Module,
        passes: Passes,
        feed: Feed,
        validate: Callable[[], Mapping[str, float]] | None,
        settings: Settings,
        processes: Processes,
        shown: Display,
    ) -> None:
        self.module = module
        self.passes = passes
        self.feed = feed
        self.validate = validate
        self.settings = settings
        self.processes = processes
        self.display = shown
        self.interrupts = Interrupts(at_once=processes.count == 1)
        self.position = Position()
        self.weights = Weights(module)
        self.trained = list(self.weights.trained.values())
        self.checkpoint: Checkpoint | None = None
        self.best: dict[str, Tensor] = {}
        per_epoch = feed.steps_per_epoch()
        self.steps = None if per_epoch is None else per_epoch * settings.epochs
        self._loss = self._zero()
        self._since = self._written_at = time.perf_counter()
        self._writing_s = 0.0

    def begin(self, facts: Mapping[str, Any], plan: Plan | None) -> None:
        """Stand where the checkpoint left off, or at the start, alike in every process."""
        saved: Saved | None = None
        if self.settings.checkpoint is not None:
            self.checkpoint = Checkpoint(self.settings.checkpoint, identity(self.settings, facts))
            saved = self.processes.from_main(self.checkpoint.read)
        tensors = [*self.module.parameters(), *self.weights.buffers.values()]
        self.processes.copy_from_main(tensors)
        self.module.train()
        if saved is not None:
            self._go_on(saved)
        else:
            self.position.batch_size = self._batch_size(plan)
            self.best = self.weights.copy()
            self._save()
        self.passes.size = self.position.batch_size

    def train(self) -> History:
        """Return what happened once the run has ended, by itself or by Ctrl-C."""
        self.display.start(self.position)
        self._since = time.perf_counter()
        try:
            with self.interrupts:
                stopped = self._train()
        finally:
            self.display.stop()
            self.module.zero_grad(set_to_none=True)
        return self.position.history(stopped, self.settings.rows_per_step)

    def _train(self) -> Stopped:
        try:
            while not (ended := self._ended()):
                self._epoch(len(self.position.epochs))
            self.interrupts.disarm()
        except KeyboardInterrupt:
            if self.interrupts.again:
                raise
            return self._interrupted()
        self.weights.put(self.best)
        if self.position.finished is None:
            self.position.finished = ended
            self._save()
        return ended

    def _ended(self) -> Stopped | None:
        settings = self.settings
        return self.position.ended(
            settings.epochs, settings.early_stopping_epochs, settings.least_epochs
        )

    def _interrupted(self) -> Stopped:
        self._save()
        if self.position.best_epoch:
            self.weights.put(self.best)
        logger.info(
            "Stopped by Ctrl-C; the model has the weights of %s.",
            f"epoch {self.position.best_epoch}" if self.position.best_epoch else "the last step",
        )
        return "interrupted"

    def _batch_size(self, plan: Plan | None) -> int:
        chosen = self.settings.batch_size
        if chosen is not None or plan is None:
            return chosen or self.settings.rows_per_step
        most = -(-min(plan.rows, plan.rows_per_step) // self.processes.count)
        return self.processes.least(self.passes.choose(plan, most, self.steps or 0))

    # --- Epochs and steps ----------------------------------------------------------------

    def _epoch(self, epoch: int) -> None:
        for number, work in enumerate(self.feed.steps(epoch)):
            if number >= self.position.step:
                self._step(work, epoch, number)
        self._check_finite(self._loss)
        self.processes.copy_from_main(self.weights.buffers.values())
        self._tick()  # so that the next call tells how long validation took
        metrics = self._metrics(epoch)
        with self.interrupts.held():
            self._end_epoch(metrics, self._tick())

    def _step(self, work: Work, epoch: int, number: int) -> None:
        share = self.passes.gradients(work, self.settings.seed, epoch, number)
        with self.interrupts.held():
            asked = torch.full_like(share, self.interrupts.asked)
            loss, stop = self.processes.add_up(self.trained, torch.stack((share, asked)))
            norm = loss if self.settings.max_grad_norm is None else self._clip()
            if self.position.steps % self._check_every() == 0:
                self._check_finite(loss + norm)
            self._is_about_to_change()
            self.optimisation.step(self.position.steps)
            self._count(work, loss)
            if self.display.due():
                self._sum_up()
                self.display.step(self.position)
            if self._is_time_to_save():
                self._save()
        # With one process, Ctrl-C has its effect without this, and looking waits for a GPU.
        if self.processes.count > 1 and stop > 0:
            raise KeyboardInterrupt

    def _is_about_to_change(self) -> None:
        """Say once that weights are changed from here on."""
        told, self.before_first_step = self.before_first_step, None
        if told is not None:
            told()

    def _clip(self) -> Tensor:
        limit = self.settings.max_grad_norm
        return nn.utils.clip_grad_norm_(self.trained, limit if limit is not None else math.inf)

    def _count(self, work: Work, loss: Tensor) -> None:
        self._loss += loss * work.rows
        self.position.steps += 1
        self.position.step += 1
        self.position.rows += work.rows
        self.position.batch_size = self.passes.size
        self.position.training_s += self._tick()

    def _metrics(self, epoch: int) -> dict[str, float]:
        """Return what validation finds, the same in every process."""
        if self.validate is None:
            return {}
        validate = self.validate
        seed_all(self.processes.device, self.settings.seed, epoch, "validation")
        self.module.eval()
        with torch.no_grad():
            found = self.processes.from_main(lambda: {k: float(v) for k, v in validate().items()})
        self.module.train()
        if self.settings.monitor not in found:
            raise InputError(
                f"Validation gives no {self.settings.monitor!r} to pick the best epoch by; it "
                f"gives {', '.join(found) or 'nothing'}."
            )
        return found

    def _end_epoch(self, metrics: dict[str, float], seconds: float) -> None:
        position = self.position
        best = (
            self._score(position.epochs[position.best_epoch - 1]) if position.best_epoch else None
        )
        self._sum_up()
        ended = position.end_epoch(metrics, self.optimisation.learning_rate, seconds)
        self._loss = self._zero()
        score = self._score(ended)
        maximise = self.settings.maximise and self.validate is not None
        is_best = is_better(score, best, maximise=maximise)
        if is_best:
            position.best_epoch = ended.number
            self.best = self.weights.copy()
        self.optimisation.end_epoch(ended.number, metrics, score)
        self.display.epoch(ended, best=is_best)
        self.display.step(position)
        if not self._ended():
            self._save()

    def _score(self, epoch: Epoch) -> float:
        return epoch.loss if self.validate is None else epoch.metrics[self.settings.monitor]

    def _check_every(self) -> int:
        return CHECK_EVERY.get(self.processes.device.type, CHECK_EVERY_ELSEWHERE)

    def _check_finite(self, value: Tensor) -> None:
        """Raise BackpropError unless the number is finite; the best weights are put back then."""
        if math.isfinite(value):
            return
        self.weights.put(self.best)
        position = self.position
        rate = self.optimisation.learning_rate
        kept = f"epoch {position.best_epoch}" if position.best_epoch else "the start"
        raise BackpropError(
            f"The loss or its gradient is no finite number in epoch {len(position.epochs) + 1}, "
            f"step {position.step + 1}, at learning rate {rate:.3g}: pass a lower learning_rate, "
            f"and look for odd rows. The model has its weights of {kept}."
        )

    # --- Time and checkpoints ------------------------------------------------------------

    def _tick(self) -> float:
        """Return the seconds since the last call, counted to the run."""
        before, self._since = self._since, time.perf_counter()
        self.position.seconds += self._since - before
        return self._since - before

    def _zero(self) -> Tensor:
        device = self.processes.device
        # Apple's GPUs have no doubles.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        return torch.zeros((), dtype=dtype, device=device)

    def _sum_up(self) -> None:
        """Read the sum of losses from the device; kept there since reading waits for a GPU."""
        self.position.loss = float(self._loss)

    def _is_time_to_save(self) -> bool:
        every = self.settings.checkpoint_every_s
        if self.checkpoint is None or not every:
            return self.checkpoint is not None
        passed = time.perf_counter() - self._written_at
        return passed >= max(every, self._writing_s / WRITING_SHARE)

    def _save(self) -> None:
        if self.checkpoint is None or not self.processes.is_main:
            return
        self._tick()
        start = time.perf_counter()
        self._sum_up()
        done = self.position.finished is not None
        saved = Saved(
            self.position,
            {} if done else self.weights.now(),
            self.best if self.position.best_epoch else {},
            None if done else self.optimisation.state(),
        )
        self.checkpoint.write(saved)
        self._written_at = time.perf_counter()
        self._writing_s = self._written_at - start
        if not done:
            self._tick()

    def _go_on(self, saved: Saved) -> None:
        for tensors in filter(None, (saved.now, saved.best)):
            self.weights.check(tensors)
        self._is_about_to_change()
        self.position = saved.position
        self._loss = self._zero() + saved.position.loss
        self.best = saved.best
        if saved.optimisation is not None:
            self.weights.put(saved.now)
            self.optimisation.restore(saved.optimisation)
        if not self.best:
            self.best = self.weights.copy()
