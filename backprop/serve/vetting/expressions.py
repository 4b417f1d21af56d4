"""What is known of a template's names and expressions without running it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from jinja2 import nodes

__all__ = ["MOST_COPIES", "Words", "key_of", "mentioned"]

COUNTERS = frozenset({"index", "index0", "revindex", "revindex0", "length", "depth", "depth0"})
NOT_GIVEN = frozenset({"tools", "documents"})
"""Names that conversations here leave out, so that no loop over them runs."""

DEEPEST = 20
MOST_COPIES = 1024
QUESTIONS = (nodes.Compare, nodes.Test, nodes.Not)


class Words:
    """The names of a template: its macros, what each name is made of, what it can be.

    A name counts as one thing wherever it stands; Jinja's scopes would only make it less.

    Args:
        tree: the parsed template.
    """

    def __init__(self, tree: nodes.Template) -> None:
        self.macros = {own.name: own for own in tree.find_all(nodes.Macro)}
        self.values: dict[str, list[nodes.Node | None]] = {}
        """Name to all that is assigned to it; None for what is not one expression."""
        self.sources: dict[str, list[nodes.Node]] = {}
        """Name to every node that what it holds may come from."""
        for own in tree.find_all(nodes.Assign):
            self._note_assign(own)
        for block in tree.find_all(nodes.AssignBlock):
            self._note(key_of(block.target), None, *block.body)
        for loop in tree.find_all(nodes.For):
            for name in targets(loop):
                self._note(name, None, loop.iter)
        for name, macro in self.macros.items():
            self._note(name, None, *macro.body)
            for argument in macro.args:
                self._note(argument.name, None, *self._passed(tree, name))
        self._copies: dict[str, int] = {}
        self._reached = {name: self._closure(name) for name in self.sources}

    def is_number(self, value: nodes.Node, seen: frozenset[str] = frozenset()) -> bool:
        """Return whether an expression is a number for certain, whatever the conversation.

        Args:
            value: the expression.
            seen: names that are numbers if this is, such as one that is counted up.
        """
        match value:
            case nodes.Const():
                return isinstance(value.value, int)
            case nodes.Filter():
                return value.name in ("length", "count", "int")
            case nodes.Add() | nodes.Sub() | nodes.Mod():
                sides = (value.left, value.right)
                return all(self.is_number(own, seen) for own in sides)
            case nodes.Neg():
                return self.is_number(value.node, seen)
            case nodes.Getattr(node=nodes.Name(name="loop")):
                return value.attr in COUNTERS and "loop" not in self.values
        key = key_of(value)
        if key in seen:
            return True
        found = self.values.get(key, [])
        return bool(found) and all(
            own is not None and self.is_number(own, seen | {key}) for own in found
        )

    def is_part(self, value: nodes.Node, loop: nodes.For | None, depth: int = 0) -> bool:
        """Return whether what is looped over is part of what ``loop`` is at, or a few constants.

        All such loops together are no longer than the conversation; others multiply.
        """
        if depth > DEEPEST:
            return False
        match value:
            case nodes.Const():
                return not value.value
            case nodes.List() | nodes.Tuple():
                return len(value.items) <= 16
            case nodes.Call(node=nodes.Getattr() as method):
                return self.is_part(method.node, loop, depth + 1)
            case nodes.Filter() | nodes.Getattr() | nodes.Getitem():
                return value.node is not None and self.is_part(value.node, loop, depth + 1)
            case nodes.Name():
                if loop is not None and value.name in targets(loop):
                    return True
                found = self.values.get(value.name, [])
                return (bool(found) or value.name in NOT_GIVEN) and all(
                    own is not None and self.is_part(own, loop, depth + 1) for own in found
                )
        return False

    def reaches(self, start: str, end: str) -> bool:
        """Return whether what ``start`` holds may come from what ``end`` holds."""
        return end in self.reached(start)

    def reached(self, start: str) -> set[str]:
        """Return all names that what ``start`` holds may come from."""
        return self._reached.get(start, set())

    def copies(self, body: Iterable[nodes.Node], seen: frozenset[str] = frozenset()) -> int:
        """Return how often, at most, ``body`` writes one and the same piece of the conversation.

        A name that is made of itself counts once; ``own_uses`` tells whether it does so oftener.
        """
        total = 0
        for key in mentioned(body, written=True):
            if key in seen or key not in self.sources:
                total += 1
                continue
            if key not in self._copies:
                inner = seen | {key}
                self._copies[key] = max(
                    self.copies([own], inner) if key not in self.macros else 0
                    for own in self.sources[key] or [nodes.Const(0)]
                )
                if key in self.macros:
                    self._copies[key] = self.copies(self.sources[key], inner)
            total += max(1, self._copies[key])
            if total > MOST_COPIES:
                return total
        return total

    def own_uses(self, target: str, body: Iterable[nodes.Node], loops: Sequence[nodes.For]) -> int:
        """Return how often what is put into ``target`` names what comes from ``target``.

        Args:
            target: a name.
            body: what it is put together of.
            loops: those it stands in; what they are at comes from what they go through.
        """
        count = 0
        for key in mentioned(body):
            at = next(
                (own for own in reversed(loops) if key.partition(".")[0] in targets(own)), None
            )
            starts = [key] if at is None else list(mentioned([at.iter]))
            count += any(own == target or self.reaches(own, target) for own in starts)
        return count

    def _note_assign(self, own: nodes.Assign) -> None:
        if isinstance(own.target, nodes.Tuple):
            for name in _names(own.target):
                self._note(name, None, own.node)
            return
        key = key_of(own.target)
        self._note(key, own.node, own.node)
        if isinstance(own.node, nodes.Call) and key_of(own.node.node) == "namespace":
            for field in own.node.kwargs:  # what its fields are to begin with
                self._note(f"{key}.{field.key}", field.value, field.value)

    def _note(self, name: str, value: nodes.Node | None, *sources: nodes.Node) -> None:
        self.values.setdefault(name, []).append(value)
        self.sources.setdefault(name, []).extend(sources)

    @staticmethod
    def _passed(tree: nodes.Template, macro: str) -> Iterator[nodes.Node]:
        """Yield what a macro is called with."""
        for call in tree.find_all(nodes.Call):
            if key_of(call.node) == macro:
                yield from (*call.args, *(own.value for own in call.kwargs))

    def _closure(self, name: str) -> set[str]:
        found: set[str] = set()
        pending = [name]
        while pending:
            for key in mentioned(self.sources.get(pending.pop(), ())):
                if key not in found:
                    found.add(key)
                    pending.append(key)
        return found


def mentioned(body: Iterable[nodes.Node], *, written: bool = False) -> Iterator[str]:
    """Yield every name and namespace's field in ``body``, as often as it stands there.

    Args:
        body: nodes.
        written: leave out those that are only compared, tested or counted.
    """
    pending = list(body)
    while pending:
        node = pending.pop()
        if written and isinstance(node, QUESTIONS):
            continue
        if written and isinstance(node, nodes.Filter) and node.name in ("length", "count"):
            continue
        if written and isinstance(node, nodes.If | nodes.CondExpr):
            pending += [own for own in node.iter_child_nodes() if own is not node.test]
            continue
        key = key_of(node)
        if key:
            yield key
        if "." not in key:
            pending += node.iter_child_nodes()


def key_of(node: nodes.Node) -> str:
    """Return how a name or a namespace's field is called here; empty for anything else."""
    match node:
        case nodes.Name():
            return node.name
        case nodes.NSRef():
            return f"{node.name}.{node.attr}"
        case nodes.Getattr(node=nodes.Name() as owner):
            return f"{owner.name}.{node.attr}"
        case nodes.Getitem(node=nodes.Name() as owner, arg=nodes.Const() as field):
            return f"{owner.name}.{field.value}"
    return ""


def targets(loop: nodes.For) -> set[str]:
    """Return the names that a loop gives to what it is at."""
    return _names(loop.target)


def _names(target: nodes.Node) -> set[str]:
    own = {target.name} if isinstance(target, nodes.Name) else set()
    return own | {each.name for each in target.find_all(nodes.Name)}
