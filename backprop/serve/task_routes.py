"""``POST /{task}``: the REST protocol of 2021, a route for each row of ``SPECS``."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backprop import inputs
from backprop.errors import InputError
from backprop.pictures import describe
from backprop.serve.answers import body_of, checked, to_json
from backprop.serve.connection import while_connected
from backprop.serve.services import Services
from backprop.specs import SPECS, TaskSpec

__all__ = ["MAX_NAME", "model_of", "routes"]

MAX_NAME = 160
"""Characters of a model's name with its version."""


def routes(services: Services) -> list[Route]:
    """Return a route for each task."""
    return [
        Route(f"/{spec.name}", partial(_answer, services, spec), methods=["POST"], name=spec.name)
        for spec in SPECS.values()
    ]


async def _answer(services: Services, spec: TaskSpec, request: Request) -> Response:
    start = time.perf_counter()
    body, size = await body_of(request)
    name = model_of(body)
    asked = await checked(spec.name, body, size, services.settings)
    target = await services.registry.find(name, spec.name)
    request.state.facts = {"model": target.label, "rows": len(asked.rows)}

    async def answer() -> list[Any]:
        with await services.registry.using(target, spec.name, len(asked.rows)) as model:
            return await model.answer(asked.rows, asked.options)

    answers = await while_connected(request, answer())
    services.metrics.request(spec.name, target.name, time.perf_counter() - start)
    return to_json({spec.output: inputs.unwrap(answers, single=asked.single)})


def model_of(body: dict[str, object]) -> str:
    """Return the name in a body, which is taken out of it.

    Raises:
        InputError: it is no string, or too long.
    """
    name = body.pop("model", "")
    if name is None:
        return ""
    if not isinstance(name, str) or len(name) > MAX_NAME:
        raise InputError(
            f"model must be a name of at most {MAX_NAME} characters, or '' for the default; "
            f"received {describe(name)}."
        )
    return name
