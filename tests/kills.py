"""Work that is killed, for tests of what a kill leaves behind."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator

# Each call that makes, moves, links or deletes a file announces itself by one of these.
STEPS = {"open", "ctypes.dlsym"} | {
    f"os.{name}" for name in ("link", "listdir", "mkdir", "remove", "rename", "rmdir", "scandir")
}


def killed_at_each_step(work: Callable[[], object]) -> Iterator[int]:
    """Yield 0, 1, 2, ... after ``work`` was killed before that step; end when it finishes."""
    step = 0
    while _is_killed(work, step):
        yield step
        step += 1


def _is_killed(work: Callable[[], object], step: int) -> bool:
    process = os.fork()
    if process == 0:
        _run(work, step)
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the work itself failed; its traceback is above"
    return False


def _run(work: Callable[[], object], step: int) -> None:
    left = step

    def count(event: str, _: tuple[object, ...]) -> None:
        nonlocal left
        if event in STEPS:
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    try:
        sys.addaudithook(count)
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
