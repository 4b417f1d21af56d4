"""Prompts: a text to the token ids a generator starts from, plainly or by chat template."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from backprop.errors import InputError

__all__ = ["ChatTemplate", "Message", "environment", "fill"]

Message = dict[str, str]
"""``{"role": "system" | "user" | "assistant", "content": …}``"""


def fill(template: str, **values: str) -> str:
    """Return ``template`` with each ``{name}`` replaced; braces in the values stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)


class ChatTemplate:
    """A model's own way to write a conversation, rendered in a sandbox.

    Args:
        source: Jinja text, as in ``chat_template.jinja`` or ``tokenizer_config.json``.
        special: special tokens the template may name, such as ``bos_token``.
    """

    def __init__(self, source: str, special: Mapping[str, str]) -> None:
        self.source = source
        self.special = dict(special)

    def render(self, messages: Sequence[Message]) -> str:
        """Return the conversation as text, open for the assistant's next words.

        A template that refuses a system message gets it as part of the user's first.

        Raises:
            InputError: the template refuses the conversation, or has an error.
        """
        forms = [list(messages)]
        if len(messages) > 1 and messages[0]["role"] == "system":
            forms.append(_without_system(messages))
        for form in forms:
            try:
                return _compiled(self.source).render(
                    messages=form,
                    tools=None,
                    documents=None,
                    add_generation_prompt=True,
                    enable_thinking=False,
                    **self.special,
                )
            except TEMPLATE_ERRORS as error:
                refusal = error
        raise InputError(
            f"The model's chat template refused the conversation ({refusal}); received roles "
            f"{[message['role'] for message in messages]}."
        ) from refusal


TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError)
"""What rendering raises: a refusal, or a mistake in the template, which others wrote."""


@lru_cache(maxsize=32)
def _compiled(source: str) -> Template:
    """Return the template, which takes longer to read than to render."""
    return environment().from_string(source)


def environment() -> ImmutableSandboxedEnvironment:
    """Return what chat templates are read with: a sandbox that knows what they may use."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    made.filters["tojson"] = _to_json
    made.globals["raise_exception"] = _refuse
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """Return the conversation with the system's words before the user's, for models without."""
    first, second, *others = messages
    both = {**second, "content": f"{first['content']}\n\n{second['content']}"}
    return [both, *others]


class _Generation(Extension):
    """Renders ``{% generation %}…{% endgeneration %}``, a mark some templates use, as its body."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON without the escapes for HTML that Jinja's own filter makes."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
