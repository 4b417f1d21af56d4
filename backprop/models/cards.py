"""The model card of a saved model: what it is, as hubs of models read it, and how to use it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from backprop import catalogue
from backprop.hub import HubSource
from backprop.models.places import is_repository
from backprop.specs import SPECS

__all__ = ["card", "description_of"]

PIPELINES: Mapping[str, str] = {
    "qa": "question-answering",
    "text-classification": "text-classification",
    "emotion": "text-classification",
    "summarisation": "summarization",
    "text-generation": "text-generation",
    "text-vectorisation": "sentence-similarity",
    "image-classification": "image-classification",
    "image-vectorisation": "image-feature-extraction",
    "image-text-vectorisation": "feature-extraction",
}
"""A task to the word that model hubs have for it."""

BEGAN_WITH = re.compile(r"^- began with: (.+)$", re.MULTILINE)
"""In a report of a finetuning: the model it began with."""

FINETUNED = re.compile(r".+, finetuned for [a-z-]+(: .*)?\.")
"""A description that nobody wrote."""
MOST_NAMED, MOST_CHARACTERS = 10, 60
"""Labels that it names, and of each."""


def card(meta: Mapping[str, Any]) -> str:
    """Return Markdown for ``meta``, the content of a saved model's ``backprop.json``."""
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in _facts(meta).items()),
        "---",
        f"# {meta['name']}",
        "",
        meta["description"] or "No description was given.",
        "",
        f"- class: `{meta['class']}`",
        f"- tasks: {', '.join(f'`{task}`' for task in meta['tasks'])}",
        f"- saved with backprop {meta['version']}",
    ]
    if meta["details"]:
        lines += ["", "## Details", ""]
        lines += [f"- {key}: {value}" for key, value in meta["details"].items()]
    if meta["card"]:
        lines += ["", meta["card"].strip()]
    return "\n".join(lines) + "\n"


def _facts(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what hubs search by, each value JSON, which is YAML too."""
    tasks = [task for task in meta["tasks"] if task in SPECS]
    facts: dict[str, Any] = {"library_name": "backprop", "tags": ["backprop", *tasks]}
    learned = (meta.get("report") or {}).get("task")
    if tasks:
        facts["pipeline_tag"] = PIPELINES[
            next((task for task in tasks if task == learned), tasks[0])
        ]
    return {**facts, **_origin(meta)}


def description_of(description: str | None, report: Mapping[str, Any] | None) -> str:
    """Return what a model that is saved is, for people.

    Args:
        description: its own.
        report: of its finetuning, after which neither the catalogue's words nor those of an
            earlier finetuning hold; the caller's own do.
    """
    if not report:
        return description or ""
    began = catalogue.find(str(report["model"]))
    is_old = began is not None and description == began.description
    if description and not is_old and not FINETUNED.fullmatch(description):
        return description
    labels = [" ".join(str(label).split())[:MOST_CHARACTERS] for label in report.get("labels", ())]
    named = ", ".join(labels[:MOST_NAMED]) + ", …" * (len(labels) > MOST_NAMED)
    return f"{report['model']}, finetuned for {report['task']}{named and ': '}{named}."


def _origin(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return licence and base model, as far as they are known."""
    found = BEGAN_WITH.search(meta["card"] or "")
    name = found[1].strip() if found else str(meta["name"])
    entry = catalogue.find(name)
    if entry is None:
        return {"base_model": name} if found and is_repository(name) else {}
    origin: dict[str, Any] = {"license": entry.licence.lower()} if entry.licence else {}
    repositories = [source.repo for source in entry.sources if isinstance(source, HubSource)]
    if repositories:
        origin["base_model"] = repositories[0]
    return origin
