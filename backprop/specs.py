"""What each of the nine tasks takes, gives and learns from: one table.

Input checks, task signatures, CLI flags, ``check_model`` and the documentation all read
``SPECS``; nothing about a task's fields or options is written down anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from backprop.errors import UnsupportedTaskError

__all__ = ["SPECS", "STYLES", "Column", "Field", "Option", "TaskSpec", "Training", "spec_of"]

FieldKind = Literal["text", "image", "history", "labels"]
OptionKind = Literal["bool", "int", "float", "str", "strings"]
AnswerKind = Literal["text", "probabilities", "vector"]


@dataclass(frozen=True)
class Field:
    """One key of a task's input that has a value for each row.

    Args:
        name: key in the input dictionary.
        kind: ``text`` (str), ``image``, ``history`` (list of str a row) or ``labels`` (list of
            str a row, or one list that all rows share).
        doc: one line for help texts.
        required: whether the key must be there.
        argument: name in the task's signature, where that differs.
    """

    name: str
    kind: FieldKind
    doc: str
    required: bool = True
    argument: str = ""

    def __post_init__(self) -> None:
        """Let the argument's name default to the key."""
        object.__setattr__(self, "argument", self.argument or self.name)


@dataclass(frozen=True)
class Option:
    """One key of a task's input that holds for the whole call.

    Args:
        name: key in the input dictionary and name in the task's signature.
        kind: type of the value; ``strings`` is a str or a list of them.
        doc: one line for help texts.
        default: value in the task's signature. None leaves the choice to the model.
        low: smallest value allowed, or None.
        high: largest value allowed, or None.
        above_low: whether ``low`` itself is refused.
        choices: the values allowed, for ``str``.
        positional: whether it may be passed by position, as in 2021; others are keyword-only.
        caller_only: whether the task handles it itself, so that no model sees it.
    """

    name: str
    kind: OptionKind
    doc: str
    default: Any = None
    low: float | None = None
    high: float | None = None
    above_low: bool = False
    choices: tuple[str, ...] = ()
    positional: bool = False
    caller_only: bool = False


@dataclass(frozen=True)
class Column:
    """One column of the data a task is finetuned on.

    Args:
        name: key in ``finetune(params)``.
        kind: what each row holds.
        row: key under which the row reaches ``process_batch``; empty where the trainer keeps it.
        required: whether the key must be there.
    """

    name: str
    kind: Literal["text", "image", "label", "group", "score", "history"]
    row: str = ""
    required: bool = True


