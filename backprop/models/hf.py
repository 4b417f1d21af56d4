"""Models of the hub, by transformers: safetensors only, no remote code."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from backprop.engines import Decoding
from backprop.engines.torch_generator import TorchGenerator
from backprop.errors import ArtefactError
from backprop.handlers.generate import TextGenerations
from backprop.handlers.prompts import ChatTemplate
from backprop.handlers.tokens import Tokens
from backprop.handlers.writer import DEFAULT_NEW_TOKENS, Writer
from backprop.models.base import BaseModel, PathModel
from backprop.models.places import find_folder, read_json

__all__ = [
    "HFModel",
    "HFTextGenerationModel",
    "WithHead",
    "kept_tokens",
    "length_limit",
    "tokens_of",
    "warn_if_untrained",
]

logger = logging.getLogger(__name__)

NO_LIMIT = 1_000_000
"""Tokenizers without a limit say 1e30; anything above this is no limit."""


class HFModel(PathModel):
    """Any transformers model with its tokenizer. Does no task by itself.

    Args:
        model_path: a folder in hub format, a catalogue name, or a hub repository.
        tokenizer_path: a folder with another tokenizer.
        name: see ``BaseModel``.
        description: see ``BaseModel``.
        tasks: see ``BaseModel``.
        details: see ``BaseModel``.
        model_class: a class with ``from_pretrained``; by default the class's own, or the one that
            the model's configuration names.
        device: such as ``"cpu"`` or ``"cuda:0"``.

    Raises:
        SourceError: the weights can't be had.
    """

    model_class: Any = None

    def __init__(
        self,
        model_path: str | Path,
        tokenizer_path: str | Path | None = None,
        name: str | None = None,
        description: str | None = None,
        tasks: list[str] | None = None,
        details: Mapping[str, Any] | None = None,
        model_class: Any = None,
        device: str | torch.device | None = None,
    ) -> None:
        folder = find_folder(model_path)
        chosen = model_class or type(self).model_class or _architecture(folder)
        super().__init__(
            folder,
            tokenizer_path,
            name,
            description,
            tasks,
            details,
            init_model=_Loader(chosen, use_safetensors=True, dtype=torch.float32),
            init_tokenizer=_Loader(AutoTokenizer) if _has_tokenizer(folder) else None,
            device=device,
        )
        self.preprocessor = read_preprocessor(folder)
        self.tokenizer_json = read_tokenizer(Path(tokenizer_path or folder))

    def _is_request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call is one of a task's; transformers' modules take no ``task``."""
        return "task" in kwargs or super()._is_request(args, kwargs)

    def save_files(self, folder: Path) -> None:
        """Write weights, configuration, tokenizer and image rules in hub format."""
        self.model.save_pretrained(folder)
        write_preprocessor(self.preprocessor, folder)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
            write_tokenizer(self.tokenizer_json, folder)


class _Loader:
    """Loads a transformers class from a folder: nothing from the network, no code of the folder's.

    Args:
        loaded: a class with ``from_pretrained``.
        options: further arguments of it.
    """

    def __init__(self, loaded: Any, **options: Any) -> None:
        self.loaded = loaded
        self.options = options

    def from_pretrained(self, path: str) -> Any:
        return self.loaded.from_pretrained(
            path, trust_remote_code=False, local_files_only=True, **self.options
        )


class WithHead:
    """A transformers class that puts a head on a model, a new one where the folder has none.

    transformers prints a table of new weights; here they are kept in ``untrained`` of the model,
    since to a model that is about to be finetuned they are nothing special.

    Args:
        loaded: the class.
        settings: of the configuration, whatever the folder's own says.
    """

    def __init__(self, loaded: Any, **settings: Any) -> None:
        self.loaded = loaded
        self.settings = settings

    def from_pretrained(self, path: str, **options: Any) -> Any:
        """Return the model in the folder ``path``."""
        with _without_reports():
            model, found = self.loaded.from_pretrained(
                path, output_loading_info=True, **self.settings, **options
            )
        model.untrained = sorted(found["missing_keys"])
        return model


def warn_if_untrained(model: Any) -> None:
    """Warn that answers are random where ``WithHead`` made new weights that were never trained.

    Args:
        model: has ``model``, a transformers model.
    """
    if getattr(model.model, "untrained", None):
        logger.warning(
            "%s has no trained head for this task, so its answers are random; new weights: %s. "
            "Finetune it first.",
            model.name or type(model).__name__,
            ", ".join(model.model.untrained),
        )


@contextmanager
def _without_reports() -> Iterator[None]:
    """Keep transformers' warnings off the terminal."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _architecture(folder: Path) -> Any:
    """Return the transformers class that the model's configuration names."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    names = config.architectures or []
    return getattr(transformers, names[0], AutoModel) if names else AutoModel


def _has_tokenizer(folder: Path) -> bool:
    return any(
        (folder / name).exists()
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
    )


