"""The model card of a saved model: what it is, as hubs of models read it, and how to use it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from backprop import catalogue
from backprop.catalogue import Entry
from backprop.errors import NotFoundError
from backprop.hub import HubSource
from backprop.models.places import is_repository
from backprop.specs import SPECS

__all__ = ["ancestor", "card", "described"]

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


MOST_NAMED = 10
"""Labels that a description names."""


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
    learned = str((meta.get("report") or {}).get("task"))
    if tasks:
        facts["pipeline_tag"] = PIPELINES[learned if learned in tasks else tasks[0]]
    return {**facts, **_origin(meta)}


def ancestor(meta: Mapping[str, Any]) -> Entry | None:
    """Return the catalogue model that this one was finetuned from, or is; None if there is none."""
    try:
        return catalogue.get(_began_with(meta) or str(meta["name"]))
    except NotFoundError:
        return None


def described(description: str | None, report: Mapping[str, Any] | None) -> str:
    """Return the description of a model that is saved.

    Args:
        description: its own.
        report: of its finetuning, after which what the catalogue says of it no longer holds.
    """
    if not report:
        return description or ""
    try:
        if description and description != catalogue.get(str(report["model"])).description:
            return description
    except NotFoundError:
        return description or ""
    labels = [str(label) for label in report.get("labels") or ()]
    more = ", …" if len(labels) > MOST_NAMED else ""
    told = f": {', '.join(labels[:MOST_NAMED])}{more}" if labels else ""
    return f"{report['model']}, finetuned for {report['task']}{told}."


def _began_with(meta: Mapping[str, Any]) -> str | None:
    found = BEGAN_WITH.search(meta.get("card") or "")
    return found[1].strip() if found else None


def _origin(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return licence and base model, as far as they are known."""
    entry = ancestor(meta)
    if entry is None:
        name = _began_with(meta)
        return {"base_model": name} if name and is_repository(name) else {}
    origin: dict[str, Any] = {"license": entry.licence.lower()} if entry.licence else {}
    repositories = [source.repo for source in entry.sources if isinstance(source, HubSource)]
    if repositories:
        origin["base_model"] = repositories[0]
    return origin
