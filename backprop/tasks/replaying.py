"""A task's call, made asynchronous without being written twice."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from backprop.optional import load

if TYPE_CHECKING:
    from backprop.tasks.base import Task

__all__ = ["acall"]


async def acall(task: Task, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Return what ``task(*args, **options)`` returns; see ``Task.acall``."""
    if task.is_remote:
        return await _replayed(task, args, options)
    await asyncio.to_thread(task._load)
    call: Any = task
    return await asyncio.to_thread(call, *args, **options)


async def _replayed(task: Task, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Do as the call does, its requests made while the event loop goes on.

    The call runs until it asks something, then again with the answer, and so on to its end. It does
    little but name its arguments, so to run it twice costs next to nothing. It does so in a thread,
    since what it makes of an answer, such as a tensor, may take time.
    """
    ask = await asyncio.to_thread(load, "backprop.remote:acall")  # imports httpx
    answers: list[Any] = []
    while True:
        try:
            return await asyncio.to_thread(_with(task, answers), *args, **options)
        except _Asked as asked:
            task_input = asked.task_input
        answers.append(await ask(task.task, task._given(task_input), **task._asking()))


def _with(task: Task, answers: Sequence[Any]) -> Any:
    """Return the task with the answers it has so far; what it asks beyond them is raised."""
    left = iter(answers)

    def run(task_input: Mapping[str, Any]) -> Any:
        for answer in left:
            return answer
        raise _Asked(task_input)

    known = copy.copy(task)
    known.__dict__["run"] = run
    return known


class _Asked(BaseException):  # so that no call takes it for an error of its own
    """What a call wants to know."""

    def __init__(self, task_input: Mapping[str, Any]) -> None:
        super().__init__()
        self.task_input = task_input
