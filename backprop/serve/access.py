"""Who may do what: one table of all routes. What is not in it only administrators reach."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from backprop.specs import SPECS

__all__ = ["PUBLIC", "RULES", "UNLISTED", "Rule", "methods_of", "nearest", "rule_of"]

PUBLIC = "public"
"""The scope of routes that need no key."""

Body = Literal["json", "bytes", "form"]


@dataclass(frozen=True)
class Rule:
    """What a route asks of a request.

    Args:
        method: HTTP method.
        path: template; a part in braces stands for any one part of a path.
        scope: that a key must have, or ``PUBLIC``.
        body: what it takes: JSON, the bytes of a file, or the short form of a web page.
        is_page: whether people see it in a browser, who are then sent to log in.
    """

    method: str
    path: str
    scope: str
    body: Body = "json"
    is_page: bool = False


RULES = (
    *(Rule("POST", f"/{task}", "infer") for task in SPECS),
    Rule("GET", "/models", "infer"),
    Rule("GET", "/models/{name}", "infer"),
    Rule("DELETE", "/models/{name}", "admin"),
    Rule("GET", "/models/{name}/versions", "infer"),
    Rule("POST", "/models/{name}/versions", "write"),
    Rule("GET", "/models/{name}/versions/{ref}", "infer"),
    Rule("DELETE", "/models/{name}/versions/{ref}", "admin"),
    Rule("PUT", "/models/{name}/aliases/{alias}", "write"),
    Rule("DELETE", "/models/{name}/aliases/{alias}", "write"),
    Rule("HEAD", "/blobs/{sha256}", "write"),
    Rule("PUT", "/blobs/{sha256}", "write", "bytes"),
    Rule("GET", "/blobs/{sha256}", "infer"),
    Rule("GET", "/v1/models", "infer"),
    Rule("GET", "/v1/models/{name}", "infer"),
    Rule("POST", "/v1/embeddings", "infer"),
    Rule("POST", "/v1/completions", "infer"),
    Rule("POST", "/v1/chat/completions", "infer"),
    Rule("GET", "/openapi.json", "infer"),
    Rule("GET", "/stats.json", "infer"),
    Rule("GET", "/metrics", "admin"),
    Rule("GET", "/livez", PUBLIC),
    Rule("GET", "/readyz", PUBLIC),
    Rule("GET", "/", "infer", is_page=True),
    Rule("GET", "/catalogue", "infer", is_page=True),
    Rule("GET", "/catalogue/{name}", "infer", is_page=True),
    Rule("GET", "/try", "infer", is_page=True),
    Rule("GET", "/try/{task}", "infer", is_page=True),
    Rule("GET", "/live", "infer", is_page=True),
    Rule("GET", "/static/{file}", PUBLIC),
    Rule("GET", "/login", PUBLIC, is_page=True),
    Rule("POST", "/login", PUBLIC, "form"),
    Rule("POST", "/logout", PUBLIC, "form"),
)

LONGEST_MEANT = 200
"""Characters of an address that another is looked for: it is part of the answer."""

UNLISTED = Rule("*", "(other)", "admin")


def rule_of(method: str, path: str) -> Rule:
    """Return the rule of a request.

    Args:
        method: HTTP method; HEAD has the rule of GET where it has none of its own.
        path: decoded, as the router sees it too.
    """
    rule = _EXACT.get((method, path))
    if rule is None:
        rule = _by_pattern(method, path)
    if rule is None and method == "HEAD":
        return rule_of("GET", path)
    return rule or UNLISTED


def methods_of(path: str) -> list[str]:
    """Return the methods that an address takes, sorted; none where there is nothing."""
    return [method for method in _METHODS if rule_of(method, path) is not UNLISTED]


def nearest(method: str, path: str) -> str | None:
    """Return the address that was probably meant by one that is none."""
    if len(path) > LONGEST_MEANT:
        return None
    other = path.removeprefix("/v1") if path.startswith("/v1/") else f"/v1{path}"
    if other != "/" and rule_of(method, other) is not UNLISTED:
        return other
    known = [rule.path for rule in RULES if rule.method == method and "{" not in rule.path]
    return next(iter(get_close_matches(path, known, n=1, cutoff=0.8)), None)


def _by_pattern(method: str, path: str) -> Rule | None:
    parts = path.split("/", MOST_PARTS)
    for pattern, rule in _PATTERNS.get((method, len(parts)), ()):
        if all(part if want is None else part == want for part, want in zip(parts, pattern)):  # noqa: B905 - equally long
            return rule
    return None


def _pattern(path: str) -> list[str | None]:
    """Return the parts of a template, None for those that stand for any."""
    return [None if part.startswith("{") else part for part in path.split("/")]


_METHODS = sorted({"HEAD", *(rule.method for rule in RULES)})
_EXACT = {(rule.method, rule.path): rule for rule in RULES if "{" not in rule.path}
_PATTERNS: dict[tuple[str, int], list[tuple[list[str | None], Rule]]] = {}
for _rule in RULES:
    if "{" in _rule.path:
        _parts = _pattern(_rule.path)
        _PATTERNS.setdefault((_rule.method, len(_parts)), []).append((_parts, _rule))

MOST_PARTS = max(len(parts) for pairs in _PATTERNS.values() for parts, _ in pairs)
"""A path is not split further: one of more parts fits no template."""
