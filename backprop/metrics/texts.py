"""Figures of answers that are texts: exact match, F1 of words, ROUGE-L."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from backprop.metrics.measures import Measures

__all__ = ["exact_match", "measure_qa", "measure_written", "rouge_l", "word_f1"]

References = str | Sequence[str]
"""What the answer should be; any one of several will do."""


def measure_qa(answers: Sequence[str], truth: Sequence[References]) -> Measures:
    """Return exact match and F1 of SQuAD, as shares; with several references the best counts.

    Args:
        answers: one a row; "" says that there is none.
        truth: the right answer, or several, of each row.

    Source: Rajpurkar et al. 2016, arXiv:1606.05250, with the official script's normalisation.
    """
    values = {
        "exact_match": _mean_of_best(exact_match, answers, truth),
        "f1": _mean_of_best(word_f1, answers, truth),
    }
    return Measures(values, "f1")


def measure_written(answers: Sequence[str], truth: Sequence[References]) -> Measures:
    """Return ROUGE-L and the share of answers that are a reference, outer space aside.

    Args:
        answers: one a row.
        truth: the reference, or several, of each row; the best counts.
    """
    values = {
        "rouge_l": _mean_of_best(rouge_l, answers, truth),
        "exact_match": _mean_of_best(_is_same, answers, truth),
    }
    return Measures(values, "rouge_l")


def exact_match(answer: str, reference: str) -> float:
    """Return 1 where both are the same but for case, punctuation, articles and space, else 0."""
    return float(_normalised(answer) == _normalised(reference))


def word_f1(answer: str, reference: str) -> float:
    """Return F1 of the words that both have; of two without words, 1."""
    ours, theirs = _normalised(answer).split(), _normalised(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs))


def rouge_l(answer: str, reference: str) -> float:
    """Return the F-measure of the longest common subsequence of words; 0 where one has no words.

    Words are runs of letters and digits in lower case, without stemming.

    Source: Lin 2004, https://aclanthology.org/W04-1013, with precision and recall of equal weight
    as the rouge-score package has them.
    """
    ours, theirs = _words(answer), _words(reference)
    if not ours or not theirs:
        return 0.0
    return 2 * _common_length(ours, theirs) / (len(ours) + len(theirs))


def _common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence.

    One row of the usual table is the bits of one number, so a row takes a few operations.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited".
    """
    everything = (1 << len(first)) - 1
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << i
    row = everything
    for word in second:
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & everything
    return len(first) - row.bit_count()


def _mean_of_best(
    score: Callable[[str, str], float], answers: Sequence[str], truth: Sequence[References]
) -> float:
    return fmean(
        max(score(answer, each) for each in _references(references))
        for answer, references in zip(answers, truth, strict=True)
    )


def _references(references: References) -> Sequence[str]:
    """Return the references as a list; where none was given there is no answer."""
    return [references] if isinstance(references, str) else references or [""]


def _normalised(text: str) -> str:
    """Return ``text`` as SQuAD compares it: lower case, no punctuation, articles or extra space."""
    bare = "".join(each for each in text.lower() if each not in PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", bare).split())


PUNCTUATION = frozenset(string.punctuation)
ARTICLES = re.compile(r"\b(a|an|the)\b")
WORDS = re.compile(r"[^\W_]+")


def _words(text: str) -> list[str]:
    return WORDS.findall(text.lower())


def _is_same(answer: str, reference: str) -> float:
    return float(answer.strip() == reference.strip())
