"""From a torch model to a fast engine: converted once, compared with torch, kept in the cache."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import nn

from backprop.engines import Engine
from backprop.engines.tails import Linear, Tail
from backprop.engines.torch import Split, TorchEngine, as_array, weights_version
from backprop.engines.torch_generator import TorchGenerator
from backprop.entries import store
from backprop.errors import BackpropError, InputError
from backprop.handlers.describing import describe
from backprop.handlers.encoding import LabelEncoder
from backprop.handlers.pixels import Pixels
from backprop.handlers.plans import FORMAT, Plan, Unit, place, plan_key, prune
from backprop.handlers.tokens import Tokens
from backprop.models import gate, ready
from backprop.models.gate import Refused
from backprop.optional import load
from backprop.progress import progress

if TYPE_CHECKING:
    from backprop.models.base import BaseModel, Handler

__all__ = ["BeforeLast", "before_last", "faster", "loaded_as", "parts_of"]

logger = logging.getLogger(__name__)


def faster(model: BaseModel, task: str, handler: Handler) -> Handler:
    """Return the handler on a fast engine, or, where there is none for it, as it is.

    Args:
        model: what the handler answers with.
        task: task string.
        handler: on torch.
    """
    asked = ready.asked(model.engine, model.precision)
    if asked == "torch" or not _may_be_converted(model):
        return handler
    identity = _identity(model)
    entry = place(plan_key(identity, task, asked)) if identity else None
    known = Plan.read(entry) if entry is not None else None
    if known is not None:
        return known.handler(lambda: handler)  # type: ignore[no-any-return]
    try:
        plan = _plan(model, handler, asked)
    except (TypeError, Refused) as reason:
        logger.debug("%s stays on torch: %s", task, reason)
        if asked != "auto":
            name = model.name or type(model).__name__
            raise InputError(f"{name} can't run on {asked}: {reason}.") from reason
        return handler
    if entry is not None:
        with suppress(BackpropError, OSError):  # a cache that is full or can't be written
            plan.write(entry)
    found: Handler = plan.handler(lambda: handler)
    return found


@dataclass(frozen=True)
class BeforeLast:
    """What computes up to a last layer.

    Args:
        engine: its function ``inputs`` gives what reaches the layer.
        identity: a hash of all weights in it.
    """

    engine: Engine
    identity: str


def before_last(model: BaseModel, task: str, layer: nn.Linear) -> BeforeLast | None:
    """Return an engine that gives what reaches the last layer of a task.

    Args:
        model: answers ``task`` by logits.
        task: task string.
        layer: the last one.

    Returns:
        None where no fast engine gives torch's results.
    """
    asked = ready.asked("auto")
    if asked == "torch" or not _may_be_converted(model):
        return None
    handler: Any = model.torch_handler(task)
    engine: Any = getattr(handler, "engine", None)
    split = engine.splits.get("logits") if isinstance(engine, TorchEngine) else None
    if split is None or not split.layers or split.layers[-1] is not layer:
        return None
    probes = gate.probes_of("logits", [handler.tokens], [])
    try:
        unit, _ = _unit(model, engine, "logits", probes, asked)
    except Refused as reason:
        logger.debug("what reaches the last layer is computed on torch: %s", reason)
        return None
    if not unit.tails:
        return None
    tail = tail_of(split)
    shorter = Tail(tail.pool, tail.steps[:-1])
    identity = hashlib.sha256(json.dumps([unit.engine, unit.key, shorter.plan()]).encode())
    for name, array in sorted(shorter.arrays().items()):
        identity.update(name.encode() + array.tobytes())
    opened = replace(unit, tails={"inputs": shorter}).open(lambda: engine)
    return BeforeLast(opened, identity.hexdigest())


def _may_be_converted(model: BaseModel) -> bool:
    """Whether the model is one of the library's own classes, as it is, and not training."""
    if model.device.type != "cpu" or not type(model).__module__.startswith("backprop."):
        return False
    models = (model, *parts_of(model).values())
    nets = [own.model for own in models if isinstance(own.model, nn.Module)]
    if any(net.training for net in nets):
        return False
    return not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())


def parts_of(model: BaseModel) -> dict[str, BaseModel]:
    """Return the models that one is made of, by name; mostly none."""
    parts: dict[str, BaseModel] = getattr(model, "parts", dict)()
    return parts


