"""The last layer of a classifier: its labels, another in its place, and files of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from backprop.errors import ArtefactError

__all__ = [
    "class_labels",
    "distinct",
    "last_layers",
    "load_heads",
    "problem_type",
    "replace_layer",
    "save_heads",
    "tell_config",
]

FILE = "classifier.safetensors"


def class_labels(config: Any) -> list[str]:
    """Return a transformers configuration's labels in the order of the outputs."""
    return distinct([str(config.id2label[index]) for index in sorted(config.id2label)])


def distinct(labels: Sequence[str]) -> list[str]:
    """Return the labels, those that stand twice with their index, since answers go by label.

    The hub's ImageNet has two cranes: the bird, and the machine, here ``crane (517)``.
    """
    return [f"{name} ({i})" if name in labels[:i] else name for i, name in enumerate(labels)]


def tell_config(config: Any, labels: Sequence[str], *, multi_label: bool) -> None:
    """Write a model's classes into its transformers configuration."""
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = problem_type(multi_label)


def problem_type(multi_label: bool) -> str:
    """Return transformers' word for whether a row may have several labels."""
    return f"{'multi' if multi_label else 'single'}_label_classification"


def last_layers(model: Any) -> list[str]:
    """Return the names of the layers that may be a transformers classifier's last, in order.

    They are linear, outside its body, and have an output for each class.
    """
    body = f"{model.base_model_prefix}."
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
        and layer.out_features == model.config.num_labels
        and not name.startswith(body)
    ]


def replace_layer(model: Any, name: str, outputs: int) -> None:
    """Put an untrained layer of so many outputs in place of a transformers classifier's last."""
    old = model.get_submodule(name)
    new = nn.Linear(old.in_features, outputs, bias=old.bias is not None).to(old.weight)
    model._init_weights(new)  # as the family starts its heads
    model.set_submodule(name, new)
    model.num_labels = outputs


def save_heads(heads: Mapping[str, nn.Module], folder: Path) -> None:
    """Write heads that are no part of the model's own files, if there are any.

    Args:
        heads: by task string.
        folder: the model's own.
    """
    state = {
        f"{task}.{name}": weights.detach().cpu().contiguous()
        for task, head in heads.items()
        for name, weights in head.state_dict().items()
    }
    if state:
        save_file(state, folder / FILE)


def load_heads(folder: Path, width: int, outputs: Mapping[str, int]) -> dict[str, nn.Linear]:
    """Return the heads that ``save_heads`` wrote.

    Args:
        folder: the model's own.
        width: inputs of each.
        outputs: task string to how many outputs its head has.

    Raises:
        ArtefactError: the file is missing or damaged, or its heads are others.
    """
    try:
        state = load_file(folder / FILE)
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{_lacks(folder, outputs)} ({error}); {REMEDY}") from error
    # Compared first: a layer is made as large as the file has it, not as labels would have it.
    expected = {
        f"{task}.{name}": shape
        for task, count in outputs.items()
        for name, shape in (("weight", (count, width)), ("bias", (count,)))
    }
    found = {name: tuple(weights.shape) for name, weights in state.items()}
    if found != expected:
        raise ArtefactError(f"{_lacks(folder, outputs)}, but {found}; {REMEDY}")
    heads = {task: nn.Linear(width, count) for task, count in outputs.items()}
    for task, head in heads.items():
        head.load_state_dict({name: state[f"{task}.{name}"] for name in ("weight", "bias")})
    return heads


REMEDY = "save the model again."


def _lacks(folder: Path, outputs: Mapping[str, int]) -> str:
    return f"{folder.name} has no heads for {', '.join(outputs)} in {FILE}"
