"""``config.json`` and ``generation_config.json``: known keys alone, every number bounded."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from backprop.serve.vetting.demands import check_demands
from backprop.serve.vetting.names import check_names
from backprop.serve.vetting.places import Place
from backprop.serve.vetting.refusing import refuse, shown
from backprop.serve.vetting.schema import (
    Check,
    anything,
    either,
    list_of,
    maybe,
    nothing,
    number,
    one_of,
    record,
    table_of,
    text,
    truth,
    whole,
)
from backprop.serve.vetting.strict import read_object
from backprop.serve.vetting.weights import Shapes

__all__ = ["check_config", "check_generation", "check_tokenizer_class", "known"]

LITE = "efficientnet-lite"
LARGEST = 1 << 20
MOST_LABELS = 65_536

_words = text(300, r"[^/\\]*")
_scalar = maybe(either(truth, number(-1e12, 1e12), _words))
_plain = either(_scalar, list_of(either(whole(0, 1 << 21), number(-1e6, 1e6), text(200)), 1024))
_token = maybe(either(whole(-1, 1 << 21), list_of(whole(0, 1 << 21), 64)))
_size = maybe(whole(0, LARGEST))
_activation = one_of(
    {
        *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python"),
        *("gelu_python_tanh", "gelu_pytorch_tanh", "hardswish", "leaky_relu", "linear", "mish"),
        *("quick_gelu", "relu", "relu2", "relu6", "sigmoid", "silu", "swish", "tanh"),
    }
)
_rope = record(
    {
        "rope_type": one_of({"default", "linear", "dynamic", "yarn", "longrope", "llama3"}),
        "type": one_of({"default", "linear", "dynamic", "yarn", "longrope", "llama3"}),
        "rope_theta": number(1, 1e12),
        "original_max_position_embeddings": whole(1, LARGEST),
        "truncate": truth,
        **{key: list_of(number(0, 1e6), 512) for key in ("short_factor", "long_factor")},
        **{
            key: maybe(number(0, 1e6))
            for key in (
                *("factor", "attention_factor", "beta_fast", "beta_slow", "low_freq_factor"),
                *("high_freq_factor", "partial_rotary_factor", "mscale", "mscale_all_dim"),
            )
        },
    }
)
_ropes = record({key: _rope for key in ("full_attention", "sliding_attention")})

VALUES: Mapping[str, Check] = {
    "architectures": maybe(list_of(text(100), 4)),
    "dtype": maybe(one_of({"float32", "float16", "bfloat16", "float64"})),
    "torch_dtype": maybe(one_of({"float32", "float16", "bfloat16", "float64"})),
    "id2label": table_of(text(20, r"\d+"), text(1000), MOST_LABELS),
    "label2id": table_of(text(1000), whole(0, MOST_LABELS), MOST_LABELS),
    "num_labels": maybe(whole(0, MOST_LABELS)),
    "_num_labels": maybe(whole(0, MOST_LABELS)),
    "num_classes": whole(1, MOST_LABELS),
    "problem_type": maybe(
        one_of(
            {"regression", "single_label_classification", "multi_label_classification"},
        )
    ),
    "pruned_heads": nothing,  # would take weights away after their shapes were checked
    "rope_parameters": maybe(either(_ropes, _rope)),
    "rope_scaling": maybe(_rope),
    "task_specific_params": maybe(anything(200, 300)),
    "transformers.js_config": anything(200, 300),
    "layer_types": maybe(list_of(one_of({"full_attention", "sliding_attention"}), 256)),
    "variant": one_of({f"{LITE}{i}" for i in range(5)}),
    "bad_words_ids": nothing,
    "exponential_decay_length_penalty": nothing,
    "_name_or_path": text(300),
    "_model_name_or_path": text(300),
    "tokenizer_class": lambda value, where: check_tokenizer_class(value, where),
    "finetuning_task": maybe(text(200)),
    "attn_implementation": maybe(one_of({"eager", "sdpa"})),
    "_attn_implementation": maybe(one_of({"eager", "sdpa"})),
    **{
        key: whole(1, 256)
        for key in (
            *("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
            *("num_decoder_layers", "num_hidden_groups", "inner_group_num"),
        )
    },
    **{key: whole(0, 256) for key in ("encoder_layers", "decoder_layers")},
    **{
        key: whole(1, 16_384)
        for key in ("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "projection_dim")
    },
    **{
        key: maybe(whole(1, 1024))
        for key in (
            *("num_attention_heads", "num_key_value_heads", "num_heads", "n_head", "n_heads"),
            *("encoder_attention_heads", "decoder_attention_heads", "head_dim", "d_kv", "d_head"),
            *("attention_head_size",),
        )
    },
    **{
        key: maybe(whole(1, 131_072))
        for key in (
            *("intermediate_size", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim", "n_inner"),
            *("d_inner", "hidden_dim"),
        )
    },
    **{
        key: _size
        for key in (
            *("vocab_size", "max_position_embeddings", "n_positions", "n_ctx"),
            *("sliding_window", "local_attention", "original_max_position_embeddings"),
        )
    },
    **{
        key: maybe(whole(-1, 2048))
        for key in (
            *("type_vocab_size", "max_relative_positions", "position_buckets", "num_channels"),
            *("relative_attention_num_buckets", "relative_attention_max_distance", "mem_len"),
            *("patch_size", "encoder_stride", "clamp_len", "reuse_len", "pretraining_tp"),
        )
    },
    "image_size": whole(1, 2048),
    "conv_kernel_size": whole(0, 8),
    "chunk_size_feed_forward": whole(0, 0),  # else it divides what may not divide
    "mlp_ratio": number(0, 16),
    "width_coefficient": number(0, 4),
    "depth_coefficient": number(0, 8),
    **{
        key: list_of(whole(1, 4096), 16)
        for key in ("in_channels", "out_channels", "strides", "kernel_sizes")
    },
    **{key: list_of(whole(1, 32), 16) for key in ("num_block_repeats", "expand_ratios")},
    "depthwise_padding": list_of(whole(0, 64), 64),
    **{
        key: maybe(_activation)
        for key in (
            *(
                "hidden_act",
                "activation",
                "activation_function",
                "hidden_activation",
                "dense_act_fn",
            ),
            *("ff_activation", "pooler_hidden_act", "pooler_act", "classifier_activation"),
        )
    },
    "feed_forward_proj": one_of({"relu", "gelu", "silu", "gated-gelu", "gated-silu"}),
    **{
        f"{name}_token_id": _token
        for name in ("bos", "eos", "pad", "unk", "sep", "cls", "mask", "decoder_start")
    },
    **{f"forced_{name}_token_id": _token for name in ("bos", "eos")},
    "suppress_tokens": maybe(list_of(whole(0, 1 << 21), 1024)),
    "begin_suppress_tokens": maybe(list_of(whole(0, 1 << 21), 1024)),
}
"""Checks of keys by name; others hold a number, a few words, or a list of these."""

OLDER = frozenset(
    {
        # Of every configuration before transformers 5; what a model came with stays in it.
        *("add_cross_attention", "bad_words_ids", "begin_suppress_tokens", "bos_token_id"),
        *("chunk_size_feed_forward", "cls_token_id", "cross_attention_hidden_size"),
        *("decoder_start_token_id", "diversity_penalty", "do_sample", "early_stopping"),
        *("encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty"),
        *("finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "is_decoder"),
        *("is_encoder_decoder", "length_penalty", "mask_token_id", "max_length", "min_length"),
        *("no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_labels", "_num_labels"),
        *("num_return_sequences", "output_scores", "pad_token_id", "prefix", "pruned_heads"),
        *("remove_invalid_values", "repetition_penalty", "return_dict_in_generate"),
        *("sep_token_id", "suppress_tokens", "task_specific_params", "temperature"),
        *("tf_legacy_loss", "tie_encoder_decoder", "tie_word_embeddings", "tokenizer_class"),
        *("top_k", "top_p", "torch_dtype", "torchscript", "typical_p", "unk_token_id"),
        *("use_bfloat16", "use_cache", "output_past", "gradient_checkpointing"),
        *("attn_implementation", "_attn_implementation", "_model_name_or_path"),
        # Of single types.
        *(
            "position_embedding_type",
            "pooler_fc_size",
            "pooler_num_attention_heads",
            "directionality",
            "norm_rel_ebd",
        ),
        *("pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "tie_weights_"),
        *("language", "name", "n_ctx", "n_positions", "summary_activation", "summary_use_proj"),
        *("summary_first_dropout", "summary_proj_to_labels", "summary_type"),
        *("add_bias_logits", "add_final_layer_norm", "classif_dropout", "extra_pos_embeddings"),
        *("force_bos_token_to_be_generated", "normalize_before", "normalize_embedding"),
        *("static_position_embeddings", "save_step", "scale_embedding", "gradient_checkpointing"),
        *(
            "pooler_dropout",
            "pooler_hidden_act",
            "pooler_hidden_size",
            "legacy",
            "model_max_length",
        ),
        *("global_rope_theta", "local_rope_theta", "global_attn_every_n_layers", "attention_layer"),
        *("reference_compile", "repad_logits_with_grad", "norm_head", "num_hidden_layers"),
        *("is_llama_config", "rope_interleaved", "rope_theta", "rope_scaling", "rope_parameters"),
        *("transformers.js_config", "net_structure_type", "vocab_size", "down_scale_factor"),
        *("gap_size", "num_memory_blocks", "attention_bias", "logit_scale_init_value"),
        *("pooler_output_size", "pooler_act", "qkv_bias", "encoder_stride", "ff_activation"),
        *("bi_data", "clamp_len", "same_length", "untie_r", "mem_len", "reuse_len"),
        *("use_mems_eval", "use_mems_train", "end_n_top", "start_n_top", "use_mems"),
        *("hidden_act", "hidden_activation", "cache_implementation", "original_name"),
    }
)

INNER: Mapping[str, Mapping[str, str]] = {
    kind: {"text_config": f"{kind}_text_model", "vision_config": f"{kind}_vision_model"}
    for kind in ("clip", "siglip")
}
"""Types that are made of two, with the types of these."""

LITE_KEYS = ("model_type", "variant", "image_size", "hidden_size", "num_classes", "id2label")

GENERATION: Mapping[str, Check] = {
    **{
        key: maybe(whole(0, 32_768))
        for key in (
            "max_length",
            "max_new_tokens",
            "min_length",
            "min_new_tokens",
            "top_k",
            "max_time",
        )
    },
    **{
        key: maybe(whole(1, 32)) for key in ("num_beams", "num_return_sequences", "num_beam_groups")
    },
    **{
        key: maybe(number(-100, 1000))
        for key in (
            *("temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "length_penalty"),
            *("diversity_penalty", "encoder_repetition_penalty", "epsilon_cutoff", "eta_cutoff"),
            *("guidance_scale", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "top_h"),
        )
    },
    **{
        key: maybe(truth)
        for key in (
            *("do_sample", "use_cache", "output_attentions", "output_hidden_states"),
            *("output_scores", "output_logits", "return_dict_in_generate", "_from_model_config"),
            *("remove_invalid_values", "renormalize_logits"),
        )
    },
    "early_stopping": maybe(either(truth, one_of({"never"}))),
    **{key: check for key, check in VALUES.items() if key.endswith("token_id")},
    **{key: VALUES["suppress_tokens"] for key in ("suppress_tokens", "begin_suppress_tokens")},
    "bad_words_ids": maybe(list_of(list_of(whole(0, 1 << 21), 64), 1024)),
    "transformers_version": text(60, r"[\w.+-]*"),
    "cache_implementation": maybe(one_of({"dynamic", "static", "hybrid", "sliding_window"})),
}
"""What ``generation_config.json`` may say; rules that load a second model or code are not in it."""

_generation = record(GENERATION)


@functools.cache
def known() -> Mapping[str, Any]:
    """Return the table that ``bench/serve/known_configs.py`` made of transformers' classes."""
    found: dict[str, Any] = json.loads(files(__package__).joinpath("known.json").read_text("utf-8"))
    return found


