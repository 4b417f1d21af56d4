"""Models that write: encoder-decoders (T5, BART, …) and decoders (GPT-2, Llama, …)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from tokenizers import pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
)

from backprop.errors import ArtefactError
from backprop.handlers.answers import GroundedAnswers, QAPrompt, WrittenAnswers
from backprop.handlers.generate import TextGenerations
from backprop.handlers.summaries import Summaries, WrittenEmotions
from backprop.models.base import without_progress_bars
from backprop.models.hf import HFTextGenerationModel, chat_template

__all__ = ["HFCausalLMTGModel", "HFSeq2SeqTGModel", "T5", "T5QASummaryEmotion", "convert_gguf"]

QA_PROMPT = "q: {question} c: {context}"
QA_TURN = "q: {question} a: {answer} "


class HFSeq2SeqTGModel(HFTextGenerationModel):
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


class HFCausalLMTGModel(HFTextGenerationModel):
    """A decoder. With a chat template it follows instructions: Q&A and summaries too."""

    HANDLERS: ClassVar[Mapping[str, str]] = {
        "text-generation": "text_generations",
        "qa": "answers",
        "summarisation": "summaries",
    }
    model_class = AutoModelForCausalLM

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
