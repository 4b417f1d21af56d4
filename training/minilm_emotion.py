"""Train ``minilm-emotion``: the 28 labels of GoEmotions on all-minilm-l6-v2.

    python -m training.minilm_emotion --data ../shared/data --work /tmp/minilm-emotion

Killed, it goes on where it was when the same line runs again. Half an hour on two cores. The upper
half of the encoder is trained, with the library's own ``finetune``; the adapter holds its changes
in 4 bits each, and the head with thresholds chosen on a tenth of the training rows.
``bench/quality/emotion.py`` measures it on the dev split.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import nn

import backprop
from backprop.models import AutoModel, starter_adapters

STARTER = "all-minilm-l6-v2"
NAME = "minilm-emotion"
BITS = 4
FROZEN_LAYERS = 3
"""Of six; the changes of all would not fit in the adapter."""


def read(path: Path, part: float = 1.0) -> dict[str, list[str]]:
    """Return texts and emotions of a split, or of its first ``part``; commas between emotions."""
    labels = (path.parent / "labels.txt").read_text("utf-8").split()
    with path.open(encoding="utf-8", newline="\n") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    rows = rows[: max(1, round(part * len(rows)))]
    return {
        "input_text": [row[0] for row in rows],
        "output_text": [", ".join(labels[int(n)] for n in row[1].split(",")) for row in rows],
    }


def freeze(encoder: nn.Module) -> None:
    """Keep the embeddings and the lower layers as they are."""
    for part in (encoder.get_submodule("embeddings"), *lower(encoder)):
        part.requires_grad_(False)


def lower(encoder: nn.Module) -> list[nn.Module]:
    """Return the layers that are not trained."""
    return [encoder.get_submodule(f"encoder.layer.{i}") for i in range(FROZEN_LAYERS)]


def main() -> None:
    """Train, and write the adapter."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--out", type=Path, default=starter_adapters.FOLDER / f"{NAME}.safetensors")
    parser.add_argument("--part", type=float, default=1.0, help="share of the rows, for a try")
    given = parser.parse_args()
    model = AutoModel.from_pretrained(STARTER)
    encoder = model.model[0].auto_model
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    freeze(encoder)
    report = backprop.Emotion(model).finetune(
        read(given.data / "goemotions" / "train.tsv", given.part),
        validation_split=0.1,
        epochs=4,
        batch_size=64,
        learning_rate=3e-4,
        method="full",
        checkpoint=given.work / "checkpoint",
    )
    report.display()
    head = model.head("emotion")
    assert head is not None
    classes = {"emotion": {"labels": list(report.labels), "multi_label": True}}
    starter_adapters.write(
        given.out,
        before,
        encoder.state_dict(),
        head.state_dict(),
        {"task": "emotion", "classes": classes},
        bits=BITS,
    )
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
