"""What is said of rows before any is learnt: those the model can't take, and those it cuts."""

from __future__ import annotations

from collections.abc import Sequence

from backprop.data import Data, keys
from backprop.data.problems import SHOWN
from backprop.errors import InputError
from backprop.finetuning.samples import Samples

__all__ = ["check_rows", "cut", "repeated", "unmeasured"]


def check_rows(samples: Samples, rows: Sequence[int]) -> None:
    """Let the model process every row; what it makes of them is kept for the training.

    Pictures have all been opened when they were read.

    Raises:
        InputError: it refuses some, all of which are in the message.
    """
    data = samples.data
    if any(column.kind == "image" for column in data.training.columns):
        return
    faults: dict[str, list[int]] = {}
    for row in rows:
        try:
            for side in range(len(samples.sides)):
                samples.features(row, side)
        except InputError as error:
            faults.setdefault(str(error), []).append(row)
    if not faults:
        return
    refused = sum(map(len, faults.values()))
    if len(faults) == 1 and refused == len(rows):
        raise InputError(next(iter(faults)))  # an argument is to blame, not the rows
    listed = [f"- {_places(data, own)}: {fault}" for fault, own in list(faults.items())[:SHOWN]]
    more = [f"- … and {len(faults) - SHOWN:,} more"] if len(faults) > SHOWN else []
    count = "1 row" if refused == 1 else f"{refused:,} rows"
    raise InputError(
        "\n".join([f"The model can't learn from {count} of {data.task}:", *listed, *more])
    )


def _places(data: Data, rows: Sequence[int]) -> str:
    more = f", … and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    return ", ".join(data.place(row) for row in rows[:SHOWN]) + more


def cut(samples: Samples, rows: Sequence[int]) -> str:
    """Return a sentence on the texts over their limit, whose rest is not learnt; "" for none."""
    task = samples.data.task
    lost = [
        samples.model.cut(samples.params(row, side), task)
        for row in rows
        for side in range(len(samples.sides))
    ]
    over = [tokens for tokens in lost if tokens]
    if not over:
        return ""
    names = [name for name in dict(samples.data.training.arguments) if name in samples.extra]
    limits = ", ".join(f"{name}={samples.extra[name]}" for name in names)
    return (
        f"{len(over)} of {len(lost)} texts were over the limit ({limits or 'the model'}); "
        f"{sum(over)} tokens were cut."
    )


def repeated(data: Data, train: Sequence[int], aside: Sequence[int]) -> str:
    """Return a sentence on the validation rows that are learnt from too; "" for none."""
    every = keys(data)
    learnt = {every[row] for row in train}
    count = sum(every[row] in learnt for row in aside)
    if not count:
        return ""
    return (
        f"{count} of {len(aside)} validation rows stand among the training rows too, so the "
        "figures are better than on new rows; remove rows that stand twice."
    )


def unmeasured(data: Data, aside: Sequence[int]) -> str:
    """Return a sentence on the labels that no validation row has; "" for none."""
    sets = data.label_sets
    measured = {label for row in aside for label in sets[row]} if data.labels else set()
    missing = [label for label in data.labels if label not in measured]
    if not aside or not missing:
        return ""
    listed = ", ".join(missing[:SHOWN]) + ", …" * (len(missing) > SHOWN)
    count = "1 label is" if len(missing) == 1 else f"{len(missing):,} labels are"
    return f"{count} in no validation row, so nothing measures how well they are told: {listed}."
