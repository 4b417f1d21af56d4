"""Models: what tasks run on. ``AutoModel`` loads any of them by name."""

from backprop.optional import lazy

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