def length_limit(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the most tokens the model takes, special ones included.

    The tokenizer's own limit where it has one, else the model's positions; models with relative
    positions and no limit get 512, what they were trained with at least.
    """
    own = int(min(tokenizer.model_max_length, NO_LIMIT))
    positions = [
        value
        for name in ("max_position_embeddings", "n_positions", "n_ctx")
        if isinstance(value := getattr(config, name, None), int) and value > 0
    ]
    # RoBERTa and its kin number positions from the padding id on.
    offset = (config.pad_token_id or 0) + 1 if config.model_type in OFFSET_POSITIONS else 0
    limit = min([own, *(length - offset for length in positions)])
    return limit if limit < NO_LIMIT else WITHOUT_LIMIT


WITHOUT_LIMIT = 512


OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "xlm-roberta-xl"}


def tokens_of(model: Any, max_length: int) -> Tokens:
    """Return the torch-free twin of a model's tokenizer.

    The file the model came with comes first: transformers rebuilds some tokenizers by rules of
    its own, which differ from those the model was trained with.

    Args:
        model: has ``tokenizer`` (transformers) and ``tokenizer_json`` (the file, or None).
        max_length: most tokens the model takes, special ones included.

    Raises:
        ArtefactError: it has no fast form.
    """
    tokenizer = model.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = model.tokenizer_json or (backend.to_str() if backend is not None else None)
    if text is None:
        raise ArtefactError(
            f"{type(tokenizer).__name__} has no fast form (tokenizer.json), which is needed here."
        )
    return Tokens(
        Tokenizer.from_str(text),
        max_length=max_length,
        pad=tokenizer.pad_token_id or 0,
        inputs=[name for name in tokenizer.model_input_names if name in TEXT_INPUTS],
        pad_left=tokenizer.padding_side == "left",
    )


def kept_tokens(model: BaseModel, max_length: int) -> Tokens:
    """Return ``tokens_of``, made once, since rows of training data come one by one.

    It is kept with the handlers, and like them made anew when the model changes and not pickled.

    Args:
        model: see ``tokens_of``.
        max_length: see ``tokens_of``.
    """
    kept = model.__dict__.setdefault("_handlers", {})
    if KEPT not in kept:
        kept[KEPT] = tokens_of(model, max_length)
    tokens: Tokens = kept[KEPT]
    return tokens


KEPT = "tokens of training rows"


def read_tokenizer(folder: Path) -> str | None:
    """Return the text of a folder's ``tokenizer.json``, if it has one."""
    path = folder / "tokenizer.json"
    return path.read_text("utf-8") if path.is_file() else None


def write_tokenizer(text: str | None, folder: Path) -> None:
    """Put a model's own ``tokenizer.json`` in place of the one transformers wrote."""
    if text is not None:
        (folder / "tokenizer.json").write_text(text, "utf-8")


TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class HFTextGenerationModel(HFModel):
    """Any transformers model that writes text. Does no task by itself.

    ``writer`` turns prompts into text; subclasses hand it to the handlers of their tasks.
    """

    def writer(self) -> Writer:
        """Return what turns prompts into text with this model."""
        config = self.model.config
        tokens = tokens_of(self, length_limit(config, self.tokenizer))
        return Writer(
            TorchGenerator(self.model),
            tokens,
            shared_room=not config.is_encoder_decoder,
            defaults=decoding_defaults(self.model.generation_config),
            chat=chat_template(self.tokenizer),
            most_new=output_limit(config),
        )

    def text_generations(self) -> TextGenerations:
        """Return the handler of ``text-generation``."""
        return TextGenerations(self.writer())


def output_limit(config: Any) -> int:
    """Return the most tokens a model can write; an encoder-decoder's own positions bound it."""
    positions = getattr(config, "max_position_embeddings", None)
    if config.is_encoder_decoder and isinstance(positions, int) and positions > 1:
        return positions - 1
    return NO_LIMIT


def chat_template(tokenizer: Any) -> ChatTemplate | None:
    """Return the tokenizer's chat template; None for a model that does not follow instructions."""
    source = getattr(tokenizer, "chat_template", None)
    if isinstance(source, Mapping):  # several, by name
        source = source.get("default")
    if not isinstance(source, str):
        return None
    special = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    return ChatTemplate(source, special)


def decoding_defaults(config: Any) -> Decoding:
    """Return a generation configuration's advice; sampling itself stays off unless asked for."""
    sampled = bool(config.do_sample)
    return Decoding(
        max_new=config.max_new_tokens or _new_tokens(config.max_length) or DEFAULT_NEW_TOKENS,
        min_new=config.min_new_tokens or config.min_length or 0,
        temperature=(config.temperature if sampled else None) or 1.0,
        top_k=(config.top_k if sampled else None) or 0,
        top_p=(config.top_p if sampled else None) or 1.0,
        repetition_penalty=config.repetition_penalty or 1.0,
        length_penalty=config.length_penalty if config.length_penalty is not None else 1.0,
        beams=config.num_beams or 1,
        stop_early=bool(config.early_stopping),
    )


def _new_tokens(max_length: int | None) -> int | None:
    """Return ``max_length`` unless it is transformers' own default of 20, which cuts answers."""
    return max_length if max_length and max_length != TRANSFORMERS_DEFAULT else None


TRANSFORMERS_DEFAULT = 20


def read_preprocessor(folder: Path) -> dict[str, Any]:
    """Return an image model's input rules; empty where the folder has none."""
    alone, together = folder / "preprocessor_config.json", folder / "processor_config.json"
    if alone.exists():
        return read_json(alone)
    rules: dict[str, Any] = (
        read_json(together).get("image_processor", {}) if together.exists() else {}
    )
    return rules


def write_preprocessor(rules: Mapping[str, Any], folder: Path) -> None:
    """Write an image model's input rules, if it has any."""
    if rules:
        (folder / "preprocessor_config.json").write_text(json.dumps(rules, indent=2), "utf-8")
