"""Templates to pages, every value escaped and every page under a strict policy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from backprop.serve.web.filters import size_of
from backprop.serve.web.reports import figure
from backprop.serve.web.terrain import descent, terrain
from backprop.specs import SPECS

__all__ = ["HEADERS", "may", "page"]

POLICY = "; ".join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "object-src 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    # Not "no-referrer": the origin of a form would then be "null", as that of a forged one.
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
}
"""Of every page; what belongs to one visitor is kept by nobody."""

SCOPES = ("infer", "write", "admin")


def page(
    request: Request, template: str, context: Mapping[str, Any], *, status: int = 200
) -> HTMLResponse:
    """Return a template as a page.

    Args:
        request: that asks for it; says who is there.
        template: file in ``templates/``.
        context: what the template shows.
        status: HTTP status.
    """
    key = _key(request)
    shared = {
        "path": request.url.path,
        "key_name": (getattr(key, "name", "") or "key") if key else "",
        "is_logged_in": key is not None and "cookie" in request.headers,
        "can_write": may(request, "write"),
        "can_admin": may(request, "admin"),
    }
    text = _templates().get_template(template).render({**shared, **context})
    return HTMLResponse(text, status, headers=HEADERS)


def may(request: Request, scope: str) -> bool:
    """Return whether the visitor's key has ``scope``: which buttons make sense.

    Where a page is reached without a key the server has none, and everyone there may do all. It
    is checked again when a button is used.
    """
    key = _key(request)
    if key is None:
        return True
    return SCOPES.index(key.scope) >= SCOPES.index(scope) if key.scope in SCOPES else False


def _key(request: Request) -> Any:
    return request.scope.get("state", {}).get("key")


@cache
def _templates() -> Environment:
    folder = Path(__file__).with_name("templates")
    templates = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    templates.globals |= {"SPECS": SPECS, "terrain": terrain, "descent": descent}
    templates.filters |= {
        "count": _count,
        "size_of": size_of,
        "languages": _languages,
        "figure": figure,
        "language": lambda code: LANGUAGES.get(code, code),
        "bytes": _bytes,
        "field_label": _label,
    }
    return templates


def _count(number: object) -> str:
    """Return a number of parameters as people say it: 22.7 M, 1.5 B."""
    if not isinstance(number, int | float) or number <= 0:
        return ""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def _bytes(number: object) -> str:
    if not isinstance(number, int | float) or number <= 0:
        return "0 MB"
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if number >= size:
            return (
                f"{number / size:.3g} {unit}"
                if number < 999 * size
                else f"{number / size:.0f} {unit}"
            )
    return f"{number:.0f} B"


def _languages(codes: list[str] | None) -> str:
    """Return languages in a few words."""
    codes = codes or []
    if not codes:
        return ""
    if "multilingual" in codes:
        return "many languages"
    if len(codes) > 3:
        return f"{len(codes)} languages"
    return ", ".join(LANGUAGES.get(code, code) for code in codes)


def _label(name: str) -> str:
    """Return a field's or option's key as a label: ``top_k`` is "Top k"."""
    return LABELS.get(name, name.replace("_", " ").capitalize())


LABELS = {
    "top_k": "Top k",
    "top_p": "Top p",
    "multi_label": "Judge labels",
    "allow_no_answer": "May say nothing",
    "long": "Long input",
    "num_beams": "Beams",
    "num_generations": "Answers",
    "do_sample": "Sample",
    "min_length": "Fewest tokens",
    "max_length": "Most tokens",
    "stop": "Stop at",
}

LANGUAGES = {
    "ar": "Arabic", "bg": "Bulgarian", "ca": "Catalan", "cs": "Czech", "da": "Danish",
    "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian",
    "fa": "Persian", "fi": "Finnish", "fr": "French", "gl": "Galician", "gu": "Gujarati",
    "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "hy": "Armenian",
    "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ka": "Georgian", "ko": "Korean",
    "ku": "Kurdish", "lt": "Lithuanian", "lv": "Latvian", "mk": "Macedonian", "mn": "Mongolian",
    "mr": "Marathi", "ms": "Malay", "my": "Burmese", "nb": "Norwegian", "nl": "Dutch",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak",
    "sl": "Slovenian", "sq": "Albanian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili",
    "th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese",
    "zh": "Chinese",
}  # fmt: skip
"""ISO 639-1 codes of the catalogue, in English."""
