"""The forward and backward passes of one step, in parts that fit in memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from backprop.errors import InputError
from backprop.trainer import memory
from backprop.trainer.batches import Plan
from backprop.trainer.feeds import Feed, Work
from backprop.trainer.processes import Processes
from backprop.trainer.randomness import seed_all
from backprop.trainer.weights import Weights

__all__ = ["Passes"]

logger = logging.getLogger(__package__)

# Timing smaller parts takes four steps; a shorter run would not earn them back.
TIMED_FROM_STEPS = 200
WORTH_IT = 1.3

TOO_LARGE = "One row alone does not fit in memory; use a smaller model or shorter rows"


class Passes:
    """Computes gradients.

    Args:
        module: what is trained, in train mode when used.
        feed: makes the batches of a step.
        step: returns a batch's mean loss.
        processes: whose device batches go to.
        together: whether rows of a batch are compared with each other.
    """

    def __init__(
        self,
        module: nn.Module,
        feed: Feed,
        step: Callable[[Any], Tensor],
        processes: Processes,
        *,
        together: bool = False,
    ) -> None:
        self.size = 0
        self._together = together
        self._module = module
        self._feed = feed
        self._step = step
        self._processes = processes
        self._weights = Weights(module)

    def gradients(self, work: Work, *place: int) -> Tensor:
        """Leave the gradient of the mean loss over ``work``, and return that loss, a scalar.

        Both are this process's share; those of all processes add up to the whole. In however
        many parts it is computed, the gradient is the same but for rounding and for what rows of
        one part have to do with each other: triplets, norms over a batch, dropout drawn for it.
        When memory runs out the parts are halved and the step is done again.

        Args:
            work: one step.
            place: where the step stands; random numbers follow from it.

        Raises:
            InputError: one row alone does not fit, or ``step`` returns no loss.
        """
        before = self._weights.copy_buffers()
        while True:
            seed_all(self._processes.device, *place, self._processes.index)
            try:
                return self._passes(work, self.size)
            except BaseException as error:
                self._undo(before)
                if not memory.is_out_of_memory(error):
                    raise
                self._check_divisible(error)
            memory.release()
            self.size = -(-self.size // 2)
            logger.warning(
                "Memory ran out; a forward pass has at most %d rows from here on.", self.size
            )

    def choose(self, plan: Plan, most: int, steps: int) -> int:
        """Return how many rows a pass should have.

        Args:
            plan: its longest rows tell what fits.
            most: rows of a step that this process has.
            steps: of the whole run.

        Raises:
            InputError: one row alone does not fit.
        """

        def attempt(count: int) -> None:
            self._try(Work(count, plan.longest(count)), count)

        try:
            size = memory.fitting_rows(attempt, most, self._processes.device)
        except (RuntimeError, MemoryError) as error:
            if memory.is_out_of_memory(error):
                raise InputError(f"{TOO_LARGE} ({error}).") from error
            raise
        rows = plan.steps(0)[0][:most]
        smaller = size // 4
        # What a triplet or pair is compared with depends on its batch: the larger, the better.
        if self._together or smaller == 0 or steps < TIMED_FROM_STEPS:
            return size
        seconds = {size: float("inf"), smaller: float("inf")}
        for _ in range(2):
            for each in seconds:
                seconds[each] = min(seconds[each], self._time(Work(len(rows), rows), each))
        return smaller if seconds[smaller] * WORTH_IT <= seconds[size] else size

    def _time(self, work: Work, size: int) -> float:
        start = time.perf_counter()
        self._try(work, size)
        return time.perf_counter() - start

    def _try(self, work: Work, size: int) -> None:
        """Do a step's passes and forget them."""
        before = self._weights.copy_buffers()
        try:
            float(self._passes(work, size))
        finally:
            self._undo(before)

    def _passes(self, work: Work, size: int) -> Tensor:
        total = torch.zeros((), device=self._processes.device)
        for rows, batch in self._feed.parts(work, size):
            with self._processes.precision():
                loss = _checked(self._step(self._processes.send(batch)))
            part = loss * (rows / work.rows)
            part.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total += part.detach()
        return total

    def _undo(self, buffers: list[Tensor]) -> None:
        self._module.zero_grad(set_to_none=True)
        self._weights.put_buffers(buffers)

    def _check_divisible(self, error: BaseException) -> None:
        if not self._feed.divisible:
            raise InputError(
                f"A batch of train_dataloader does not fit in memory ({error}); make them smaller, "
                "and pass optimal_batch_size to gather several for one step."
            ) from error
        if self.size == 1:
            raise InputError(f"{TOO_LARGE} ({error}).") from error


def _checked(loss: object) -> Tensor:
    """Return the loss.

    Raises:
        InputError: it is no scalar that depends on trained weights.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else ""
        raise InputError(
            "A training step must return its loss as a tensor of one number that depends on the "
            f"trained weights; received {type(loss).__name__}{shape}."
        )
    return loss.reshape(())
