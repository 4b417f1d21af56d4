"""Chat templates: only what decent ones need, and proof that they end on a plain conversation.

They are rendered in Jinja's sandbox anyway, which keeps them from Python's own objects; what it
does not stop are templates that run for ever or make gigabytes of text, so those are what this is
about. Whatever node of Jinja's grammar is not named here is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes

from backprop.errors import InputError
from backprop.handlers.prompts import ChatTemplate, Message, environment
from backprop.serve.vetting.expressions import MOST_COPIES, Words, key_of
from backprop.serve.vetting.refusing import refuse, shown

__all__ = ["check_template", "render_template"]

LONGEST = 64 << 10
MOST_NODES = 20_000
MOST_LOOPS_DEEP = 4
MOST_STATIC = 2048
MOST_SWELLING = 3
MOST_LINKS = 200
LONGEST_OUTPUT = 1 << 20

ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Const, nodes.Name, nodes.NSRef),
    *(nodes.If, nodes.For, nodes.CondExpr, nodes.Assign, nodes.AssignBlock, nodes.Macro),
    *(nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.Slice),
    *(nodes.Getattr, nodes.Getitem, nodes.Call, nodes.Filter, nodes.Test),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not),
    *(nodes.Add, nodes.Sub, nodes.Mod, nodes.Concat, nodes.Neg, nodes.Break, nodes.Continue),
)
FUNCTIONS = frozenset({"raise_exception", "strftime_now", "namespace", "range", "dict"})
METHODS = frozenset(
    {
        *("strip", "lstrip", "rstrip", "split", "rsplit", "startswith", "endswith", "replace"),
        *("upper", "lower", "title", "capitalize", "items", "keys", "values", "get", "index"),
        *("find", "join", "count", "removeprefix", "removesuffix"),
    }
)
FILTERS = frozenset(
    {
        *("trim", "length", "count", "tojson", "list", "join", "map", "select", "selectattr"),
        *("reject", "rejectattr", "items", "first", "last", "upper", "lower", "string", "int"),
        *("float", "default", "d", "replace", "capitalize", "title", "safe", "indent", "dictsort"),
        *("sort", "reverse", "unique", "e", "escape", "round", "abs", "sum", "min", "max"),
    }
)
TIME = re.compile(r"([^%]|%-?[aAbBdeHIjmMpSuUwWxXyYcZz%])*")


def check_template(source: str, where: str) -> None:
    """Refuse a template that uses what chat templates have no need of.

    Raises:
        ArtefactError: it does, or it is no template.
    """
    if len(source) > LONGEST:
        refuse(where, f"it has {len(source):,} characters; at most {LONGEST:,} are allowed")
    try:
        tree = environment().parse(source)
    except (TemplateError, RecursionError) as error:
        refuse(where, f"it is no template ({shown(str(error))})", "mend the template")
    words = Words(tree)
    for count, node in enumerate(tree.find_all(nodes.Node)):
        if count > MOST_NODES:
            refuse(where, f"it has more than {MOST_NODES:,} parts")
        _check_node(node, words, where)
    _check_loops(tree, words, where)
    _check_swelling(tree, words, where)
    if words.copies([tree]) > MOST_COPIES:
        refuse(where, f"it writes the same text more than {MOST_COPIES:,} times")
    _check_recursion(words, where)


def render_template(source: str, where: str) -> None:
    """Refuse a template that fails on every plain conversation, or writes without measure.

    This takes as long as the template does; ``apart`` bounds its time and memory.

    Raises:
        ArtefactError: it does.
    """
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"})
    failures = []
    for conversation in CONVERSATIONS:
        length = sum(len(message["content"]) for message in conversation)
        try:
            text = template.render(conversation)
        except (InputError, RecursionError) as error:
            failures.append(str(error))
            continue
        if len(text) > LONGEST_OUTPUT + 16 * length:
            refuse(where, f"it writes {len(text):,} characters for {length:,}")
    if len(failures) == len(CONVERSATIONS):
        refuse(where, f"it can't be rendered ({failures[0][:200]})", "mend the template")


def _turns(count: int, content: str) -> list[Message]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": f"{content} {i}"} for i in range(count)]


CONVERSATIONS: Sequence[list[Message]] = (
    [{"role": "user", "content": "Hello, how are you?"}],
    [{"role": "system", "content": "Be brief."}, *_turns(3, "What is 2 + 2?")],
    _turns(201, "A word, a sentence, and some more words. <think>No</think> "),
    [{"role": "user", "content": "word " * 20_000}],
)


def _check_node(node: nodes.Node, words: Words, where: str) -> None:
    if not isinstance(node, ALLOWED):
        _no(where, f"{{% {type(node).__name__.lower()} %}}", node)
    if isinstance(node, (nodes.Filter, nodes.Call)) and (node.dyn_args or node.dyn_kwargs):
        _no(where, "arguments with *", node)
    match node:
        case nodes.Getattr() | nodes.Getitem():
            _check_attribute(node, where)
        case nodes.Const():
            _check_constant(node, where)
        case nodes.Call():
            _check_call(node, words, where)
        case nodes.Filter():
            _check_filter(node, where)
        case nodes.Mod() if not words.is_number(node.left):
            _no(where, "% of what may be text", node)
        case nodes.Name() if node.name.startswith("_"):
            _no(where, f"the name {shown(node.name)}", node)
        case nodes.Keyword() if node.key.startswith("_"):
            _no(where, f"the argument {shown(node.key)}", node)


def _check_filter(node: nodes.Filter, where: str) -> None:
    if node.name not in FILTERS:
        _no(where, f"the filter {shown(node.name)}", node)
    if node.name in ("indent", "tojson"):
        for value in (*node.args, *(own.value for own in node.kwargs)):
            large = isinstance(value, nodes.Const) and _too_large(value.value, 16)
            if not isinstance(value, (nodes.Const, nodes.Tuple)) or large:
                _no(where, "an indent of more than 16", node)
    if node.name in ("replace", "join"):
        _check_growth(node.args, node.name, node, where)


def _check_attribute(node: nodes.Getattr | nodes.Getitem, where: str) -> None:
    name: Any = node.attr if isinstance(node, nodes.Getattr) else None
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        name = node.arg.value
    if isinstance(name, str) and name.startswith("_"):
        _no(where, f"the attribute {shown(name)}", node)


def _check_constant(node: nodes.Const, where: str) -> None:
    """Refuse names of Python's own attributes, which filters take as text, and great numbers."""
    if isinstance(node.value, str) and re.search(r"__\w+__", node.value):
        _no(where, f"the text {shown(node.value)}", node)
    if _too_large(node.value, 1_000_000):
        _no(where, f"the number {shown(node.value)}", node)


