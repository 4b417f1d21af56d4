"""``backprop bench``: this library beside what else does the job, measured on this machine.

Each side runs in a process of its own, and they take turns: same weights, same threads, same
inputs. What they give is compared too, so that nobody is fast by being wrong.
"""

from backprop.bench.table import main

__all__ = ["main"]
