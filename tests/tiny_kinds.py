"""The table of tiny models: their configurations, labels, pixel settings and extra files."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import tiny_files
from tests import tiny_tokenizers as make
from tests.tiny_files import Json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BERT: Json = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    # Larger than usual: at this width the usual 0.02 gives almost the same output for every input.
    "initializer_range": 0.4,
}
BART: Json = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 128,
    "init_std": 0.2,
    "decoder_start_token_id": 2,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
}
LLAMA: Json = {
    **BERT,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
    # Two heads of 16: ONNX Runtime turns heads of multiples of that alone.
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
}
DEBERTA: Json = {
    **BERT,
    "type_vocab_size": 0,
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
}
TOWER: Json = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
PIXELS: Json = {**TOWER, "image_size": 32, "patch_size": 8, "initializer_range": 0.2}
EFFICIENTNET: Json = {
    "image_size": 48,
    # 0.05 leaves 64 of the 1,280 channels that the library writes into the last convolution.
    "width_coefficient": 0.05,
    "depth_coefficient": 1.0,
    "hidden_dim": 64,
    "kernel_sizes": [3, 3, 5],
    "in_channels": [32, 160, 240],
    "out_channels": [160, 240, 320],
    "strides": [1, 2, 2],
    "num_block_repeats": [1, 2, 1],
    "expand_ratios": [1, 4, 4],
    "initializer_range": 0.2,
}
CLIP_COLOURS: Json = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
IMAGENET_MEAN = [0.485, 0.456, 0.406]
NORMALISE: Json = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
HALVES: Json = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}

SIGLIP_PIXELS: Json = {
    "image_processor_type": "SiglipImageProcessor",
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "resample": 3,
    **NORMALISE,
    **HALVES,
}
GPT2: Json = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.2}
ANIMALS = ["tabby cat", "beagle", "goldfish", "robin", "tree frog"]


def _keep(thing: object) -> None:
    """Leave ``thing`` as it is."""


def _shrink_embeddings(model: Any) -> None:
    """Let the layers outweigh the tied embeddings, which else repeat the first token for ever."""
    model.shared.weight.data.mul_(0.1)


def _calibrate_norms(model: Any) -> None:
    """Give batch normalisation real statistics; as it starts, every output comes out zero."""
    torch = importlib.import_module("torch")
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
            module.momentum = None  # so that one pass sets the running values
    side = model.config.image_size
    with torch.no_grad():
        model.train()(torch.randn(8, 3, side, side))


@dataclass(frozen=True)
class Kind:
    """One sort of tiny model: what to make and which class opens it.

    Attributes:
        model: class of transformers that is made and saved.
        auto: class that opens the folder: of transformers, or ``SentenceTransformer``.
        settings: fields of the model's configuration.
        tokenizer: makes its tokenizer, whose size and special ids join the configuration.
        labels: names of the classes, by number.
        pixels: content of ``preprocessor_config.json``.
        prepare: changes the new model, before it is saved.
        finish: changes the saved folder.
    """

    model: str
    auto: str
    settings: Json
    tokenizer: Callable[[], PreTrainedTokenizerBase] | None = None
    labels: Sequence[str] = ()
    pixels: Json = field(default_factory=dict)
    prepare: Callable[[Any], object] = _keep
    finish: Callable[[Path], object] = _keep


_classifier = functools.partial(Kind, auto="AutoModelForSequenceClassification")
_bert_classifier = functools.partial(
    _classifier, "BertForSequenceClassification", settings=BERT, tokenizer=make.word_pieces
)
_encoder = functools.partial(
    Kind, "BertModel", "SentenceTransformer", BERT, tokenizer=make.word_pieces
)
_chat_model = functools.partial(
    Kind, "LlamaForCausalLM", "AutoModelForCausalLM", LLAMA, tokenizer=make.chat
)

KINDS: Mapping[str, Kind] = {
    "t5": Kind(
        "T5ForConditionalGeneration",
        "AutoModelForSeq2SeqLM",
        {
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 64,
            "num_layers": 2,
            "num_heads": 4,
            "decoder_start_token_id": 0,
        },
        tokenizer=make.t5,
        prepare=_shrink_embeddings,
    ),
    "bart": Kind(
        "BartForConditionalGeneration", "AutoModelForSeq2SeqLM", BART, tokenizer=make.roberta
    ),
    "gpt2": Kind("GPT2LMHeadModel", "AutoModelForCausalLM", GPT2, tokenizer=make.gpt2),
    "llama_chat": _chat_model(),
    "llama_chat_inline": _chat_model(finish=tiny_files.put_template_in_config),
    "bert_nli3": _bert_classifier(
        labels=["entailment", "neutral", "contradiction"],
    ),
    "bert_nli2": _bert_classifier(
        labels=["not_entailment", "entailment"],
    ),
    "deberta_nli3": _classifier(
        "DebertaForSequenceClassification",
        settings=DEBERTA,
        tokenizer=make.deberta,
        labels=["CONTRADICTION", "NEUTRAL", "ENTAILMENT"],
    ),
    "deberta_nli2": _classifier(
        "DebertaV2ForSequenceClassification",
        settings={
            **DEBERTA,
            "position_biased_input": False,
            "position_buckets": 32,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
        },
        tokenizer=make.deberta_v2,
        labels=["entailment", "not_entailment"],
    ),
    "bert_classifier": _bert_classifier(
        labels=["negative", "neutral", "positive"],
    ),
    "bert_multilabel": _bert_classifier(
        settings={**BERT, "problem_type": "multi_label_classification"},
        labels=["sport", "music", "politics", "travel"],
    ),
    "xlnet_classifier": _classifier(
        "XLNetForSequenceClassification",
        settings={
            "d_model": 32,
            "n_layer": 2,
            "n_head": 4,
            "d_inner": 64,
            "initializer_range": 0.4,
        },
        tokenizer=make.xlnet,
        labels=["negative", "neutral", "positive"],
    ),
    "bert_qa": Kind(
        "BertForQuestionAnswering",
        "AutoModelForQuestionAnswering",
        BERT,
        tokenizer=make.word_pieces,
    ),
    "roberta_qa": Kind(
        "RobertaForQuestionAnswering",
        "AutoModelForQuestionAnswering",
        # Positions start after the padding id, so two more are needed than there are tokens.
        {**BERT, "max_position_embeddings": 130, "type_vocab_size": 1},
        tokenizer=make.roberta,
    ),
    "bert_encoder": Kind("BertModel", "AutoModel", BERT, tokenizer=make.word_pieces),
    "sentence_transformer": _encoder(
        finish=functools.partial(tiny_files.write_sentence_modules, pooling="mean_tokens")
    ),
    "sentence_transformer_cls": _encoder(
        finish=functools.partial(tiny_files.write_sentence_modules, pooling="cls_token")
    ),
    "sentence_transformer_dense": _encoder(finish=tiny_files.write_dense_modules),
    "clip": Kind(
        "CLIPModel",
        "AutoModel",
        {
            "text_config": {**TOWER, "max_position_embeddings": 77},
            "vision_config": PIXELS,
            "projection_dim": 16,
        },
        tokenizer=make.clip,
        pixels={
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": 32},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": 32, "width": 32},
            "do_convert_rgb": True,
            **NORMALISE,
            **CLIP_COLOURS,
        },
    ),
    # As in the first CLIP's folders: sizes are plain numbers, and the end of text is said to be 2.
    "clip_openai": Kind(
        "CLIPModel",
        "AutoModel",
        {
            "text_config": {
                **TOWER,
                "max_position_embeddings": 77,
                "bos_token_id": 0,
                "eos_token_id": 2,
                "pad_token_id": 1,
            },
            "vision_config": PIXELS,
            "projection_dim": 16,
        },
        tokenizer=make.clip,
        pixels={
            "feature_extractor_type": "CLIPFeatureExtractor",
            "do_resize": True,
            "size": 32,
            "resample": 3,
            "do_center_crop": True,
            "crop_size": 32,
            "do_normalize": True,
            **CLIP_COLOURS,
        },
        finish=tiny_files.write_older_special_tokens,
    ),
    "siglip": Kind(
        "SiglipModel",
        "AutoModel",
        {"text_config": {**TOWER, "pad_token_id": 1}, "vision_config": PIXELS},
        tokenizer=make.siglip,
        pixels=SIGLIP_PIXELS,
        finish=make.write_siglip_tokenizer,
    ),
    "siglip2": Kind(
        "SiglipModel",
        "AutoModel",
        {"text_config": TOWER, "vision_config": PIXELS},
        tokenizer=make.gemma,
        pixels={**SIGLIP_PIXELS, "resample": 2},
    ),
    "efficientnet": Kind(
        "EfficientNetForImageClassification",
        "AutoModelForImageClassification",
        EFFICIENTNET,
        prepare=_calibrate_norms,
        labels=ANIMALS,
        pixels={
            "image_processor_type": "EfficientNetImageProcessor",
            "do_resize": True,
            "size": {"height": 48, "width": 48},
            "resample": 0,
            "do_center_crop": False,
            "crop_size": {"height": 40, "width": 40},
            "rescale_offset": False,
            "include_top": True,
            **NORMALISE,
            "image_mean": IMAGENET_MEAN,
            "image_std": [0.47853944, 0.4732864, 0.47434163],
        },
    ),
    "vit": Kind(
        "ViTForImageClassification",
        "AutoModelForImageClassification",
        PIXELS,
        labels=ANIMALS,
        pixels={
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"height": 32, "width": 32},
            "resample": 2,
            **NORMALISE,
            **HALVES,
        },
    ),
    "dinov2": Kind(
        "Dinov2Model",
        "AutoModel",
        {**PIXELS, "mlp_ratio": 2},
        pixels={
            "image_processor_type": "BitImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": 40},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": 32, "width": 32},
            "do_convert_rgb": True,
            **NORMALISE,
            "image_mean": IMAGENET_MEAN,
            "image_std": [0.229, 0.224, 0.225],
        },
    ),
}
