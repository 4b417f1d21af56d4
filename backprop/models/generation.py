"""Models that write: encoder-decoders (T5, BART, …) and decoders (GPT-2, Llama, …)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
)

from backprop.collate import IGNORED, Features, collate
from backprop.errors import ArtefactError
from backprop.handlers.answers import (
    NO_ANSWER,
    REPLY,
    GroundedAnswers,
    QAPrompt,
    WrittenAnswers,
    conversation,
)
from backprop.handlers.generate import TextGenerations
from backprop.handlers.prompts import fill
from backprop.handlers.spans import located
from backprop.handlers.summaries import Summaries, WrittenEmotions
from backprop.handlers.writer import Writer
from backprop.inputs import Row
from backprop.losses import writing_loss
from backprop.models.base import without_progress_bars
from backprop.models.hf import HFTextGenerationModel, chat_template, output_limit
from backprop.models.training_prompts import (
    Lesson,
    continued_row,
    qa_row,
    recent,
    translated_row,
)
from backprop.models.training_rows import limit_of, text_of

__all__ = ["HFCausalLMTGModel", "HFSeq2SeqTGModel", "T5", "T5QASummaryEmotion", "convert_gguf"]

QA_PROMPT = "q: {question} c: {context}"
QA_TURN = "q: {question} a: {answer} "


class _Writing(HFTextGenerationModel):
    """What both kinds share: they learn every task they do, asked as when they are used."""

    LEARNS: ClassVar[tuple[str, ...]] = ("text-generation", "summarisation", "emotion", "qa")

    def learns(self, task: str) -> bool:
        """Return whether the model can be finetuned on ``task``: it has a prompt for it."""
        return task in self.tasks and super().learns(task)

    def process_batch(self, params: Mapping[str, Any], task: str) -> Features:
        """Return a row's prompt and what is to be written, as tokens.

        Text over ``max_input_length`` is cut, a context to the part around its answer; of the
        history the oldest turns go first. An output over ``max_output_length`` is cut and ended.

        Raises:
            UnsupportedTaskError: the model has no prompt for ``task``.
            InputError: a value is missing or wrong, or a limit leaves no room.
        """
        if not self.learns(task):
            return super().process_batch(params, task)
        writer = self._writer(task)
        inputs = limit_of(params, "max_input_length", writer.tokens.max_length)
        outputs = limit_of(params, "max_output_length", output_limit(self.model.config))
        own = self.tokenizer.eos_token_id
        ends = writer.generator.ends
        end = [own] if own in ends else sorted(ends)[:1]
        return self.as_row(writer, self._lesson(params, task), inputs, outputs, end)

    def cut(self, params: Mapping[str, Any], task: str) -> int:
        """Return about how many tokens of a row's texts ``process_batch`` cuts off."""
        return self._lesson(params, task).over(self._writer(task).tokens, params)

    def _writer(self, task: str) -> Writer:
        """Return what answers ``task`` writes with, kept as long as its handler."""
        handler: Any = self.torch_handler(task)
        writer: Writer = handler.writer
        return writer

    def _lesson(self, params: Mapping[str, Any], task: str) -> Lesson:
        if task == "qa":
            return self._question(params)
        handler: Any = self.torch_handler(task)

        def ask(text: str) -> list[int]:
            if isinstance(handler, TextGenerations):
                return handler.writer.prompt(fill(handler.prompt, text=text))
            asked: list[int] = handler.ask(text)
            return asked

        return Lesson(ask, text_of(params, "input"), text_of(params, "output"))

    def _recent(self, params: Mapping[str, Any]) -> tuple[Row, int]:
        """Return a row of ``qa`` whose history leaves half of the room to the context."""
        tokens = self._writer("qa").tokens
        limit = limit_of(params, "max_input_length", tokens.max_length)
        return recent(tokens, qa_row(params), limit // 2)

    as_row: ClassVar[Callable[..., Features]]

    @abstractmethod
    def _question(self, params: Mapping[str, Any]) -> Lesson: ...


class HFSeq2SeqTGModel(_Writing):
    """An encoder-decoder. Does the tasks that ``prompts`` has an entry for.

    Args:
        model_path: see ``HFModel``.
        prompts: task string to what the text is put in: ``{text}``; for ``qa`` ``{question}`` and
            ``{context}``, and under ``qa-turn`` ``{question}`` and ``{answer}`` of one earlier
            turn. By default text generation with the bare text.
        options: the other arguments of ``HFModel``.
    """

    HANDLERS: ClassVar[Mapping[str, str]] = {
        "text-generation": "text_generations",
        "summarisation": "summaries",
        "emotion": "emotions",
        "qa": "answers",
    }
    model_class = AutoModelForSeq2SeqLM
    as_row = staticmethod(translated_row)
    prompts: Mapping[str, str] = {"text-generation": "{text}"}

    def __init__(
        self,
        model_path: str | Path,
        *args: Any,
        prompts: Mapping[str, str] | None = None,
        tasks: list[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model_path, *args, **options)
        self.prompts = dict(self.prompts if prompts is None else prompts)
        self.tasks = tasks or [task for task in self.HANDLERS if task in self.prompts]

    def settings(self) -> dict[str, Any]:
        """Return the prompts."""
        return {"prompts": dict(self.prompts)}

    def text_generations(self) -> TextGenerations:
        """Return the handler of ``text-generation``."""
        return TextGenerations(self.writer(), prompt=self.prompts["text-generation"])

    def summaries(self) -> Summaries:
        """Return the handler of ``summarisation``."""
        return Summaries(self.writer(), prompt=self.prompts["summarisation"])

    def emotions(self) -> WrittenEmotions:
        """Return the handler of ``emotion``."""
        return WrittenEmotions(self.writer(), prompt=self.prompts["emotion"])

    def answers(self) -> WrittenAnswers:
        """Return the handler of ``qa``."""
        prompt = QAPrompt(self.prompts["qa"], self.prompts.get("qa-turn", QA_TURN))
        return WrittenAnswers(self.writer(), prompt=prompt)

    # --- Finetuning ----------------------------------------------------------------------

    def collate(self, rows: Sequence[Features]) -> Mapping[str, Any]:
        """Return the rows as one batch, padded on the right; ``labels`` with -100."""
        return collate(rows, {"input_ids": self.tokenizer.pad_token_id or 0})

    def training_step(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the mean loss of a row's text; see ``writing_loss``."""
        labels = batch["labels"]
        logits = self.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=labels,  # shifted, they are what the decoder has read before each place
            use_cache=False,
        ).logits
        return writing_loss(logits, labels)

    def _question(self, params: Mapping[str, Any]) -> Lesson:
        row, beside = self._recent(params)
        handler: Any = self.torch_handler("qa")
        answer = text_of(params, "output")
        return Lesson(
            lambda context: handler.writer.prompt(handler.prompt.fill(row, context)),
            row["context"],
            answer,
            located(row["context"], answer) or (0, 0),
            beside,
        )


class T5(HFSeq2SeqTGModel):
    """T5, prompted with the bare text.

    Source: Raffel et al. 2019, arXiv:1910.10683.
    """


class T5QASummaryEmotion(HFSeq2SeqTGModel):
    """T5 finetuned in 2021 for conversational Q&A, summarisation and emotion."""

    prompts: Mapping[str, str] = {
        "qa": QA_PROMPT,
        "qa-turn": QA_TURN,
        "summarisation": "summarise: {text}",
        "emotion": "emotion: {text}",
    }


class HFCausalLMTGModel(_Writing):
    """A decoder. With a chat template it follows instructions: Q&A and summaries too."""

    HANDLERS: ClassVar[Mapping[str, str]] = {
        "text-generation": "text_generations",
        "qa": "answers",
        "summarisation": "summaries",
    }
    LEARNS = ("text-generation", "summarisation", "qa")
    model_class = AutoModelForCausalLM
    as_row = staticmethod(continued_row)

    def __init__(
        self,
        model_path: str | Path,
        *args: Any,
        tasks: list[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model_path, *args, **options)
        chats = chat_template(self.tokenizer) is not None
        self.tasks = tasks or (list(self.HANDLERS) if chats else ["text-generation"])

    def answers(self) -> GroundedAnswers:
        """Return the handler of ``qa``: answers are pieces of the context, never invented."""
        return GroundedAnswers(self.writer())

    def summaries(self) -> Summaries:
        """Return the handler of ``summarisation``."""
        return Summaries(self.writer(), prompt=SUMMARY_INSTRUCTION, sentences=1)

    # --- Finetuning ----------------------------------------------------------------------

    def collate(self, rows: Sequence[Features]) -> Mapping[str, Any]:
        """Return the rows as one batch, padded on the right; ``labels`` with -100.

        On the right whatever the tokenizer says: positions are counted from the left.
        """
        return collate(rows)

    def training_step(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the mean loss of a row's text, prompts left out; see ``writing_loss``."""
        labels = batch["labels"]
        wanted = (labels != IGNORED).any(0).nonzero()
        first = max(int(wanted[0]), 1) if len(wanted) else labels.shape[1]
        # Logits are as wide as the vocabulary, so those of the prompts are not made at all.
        kept = labels.shape[1] - first + 1
        logits = self.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            use_cache=False,
            logits_to_keep=kept,
        ).logits[:, -kept:-1]
        return writing_loss(logits, labels[:, first:])

    def _lesson(self, params: Mapping[str, Any], task: str) -> Lesson:
        lesson = super()._lesson(params, task)
        if task != "text-generation" or self._writer(task).chat is not None:
            return lesson
        # A text is continued from its end; an instruction mostly stands at the beginning.
        return replace(lesson, keep=(len(lesson.text) - 1, len(lesson.text)))

    def _question(self, params: Mapping[str, Any]) -> Lesson:
        """Return the lesson of a question; one without an answer may be refused."""
        row, beside = self._recent(params)
        writer, answer = self._writer("qa"), text_of(params, "output").strip()
        return Lesson(
            lambda context: writer.ask(conversation(row, context, not answer), REPLY),
            row["context"],
            f" {answer or NO_ANSWER}",
            located(row["context"], answer) or (0, 0),
            beside,
        )


SUMMARY_INSTRUCTION = "{text}\n\nSummarize the text above in one short sentence."
"""Small models often go on after it; their first sentence is the better summary."""


def convert_gguf(raw: Path, out: Path) -> None:
    """Write safetensors and a tokenizer in hub format from the GGUF file of a SmolLM2 model.

    Reading GGUF takes half a minute each time, the result two seconds. Weights are de-quantised
    to float32; logits are bit-equal to those of the GGUF file as transformers reads it.

    Args:
        raw: holds one ``.gguf``.
        out: an empty folder.

    Raises:
        ArtefactError: not exactly one ``.gguf``.
    """
    files = sorted(raw.glob("*.gguf"))
    if len(files) != 1:
        raise ArtefactError(f"Expected one .gguf file, found {len(files)}; pull the model again.")
    with without_progress_bars():
        _convert_gguf(raw, files[0].name, out)


def _convert_gguf(raw: Path, file: str, out: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(raw, gguf_file=file, dtype=torch.float32)
    config = loaded.config
    del config.quantization_config  # a model that still says "gguf" can't be saved
    config.architectures = ["LlamaForCausalLM"]
    config.rms_norm_eps = 1e-5  # GGUF keeps it in single precision
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    plain.save_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(raw, gguf_file=file)
    # GGUF names the original's rule, digits one by one, but transformers does not read that.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(out)
