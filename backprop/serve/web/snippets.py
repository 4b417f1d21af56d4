"""Code that asks a model: the Python client, curl, and OpenAI's client where that fits."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backprop.serve.web.examples import Example, example
from backprop.specs import SPECS

__all__ = ["Snippet", "snippets"]

LONGEST = 60
"""Characters of an example's text; the rest is three dots."""


@dataclass(frozen=True)
class Snippet:
    """Code to copy.

    Args:
        name: of the tool it is for.
        code: text.
    """

    name: str
    code: str


def snippets(task: str, model: str, url: str, *, own_labels: bool = False) -> list[Snippet]:
    """Return ways to ask ``model`` at the server's ``url`` to do ``task``.

    Args:
        task: task string.
        model: its name.
        url: of the server.
        own_labels: whether the model was taught labels, so that none are to be named.
    """
    given = _given(example(task))
    if own_labels:
        given.pop("labels", None)
    found = [
        Snippet("Python", _python(task, model, url, given)),
        Snippet("curl", _curl(task, model, url, given)),
    ]
    maker = OPENAI.get(task)
    if maker is not None:
        found.append(Snippet("OpenAI client", OPENAI_HEAD.format(url=url) + maker(model, given)))
    return found


def _given(found: Example) -> dict[str, Any]:
    row = {
        name: value if len(value) <= LONGEST else f"{value[:LONGEST].rsplit(' ', 1)[0]} …"
        for name, value in found.rows[0].items()
    }
    return {**row, **({"labels": list(found.labels)} if found.labels else {}), **found.options}


def _python(task: str, model: str, url: str, given: Mapping[str, Any]) -> str:
    name = SPECS[task].task_class
    arguments = "".join(
        f"    {key}={json.dumps(value, ensure_ascii=False)},\n" for key, value in given.items()
    )
    return (
        f"from backprop import {name}\n\n"
        f"task = {name}(\n    {json.dumps(model)},\n    api_url={json.dumps(url)},\n"
        f'    api_key="bp_…",\n)\n'
        f"answer = task(\n{arguments})"
    )


def _curl(task: str, model: str, url: str, given: Mapping[str, Any]) -> str:
    body = {name: value for name, value in given.items() if name != "image"}
    if "image" in given:
        body = {"model": model, **body}
        # Too long for an argument, so that it goes by standard input.
        tail = json.dumps(body, ensure_ascii=False)[1:]
        command = f'printf \'{{"image":"%s",%s\' "$(base64 < {given["image"]} | tr -d \'\\n\')" '
        return (
            f"{command}{shlex.quote(tail)} \\\n| curl {url}/{task} \\\n"
            '  -H "x-api-key: bp_…" \\\n  -H "content-type: application/json" \\\n  --data @-'
        )
    text = json.dumps({"model": model, **body}, ensure_ascii=False, indent=2)
    return (
        f'curl {url}/{task} \\\n  -H "x-api-key: bp_…" \\\n'
        f'  -H "content-type: application/json" \\\n  -d {shlex.quote(text)}'
    )


OPENAI_HEAD = 'from openai import OpenAI\n\nclient = OpenAI(base_url="{url}/v1", api_key="bp_…")\n'


def _completion(model: str, given: Mapping[str, Any]) -> str:
    return (
        "stream = client.chat.completions.create(\n"
        f"    model={json.dumps(model)},\n"
        f'    messages=[{{"role": "user", "content": {json.dumps(given["text"])}}}],\n'
        "    stream=True,\n)\nfor part in stream:\n"
        '    print(part.choices[0].delta.content or "", end="")'
    )


def _embedding(model: str, given: Mapping[str, Any]) -> str:
    return (
        "answer = client.embeddings.create(\n"
        f"    model={json.dumps(model)},\n    input=[{json.dumps(given['text'])}],\n)\n"
        "vector = answer.data[0].embedding"
    )


OPENAI = {"text-generation": _completion, "text-vectorisation": _embedding}
