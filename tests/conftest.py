import os

# Before any test module imports a library that reads these once, at import.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
# Tiny models gain nothing by a conversion; tests/test_engines.py has the engines users get.
os.environ["BACKPROP_ENGINE"] = "torch"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # forked children would warn about its threads
# Beside other workers a core each is enough; threads that wait for each other at each layer of a
# tiny model take a third of the suite's time. What a test starts inherits it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator

import hypothesis
import pytest

# BACKPROP_CACHE is left as it is: a starter model is fetched once for all runs on a machine. A test
# that needs a cache of its own sets the variable itself.

# No deadline: times on a shared machine vary tenfold. `timeout` in pyproject.toml ends a hung test.
hypothesis.settings.register_profile("backprop", deadline=None)
hypothesis.settings.load_profile("backprop")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: tiny models gain nothing by more, and lose much on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


FIRST = ("check_model", "training", "demo", "serve", "bench", "inputs", "starters")
"""Files that take long as a whole: begun first, so that no worker is left alone with one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first, and skip the tests marked ``gpu`` where there is no GPU."""
    places = {f"test_{name}": place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _has_gpu():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