def loaded_as(model: BaseModel, identity: str) -> BaseModel:
    """Return the model, noting what it was loaded from."""
    model.__dict__["_loaded"] = identity, _state(model)
    return model


def _identity(model: BaseModel) -> str:
    """Return what the model was loaded from, if it still is as it was then; else nothing."""
    identity, state = model.__dict__.get("_loaded", ("", None))
    return identity if state == _state(model) else ""


def _state(model: BaseModel) -> Any:
    """Return something that differs once weights or settings have changed."""
    parts = [_state(part) for part in parts_of(model).values()]
    return weights_version(model), json.dumps(model.settings()), parts


# --- One plan ----------------------------------------------------------------------------


def _plan(model: BaseModel, handler: Handler, asked: str) -> Plan:
    engines: list[TorchEngine | TorchGenerator] = []
    tokens: list[Tokens] = []
    pixels: list[Pixels] = []

    def name(part: Any) -> Any:
        if isinstance(part, LabelEncoder):
            return ["labels", part.name]
        if isinstance(part, (TorchEngine, TorchGenerator)):
            return ["unit", _index(engines, part)]
        if isinstance(part, Tokens):
            return ["tokens", _index(tokens, part)]
        if isinstance(part, Pixels):
            pixels.append(part)
        return None

    description = describe(handler, name)
    units, measured = [], {}
    for engine in engines:
        if isinstance(engine, TorchGenerator):
            units.append(_writer(model, engine, tokens[0], asked))
            continue
        [(function, _)] = engine.functions.items()
        probes = gate.probes_of(function, tokens, pixels)
        unit, measured[function] = _unit(model, engine, function, probes, asked)
        units.append(unit)
    return Plan(description, units, tokens, measured)


def _index(found: list[Any], part: Any) -> int:
    for i, each in enumerate(found):
        if each is part:
            return i
    found.append(part)
    return len(found) - 1


# --- One network ---------------------------------------------------------------------------


def _unit(
    model: BaseModel,
    engine: TorchEngine,
    function: str,
    probes: list[Mapping[str, NDArray[Any]]],
    asked: str,
) -> tuple[Unit, dict[str, float]]:
    """Return the first unit that gives torch's results, and how near it comes.

    Raises:
        Refused: none does.
    """
    reason = Refused(NONE_IN_8_BITS if asked == "int8" else NONE)
    least = gate.LEAST_COSINES[asked == "int8"]
    for unit, write in _units(engine, function, probes, asked):
        try:
            _convert(model, unit.key, write)
            return unit, gate.compare(engine, unit, function, probes, least)
        except Refused as refused:
            reason = refused
    raise reason


NONE = "no engine that is installed knows this architecture"
NONE_IN_8_BITS = "only text encoders like BERT, and decoders, have 8 bits; leave precision out"

Write = Callable[[Path], None]


def _units(
    engine: TorchEngine, function: str, probes: list[Mapping[str, NDArray[Any]]], asked: str
) -> Iterator[tuple[Unit, Write]]:
    """Yield units that may run a function, and what converts it for each, fastest first."""
    onnx, ctranslate2 = _may_use("onnx", asked), _may_use("ctranslate2", asked)
    split = engine.splits.get(function)
    if split is not None and not gate.pads_left(probes):
        encoder, tails = split.encoder, {function: tail_of(split)}
        to_encoder = load("backprop.engines.to_encoder")
        to_ctranslate2 = load("backprop.engines.to_ctranslate2")
        if onnx and to_encoder.converts(encoder):
            bits = 8 if asked == "int8" else 32
            key = _key("encoder", encoder, str(bits))
            yield Unit("encoder", key, tails), partial(to_encoder.write, encoder, bits=bits)
        if ctranslate2 and to_ctranslate2.converts(encoder):
            key = _key("ctranslate2", encoder)
            yield Unit("ctranslate2", key, tails), partial(to_ctranslate2.write, encoder)
    if onnx and asked != "int8":
        example = {name: torch.from_numpy(array) for name, array in probes[0].items()}
        write = load("backprop.engines.to_onnx:write")
        key = _key("onnx", engine.module, type(engine.module).__name__, function)
        yield Unit("onnx", key), partial(write, engine.module, engine.functions[function], example)


