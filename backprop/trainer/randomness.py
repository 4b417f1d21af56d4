"""Random numbers that follow from where a run stands, not from what it has drawn so far.

Every step seeds all generators by the run's seed and the step's place. So a step that is done
again, after memory ran out or after a kill, draws what it would have drawn, and a checkpoint has
no generator's state to keep.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["kept", "seed_all"]


def seed_all(device: torch.device, *place: int | str) -> None:
    """Seed Python's, NumPy's and torch's generators by ``place``, e.g. seed, epoch and step."""
    text = "/".join(map(str, place)).encode()
    seed = int.from_bytes(hashlib.sha256(text).digest()[:4], "big")
    random.seed(seed)
    np.random.seed(seed)
    # torch.manual_seed takes a hundred times as long: it goes through every kind of device.
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


@contextmanager
def kept(device: torch.device) -> Iterator[None]:
    """Put the generators back as they were when the block ends."""
    module = None if device.type == "cpu" else torch.get_device_module(device)
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    there = module.get_rng_state() if module else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if module:
            module.set_rng_state(there)
