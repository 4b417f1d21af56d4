"""Write the table of what a ``config.json`` may say, from transformers' own configuration classes.

    python bench/serve/known_configs.py

Run it again when transformers gets a new floor or ``TYPES`` a new row; it also compares the sizes
that ``backprop/serve/vetting/demands.py`` expects of each default configuration with those of the
model that transformers makes of it, without memory for its weights.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedConfig
from transformers.models.auto import modeling_auto
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from backprop.serve.vetting.demands import demanded

TABLE = Path(__file__).resolve().parents[2] / "backprop" / "serve" / "vetting" / "known.json"

TEXT = (
    *("albert", "bart", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra"),
    *("gemma", "gemma2", "gemma3_text", "gpt2", "llama", "mbart", "mistral", "modernbert"),
    *("mpnet", "mt5", "pegasus", "phi3", "qwen2", "qwen3", "roberta", "t5", "xlm-roberta", "xlnet"),
)
IMAGE = ("deit", "dinov2", "efficientnet", "vit")
BOTH = ("clip", "siglip")
INNER = ("clip_text_model", "clip_vision_model", "siglip_text_model", "siglip_vision_model")
TYPES = (*TEXT, *IMAGE, *BOTH, *INNER)

MAPPINGS = (
    *("MODEL_MAPPING_NAMES", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
    *("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_MASKED_LM_MAPPING_NAMES"),
    *("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES", "MODEL_FOR_PRETRAINING_MAPPING_NAMES"),
    *("MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES", "MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES"),
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
)


def main() -> None:
    """Write the table and print how sizes compare."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    common = sorted(PreTrainedConfig().to_dict())
    table = {
        "common": common,
        "types": {
            kind: {"keys": keys(kind, common), "architectures": architectures(kind)}
            for kind in TYPES
        },
        "tokenizers": tokenizers(),
    }
    TABLE.write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    worst = max(compare(kind) for kind in TYPES if kind not in INNER)
    print(
        f"{len(TYPES)} types in {TABLE.name}; expected sizes are at most {worst:.2f} of real ones"
    )


def keys(kind: str, common: list[str]) -> list[str]:
    """Return the keys of one type's configuration beyond those that all have."""
    made = CONFIG_MAPPING[kind]
    also = set(made.attribute_map) | set(made().to_dict()) | asked_for(kind)
    return sorted(also - set(common))


def asked_for(kind: str) -> set[str]:
    """Return the keys that a type's model looks up though its configuration need not have them."""
    module = CONFIG_MAPPING[kind].__module__.replace(".configuration_", ".modeling_")
    path = importlib.util.find_spec(module)
    source = Path(path.origin).read_text("utf-8") if path and path.origin else ""
    return set(re.findall(r"getattr\((?:self\.)?config, \"([a-z]\w+)\"", source))


def architectures(kind: str) -> list[str]:
    """Return the classes of transformers that open a model of the type."""
    found: set[str] = set()
    for name in MAPPINGS:
        classes: Any = getattr(modeling_auto, name).get(kind, ())
        found |= {classes} if isinstance(classes, str) else set(classes)
    return sorted(found)


def tokenizers() -> list[str]:
    """Return the classes of tokenizers that the types use, in their two spellings."""
    found = {TOKENIZER_MAPPING_NAMES.get(kind) for kind in (*TYPES, "siglip2")} - {None}
    found |= {"PreTrainedTokenizer", "TokenizersBackend", "RobertaTokenizer", "LlamaTokenizer"}
    found |= {"BertTokenizer", "XLMRobertaTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer"}
    both = {name for own in found for name in (own, f"{str(own).removesuffix('Fast')}Fast")}
    return sorted(map(str, both))


def compare(kind: str) -> float:
    """Return what ``demanded`` says of a default configuration, as a part of the real size."""
    config = CONFIG_MAPPING[kind]()
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    real = sum(own.numel() for own in model.parameters())
    ratio = float(demanded({**config.to_dict(), "model_type": kind}) / real)
    print(f"{kind:20} {real:14,} {ratio:6.2f}")
    return ratio


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    main()
