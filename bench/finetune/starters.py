"""Finetunes every starter model on every task it can learn, on a little real data.

This shows that each way works with real weights; the rows are too few for a good model. The figure
is the loss on rows kept aside, before and after.

Run as ``python -m bench.finetune.starters [DATA_FOLDER] [--only qa emotion]``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from backprop import tasks
from backprop.data import read, split
from backprop.finetuning.answers import Answers
from backprop.finetuning.objectives import objective_for
from backprop.models import AutoModel, BaseModel
from backprop.specs import SPECS

Columns = Mapping[str, Any]


class Run(NamedTuple):
    """A starter, a task it learns, and rows for it."""

    model: str
    task: str
    rows: Callable[[Path], Columns]
    options: Mapping[str, Any]


def main() -> None:
    """Print a line a run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    data = os.getenv("BACKPROP_DATA", "../shared/data")
    parser.add_argument("data", nargs="?", type=Path, default=Path(data))
    parser.add_argument("--only", nargs="*", choices=list(SPECS))
    given = parser.parse_args()
    print(f"{'task':<26}{'model':<28}{'method':<8}{'rows':>6}{'before':>9}{'after':>9}{'s':>7}")
    for run in RUNS:
        if given.only is None or run.task in given.only:
            show(run, given.data)


def show(run: Run, folder: Path) -> None:
    """Finetune once and print the loss before and after."""
    columns = run.rows(folder)
    model = AutoModel.from_pretrained(run.model)
    task = getattr(tasks, SPECS[run.task].task_class)(model)
    start = time.perf_counter()
    before = loss(model, run.task, columns)
    report = task.finetune(columns, seed=0, show=False, **run.options)
    after = loss(model, run.task, columns)
    count = report.rows["train"]
    print(f"{run.task:<26}{run.model:<28}{report.method:<8}{count:>6}", end="")
    print(f"{before:>9.4f}{after:>9.4f}{time.perf_counter() - start:>7.0f}", flush=True)


def loss(model: BaseModel, task: str, columns: Columns) -> float:
    """Return the mean loss of the rows that ``finetune`` keeps aside."""
    data = read(task, columns)
    _, aside = split(data)
    lengths = dict(data.training.arguments)
    objective = objective_for(data)(model, data, lengths, Answers(lambda _: []))
    objective.prepare()
    model.eval()
    return objective.mean_loss(aside)


# --- Rows --------------------------------------------------------------------------------


def questions(folder: Path) -> Columns:
    """Return questions of SQuADShifts' Reddit part."""
    path = folder / "squadshifts" / "reddit_v1.0.json"
    [article] = json.loads(path.read_text("utf-8"))["data"]
    found = [
        (row["question"], row["answers"][0]["text"], paragraph["context"])
        for paragraph in article["paragraphs"][:60]
        for row in paragraph["qas"][:2]
    ]
    return dict(zip(("questions", "answers", "contexts"), zip(*found, strict=True), strict=True))


def intents(folder: Path) -> Columns:
    """Return texts and labels of ten of Banking77's."""
    with (folder / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = sorted({row["category"] for row in rows})[:10]
    rows = [row for row in rows if row["category"] in kept][::8]
    return {"texts": [row["text"] for row in rows], "labels": [row["category"] for row in rows]}


def emotions(folder: Path) -> Columns:
    """Return texts of GoEmotions with one of four labels."""
    labels = (folder / "goemotions" / "labels.txt").read_text("utf-8").split()
    lines = (folder / "goemotions" / "train.tsv").read_text("utf-8").split("\n")
    rows = [line.split("\t") for line in lines if line]
    kept = {str(labels.index(name)): name for name in ("gratitude", "anger", "joy", "fear")}
    found = list(islice((row for row in rows if row[1] in kept), 200))
    return {
        "input_text": [row[0] for row in found],
        "output_text": [kept[row[1]] for row in found],
    }


def abstracts(folder: Path) -> Columns:
    """Return abstracts and summaries of SciTLDR."""
    lines = (folder / "scitldr" / "train.jsonl").read_text("utf-8").split("\n")[:24]
    rows = [json.loads(line) for line in lines]
    return {
        "input_text": [row["text"] for row in rows],
        "output_text": [row["summaries"][0] for row in rows],
    }


def sentence_pairs(folder: Path) -> Columns:
    """Return pairs of the STS benchmark."""
    with (folder / "stsb" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[::20]
    return {
        "texts1": [row[0] for row in rows],
        "texts2": [row[1] for row in rows],
        "similarity_scores": [float(row[2]) / 5 for row in rows],
    }


def photos(folder: Path) -> list[Path]:
    """Return twelve photos of each class of CIFAR-10."""
    kinds = sorted(path for path in (folder / "cifar10").iterdir() if path.is_dir())
    return [path for kind in kinds for path in sorted(kind.glob("*.jpg"))[:12]]


def labelled_photos(folder: Path) -> Columns:
    """Return photos and their classes."""
    found = photos(folder)
    return {"images": found, "labels": [path.parent.name for path in found]}


def grouped_photos(folder: Path) -> Columns:
    """Return photos in groups by class."""
    found = photos(folder)
    return {"images": found, "groups": [path.parent.name for path in found]}


def captioned_photos(folder: Path) -> Columns:
    """Return photos with a text, in groups by class."""
    found = photos(folder)
    kinds = [path.parent.name for path in found]
    return {"images": found, "texts": [f"a photo of a {kind}" for kind in kinds], "groups": kinds}


SHORT = {"max_input_length": 160, "epochs": 1}
RUNS = (
    Run("minilm-qa", "qa", questions, {"epochs": 2}),
    Run("smollm2-135m-instruct", "qa", lambda folder: first(questions(folder), 24), SHORT),
    Run("all-minilm-l6-v2", "text-classification", intents, {}),
    Run("all-minilm-l6-v2", "emotion", emotions, {}),
    Run("minilm-emotion", "emotion", emotions, {}),
    Run("smollm2-135m-instruct", "summarisation", abstracts, SHORT),
    Run("smollm2-135m-instruct", "text-generation", abstracts, SHORT),
    Run("all-minilm-l6-v2", "text-vectorisation", sentence_pairs, {}),
    Run("efficientnet-lite0", "image-classification", labelled_photos, {}),
    Run("efficientnet-lite0", "image-vectorisation", grouped_photos, {"epochs": 2}),
    Run("minilm-efficientnet-lite0", "image-text-vectorisation", captioned_photos, {"epochs": 2}),
)


def first(columns: Columns, count: int) -> Columns:
    """Return the first rows."""
    return {name: values[:count] for name, values in columns.items()}


if __name__ == "__main__":
    main()