def _writer(model: BaseModel, engine: TorchGenerator, tokens: Tokens, asked: str) -> Unit:
    """Return the unit of a model that writes, which gave torch's tokens.

    Raises:
        Refused: there is none, or it gave others.
    """
    kind, write = _writer_kind(engine.module, asked)
    key = _key(kind, engine.module)
    _convert(model, key, partial(write, engine.module))
    end = engine.module.generation_config.forced_eos_token_id
    forced = [] if end is None else [end] if isinstance(end, int) else list(end)
    settings: dict[str, Any] = {"ends": sorted(engine.ends), "forced": forced}
    if kind == "decoder":
        settings["exact"] = asked != "int8"
    unit = Unit(kind, key, settings=settings)
    prompts = [list(tokens.wrap(each).ids) for each in tokens.plain(gate.PROBE_TEXTS[:2])]
    try:
        opened = unit.open(lambda: engine)
        if asked == "int8":
            gate.compare_logits(engine, opened, prompts)
        else:
            gate.compare_texts(engine, opened, prompts)
    except (RuntimeError, ValueError) as error:  # an engine's own, for what it does not know
        raise Refused(f"it could not be run ({error})") from error
    return unit


def _writer_kind(module: Any, asked: str) -> tuple[str, Callable[[Any, Path], None]]:
    """Return a key of ``WRITERS`` and what converts a model for it.

    Raises:
        Refused: there is none.
    """
    to_decoder = load("backprop.engines.to_decoder")
    to_ctranslate2 = load("backprop.engines.to_ctranslate2")
    if not to_ctranslate2.obeys(module):
        raise Refused("its generation configuration has rules that only torch heeds")
    if _may_use("onnx", asked) and to_decoder.converts(module):
        return "decoder", to_decoder.write
    kind = to_ctranslate2.writer_of(module)
    if kind and _may_use("ctranslate2", asked):
        return kind, to_ctranslate2.write
    raise Refused(NONE_IN_8_BITS if asked == "int8" else NONE)


def tail_of(split: Split) -> Tail:
    """Return what comes after an encoder, in NumPy."""
    steps = [layer if isinstance(layer, str) else _linear(layer) for layer in split.layers]
    return Tail(split.pool, steps)


def _linear(layer: nn.Linear) -> Linear:
    bias: torch.Tensor | None = layer.bias
    # Copies, since the layer may be trained on.
    return Linear(as_array(layer.weight).copy(), None if bias is None else as_array(bias).copy())


def _convert(model: BaseModel, key: str, write: Callable[[Path], None]) -> None:
    """Store a unit unless it is there.

    Raises:
        Refused: the converter does not manage.
    """
    unit = place(key)
    if Unit("", key).is_there:
        return
    name = model.name or type(model).__name__
    what = f"Converting {name} for fast answers, once"
    try:
        with progress(what):
            store(unit, write)
        prune()
    except Exception as error:  # converters raise what they like for what they do not know
        raise Refused(f"it could not be converted ({type(error).__name__}: {error})") from error


def _key(engine: str, module: nn.Module, *more: str) -> str:
    """Return a unit's name: a hash of the weights and of how they are run."""
    found = hashlib.sha256(repr((FORMAT, engine, more, _config(module))).encode())
    for name, value in module.state_dict().items():
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        array = value.detach().cpu().contiguous()
        found.update(memoryview(array.reshape(-1).view(torch.uint8).numpy()))
    return f"unit-{found.hexdigest()[:32]}"


def _config(module: nn.Module) -> str:
    config: Any = getattr(module, "config", None)
    return config.to_json_string() if hasattr(config, "to_json_string") else ""


def _may_use(engine: str, asked: str) -> bool:
    """Whether an engine is among what was asked for, and installed."""
    return asked in SERVES[engine] and all(map(_has, PACKAGES[engine]))


SERVES = {"onnx": ("auto", "onnx", "int8"), "ctranslate2": ("auto", "ctranslate2")}
PACKAGES = {"onnx": ("onnxruntime", "onnx"), "ctranslate2": ("ctranslate2",)}


def _has(package: str) -> bool:
    return find_spec(package) is not None
