"""The processes that train together; one alone is the usual case.

``accelerate launch --multi_gpu --num_processes N`` or ``torchrun --nproc_per_node N`` starts them,
with or without GPUs (``accelerate launch --cpu`` starts one process, whatever the number, unless it
is given MPI), and accelerate says which of them this is and on which device.
The model is not wrapped: a step's losses are weighed by their share of all its rows, so the sum of
the processes' gradients is the gradient of one process, whatever rows each has, even none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, send_to_device
from torch import Tensor, nn

from backprop.errors import BackpropError

__all__ = ["Processes"]

Result = TypeVar("Result")


class Processes:
    """This process and its fellows.

    Args:
        module: what is trained. It stays where it is if this process is alone, and moves to the
            device that accelerate chose for this process if not.
    """

    def __init__(self, module: nn.Module) -> None:
        # Told so, accelerate joins processes without GPUs by gloo; else each would train alone.
        state = Accelerator(cpu=not torch.accelerator.is_available())
        self.count: int = state.num_processes
        self.index: int = state.process_index
        first = next(module.parameters(), None)
        own = torch.device("cpu") if first is None else first.device
        self.device = own if self.count == 1 else torch.device(state.device)
        if self.device != own:
            module.to(self.device)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that validates, writes and shows."""
        return self.index == 0

    def precision(self) -> AbstractContextManager[Any]:
        """Return the block for forward passes: bf16 on a GPU that has it, else as it is.

        On processors without bf16 units autocast is many times slower than full precision.
        """
        fast = self.device.type == "cuda" and torch.cuda.is_bf16_supported(False)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=fast)

    def send(self, batch: Any) -> Any:
        """Return the batch on this process's device."""
        if self.device.type == "cpu":
            return batch
        return send_to_device(batch, self.device, non_blocking=True)

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite the tensors by those of the main process."""
        if self.count == 1:
            return
        for tensor in tensors:
            whole = tensor.detach().contiguous()
            torch.distributed.broadcast(whole, src=0)
            tensor.detach().copy_(whole)

    def add_up(self, parameters: Sequence[nn.Parameter], figures: Tensor) -> Tensor:
        """Return ``figures`` summed over the processes; so is each gradient, in its place.

        A gradient that no process has stays None, since optimisers pass over those.
        """
        if self.count == 1:
            return figures
        doubles = any(parameter.dtype == torch.float64 for parameter in parameters)
        dtype = torch.float64 if doubles else torch.float32
        has = torch.tensor([parameter.grad is not None for parameter in parameters])
        gradients = [
            torch.zeros_like(each) if each.grad is None else each.grad for each in parameters
        ]
        parts = [figures, has.to(self.device), *(each.flatten() for each in gradients)]
        flat = torch.cat([part.to(dtype) for part in parts])
        torch.distributed.all_reduce(flat)
        sizes = [len(figures), len(has), *(each.numel() for each in gradients)]
        figures, held, *sums = torch.split(flat, sizes)
        for parameter, count, total in zip(parameters, held.tolist(), sums, strict=True):
            parameter.grad = total.view_as(parameter).to(parameter.dtype) if count else None
        return figures

    def from_main(self, work: Callable[[], Result]) -> Result:
        """Return what ``work`` returns in the main process, the only one that runs it.

        Raises:
            BackpropError: the main process failed; it raises its own error.
        """
        if self.count == 1:
            return work()
        outcome: list[Any] = [None, None]
        failure: BaseException | None = None
        if self.is_main:
            try:
                outcome[0] = work()
            except BaseException as error:  # the others wait for word, whatever happened
                failure, outcome[1] = error, f"{type(error).__name__}: {error}"
        broadcast_object_list(outcome)
        if failure is not None:
            raise failure
        if outcome[1] is not None:
            raise BackpropError(f"The main process stopped the training ({outcome[1]}).")
        result: Result = outcome[0]
        return result

    def least(self, number: int) -> int:
        """Return the smallest of the processes' numbers."""
        if self.count == 1:
            return number
        shared = torch.tensor(number, device=self.device)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MIN)
        return int(shared)