@dataclass(frozen=True)
class Training:
    """One way to finetune a task: its columns and extra arguments.

    Args:
        variant: value of ``variant``; empty where the task has one way only.
        columns: what ``params`` holds.
        arguments: further arguments of ``finetune`` and their defaults, in tokens.
    """

    variant: str
    columns: tuple[Column, ...]
    arguments: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class TaskSpec:
    """Everything there is to know about a task from outside.

    Args:
        name: the task string, such as ``"qa"``.
        title: for people.
        task_class: name of the class in ``backprop.tasks``.
        fields: keys with a value a row; the first decides whether a call is single or batched.
        options: keys that hold for the whole call.
        answer: what comes back for a row.
        output: key of the answer in the REST protocol.
        default: catalogue name of the model used when none is named.
        training: the ways to finetune it, the default first.
        learner: catalogue name of the starter that is finetuned where none is named and the
            default can't learn; empty where it can.
    """

    name: str
    title: str
    task_class: str
    fields: tuple[Field, ...]
    options: tuple[Option, ...]
    answer: AnswerKind
    output: str
    default: str
    training: tuple[Training, ...]
    learner: str = ""

    def field(self, name: str) -> Field:
        """Return the field called ``name``."""
        return next(field for field in self.fields if field.name == name)

    @property
    def primary(self) -> Field:
        """The field whose value, single or list, decides the shape of the call."""
        return self.fields[0]

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key a model may find in its input dictionary."""
        return tuple(
            [field.name for field in self.fields]
            + [option.name for option in self.options if not option.caller_only]
        )

    def arguments(self) -> Iterator[tuple[str, Any, bool]]:
        """Yield (name, default, keyword_only) in the order of the task's signature.

        A required argument has the default ``...``.
        """
        seen: set[str] = set()
        for field in self.fields:
            if field.argument not in seen:
                seen.add(field.argument)
                yield field.argument, ... if field.required else None, False
        for option in sorted(self.options, key=lambda option: not option.positional):
            yield option.name, option.default, not option.positional


LONG_DOC = "what to do with input over the model's limit"


def _long(*choices: str) -> Option:
    return Option("long", "str", LONG_DOC, choices=choices)


def _top_k(what: str) -> Option:
    doc = f"return only the {what} with the highest probability; 0 returns all"
    return Option("top_k", "int", doc, default=0, low=0, positional=True)


_TEXT = Field("text", "text", "text")
_IMAGE = Field("image", "image", "image: path, PIL image, bytes, base64 or data URL")
_LABELS = Field("labels", "labels", "labels to choose from (zero-shot)", required=False)
_VECTOR_OPTIONS = (
    Option(
        "return_tensor",
        "bool",
        "return torch tensors instead of lists",
        default=False,
        positional=True,
        caller_only=True,
    ),
    Option("normalise", "bool", "scale each vector to L2 norm 1, or leave it as it is"),
    Option("dimensions", "int", "keep the first so many dimensions, then scale to norm 1", low=1),
)

_GENERATION_OPTIONS = (
    Option("min_length", "int", "fewest new tokens", low=0, positional=True),
    Option("max_length", "int", "most new tokens", low=1, positional=True),
    Option(
        "temperature",
        "float",
        "above 1 is more varied, below 1 less; 0 is greedy",
        low=0,
        high=100,
        positional=True,
    ),
    Option("top_k", "int", "sample from the k likeliest tokens; 0 is all", low=0, positional=True),
    Option(
        "top_p",
        "float",
        "sample from the likeliest tokens that together reach this probability",
        low=0,
        high=1,
        above_low=True,
        positional=True,
    ),
    Option(
        "repetition_penalty",
        "float",
        "above 1 makes tokens already seen less likely",
        low=0,
        high=100,
        above_low=True,
        positional=True,
    ),
    Option(
        "length_penalty",
        "float",
        "above 1 favours longer beams, below 1 shorter ones",
        low=-100,
        high=100,
        positional=True,
    ),
    Option("num_beams", "int", "beams of beam search", low=1, high=64, positional=True),
    Option(
        "num_generations",
        "int",
        "texts to generate for each input",
        low=1,
        high=64,
        positional=True,
    ),
    Option("do_sample", "bool", "sample instead of taking the likeliest", positional=True),
    Option("stop", "strings", "end before the first of these strings"),
    Option("seed", "int", "makes sampling repeatable", low=0, high=2**63 - 1),
)

_TEXT_PAIRS = (
    Column("texts1", "text", row="text"),
    Column("texts2", "text", row="text"),
    Column("similarity_scores", "score"),
)
_IMAGE_PAIRS = (
    Column("imgs1", "image", row="image"),
    Column("imgs2", "image", row="image"),
    Column("similarity_scores", "score"),
)
_IMAGE_TEXT_PAIRS = (
    Column("imgs1", "image", row="image"),
    Column("imgs2", "image", row="image"),
    Column("texts1", "text", row="text"),
    Column("texts2", "text", row="text"),
    Column("similarity_scores", "score"),
)
_TEXT_LABELS = (Column("texts", "text", "inputs"), Column("labels", "label", "labels"))
_IMAGE_LABELS = (Column("images", "image", row="image"), Column("labels", "label"))


def _text_to_text(max_input_length: int, max_output_length: int) -> tuple[Training, ...]:
    columns = (Column("input_text", "text", "input"), Column("output_text", "text", "output"))
    lengths = (("max_input_length", max_input_length), ("max_output_length", max_output_length))
    return (Training("", columns, lengths),)


_ALL = (
    TaskSpec(
        name="qa",
        title="Q&A",
        task_class="QA",
        fields=(
            Field("question", "text", "question"),
            Field("context", "text", "text that holds the answer"),
            Field("prev_q", "history", "earlier questions", required=False, argument="prev_qa"),
            Field("prev_a", "history", "earlier answers", required=False, argument="prev_qa"),
        ),
        options=(
            Option("details", "bool", "return answer, score, start and end", default=False),
            Option("allow_no_answer", "bool", 'return "" where the text has no answer', False),
            _long("chunk", "truncate", "error"),
        ),
        answer="text",
        output="answer",
        default="minilm-qa",
        training=(
            Training(
                "",
                (
                    Column("questions", "text", "question"),
                    Column("answers", "text", "output"),
                    Column("contexts", "text", "context"),
                    Column("prev_qas", "history", "prev_qa", required=False),
                ),
                (("max_input_length", 256), ("max_output_length", 32)),
            ),
        ),
    ),
    TaskSpec(
        name="text-classification",
        title="Text classification",
        task_class="TextClassification",
        fields=(_TEXT, _LABELS),
        options=(
            _top_k("labels"),
            Option("template", "str", "sentence the label is put in, with {} for the label"),
            Option("multi_label", "bool", "judge each label by itself, or let them compete"),
            _long("chunk", "truncate", "error"),
        ),
        answer="probabilities",
        output="probabilities",
        default="all-minilm-l6-v2",
        training=(
            Training("single_label", _TEXT_LABELS, (("max_length", 128),)),
            Training("multi_label", _TEXT_LABELS, (("max_length", 128),)),
        ),
    ),
    TaskSpec(
        name="emotion",
        title="Emotion",
        task_class="Emotion",
        fields=(_TEXT,),
        options=(
            Option("top_k", "int", "return so many {emotion: probability} instead of one", low=1),
            _long("chunk", "truncate", "error"),
        ),
        answer="text",
        output="emotion",
        default="minilm-emotion",
        training=_text_to_text(256, 32),
    ),
    TaskSpec(
        name="summarisation",
        title="Summarisation",
        task_class="Summarisation",
        fields=(_TEXT,),
        options=(
            Option(
                "style",
                "str",
                "pick the text's own sentences, or write new ones",
                choices=("extractive", "abstractive"),
            ),
            _long("chunk", "truncate", "error"),
        ),
        answer="text",
        output="summary",
        default="all-minilm-l6-v2",
        training=_text_to_text(512, 128),
        learner="smollm2-135m-instruct",
    ),
    TaskSpec(
        name="text-generation",
        title="Text generation",
        task_class="TextGeneration",
        fields=(_TEXT,),
        options=_GENERATION_OPTIONS,
        answer="text",
        output="output",
        default="smollm2-135m-instruct",
        training=_text_to_text(128, 32),
    ),
    TaskSpec(
        name="text-vectorisation",
        title="Text vectorisation",
        task_class="TextVectorisation",
        fields=(_TEXT,),
        options=(*_VECTOR_OPTIONS, _long("truncate", "chunk", "error")),
        answer="vector",
        output="vector",
        default="all-minilm-l6-v2",
        training=(
            Training("cosine_similarity", _TEXT_PAIRS, (("max_length", 128),)),
            Training(
                "triplet",
                (Column("texts", "text", row="text"), Column("groups", "group")),
                (("max_length", 128),),
            ),
        ),
    ),
    TaskSpec(
        name="image-classification",
        title="Image classification",
        task_class="ImageClassification",
        fields=(_IMAGE, _LABELS),
        options=(
            _top_k("labels"),
            Option("template", "str", "sentence the label is put in, with {} for the label"),
        ),
        answer="probabilities",
        output="probabilities",
        default="efficientnet-lite0",
        training=(
            Training("single_label", _IMAGE_LABELS),
            Training("multi_label", _IMAGE_LABELS),
        ),
    ),
    TaskSpec(
        name="image-vectorisation",
        title="Image vectorisation",
        task_class="ImageVectorisation",
        fields=(_IMAGE,),
        options=_VECTOR_OPTIONS,
        answer="vector",
        output="vector",
        default="efficientnet-lite0",
        training=(
            Training(
                "triplet", (Column("images", "image", row="image"), Column("groups", "group"))
            ),
            Training("cosine_similarity", _IMAGE_PAIRS),
        ),
    ),
    TaskSpec(
        name="image-text-vectorisation",
        title="Image-text vectorisation",
        task_class="ImageTextVectorisation",
        fields=(_IMAGE, _TEXT),
        options=(*_VECTOR_OPTIONS, _long("truncate", "chunk", "error")),
        answer="vector",
        output="vector",
        default="minilm-efficientnet-lite0",
        training=(
            Training(
                "triplet",
                (
                    Column("images", "image", row="image"),
                    Column("texts", "text", row="text"),
                    Column("groups", "group"),
                ),
            ),
            Training("cosine_similarity", _IMAGE_TEXT_PAIRS),
        ),
    ),
)

SPECS: MappingProxyType[str, TaskSpec] = MappingProxyType({spec.name: spec for spec in _ALL})
"""Task string to its spec, in the order of the documentation."""


def spec_of(task: object) -> TaskSpec:
    """Return the spec of ``task``.

    Raises:
        UnsupportedTaskError: there is no such task; the message lists those there are.
    """
    if isinstance(task, str) and task in SPECS:
        return SPECS[task]
    raise UnsupportedTaskError(f"There is no task {task!r}; use one of: {', '.join(SPECS)}.")


STYLES: MappingProxyType[str, str] = MappingProxyType(
    {"extractive": "all-minilm-l6-v2", "abstractive": "smollm2-135m-instruct"}
)
"""Style of a summary to the starter model that writes it."""
