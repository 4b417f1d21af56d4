"""``backprop.json``: what the model says it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backprop import artefact
from backprop.models import NAMES
from backprop.serve.vetting.names import check_names
from backprop.serve.vetting.refusing import refuse, shown
from backprop.serve.vetting.schema import (
    Check,
    anything,
    list_of,
    maybe,
    number,
    one_of,
    record,
    table_of,
    text,
    truth,
    whole,
)
from backprop.specs import SPECS

__all__ = ["check_meta", "part_names"]

CLASSES = frozenset(NAMES) - {"AutoModel", "BaseModel", "PathModel"}
"""As ``backprop.models.auto`` has it, which needs torch."""

MOST_LABELS = 65_536
_label = text(1000)
_labels = list_of(_label, MOST_LABELS)
_template = text(2000)
_head: Mapping[str, Check] = {"labels": _labels, "multi_label": truth}
_prompts = table_of(one_of({*SPECS, "qa-turn"}), _template, len(SPECS) + 1)
_calibration = record({key: number(-1e6, 1e6) for key in ("slope", "middle", "temperature")})

SETTINGS: Mapping[str, Mapping[str, Check]] = {
    "CLIP": {"template": _template, **_head},
    # Another name would be fetched from elsewhere when the model is first asked.
    "EfficientNet": {"label_encoder": one_of({"all-minilm-l6-v2"})},
    "HFCausalLMTGModel": {},
    "HFImageModel": _head,
    "HFModel": {},
    "HFNLIModel": {"template": _template},
    "HFSeq2SeqTGModel": {"prompts": _prompts},
    "HFSeqTCModel": {},
    "HFTextGenerationModel": {},
    "PairEncoder": {},
    "STModel": {
        "classes": table_of(one_of({"text-classification", "emotion"}), record(_head, _head), 2),
        "prompt": _template,
        "templates": list_of(_template, 64),
        "calibration": _calibration,
    },
    "SpanQA": {"no_answer_bias": number(-1e6, 1e6), "brevity": number(-1e6, 1e6)},
    "T5": {"prompts": _prompts},
    "T5QASummaryEmotion": {"prompts": _prompts},
}
"""What the ``settings`` of each class hold; a test compares them with what the classes save."""

PARTS = {"PairEncoder": ("image", "text")}
"""Classes that are composed of others, with the names of these."""

_tasks = list_of(one_of(SPECS), len(SPECS))
_name = text(100, artefact.MODEL_NAME.pattern)
_common: Mapping[str, Check] = {"class": one_of(CLASSES), "tasks": _tasks}
_part = record(
    {**_common, "name": maybe(_name), "settings": lambda *_: None}, required=("class", "tasks")
)
_whole = record(
    {
        **_common,
        "format": whole(artefact.FORMAT, artefact.FORMAT),
        "name": _name,
        "description": text(10_000),
        "details": anything(20_000, 10_000),
        "version": text(60, r"[\w.+-]*"),
        "card": text(500_000),
        "report": anything(200_000, 10_000),
        "settings": lambda *_: None,
        "parts": lambda *_: None,
    },
    required=("format", "class", "name", "tasks"),
)


def check_meta(meta: Mapping[str, Any], where: str = "backprop.json") -> None:
    """Refuse what ``save`` of one of our classes would not have written.

    Raises:
        ArtefactError: an unknown key, or a value out of its bounds.
    """
    check_names(meta, where, values=False)
    own = meta.get("class")
    if isinstance(own, str) and own.startswith("user:"):
        refuse(
            where,
            f"the class {shown(own)} is one of your own, whose code a server does not run",
            "upload a model of a class of backprop.models",
        )
    _whole(meta, where)
    _check_tasks(meta["tasks"], where)
    _check_settings(meta, where)
    for name in part_names(meta, where):
        part = meta["parts"][name]
        inner = f"{where}, parts, {name}"
        _part(part, inner)
        if part["class"] in PARTS:
            refuse(inner, f"a {part['class']} can't be part of another model")
        _check_tasks(part["tasks"], inner)
        _check_settings(part, inner)


def part_names(meta: Mapping[str, Any], where: str = "backprop.json") -> tuple[str, ...]:
    """Return the names of the models that this one is composed of.

    Raises:
        ArtefactError: there are others than its class has.
    """
    expected = PARTS.get(meta["class"], ())
    parts = meta.get("parts", {})
    if not isinstance(parts, dict) or sorted(parts) != sorted(expected):
        refuse(where, f"a {meta['class']} has these parts: {', '.join(expected) or 'none'}")
    return expected


def _check_settings(meta: Mapping[str, Any], where: str) -> None:
    record(SETTINGS[meta["class"]])(meta.get("settings", {}), f"{where}, settings")


def _check_tasks(tasks: list[str], where: str) -> None:
    if not tasks or len(set(tasks)) < len(tasks):
        refuse(where, f"the tasks are {shown(tasks)}, with none or one twice")
