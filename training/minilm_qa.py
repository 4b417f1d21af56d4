"""Train ``minilm-qa``: extractive question answering on all-minilm-l6-v2.

    python -m training.minilm_qa --data ../shared/data --work /tmp/minilm-qa

Killed, it goes on where it was when the same line runs again. About two hours on two cores. The
adapter is written to ``backprop/models/starter/minilm-qa.safetensors``: the changes of all matrices
of the encoder in 4 bits each, and the head. ``bench/quality/qa.py`` measures it on XQuAD, which is
never trained on.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertModel

from backprop.collate import Features, collate
from backprop.handlers.tokens import Tokens
from backprop.models import starter_adapters
from backprop.models.places import find_folder
from backprop.trainer import Settings, fit
from training.qa_data import QAMR, SHIFTS, Draws, Example, Question, read_qamr, read_squad

STARTER = "all-minilm-l6-v2"
NAME = "minilm-qa"
BITS = 4
SEED = 0
ROWS_PER_STEP = 32


@dataclass(frozen=True)
class Phase:
    """A part of the training.

    Args:
        draws: questions seen.
        rates: how often the questions of each source are drawn.
        every_answer: see ``Draws``.
        learning_rate: peak; it falls in a line to nothing.
    """

    draws: int
    rates: Mapping[str, float]
    every_answer: bool
    learning_rate: float


PHASES = (
    # Everything once, with all that people answered: what a question asks for.
    Phase(
        33_000,
        {
            **dict.fromkeys(SHIFTS, 1.3),
            "new_wiki_v1.0": 2.4,
            **{f"qamr-{name}": 1.15 for name in QAMR},
        },
        True,
        3e-4,
    ),
    # Paragraphs above all, with one short answer each, as the judged set has them.
    Phase(
        30_000,
        {
            **dict.fromkeys(SHIFTS, 0.8),
            "new_wiki_v1.0": 2.0,
            **{f"qamr-{name}": 0.35 for name in QAMR},
        },
        False,
        1.7e-4,
    ),
)


class Reader(nn.Module):
    """An encoder with a head that scores each token as first and as last of the answer."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.encoder = BertModel.from_pretrained(folder, add_pooling_layer=False)
        self.head = nn.Linear(self.encoder.config.hidden_size, 2)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.encoder.embeddings.requires_grad_(False)  # they would not fit in the adapter
        for part in self.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0  # no question is seen often enough to be learnt by heart

    def loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the mean cross-entropy of first and last token, over context and [CLS]."""
        hidden = self.encoder(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            token_type_ids=batch["token_type_ids"],
        ).last_hidden_state
        logits = self.head(hidden).masked_fill(batch["inside"][..., None] == 0, -1e4)
        surprise = -logits.log_softmax(1)
        both = surprise[..., 0] * batch["first"] + surprise[..., 1] * batch["last"]
        loss: Tensor = both.sum(1).mean() / 2
        return loss


def features(example: Example, start: int, stop: int) -> Features:
    """Return a row of a batch.

    Args:
        example: what is shown.
        start: id of [CLS].
        stop: id of [SEP].
    """
    ids = [start, *example.question, stop, *example.context, stop]
    offset = len(example.question) + 2
    inside = [0] * len(ids)
    first, last = [0.0] * len(ids), [0.0] * len(ids)
    inside[0] = 1
    inside[offset:-1] = [1] * len(example.context)
    for low, high in example.spans or [(-offset, -offset)]:
        first[offset + low] += 1 / max(1, len(example.spans))
        last[offset + high] += 1 / max(1, len(example.spans))
    return {
        "input_ids": ids,
        "attention_mask": [1] * len(ids),
        "token_type_ids": [0] * offset + [1] * (len(ids) - offset),
        "inside": inside,
        "first": first,
        "last": last,
    }


def read(data: Path) -> tuple[list[str], list[Question]]:
    """Return all contexts, and all questions about them."""
    contexts: list[str] = []
    questions: list[Question] = []
    for name in SHIFTS:
        questions += read_squad(data / "squadshifts" / f"{name}.json", contexts)
    for name in QAMR:
        questions += read_qamr(data / "qamr" / f"{name}.tsv", contexts)
    return contexts, questions


def train(model: Reader, phase: Phase, number: int, tokens: Tokens, given: Namespace) -> None:
    """Train ``model`` in place, or go on from the checkpoint of this phase."""
    draws = Draws(tokens.tokenizer, *read(given.data), phase.rates, phase.every_answer)
    seed = SEED + number
    order = draws.order(max(1, round(phase.draws * given.part)), seed)
    start, stop = (tokens.id_of(token) or 0 for token in ("[CLS]", "[SEP]"))

    def example(i: int) -> Example:
        return draws.draw(order[i], i, seed)

    def batch(rows: Sequence[int]) -> dict[str, Tensor]:
        return collate([features(example(i), start, stop) for i in rows])

    made = (example(i) for i in range(len(order)))
    fit(
        model,
        rows=len(order),
        lengths=[len(each.question) + len(each.context) + 3 for each in made],
        batch=batch,
        step=model.loss,
        validate=None,
        settings=Settings(
            epochs=1,
            batch_size=ROWS_PER_STEP,
            learning_rate=phase.learning_rate,
            seed=seed,
            checkpoint=given.work / f"phase-{number}",
            fingerprint=f"{NAME}, phase {number}: {phase}",
        ),
        title=f"{NAME}, phase {number + 1} of {len(PHASES)}",
    )


def main() -> None:
    """Train, and write the adapter."""
    parser = ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--out", type=Path, default=starter_adapters.FOLDER / f"{NAME}.safetensors")
    parser.add_argument("--part", type=float, default=1.0, help="share of the draws, for a try")
    given = parser.parse_args()
    folder = find_folder(STARTER)
    torch.manual_seed(SEED)
    model = Reader(folder)
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    for number, phase in enumerate(PHASES):
        train(model, phase, number, Tokens.from_folder(folder), given)
    head = model.head.state_dict()
    starter_adapters.write(
        given.out, before, model.encoder.state_dict(), head, {"task": "qa"}, bits=BITS
    )
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
