"""The contract of every model, and models that are made from a path."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import nn
from transformers.utils import logging as transformers_logging

from backprop import inputs
from backprop.collate import Features, collate
from backprop.engines.torch import device_of, weights_version
from backprop.errors import InputError, UnsupportedTaskError
from backprop.inputs import Row
from backprop.models.fast import faster
from backprop.pictures import describe

__all__ = ["BaseModel", "Handler", "PathModel", "check_device"]


Model = TypeVar("Model", bound="BaseModel")


class Handler(Protocol):
    """Rows of one task in, one answer each out."""

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[Any]:
        """Return one answer a row, in order."""
        ...


class BaseModel(nn.Module):
    """A model: called as ``model({…}, task="qa")`` with one item or a list, JSON comes back.

    A subclass either overrides ``__call__`` itself, or fills in ``HANDLERS`` and one method a
    task; then input is checked and batched for it.

    Args:
        model: any callable to wrap; what is called where no handler does the task.
        name: 3 to 100 characters of a-z, 0-9, ``-`` and ``_``; needed once it is saved.
        description: for people.
        tasks: task strings it does; by default those of ``HANDLERS``, or the default of a
            ``task`` argument of the subclass's own ``__call__``.
        details: anything else worth keeping; JSON.
    """

    HANDLERS: ClassVar[Mapping[str, str]] = {}
    """Task string to the name of the method that returns its handler."""

    LEARNS: ClassVar[tuple[str, ...]] = ()
    """Task strings that the class's own training hooks can learn."""

    name: str | None = None
    description: str | None = None
    details: Mapping[str, Any] | None = None
    tasks: list[str] = []
    card: str = ""
    """What its model card says of how it was finetuned; Markdown."""
    report: Mapping[str, Any] | None = None
    """The same for programs: what ``Report.to_json`` writes."""
    class_weights: torch.Tensor | None = None
    """What each class counts for in the loss of ``training_step``, shape (classes,)."""
    engine: str = "auto"
    """What answers: ``torch``, ``ctranslate2``, ``onnx``; by default the fastest there is."""

    precision: str = "float32"
    """Of the weights on that engine; see ``Task``."""
    model: Any

    def __new__(cls, *_: Any, **__: Any) -> BaseModel:
        """Prepare the module, so that a subclass need not call ``super().__init__``."""
        self = super().__new__(cls)
        nn.Module.__init__(self)
        self.__dict__["tasks"] = list(cls.tasks or cls.HANDLERS or _default_task(cls))
        return self

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        name: str | None = None,
        description: str | None = None,
        tasks: list[str] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        given = {"name": name, "description": description, "details": details}
        for field, value in given.items():
            if value is not None:
                setattr(self, field, value)
        if tasks is not None:
            self.tasks = list(tasks)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the answer to ``(task_input, task=…)``, or what the wrapped callable returns.

        Raises:
            UnsupportedTaskError: the model does not do the task.
            InputError: the input does not fit the task's schema.
        """
        if self._is_request(args, kwargs):
            known = {"task_input", "task"}
            if len(args) > 2 or set(kwargs) - known:
                extra = sorted(set(kwargs) - known) or args[2:]
                raise InputError(
                    f"A model is called as model({{…}}, task=…); received also {describe(extra)}; "
                    "options go in the dictionary."
                )
            task_input, task = [*args, None, None][:2]
            task = kwargs.get("task", task) or self._only_task()
            return self.answer(kwargs.get("task_input", task_input), task)
        if not callable(getattr(self, "model", None)):
            raise UnsupportedTaskError(
                f"{type(self).__name__} has nothing to call: it wraps no model and does "
                f"{', '.join(self.tasks) or 'no task'}; pass a dictionary and task=…"
            )
        return self.model(*args, **kwargs)

    def _is_request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call is one of a task's, rather than one of the wrapped model."""
        named = "task" in kwargs or "task_input" in kwargs
        return bool(self.HANDLERS) and (named or (bool(args) and isinstance(args[0], Mapping)))

    def answer(self, task_input: object, task: str) -> Any:
        """Return the answer to the task's input dictionary, in the shape it was asked.

        Raises:
            UnsupportedTaskError: the model does not do the task.
            InputError: the input does not fit the task's schema.
        """
        handler = self.handler(task)
        request = inputs.read(task, task_input)
        answers = handler.answer(request.rows, request.options)
        return inputs.unwrap(answers, single=request.single)

    def handler(self, task: str) -> Handler:
        """Return what answers ``task``, on a fast engine where there is one, built on first use.

        Raises:
            UnsupportedTaskError: the model does not do the task.
        """
        return self._faster(task, self.torch_handler(task))

    def torch_handler(self, task: str) -> Handler:
        """Return what answers ``task`` on torch, built on first use.

        Raises:
            UnsupportedTaskError: the model does not do the task.
        """
        if task not in self.tasks or task not in self.HANDLERS:
            raise UnsupportedTaskError(
                f"{self.name or type(self).__name__} does not do {task!r}; it does: "
                f"{', '.join(self.tasks) or 'no task'}."
            )
        built = self.__dict__.setdefault("_handlers", {})
        if task not in built:
            built[task] = getattr(self, self.HANDLERS[task])()
        found: Handler = built[task]
        return found

    def _faster(self, task: str, handler: Handler) -> Handler:
        """Return a handler on a fast engine, with the weights as they are now."""
        version = weights_version(self), self.engine, self.precision
        known, built = self.__dict__.get("_fast", (None, {}))
        if known != version:
            built = {}
            self.__dict__["_fast"] = version, built
        # The handler is another one once labels or settings have changed.
        if task not in built or built[task][0] is not handler:
            built[task] = handler, faster(self, task, handler)
        found: Handler = built[task][1]
        return found

    def forget_handlers(self) -> None:
        """Build handlers anew at the next call, after labels or weights have changed shape."""
        self.__dict__.pop("_handlers", None)

    def train(self: Model, mode: bool = True) -> Model:
        """Switch training on or off; what handlers remember of the weights goes when it is on."""
        if mode:
            self.forget_handlers()
        super().train(mode)
        return self

    # --- Finetuning ----------------------------------------------------------------------

    def learns(self, task: str) -> bool:
        """Return whether the model can be finetuned on ``task``: it, or its user, wrote how."""
        own = type(self).process_batch is not BaseModel.process_batch
        if not own or type(self).training_step is BaseModel.training_step:
            return False
        return task in self.LEARNS if self.LEARNS else task in self.tasks

    def process_batch(self, params: Mapping[str, Any], task: str) -> Features:
        """Return one row of training data as the model takes it; see ``models.rst`` for keys.

        Args:
            params: one row, under the keys of the task's finetuning schema.
            task: task string.

        Returns:
            Numbers, lists of numbers and tensors by name, not padded; ``collate`` joins rows.

        Raises:
            UnsupportedTaskError: the model can't be finetuned on ``task``.
        """
        raise UnsupportedTaskError(
            f"{self.name or type(self).__name__} can't be finetuned on {task!r}; a class that can "
            "has the methods process_batch and training_step."
        )

    def training_step(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return what the task's finetuning schema asks for: a loss, logits or vectors.

        Args:
            batch: what ``collate`` made of rows, on the model's device.

        Raises:
            UnsupportedTaskError: the model can't be finetuned.
        """
        raise UnsupportedTaskError(
            f"{self.name or type(self).__name__} can't be finetuned; a class that can has the "
            "methods process_batch and training_step."
        )

    def cut(self, params: Mapping[str, Any], task: str) -> int:
        """Return how many tokens of a row's text ``process_batch`` cuts off; 0 by default."""
        return 0

    def pre_finetuning(self, *args: Any, **kwargs: Any) -> None:
        """Adjust the model before finetuning, to its labels say; by default nothing is done."""

    def collate(self, rows: Sequence[Features]) -> Mapping[str, Any]:
        """Return the rows that ``process_batch`` made as one batch; override to pad otherwise."""
        return collate(rows)

    def classifies(self, task: str) -> bool:
        """Return whether it learns ``task`` as classes, told to ``pre_finetuning``, with a head."""
        return False

    def head(self, task: str) -> nn.Linear | None:
        """Return the last layer, whose inputs may be cached while all before it stays as it is.

        None, the default, where there is no such layer for ``task``.
        """
        return None

    def settings(self) -> dict[str, Any]:
        """Return the keyword arguments that make this model again from its saved files; JSON."""
        return {}

    def save_files(self, folder: Path) -> None:
        """Write weights and tokenizer into ``folder``; the model stays as it is.

        Raises:
            InputError: this class has no files of its own to save.
        """
        raise InputError(
            f"{type(self).__name__} does not say how to save its weights; override save_files "
            "and settings, or save the whole object with backprop.save, which uses dill."
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return device_of(self)

    def _only_task(self) -> str:
        if len(self.tasks) == 1:
            return self.tasks[0]
        raise InputError(
            f"{self.name or type(self).__name__} does several tasks; pass task= one of: "
            f"{', '.join(self.tasks)}."
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickling keeps: all but the handlers, which are built again."""
        state = dict(self.__dict__)
        state.pop("_handlers", None)
        state.pop("_fast", None)
        return state


def _default_task(cls: type[BaseModel]) -> list[str]:
    """Return the default of the ``task`` argument of a subclass's own ``__call__``, if any."""
    argument = inspect.signature(cls.__call__).parameters.get("task")
    default = argument.default if argument is not None else None
    return [default] if isinstance(default, str) else []


def check_device(device: str | torch.device | None) -> torch.device:
    """Return ``device``, or by default ``cuda`` where torch finds one, else ``cpu``.

    Raises:
        InputError: there is no such device here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device {device!r} can't be used here ({reason}); use 'cpu', or install a PyTorch "
            "that supports it."
        ) from error
    return found


class PathModel(BaseModel):
    """A model and a tokenizer, each made from a path.

    Args:
        model_path: given to ``init_model``.
        tokenizer_path: given to ``init_tokenizer``; ``model_path`` by default.
        name: see ``BaseModel``.
        description: see ``BaseModel``.
        tasks: see ``BaseModel``.
        details: see ``BaseModel``.
        init_model: called with the path, or a class with ``from_pretrained``.
        init_tokenizer: the same for the tokenizer; without one there is no tokenizer.
        device: such as ``"cpu"`` or ``"cuda:0"``; the fastest there is by default.
    """

    tokenizer: Any

    def __init__(
        self,
        model_path: str | Path,
        tokenizer_path: str | Path | None = None,
        name: str | None = None,
        description: str | None = None,
        tasks: list[str] | None = None,
        details: Mapping[str, Any] | None = None,
        init_model: Any = None,
        init_tokenizer: Any = None,
        device: str | torch.device | None = None,
    ) -> None:
        if init_model is None:
            raise InputError(
                "PathModel needs init_model: a callable that takes the path, or a class with "
                "from_pretrained, such as transformers.AutoModel."
            )
        model = _make(init_model, model_path)
        super().__init__(model, name, description, tasks, details)
        self.tokenizer = None
        if init_tokenizer is not None:
            self.tokenizer = _make(init_tokenizer, tokenizer_path or model_path)
        self.to(check_device(device))
        if isinstance(model, nn.Module):
            model.eval()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the wrapped model returns.

        A list of token ids, or a list of such lists of one length, becomes a batch; a model that
        also needs decoder input gets its start token.

        Raises:
            InputError: a list of something else.
        """
        if not self._is_request(args, kwargs) and args and isinstance(args[0], (list, tuple)):
            ids = _batch(args[0]).to(self.device)
            args = (ids, *args[1:])
            start = _decoder_start(self.model)
            if start is not None and len(args) == 1:
                kwargs.setdefault("decoder_input_ids", torch.full_like(ids[:, :1], start))
        return super().__call__(*args, **kwargs)


def _batch(ids: Any) -> torch.Tensor:
    """Return token ids as a batch, shape (n, length).

    Raises:
        InputError: they are not whole numbers, or the rows differ in length.
    """
    try:
        batch = torch.tensor(ids)
    except (TypeError, ValueError) as error:
        raise InputError(f"{WANTED_IDS}; received {describe(ids)} ({error}).") from error
    if batch.is_floating_point() or batch.ndim not in (1, 2) or not batch.numel():
        raise InputError(f"{WANTED_IDS}; received {describe(ids)}.")
    return batch if batch.ndim == 2 else batch[None]


WANTED_IDS = "A list must hold token ids, or lists of them of one length"


def _make(init: Any, path: str | Path) -> Any:
    """Return ``init.from_pretrained(path)`` where there is such a method, else ``init(path)``."""
    with without_progress_bars():
        return getattr(init, "from_pretrained", init)(str(path))


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers' bars off the terminal: its weights load in a second."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _decoder_start(model: Any) -> int | None:
    """Return the token an encoder-decoder starts writing from; None for other models."""
    config = getattr(model, "config", None)
    if not getattr(config, "is_encoder_decoder", False):
        return None
    start = getattr(config, "decoder_start_token_id", None)
    return start if start is not None else getattr(config, "pad_token_id", None)