def check_config(place: Place, shapes: Shapes) -> None:
    """Refuse a ``config.json`` of an unknown type, with unknown keys, or that asks for too much.

    Raises:
        ArtefactError: it is.
    """
    where = place.where("config.json")
    if "config.json" not in place.files:
        refuse(where, "it is missing")
    config = read_object(place.folder / "config.json", where, 4 << 20)
    check_names(config, where)
    _check_keys(config, where)
    check_demands(config, shapes, where)


def check_generation(place: Place) -> None:
    """Refuse a ``generation_config.json`` with unknown keys, or that would make answers endless.

    Raises:
        ArtefactError: it is.
    """
    name = "generation_config.json"
    if name in place.files:
        content = read_object(place.folder / name, place.where(name), 64 << 10)
        check_names(content, place.where(name))
        _generation(content, place.where(name))


def check_tokenizer_class(value: Any, where: str) -> None:
    """Refuse a class of tokenizer that none of the known types uses.

    Raises:
        ArtefactError: it is one.
    """
    maybe(one_of(known()["tokenizers"]))(value, where)


def _check_keys(config: Mapping[str, Any], where: str, expected: str = "") -> None:
    kind = config.get("model_type", expected)
    if kind == LITE and not expected:
        record({key: VALUES.get(key, _plain) for key in (*LITE_KEYS, *known()["common"])})(
            config, where
        )
        return
    types = known()["types"]
    outer = [name for name in types if not any(name in own.values() for own in INNER.values())]
    if not isinstance(kind, str) or (kind != expected if expected else kind not in outer):
        names = expected or ", ".join(sorted([*outer, LITE]))
        refuse(
            where,
            f"the model_type {shown(kind)} is not one of those served here ({names})",
            "use a model of one of these types",
        )
    _check_architectures(config.get("architectures"), types[kind]["architectures"], where)
    allowed = _keys()
    inner = INNER.get(kind, {})
    for key, value in config.items():
        if key in inner:
            if not isinstance(value, dict):
                refuse(f"{where}, {key}", f"received {shown(value)} instead of an object")
            _check_keys(value, f"{where}, {key}", inner[key])
        elif key not in allowed:
            refuse(
                where,
                f"the key {shown(key)} is not one that models of the types served here have",
                "remove it",
            )
        else:
            VALUES.get(key, _plain)(value, f"{where}, {key}")


@functools.cache
def _keys() -> frozenset[str]:
    """Return the keys of all types: what a model was made from leaves some of others' behind."""
    types = known()["types"].values()
    return frozenset({*known()["common"], *OLDER}.union(*(own["keys"] for own in types)))


def _check_architectures(value: Any, allowed: list[str], where: str) -> None:
    VALUES["architectures"](value, f"{where}, architectures")
    for name in value or ():
        if name not in allowed:
            refuse(
                f"{where}, architectures",
                f"{shown(name)} is not a class of this type ({', '.join(allowed)})",
            )