def _check_call(node: nodes.Call, words: Words, where: str) -> None:
    called = node.node
    if isinstance(called, nodes.Name):
        if called.name not in FUNCTIONS and called.name not in words.macros:
            _no(where, f"a call of {shown(called.name)}", node)
        if called.name in FUNCTIONS and called.name in words.values:
            _no(where, f"another {shown(called.name)}", node)
        if called.name == "range":
            _check_range(node, words, where)
        if called.name == "strftime_now":
            _check_time(node, where)
    elif not isinstance(called, nodes.Getattr) or called.attr not in METHODS:
        name = called.attr if isinstance(called, nodes.Getattr) else type(called).__name__
        _no(where, f"a call of {shown(name)}", node)
    elif called.attr in ("replace", "join"):
        arguments = node.args if called.attr == "replace" else [called.node]
        _check_growth(arguments, called.attr, node, where)


def _check_range(node: nodes.Call, words: Words, where: str) -> None:
    if node.kwargs or not all(map(words.is_number, node.args)):
        _no(where, "range of what may be no number", node)
    for own in node.find_all(nodes.Const):
        if _too_large(own.value, 256):
            _no(where, f"range of {own.value:,}", node)


def _check_time(node: nodes.Call, where: str) -> None:
    form = node.args[0] if len(node.args) == 1 and not node.kwargs else None
    fine = isinstance(form, nodes.Const) and isinstance(form.value, str)
    if not fine or len(form.value) > 100 or not TIME.fullmatch(form.value):  # type: ignore[union-attr]
        _no(where, "strftime_now of a form that is not plain", node)


def _check_growth(arguments: Sequence[nodes.Expr], name: str, node: nodes.Node, where: str) -> None:
    """Refuse replacements and separators that could make a text many times as long."""
    if name == "join":
        separators = [own for own in arguments[:1] if not isinstance(own, nodes.Const)]
        if separators or any(len(str(own.value)) > 64 for own in arguments[:1]):  # type: ignore[attr-defined]
            _no(where, "join with what is no short text", node)
        return
    if len(arguments) < 2 or not all(isinstance(own, nodes.Const) for own in arguments[:2]):
        _no(where, "replace of what is no fixed text", node)
    old, new = (str(own.value) for own in arguments[:2])  # type: ignore[attr-defined]
    if not old or len(new) > max(8, 2 * len(old)):
        _no(where, "replace with much longer text", node)


