"""Text encoders for CTranslate2."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn

from backprop.engines.threads import settle
from backprop.optional import require

__all__ = ["converts", "obeys", "write", "writer_of"]

ENCODERS = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "distilbert"})
"""``model_type`` of the encoders that are tested against torch."""

DECODERS = frozenset({"gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3"})
TRANSLATORS = frozenset({"bart", "t5", "mt5"})

UNKNOWN_RULES = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "guidance_scale",
    "min_p",
    "no_repeat_ngram_size",
    "sequence_bias",
    "suppress_tokens",
    "top_h",
    "typical_p",
    "watermarking_config",
)
"""Of a generation configuration, what only torch heeds."""

NEUTRAL: tuple[Any, ...] = (None, False, 0, 1, [])
"""Values of such rules that change nothing."""

ACTIVATIONS = frozenset({"gelu", "relu", "gelu_new", "gelu_fast", "silu", "swish", "tanh"})


def converts(encoder: nn.Module) -> bool:
    """Return whether CTranslate2 knows the architecture of a transformers encoder."""
    config = getattr(encoder, "config", None)
    kind = getattr(config, "model_type", "")
    activation = getattr(config, "hidden_act", getattr(config, "activation", ""))
    absolute = getattr(config, "position_embedding_type", "absolute") == "absolute"
    return kind in ENCODERS and activation in ACTIVATIONS and absolute


def obeys(module: Any) -> bool:
    """Return whether all rules in a model's generation configuration are known here."""
    own = module.generation_config
    neutral = all(getattr(own, rule, None) in NEUTRAL for rule in UNKNOWN_RULES)
    return neutral and own.forced_bos_token_id is None


def writer_of(module: Any) -> str:
    """Return the key in ``WRITERS`` of what runs a transformers model that writes; or nothing."""
    kind = module.config.model_type
    return "generator" if kind in DECODERS else "translator" if kind in TRANSLATORS else ""


def write(encoder: Any, folder: Path) -> None:
    """Write a transformers model into ``folder`` as CTranslate2 reads it.

    Args:
        encoder: its weights stay as they are.
        folder: empty.
    """
    settle()
    require("ctranslate2", extra="fast")
    with tempfile.TemporaryDirectory() as beside:
        encoder.config.save_pretrained(beside)
        _converter(_bare(encoder), beside).convert(str(folder), force=True)


def _bare(encoder: Any) -> Any:
    """Return a copy with the same weights, which the converter may take apart."""
    shared: dict[int, Any] = {id(own): own for own in (*encoder.parameters(), *encoder.buffers())}
    bare = copy.deepcopy(encoder, shared)
    for name, value in UNSAID.items():
        if not hasattr(bare.config, name):
            setattr(bare.config, name, value)
    if hasattr(bare, "pooler") and bare.pooler is None:
        # The converter wants one; what it gives is not used.
        width = bare.config.hidden_size
        bare.pooler = nn.Module()
        bare.pooler.dense = nn.Linear(width, width)
    return bare.float()


UNSAID = {
    "position_embedding_type": "absolute",
    "normalize_before": False,
    "normalize_embedding": True,
    "add_final_layer_norm": False,
}
"""What configurations of BERT and BART no longer say, and the converter asks for."""


def _converter(encoder: Any, folder: str) -> Any:
    from ctranslate2.converters import TransformersConverter

    class Loaded(TransformersConverter):  # type: ignore[misc]
        """Converts a model that is in memory."""

        def load_model(self, *_: Any, **__: Any) -> Any:
            return encoder

        def load_tokenizer(self, *_: Any, **__: Any) -> Any:
            return Numbers(encoder.config)

    return Loaded(folder)


class Numbers(SimpleNamespace):
    """Stands for a tokenizer: each token is written as its number, since only numbers are run.

    Args:
        config: of the model.
    """

    def __init__(self, config: Any) -> None:
        self.size = int(config.vocab_size)
        for name in ("bos", "eos", "unk", "pad"):
            own = getattr(config, f"{name}_token_id", None)
            first = own[0] if isinstance(own, (list, tuple)) else own
            setattr(self, f"{name}_token", str(first or 0))

    def get_vocab(self) -> dict[str, int]:
        """Return each token's number."""
        return {str(number): number for number in range(self.size)}

    def convert_ids_to_tokens(self, number: int) -> str:
        """Return a token."""
        return str(number)
