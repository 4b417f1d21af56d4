"""What every task shares: choosing a model, running it here or on a server, saving it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from backprop import catalogue, inputs
from backprop.client import address
from backprop.client.references import is_reference
from backprop.errors import InputError, UnsupportedTaskError
from backprop.models import ready
from backprop.models.auto import AutoModel
from backprop.models.places import saved_folder, tasks_of
from backprop.optional import load
from backprop.pictures import describe
from backprop.specs import SPECS, TaskSpec
from backprop.tasks.streams import answers

if TYPE_CHECKING:
    import torch

    from backprop.client.sending import Uploaded
    from backprop.models.base import BaseModel
    from backprop.report import Report

__all__ = ["Task"]

logger = logging.getLogger(__name__)


class Task:
    """A task with a model that does it.

    Args:
        model: catalogue name or alias, name or path of a saved model, hub repository, or a model
            object; the task's starter model by default. Weights are loaded at the first call. With
            ``hub://name@version`` a version is fetched from the server and run here.
        local: run here even if ``api_key`` is given.
        api_key: run on a server, with this key; ``$BACKPROP_API_KEY`` by default, where ``api_url``
            is given.
        device: such as ``"cpu"`` or ``"cuda:0"``; the fastest there is by default.
        api_url: run on a server, which is here; ``$BACKPROP_API_URL`` by default, where ``api_key``
            is given.
        engine: what computes: ``"torch"``, ``"ctranslate2"`` or ``"onnx"``; by default the fastest
            that is installed and gives torch's results.
        precision: of the weights of text encoders and decoders: ``"float32"``, or ``"int8"``,
            which is smaller and, for one text at a time, faster, but not quite the same: how
            near it comes is measured and logged, and too far is refused.
        timeout_s: most seconds for a server's answer, tries after a failure included; 120 by
            default.

    Raises:
        NotFoundError: there is no such model.
        UnsupportedTaskError: the model does not do this task.
        InputError: ``api_key`` without ``api_url``, or an engine or precision there is not.
    """

    task: ClassVar[str]
    """Task string, a key of ``SPECS``."""

    def __init__(
        self,
        model: str | Path | BaseModel | None = None,
        local: bool = False,
        api_key: str | None = None,
        device: str | torch.device | None = None,
        *,
        api_url: str | None = None,
        engine: str = "auto",
        precision: str = "float32",
        timeout_s: float | None = None,
    ) -> None:
        ready.asked(engine, precision)
        if timeout_s is not None and not timeout_s > 0:
            raise InputError(f"timeout_s must be above 0; received {timeout_s!r}.")
        self.timeout_s = timeout_s
        self.engine = engine
        self.precision = precision
        self._ready: Any = None
        self.api_key = api_key
        self.api_url = api_url
        self.device = device
        if is_reference(model) and not isinstance(model, Path):
            model = saved_folder(str(model), api_url=api_url, api_key=api_key)
            local = True
        is_named = model is None or isinstance(model, (str, Path))
        self.is_remote = is_named and not local and (api_key is not None or api_url is not None)
        if self.is_remote:
            server = address.of_task(api_url, api_key)
            self.api_url, self.api_key = server.url, server.key or None
        self._model: BaseModel | None = None
        if model is None or isinstance(model, (str, Path)):
            self.name = self._resolve(model)
            if not self.is_remote:
                self._check_tasks(tasks_of(self.name))
        else:
            self._adopt(model)
            if device is not None:
                model.to(device)

    @property
    def spec(self) -> TaskSpec:
        """What the task takes and gives."""
        return SPECS[self.task]

    @property
    def model(self) -> BaseModel:
        """The model, loaded at first use.

        Raises:
            SourceError: its weights can't be fetched.
            InputError: the task runs on a server.
        """
        if self._model is None:
            if self.is_remote:
                raise InputError(f"{self.name or 'The model'} runs on {self.api_url}, not here.")
            self._adopt(AutoModel.from_pretrained(self.name, device=self.device))
            self._ready = None
        model: Any = self._model
        return model  # type: ignore[no-any-return]  # set by _adopt

    @classmethod
    def list_models(
        cls, return_dict: bool = False, display: bool = False, limit: int | None = None
    ) -> Any:
        """Return the models that do this task; see ``AutoModel.list_models``."""
        aliases = catalogue.task_aliases(cls.task)
        return AutoModel.list_models(cls.task, return_dict, display, limit, aliases)

    def finetune(
        self,
        params: Any,
        validation_split: float | tuple[Sequence[int], Sequence[int]] = 0.15,
        epochs: int = 20,
        batch_size: int | None = None,
        optimal_batch_size: int | None = None,
        early_stopping_epochs: int = 1,
        train_dataloader: Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
        val_dataloader: Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
        step: Callable[..., Any] | None = None,
        configure_optimizers: Callable[..., Any] | None = None,
        *,
        variant: str | None = None,
        columns: Mapping[str, str] | None = None,
        method: str = "auto",
        learning_rate: float | None = None,
        class_weights: str | Mapping[str, float] | None = None,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        show: bool = True,
        **lengths: int,
    ) -> Report:
        """Train the task's model on your data and return how it went.

        The model is changed in place and has the weights of the best epoch; ``save`` keeps it.

        Args:
            params: a dictionary of lists, data frame, Hugging Face dataset, list of dictionaries,
                or path: a CSV, TSV, JSON or JSON lines file, or a folder of images with one folder
                a class. The columns are those of the table in the documentation.
            validation_split: share of the rows kept aside to judge by, or ``(training rows,
                validation rows)`` as row numbers.
            epochs: passes over the rows, at most.
            batch_size: rows of one forward pass; by default what fits in memory.
            optimal_batch_size: rows of an optimiser step, in as many passes as needed; by default
                ``batch_size``, or what suits the task.
            early_stopping_epochs: epochs without improvement after which it ends; 0 never does.
            train_dataloader: yields batches instead; or a function that returns it.
            val_dataloader: the same for validation.
            step: ``step(batch)`` or ``step(batch, number)`` returns the loss instead.
            configure_optimizers: returns the optimiser to use, perhaps with a scheduler.
            variant: way to finetune, where the task has several; by default what the columns fit.
            columns: our name of a column to its name in ``params``.
            method: ``full`` trains every layer, ``lora`` small factors beside them, ``head`` the
                last layer alone, in seconds; ``auto`` takes the best that the machine can afford.
            learning_rate: the peak; by default what was measured to work.
            class_weights: ``"balanced"``, or label to weight, for classes of unequal size.
            seed: makes runs repeat.
            checkpoint: folder that a killed run goes on from when the same line runs again.
            show: whether to show progress.
            lengths: ``max_length``, or ``max_input_length`` and ``max_output_length``, in tokens.

        Returns:
            History, figures on the validation rows, and settings; ``print`` shows it.

        Raises:
            InputError: faults of the data, all of them in one message, or of an argument.
            UnsupportedTaskError: the model can't be finetuned.
        """
        options = load("backprop.finetuning:Options")(
            validation_split=validation_split,
            epochs=epochs,
            batch_size=batch_size,
            optimal_batch_size=optimal_batch_size,
            early_stopping_epochs=early_stopping_epochs,
            train_dataloader=train_dataloader,
            val_dataloader=val_dataloader,
            step=step,
            configure_optimizers=configure_optimizers,
            variant=variant,
            columns=columns,
            method=method,
            learning_rate=learning_rate,
            class_weights=class_weights,
            seed=seed,
            checkpoint=checkpoint,
            show=show,
            lengths=lengths,
        )
        before = self._model, self.name
        try:
            report: Report = load("backprop.finetuning:finetune")(
                self._learner(), self.task, params, options, self.run
            )
        except BaseException:
            self._model, self.name = before
            raise
        return report

    def evaluate(
        self,
        params: Any,
        *,
        variant: str | None = None,
        columns: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Report:
        """Return how good the model's answers to ``params`` are, with nothing learnt.

        Args:
            params: as for ``finetune``: rows with what the answers should be.
            variant: as for ``finetune``.
            columns: as for ``finetune``.
            options: of the task's call, such as ``labels`` for a zero-shot model.

        Raises:
            InputError: faults of the data or the options.
        """
        report: Report = load("backprop.finetuning:evaluate")(
            self.name,
            self.task,
            params,
            self.run,
            variant=variant,
            columns=columns,
            options=options,
            written=not self.is_remote and hasattr(self.model, "writer"),
        )
        return report

    def _learner(self) -> BaseModel:
        """Return the model to finetune: the task's, or the starter that can learn."""
        spec = self.spec
        if spec.learner and not self.is_remote and self.name == spec.default:
            logger.info("%s can't learn to write; finetuning %s.", self.name, spec.learner)
            self._adopt(AutoModel.from_pretrained(spec.learner, device=self.device))
        return self.model

    def save(
        self,
        name: str | None = None,
        description: str | None = None,
        details: Mapping[str, Any] | None = None,
        *,
        path: str | Path | None = None,
    ) -> Path:
        """Return the folder the task's model was saved in; see ``backprop.save``."""
        folder: Path = load("backprop.models.saving:save")(
            self.model, name, description, details=details, path=path
        )
        return folder

    def run(self, task_input: Mapping[str, Any]) -> Any:
        """Return the answer to the task's input dictionary, in the shape it was asked.

        Args:
            task_input: fields and options of the task's spec; None means left out.

        Raises:
            InputError: the input does not fit the task's schema.
            RemoteError: the server answered with an error.
        """
        given = self._given(task_input)
        if self.is_remote:
            return load("backprop.remote:call")(self.task, given, **self._asking())
        quick = self._quick()
        if quick is not None:
            request = inputs.read(self.task, given)
            found = quick.answer(request.rows, request.options)
            return inputs.unwrap(found, single=request.single)
        model = self.model
        if self.task in getattr(model, "HANDLERS", ()):
            return model(given, task=self.task)
        # A model of the user's own need not check its input, nor know lists.
        request = inputs.read(self.task, given)
        answer = model(given, task=self.task)
        if request.single or (isinstance(answer, list) and len(answer) == len(request.rows)):
            return answer
        return [model(one, task=self.task) for one in inputs.one_by_one(self.task, given, request)]

    async def acall(self, *args: Any, **options: Any) -> Any:
        """Return what a call with the same arguments returns, while the event loop goes on.

        On a server many of these wait at a time without a thread each; a local model answers in a
        thread.

        Args:
            args: those of the call.
            options: those of the call.
        """
        # Here, since it imports asyncio, which takes long.
        return await load("backprop.tasks.replaying:acall")(self, args, options)

    def upload(
        self,
        name: str | None = None,
        description: str | None = None,
        details: Mapping[str, Any] | None = None,
        api_key: str | None = None,
        *,
        api_url: str | None = None,
    ) -> Uploaded:
        """Return the version that a server made of the task's model; see ``backprop.upload``."""
        uploaded: Uploaded = load("backprop.models.sharing:upload")(
            self.model,
            name,
            description,
            details=details,
            api_key=api_key if api_key is not None else self.api_key,
            api_url=api_url if api_url is not None else self.api_url,
        )
        return uploaded

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Return the address of the commit in a repository; see ``backprop.push_to_hub``."""
        commit: str = load("backprop.models.sharing:push_to_hub")(self.model, repo_id, **options)
        return commit

    def stream_map(
        self,
        items: Iterable[Any],
        *,
        chunk: int | None = None,
        show: bool = True,
        **options: Any,
    ) -> Iterator[Any]:
        """Yield the answer to each of any number of items, in order, as they come.

        Memory does not grow with their number: items are read when their turn comes.

        Args:
            items: each a text or image, or a dictionary of the task's fields.
            chunk: items that are answered together; by default 512, of images 64.
            show: whether to show a bar where standard error is a terminal.
            options: of the task's call; ``labels`` too.

        Raises:
            InputError: an item does not fit; those before its chunk have been answered.
        """
        if chunk is not None and chunk < 1:
            raise InputError(f"chunk must be at least 1; received {chunk}.")
        if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
            raise InputError(
                "stream_map takes many items, such as a list or a generator of texts; received "
                f"{describe(items)}; call the task itself with one."
            )
        sees = any(field.kind == "image" for field in self.spec.fields)
        size = chunk or (IMAGES_AT_ONCE if sees else TEXTS_AT_ONCE)
        return answers(self.run, self.spec, items, options, chunk=size, show=show)

    def _load(self) -> None:
        """Be ready to answer here, whichever of several threads asks first."""
        if not self.is_remote and self._model is None and self._ready is None:
            with LOADING:  # transformers loads one model at a time only
                if self._quick() is None:
                    _ = self.model

    def _asking(self) -> dict[str, Any]:
        """Return how to ask the server."""
        asking = {"api_url": self.api_url, "api_key": self.api_key, "model": self.name}
        return asking if self.timeout_s is None else {**asking, "timeout_s": self.timeout_s}

    def _quick(self) -> Any:
        """Return what answers without torch; None before a conversion, or once torch is loaded."""
        if self._model is None and self._ready is None:
            self._ready = ready.handler(
                self.name,
                self.task,
                device=self.device,
                engine=self.engine,
                precision=self.precision,
            )
        return self._ready if self._model is None else None

    def _resolve(self, name: str | Path | None) -> str:
        """Return the model's name, the task's own names of 2021 looked up."""
        if name is None:
            return "" if self.is_remote else self.spec.default
        return (
            str(name)
            if self.is_remote
            else catalogue.task_aliases(self.task).get(str(name), str(name))
        )

    def _given(self, task_input: Mapping[str, Any]) -> dict[str, Any]:
        """Return what differs from the defaults, so that models see only what was asked for."""
        defaults = {option.name: option.default for option in self.spec.options}
        return {
            key: value
            for key, value in task_input.items()
            if value is not None and not (key in defaults and value is defaults[key])
        }

    def _adopt(self, model: BaseModel) -> None:
        if not callable(model):
            raise InputError(
                f"model must be a name, a path or a model; received {type(model).__name__}."
            )
        self.name = getattr(model, "name", None) or type(model).__name__
        self._check_tasks(tuple(getattr(model, "tasks", ())))
        if self.engine != "auto":
            model.engine = self.engine
        if self.precision != "float32":
            model.precision = self.precision
        self._model = model

    def _check_tasks(self, tasks: tuple[str, ...] | None) -> None:
        """Refuse a model that says it does other tasks."""
        if tasks is not None and self.task not in tasks:
            raise UnsupportedTaskError(
                f"{self.name} does not do {self.task!r}; it does: {', '.join(tasks) or 'no task'}. "
                f"Models that do: backprop models --task {self.task}."
            )


LOADING = threading.Lock()
TEXTS_AT_ONCE, IMAGES_AT_ONCE = 512, 64


def tensors(answer: Any) -> Any:
    """Return vectors as a torch tensor, shape (dimensions,) or (n, dimensions)."""
    return load("torch:tensor")(answer)
