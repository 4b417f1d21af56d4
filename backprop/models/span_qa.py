"""Extractive question answering models of the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from tokenizers import Encoding
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForQuestionAnswering

from backprop.collate import Features
from backprop.engines.torch import Split, TorchEngine
from backprop.errors import InputError
from backprop.handlers.long import MIN_ROOM
from backprop.handlers.spans import SpanAnswers, located, null_place, with_history
from backprop.handlers.tokens import Tokens
from backprop.models import starter_adapters
from backprop.models.hf import (
    TEXT_INPUTS,
    HFModel,
    WithHead,
    kept_tokens,
    length_limit,
    warn_if_untrained,
)
from backprop.models.training_prompts import qa_row, tokens_at, window_start
from backprop.models.training_rows import limit_of, padded, text_inputs, text_of
from backprop.pictures import describe

__all__ = ["SpanQA"]


class SpanQA(HFModel):
    """A model that points at the answer in the context.

    A folder with an encoder alone gets a new head, to be finetuned.

    Args:
        model_path: see ``HFModel``.
        adapter: one of those that ship with the library, trained on this very folder.
        no_answer_bias: added to the score of no answer where ``allow_no_answer`` is asked for.
        brevity: how much short answers are preferred; see ``SpanAnswers``.
        options: the other arguments of ``HFModel``.
    """

    HANDLERS: ClassVar[Mapping[str, str]] = {"qa": "answers"}
    LEARNS = ("qa",)
    model_class = WithHead(AutoModelForQuestionAnswering, num_labels=2)  # start and end

    def __init__(
        self,
        model_path: str | Path,
        *args: Any,
        adapter: str | None = None,
        no_answer_bias: float = 0.0,
        brevity: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(model_path, *args, **options)
        self.none_bias, self.brevity = float(no_answer_bias), float(brevity)
        if adapter is not None:
            trained = starter_adapters.read(adapter)
            starter_adapters.add(trained, self.model.base_model)
            self.model.qa_outputs.load_state_dict(dict(trained.head))
            self.model.untrained = []

    def settings(self) -> dict[str, Any]:
        """Return the bias of no answer and the preference for short answers."""
        return {"no_answer_bias": self.none_bias, "brevity": self.brevity}

    def answers(self) -> SpanAnswers:
        """Return the handler of ``qa``."""
        warn_if_untrained(self)
        return SpanAnswers(
            TorchEngine(self, {"spans": self._spans}, {"spans": self._split()}),
            self.tokens(),
            null_token=self.tokenizer.cls_token_id,
            no_answer_bias=self.none_bias,
            brevity=self.brevity,
        )

    def tokens(self) -> Tokens:
        """Return the torch-free tokenizer."""
        return kept_tokens(self, length_limit(self.model.config, self.tokenizer))

    def _split(self) -> Split | None:
        """Return the spans as an encoder and one layer; None for other architectures."""
        layer = getattr(self.model, "qa_outputs", None)
        encoder = getattr(self.model, self.model.base_model_prefix, None)
        if not isinstance(layer, nn.Linear) or not isinstance(encoder, nn.Module):
            return None
        return Split(encoder, "tokens", (layer,))

    def _spans(self, **tensors: Tensor) -> Tensor:
        output = self.model(**tensors)
        return torch.stack([output.start_logits, output.end_logits], dim=-1)

    # --- Finetuning ----------------------------------------------------------------------

    def process_batch(self, params: Mapping[str, Any], task: str) -> Features:
        """Return a question and its context as tokens, and where in them the answer is.

        A context that is too long is cut to a window around the answer: in the middle of it, or
        in train mode anywhere in it, by torch's random numbers. A question so long that less than
        half would be left for the context loses its beginning, which is the oldest history.

        Args:
            params: one row; ``output`` must be words of ``context``, or empty for no answer.
            task: ``qa``.

        Returns:
            The model's inputs; ``inside``, 1 for tokens that an answer may have and for the one
            that stands for none; ``start`` and ``end``, places of its first and last token.

        Raises:
            UnsupportedTaskError: ``task`` is another.
            InputError: a value is missing or wrong, or the answer is not in the context.
        """
        if task not in self.LEARNS:
            return super().process_batch(params, task)
        tokens, row = self.tokens(), qa_row(params)
        question, context = tokens.plain([with_history(row), row["context"]])
        span = _answer_tokens(row["context"], text_of(params, "output"), context)
        if span is not None:
            longest = limit_of(params, "max_output_length", len(context.ids))
            span = span[0], min(span[1], span[0] + longest - 1)
        room = self._room(params)
        question.truncate(max(room - len(context.ids), room // 2), direction="left")
        start = _crop(context, room - len(question.ids), span, jitter=self.training)
        encoding = tokens.wrap(question, context)
        return {**text_inputs(tokens, encoding), **self._targets(encoding, span, start)}

    def _room(self, params: Mapping[str, Any]) -> int:
        """Return how many tokens question and context may have together."""
        limit = limit_of(params, "max_input_length", self.tokens().max_length)
        room = limit - self.tokens().special_of_pair
        if room < 2 * MIN_ROOM:
            raise InputError(
                f"max_input_length is {limit}, which leaves {max(room, 0)} tokens for question and "
                f"context; pass {self.tokens().special_of_pair + 2 * MIN_ROOM} or more."
            )
        return room

    def _targets(
        self, encoding: Encoding, span: tuple[int, int] | None, start: int
    ) -> dict[str, Any]:
        """Return ``inside``, ``start`` and ``end`` of a question and its cropped context.

        Args:
            encoding: of both.
            span: first and last token of the answer in the whole context.
            start: how many tokens of the context were cut off before the rest.
        """
        sequences = encoding.sequence_ids
        inside = [int(sequence == 1) for sequence in sequences]
        first = last = null_place(encoding.ids, self.tokenizer.cls_token_id)
        inside[first] = 1
        if span is not None:
            offset = sequences.index(1) - start
            first, last = span[0] + offset, span[1] + offset
        # An answer longer than the window ends with it.
        last = min(last, max(i for i, within in enumerate(inside) if within))
        return {"inside": inside, "start": first, "end": last}

    def collate(self, rows: Sequence[Features]) -> Mapping[str, Any]:
        """Return the rows as one batch, padded as the tokenizer pads."""
        batch = padded(self.tokens(), rows)
        if self.tokens().pad_left:
            longest = batch["input_ids"].shape[1]
            shift = torch.tensor([longest - len(row["input_ids"]) for row in rows])
            batch.update(start=batch["start"] + shift, end=batch["end"] + shift)
        return batch

    def training_step(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the mean of the cross-entropies of start and end, over the tokens ``inside``.

        Source: Devlin et al. 2018, arXiv:1810.04805, section 4.3.
        """
        self.model.untrained = []
        logits = self._spans(**{name: batch[name] for name in TEXT_INPUTS if name in batch})
        logits = logits.masked_fill(batch["inside"][..., None] == 0, -torch.inf)
        start = functional.cross_entropy(logits[..., 0], batch["start"])
        end = functional.cross_entropy(logits[..., 1], batch["end"])
        return (start + end) / 2

    def cut(self, params: Mapping[str, Any], task: str) -> int:
        """Return how many tokens of a row's question and context ``process_batch`` cuts off."""
        row = qa_row(params)
        count = sum(self.tokens().count([with_history(row), row["context"]]))
        return max(count - self._room(params), 0)


def _answer_tokens(context: str, answer: str, encoding: Encoding) -> tuple[int, int] | None:
    """Return the first and the last token of the answer in its context; None for no answer.

    Raises:
        InputError: the answer is not there, or in no token.
    """
    if not answer.strip():
        return None
    place = located(context, answer)
    first, last = tokens_at(encoding, *place) if place else (0, -1)
    if first > last:
        raise InputError(
            f"The answer {describe(answer)} is not in its context {describe(context)}. This model "
            "answers with words of the context: copy them from there, pass '' where the context "
            "has no answer, or finetune a model that writes, such as t5-base."
        )
    return first, last


def _crop(context: Encoding, room: int, span: tuple[int, int] | None, *, jitter: bool) -> int:
    """Cut the context to ``room`` tokens around the answer; return how many went before them."""
    length = len(context.ids)
    if length <= room:
        return 0
    if span is None:
        start = int(torch.randint(length - room + 1, ())) if jitter else 0
    else:
        start = window_start(length, room, *span, jitter=jitter)
    context.truncate(start + room)
    context.truncate(room, direction="left")
    return start
