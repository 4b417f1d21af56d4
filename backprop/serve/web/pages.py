"""The pages and their addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from backprop.errors import InputError, NotFoundError
from backprop.serve.web import cards, reports
from backprop.serve.web.assets import static
from backprop.serve.web.errors import error_page
from backprop.serve.web.examples import example
from backprop.serve.web.filters import Filter, choices
from backprop.serve.web.logging_in import LogIn
from backprop.serve.web.rendering import page
from backprop.serve.web.services import PageServices
from backprop.serve.web.snippets import snippets
from backprop.specs import SPECS

__all__ = ["routes"]


def routes(services: PageServices) -> list[Route]:
    """Return the routes of every page.

    Handlers that are no coroutines run on threads: they read the database.
    """
    pages, log_in = Pages(services), LogIn(services)
    return [
        Route("/", pages.home, name="home"),
        Route("/catalogue", pages.home),
        Route("/catalogue/{name}", pages.model, name="model"),
        Route("/try", pages.first_task),
        Route("/try/{task}", pages.try_it, name="try"),
        Route("/live", pages.live, name="live"),
        Route("/login", log_in.form, methods=["GET"], name="login"),
        Route("/login", log_in.enter, methods=["POST"]),
        Route("/logout", log_in.leave, methods=["POST"]),
        Route("/static/{file}", static, name="static"),
    ]


def _found(handler: Callable[[Pages, Request], Response]) -> Callable[[Pages, Request], Response]:
    """Answer with a page where something is not there."""

    @wraps(handler)
    def answer(self: Pages, request: Request) -> Response:
        try:
            return handler(self, request)
        except (
            NotFoundError,
            InputError,
        ) as error:  # a version of another form is not there either
            return error_page(request, 404, str(error))

    return answer


class Pages:
    """What each page shows.

    Args:
        services: the server's parts.
    """

    def __init__(self, services: PageServices) -> None:
        self.services = services

    def home(self, request: Request) -> Response:
        """Return the catalogue, searched and filtered by the query."""
        models = self.services.registry.models()
        wanted = Filter.of(dict(request.query_params))
        context = {
            "models": wanted.apply(models),
            "total": len(models),
            "loaded": sum(bool(model["loaded"]) for model in models),
            "wanted": wanted,
            "choices": choices(models),
        }
        return page(request, "home.html", context)

    @_found
    def model(self, request: Request) -> Response:
        """Return one model's page, of the version the query names."""
        model = self.services.registry.model(request.path_params["name"])
        ref = request.query_params.get("version", "") or "latest"
        version = None
        if model["source"] == "hub":
            version = self.services.hub.version(model["name"], ref)
        card = version.card if version is not None else model.get("card") or ""
        report = reports.read(version.meta if version is not None else {}, card)
        asked = (request.query_params.get("task", ""), report.task, *model["tasks"])
        task = next((each for each in asked if each in model["tasks"] and each in SPECS), "")
        url = str(request.base_url).rstrip("/")
        context = {
            "model": model,
            "version": version,
            "card": cards.html(card),
            "report": report,
            "task": task,
            "snippets": snippets(
                task, _ref(model, version), url, own_labels=task in _classes(version)
            )
            if task
            else [],
            "tasks": sorted(model["tasks"], key=lambda each: each != report.task),
            "named": sorted(model["aliases"] or {}),
        }
        return page(request, "model.html", context)

    def first_task(self, request: Request) -> Response:
        """Send to the first task."""
        return RedirectResponse(f"/try/{next(iter(SPECS))}", 307)

    @_found
    def try_it(self, request: Request) -> Response:
        """Return the form of a task, for the model that the query names."""
        spec = SPECS.get(request.path_params["task"])
        if spec is None:
            raise NotFoundError(f"There is no such task; there are: {', '.join(SPECS)}.")
        able = [each for each in self.services.registry.models() if spec.name in each["tasks"]]
        chosen = request.query_params.get("model", "")
        by_default = next((m["name"] for m in able if spec.name in (m["default_for"] or ())), "")
        found = example(spec.name)
        context = {
            "spec": spec,
            "words": WORDS[spec.name],
            "able": sorted(able, key=lambda each: each["name"] != by_default),
            "chosen": chosen,
            "default": by_default,
            "is_known": chosen.partition("@")[0] in {each["name"] for each in able},
            "example": {
                "rows": [dict(row) for row in found.rows],
                "options": dict(found.options),
                "labels": list(found.labels),
            },
        }
        return page(request, "try.html", context)

    def live(self, request: Request) -> Response:
        """Return the page that polls the figures."""
        titles = {name: spec.title for name, spec in SPECS.items()}
        context = {"stats": self.services.registry.stats(), "titles": titles}
        return page(request, "live.html", context)


WORDS = {
    "qa": "Ask a text, and keep asking: it knows what you asked before.",
    "text-classification": "Name some labels; see how well each fits.",
    "emotion": "What the writer felt, in a word.",
    "summarisation": "The long of it, made short.",
    "text-generation": "Begin something; it goes on.",
    "text-vectorisation": "Texts as numbers, and how near they are to each other.",
    "image-classification": "What a picture shows, of the labels you name or of its own.",
    "image-vectorisation": "Pictures as numbers, and how near they are to each other.",
    "image-text-vectorisation": "A picture and a text as one vector, compared with others.",
}
"""What a form is good for."""


def _classes(version: Any) -> Mapping[str, Any]:
    """Return the tasks whose labels a version has of its own."""
    settings = version.meta.get("settings", {}) if version is not None else {}
    found = settings.get("classes", {}) if isinstance(settings, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def _ref(model: dict[str, Any], version: Any) -> str:
    """Return what to ask for: the name alone means the latest version."""
    is_latest = version is None or version.number == model["latest"]
    return str(model["name"]) if is_latest else f"{model['name']}@{version.number}"