def _too_large(value: Any, most: int) -> bool:
    return isinstance(value, (int, float)) and not abs(value) <= most


def _check_loops(
    node: nodes.Node, words: Words, where: str, loops: tuple[nodes.For, ...] = ()
) -> None:
    """Refuse loops that multiply: over anything but what the loop around them is at."""
    for child in node.iter_child_nodes():
        inside = loops
        if isinstance(child, nodes.For):
            inside = (*loops, child)
            around = loops[-1] if loops else None
            multiplies = bool(loops) and not words.is_part(child.iter, around)
            if child.recursive or multiplies or len(inside) > MOST_LOOPS_DEEP:
                _no(where, "a loop in a loop, over more than what the outer one is at", child)
            if len(inside) > 1 and _static(child) > MOST_STATIC:
                _no(where, f"more than {MOST_STATIC:,} fixed characters in a loop in a loop", child)
        if isinstance(child, (nodes.Assign, nodes.AssignBlock)):
            body = [child.node] if isinstance(child, nodes.Assign) else child.body
            key = key_of(child.target)
            fixed = isinstance(child, nodes.Assign) and words.is_number(child.node)
            if not fixed and words.own_uses(key, body, inside) > 1:
                _no(where, f"text ({shown(key)}) that is put together from itself twice", child)
        _check_loops(child, words, where, inside)


def _static(node: nodes.Node) -> int:
    """Return how many characters of fixed text a loop writes each time round."""
    data = sum(len(own.data) for own in node.find_all(nodes.TemplateData))
    texts = (own.value for own in node.find_all(nodes.Const))
    return data + sum(len(own) for own in texts if isinstance(own, str))


def _check_swelling(tree: nodes.Template, words: Words, where: str) -> None:
    """Refuse chains of what can make text longer: each link multiplies its length."""
    links = [own for own in tree.find_all((nodes.Filter, nodes.Call)) if _swells(own)]
    if len(links) > MOST_LINKS:
        refuse(where, f"it has more than {MOST_LINKS} of tojson, join and replace")
    chains = _Chains(words)
    for node in links:
        if chains.length(node) > MOST_SWELLING:
            _no(where, "tojson, join or replace of what these have made already", node)


class _Chains:
    """How many of what makes text longer follow on each other."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.known: dict[int, int] = {}

    def length(self, link: nodes.Node) -> int:
        """Return the links from ``link`` down to the conversation; a circle has too many."""
        if id(link) not in self.known:
            self.known[id(link)] = MOST_SWELLING + 1  # while its own are counted
            below = map(self.length, self._next(link))
            self.known[id(link)] = min(1 + max(below, default=0), MOST_SWELLING + 1)
        return self.known[id(link)]

    def _next(self, link: nodes.Node) -> list[nodes.Node]:
        """Return the links below ``link`` with none between, by way of names too."""
        pending, seen = list(link.iter_child_nodes()), set[str]()
        found: list[nodes.Node] = []
        while pending:
            node = pending.pop()
            if _swells(node):
                found.append(node)
                continue
            pending += node.iter_child_nodes()
            if (key := key_of(node)) and key not in seen:
                seen.add(key)
                pending += self.words.sources.get(key, ())
        return found


def _swells(node: nodes.Node) -> bool:
    """Return whether what comes out can be longer than what goes in."""
    if isinstance(node, nodes.Filter):
        name = node.name
    elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
        name = node.node.attr
    else:
        return False
    if name == "replace":
        texts = [str(getattr(own, "value", "")) for own in node.args[:2]]
        return len(texts[-1]) > len(texts[0])
    return name in ("tojson", "join", "indent")


def _check_recursion(words: Words, where: str) -> None:
    """Refuse macros that call themselves, or are called with what they made."""
    for name, macro in words.macros.items():
        for own in (name, *(argument.name for argument in macro.args)):
            if words.reaches(own, name):
                _no(where, f"the macro {shown(name)}, which is called by itself or its own", macro)


def _no(where: str, what: str, node: nodes.Node) -> NoReturn:
    refuse(
        where,
        f"line {node.lineno} has {what}, which a chat template may not use here",
        "write that part another way",
    )
