"""Models: what tasks run on. ``AutoModel`` loads any of them by name."""

from typing import TYPE_CHECKING

from backprop.optional import lazy

if TYPE_CHECKING:  # so that type checkers and editors know what NAMES says
    from backprop.models.auto import AutoModel as AutoModel
    from backprop.models.base import BaseModel as BaseModel
    from backprop.models.base import PathModel as PathModel
    from backprop.models.classification import HFNLIModel as HFNLIModel
    from backprop.models.classification import HFSeqTCModel as HFSeqTCModel
    from backprop.models.clip import CLIP as CLIP
    from backprop.models.generation import T5 as T5
    from backprop.models.generation import HFCausalLMTGModel as HFCausalLMTGModel
    from backprop.models.generation import HFSeq2SeqTGModel as HFSeq2SeqTGModel
    from backprop.models.generation import T5QASummaryEmotion as T5QASummaryEmotion
    from backprop.models.hf import HFModel as HFModel
    from backprop.models.hf import HFTextGenerationModel as HFTextGenerationModel
    from backprop.models.image_classifier import EfficientNet as EfficientNet
    from backprop.models.image_classifier import HFImageModel as HFImageModel
    from backprop.models.pair_encoder import PairEncoder as PairEncoder
    from backprop.models.sentence_encoder import STModel as STModel
    from backprop.models.span_qa import SpanQA as SpanQA

NAMES = {
    "AutoModel": "backprop.models.auto:AutoModel",
    "BaseModel": "backprop.models.base:BaseModel",
    "CLIP": "backprop.models.clip:CLIP",
    "EfficientNet": "backprop.models.image_classifier:EfficientNet",
    "HFCausalLMTGModel": "backprop.models.generation:HFCausalLMTGModel",
    "HFImageModel": "backprop.models.image_classifier:HFImageModel",
    "HFModel": "backprop.models.hf:HFModel",
    "HFNLIModel": "backprop.models.classification:HFNLIModel",
    "HFSeq2SeqTGModel": "backprop.models.generation:HFSeq2SeqTGModel",
    "HFSeqTCModel": "backprop.models.classification:HFSeqTCModel",
    "HFTextGenerationModel": "backprop.models.hf:HFTextGenerationModel",
    "PairEncoder": "backprop.models.pair_encoder:PairEncoder",
    "PathModel": "backprop.models.base:PathModel",
    "STModel": "backprop.models.sentence_encoder:STModel",
    "SpanQA": "backprop.models.span_qa:SpanQA",
    "T5": "backprop.models.generation:T5",
    "T5QASummaryEmotion": "backprop.models.generation:T5QASummaryEmotion",
}
"""Public name to where it is, imported when first used."""

__all__ = sorted(NAMES)
__getattr__, __dir__ = lazy(__name__, NAMES)
