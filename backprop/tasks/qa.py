"""Q&A: answers to questions about a text, in conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backprop.errors import InputError
from backprop.tasks.base import Task

__all__ = ["QA"]

Turns = Sequence[tuple[str, str]]
"""Earlier (question, answer) pairs, oldest first."""


class QA(Task):
    """Answers questions about a text, with the conversation so far in mind.

    Args:
        options: those of ``Task``.
    """

    task = "qa"

    def __call__(
        self,
        question: str | list[str],
        context: str | list[str],
        prev_qa: Turns | Sequence[Turns] | None = None,
        *,
        details: bool = False,
        allow_no_answer: bool = False,
        long: str | None = None,
    ) -> Any:
        """Return the answer, or one for each question of a list.

        Args:
            question: a question, or a list of them.
            context: the text that holds the answer; one for each question.
            prev_qa: earlier ``(question, answer)`` pairs; for a list of questions a list of those.
            details: return ``{"answer", "score", "start", "end"}``: a probability and the
                answer's place in the context, in characters.
            allow_no_answer: return ``""`` where the text has no answer.
            long: ``"chunk"`` (default: all of the context is read), ``"truncate"`` or ``"error"``.

        Raises:
            InputError: a value is blank, or the lists differ in length.
        """
        questions, answers = _split(prev_qa)
        return self.run(
            {
                "question": question,
                "context": context,
                "prev_q": questions,
                "prev_a": answers,
                "details": details,
                "allow_no_answer": allow_no_answer,
                "long": long,
            }
        )


def _split(prev_qa: Turns | Sequence[Turns] | None) -> tuple[Any, Any]:
    """Return (questions, answers) of a conversation, or of a list of conversations.

    Raises:
        InputError: something in it is not a pair.
    """
    if not prev_qa:
        return None, None
    if _is_turn(prev_qa[0]):
        return _unzip(prev_qa)
    sides = [_unzip(turns) for turns in prev_qa]
    return [questions for questions, _ in sides], [answers for _, answers in sides]


def _is_turn(value: Any) -> bool:
    """Whether ``value`` is one (question, answer) pair rather than a list of them."""
    return isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], str)


def _unzip(turns: Any) -> tuple[list[str], list[str]]:
    if not isinstance(turns, (list, tuple)) or not all(map(_is_turn, turns)):
        raise InputError(
            f"prev_qa must hold (question, answer) pairs, or a list of such lists; received "
            f"{turns!r}."
        )
    return [question for question, _ in turns], [answer for _, answer in turns]
