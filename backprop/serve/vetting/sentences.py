"""Files of sentence-transformers: its modules by name, each with a few settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from backprop.serve.vetting.names import check_names
from backprop.serve.vetting.places import MODULES, Place
from backprop.serve.vetting.refusing import refuse, shown
from backprop.serve.vetting.schema import (
    Check,
    either,
    list_of,
    maybe,
    nothing,
    one_of,
    record,
    table_of,
    text,
    truth,
    whole,
)
from backprop.serve.vetting.strict import read_json, read_object
from backprop.serve.vetting.weights import Shapes, check_tensors

__all__ = ["check_sentences"]

TYPES: Mapping[str, str] = {
    **{
        f"sentence_transformers.models.{name}": name
        for name in ("Transformer", "Pooling", "Normalize", "Dense")
    },
    "sentence_transformers.base.modules.transformer.Transformer": "Transformer",
    "sentence_transformers.base.modules.normalize.Normalize": "Normalize",
    "sentence_transformers.base.modules.dense.Dense": "Dense",
    "sentence_transformers.sentence_transformer.modules.pooling.Pooling": "Pooling",
    "sentence_transformers.models.Transformer.Transformer": "Transformer",
    "sentence_transformers.models.Pooling.Pooling": "Pooling",
    "sentence_transformers.models.Normalize.Normalize": "Normalize",
    "sentence_transformers.models.Dense.Dense": "Dense",
}
"""Modules that may be imported by name, in the spellings of its versions, to their short names."""

_feature = text(60, r"\w+")
_names = {"module_input_name": maybe(_feature), "module_output_name": maybe(_feature)}
_modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens")
_mode = one_of({"mean", "cls", "max", "mean_sqrt_len", "mean_sqrt_len_tokens", "lasttoken"})
_width = whole(1, 65_536)

SETTINGS: Mapping[str, Mapping[str, Check]] = {
    "Pooling": {
        "embedding_dimension": _width,
        "word_embedding_dimension": _width,
        "pooling_mode": either(list_of(_mode, 6), either(one_of({"weightedmean"}), _mode)),
        "include_prompt": truth,
        **{f"pooling_mode_{mode}": truth for mode in (*_modes, "lasttoken")},
    },
    "Normalize": dict(_names),
    "Dense": {
        **_names,
        "in_features": _width,
        "out_features": _width,
        "bias": truth,
        "use_residual": truth,
        # Is imported by this name, so it is one of a few.
        "activation_function": one_of(
            {
                "torch.nn.modules.linear.Identity",
                *(
                    f"torch.nn.modules.activation.{name}"
                    for name in ("GELU", "ReLU", "SiLU", "Sigmoid", "Softplus", "Tanh")
                ),
            }
        ),
    },
}

_module = record(
    {
        "idx": whole(0, 16),
        "name": text(20, r"\w*"),
        "path": text(20),
        "type": one_of(TYPES),
        "kwargs": nothing,
    },
    required=("path", "type"),
)
_modules = list_of(_module, 8)
_modality = record(
    {"method": one_of({"forward"}), "method_output_name": _feature, "format": text(20, r"\w+")}
)
_transformer = record(
    {
        "transformer_task": one_of({"feature-extraction"}),
        "modality_config": record({"text": _modality}),
        "module_output_name": _feature,
        "max_seq_length": maybe(whole(1, 1 << 20)),
        "do_lower_case": truth,
        "unpad_inputs": maybe(truth),
        "processing_kwargs": nothing,
        **{key: nothing for key in ("query_length", "document_length", "query_expansion")},
        **{
            f"{name}_{ending}": nothing
            for name in ("model", "tokenizer", "config", "processor")
            for ending in ("args", "kwargs")
        },
    }
)
_version = table_of(text(40, r"[\w-]+"), text(60, r"[\w.+-]*"), 8)
_prompt = text(10_000)
_general = record(
    {
        "__version__": _version,
        "model_type": one_of({"SentenceTransformer"}),
        "prompts": maybe(table_of(text(100), _prompt, 64)),
        "default_prompt_name": maybe(text(100)),
        "similarity_fn_name": maybe(one_of({"cosine", "dot", "euclidean", "manhattan"})),
        "truncate_dim": maybe(whole(1, 65_536)),
    }
)


def check_sentences(place: Place, *, needed: bool) -> Shapes:
    """Return the tensors of a sentence encoder's dense modules, its files checked.

    Args:
        place: the model's folder.
        needed: whether the model is a sentence encoder, and so must have modules.

    Raises:
        ArtefactError: a module that is not one of a few, or an unknown setting.
    """
    _read(place, "sentence_bert_config.json", _transformer)
    _read(place, "config_sentence_transformers.json", _general)
    where = place.where("modules.json")
    folders = {name.partition("/")[0] for name in place.files if MODULES.match(name)}
    if "modules.json" not in place.files:
        if needed or folders:
            refuse(where, "it is missing")
        return {}
    modules = read_json(place.folder / "modules.json", where, 16 << 10)
    check_names(modules, where)
    _modules(modules, where)
    listed = {_place_of(i, own, where): TYPES[own["type"]] for i, own in enumerate(modules)}
    if len(listed) != len(modules) or not listed.keys() - {""} <= {
        *folders,
        *(name for name, kind in listed.items() if kind == "Normalize"),
    }:
        refuse(where, "it lists a folder twice or one that is not there")
    if stray := sorted(folders - listed.keys()):
        refuse(where, f"it does not list {stray[0]}")
    shapes: Shapes = {}
    for name, kind in listed.items():
        if name:
            shapes |= _check_module(place, name, kind)
    return shapes


def _place_of(index: int, module: Mapping[str, Any], where: str) -> str:
    """Return a module's folder, which its number and its kind give."""
    kind, path = TYPES[module["type"]], module["path"]
    expected = "" if kind == "Transformer" else f"{index}_{kind}"
    if path != expected or (index == 0) != (kind == "Transformer"):
        refuse(where, f"module {index}, a {kind}, stands in {shown(path)}")
    return expected


def _check_module(place: Place, folder: str, kind: str) -> Shapes:
    name = f"{folder}/config.json"
    if name not in place.files and kind != "Normalize":
        refuse(place.where(name), "it is missing")
    content = _read(place, name, record(SETTINGS[kind]))
    if kind != "Dense":
        return {}
    weights = f"{folder}/model.safetensors"
    if weights not in place.files:
        refuse(place.where(weights), "it is missing")
    shapes = check_tensors(place.folder / weights, place.where(weights))
    expected = {"linear.weight": (content.get("out_features"), content.get("in_features"))}
    if content.get("bias", True):
        expected["linear.bias"] = (content.get("out_features"),)  # type: ignore[assignment]
    if shapes != expected:
        refuse(place.where(weights), f"its tensors are not those that {name} tells of")
    return {f"{folder}.{name}": shape for name, shape in shapes.items()}


def _read(place: Place, name: str, check: Callable[[Any, str], None]) -> dict[str, Any]:
    if name not in place.files:
        return {}
    content = read_object(place.folder / name, place.where(name), 64 << 10)
    check_names(content, place.where(name))
    check(content, place.where(name))
    return content
