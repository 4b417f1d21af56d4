"""A conversation as OpenAI's clients send it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backprop.errors import InputError
from backprop.inputs import check_text
from backprop.pictures import describe

__all__ = ["conversation"]

ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
"""Role to what chat templates call it."""
MOST_MESSAGES = 200
FIELDS = {"role", "content", "name"}


def conversation(body: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the messages of a body, each with ``role`` and ``content`` as text.

    Raises:
        InputError: they are missing, of another form, or hold more than text.
    """
    if "messages" not in body:
        raise InputError('messages is missing; send [{"role": "user", "content": "..."}].')
    value = body["messages"]
    if value == []:
        raise InputError("messages must not be empty.")
    if not isinstance(value, list):
        raise InputError(f"messages must be a list of messages; received {describe(value)}.")
    if len(value) > MOST_MESSAGES:
        raise InputError(f"messages has {len(value)}; at most {MOST_MESSAGES} are allowed.")
    return [_message(each, f"messages[{i}]") for i, each in enumerate(value)]


def _message(value: object, where: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be an object; received {describe(value)}.")
    unknown = {key for key, own in value.items() if own is not None} - FIELDS
    if unknown:
        raise InputError(f"{where} has {describe(min(unknown))}, which can't be used here.")
    role = value.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise InputError(
            f"{where}.role must be one of {', '.join(ROLES)}; received {describe(role)}."
        )
    return {"role": ROLES[role], "content": _text(value.get("content"), f"{where}.content")}


def _text(content: object, where: str) -> str:
    """Return a message's text; parts are put after each other."""
    if not isinstance(content, list):
        return check_text(content, where)
    if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        raise InputError(f"{where} holds parts that are not text; models here read text only.")
    parts: list[Any] = [part.get("text") for part in content]
    return "".join(check_text(part, where) for part in parts)
