"""Fast engines give torch's answers, for every architecture and task."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import backprop
from backprop import inputs
from backprop.data import read
from backprop.engines import Decoding, decoder, guessing, to_decoder
from backprop.engines.encoder import ONNXEncoder
from backprop.engines.onnx import ONNXEngine
from backprop.engines.tails import Linear, Tail
from backprop.errors import ArtefactError, InputError
from backprop.finetuning import heads
from backprop.finetuning.answers import Answers
from backprop.finetuning.objectives import objective_for
from backprop.handlers import plans
from backprop.handlers.describing import build, describe
from backprop.handlers.plans import Plan, place
from backprop.models import (
    HFCausalLMTGModel,
    HFSeq2SeqTGModel,
    HFSeqTCModel,
    SpanQA,
    STModel,
    fast,
    ready,
)
from backprop.models.auto import load_folder
from backprop.models.base import BaseModel
from backprop.specs import SPECS
from backprop.testing import probes
from tests import tiny
from tests.guard import run_python

pytestmark = pytest.mark.usefixtures("one_thread", "cache")

ST = "sentence_transformer"
KINDS = sorted(set(tiny.KINDS) - {"bert_encoder"})  # which does no task by itself


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of this module's own, and engines as users have them."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BACKPROP_CACHE", str(folder))
        patch.delenv("BACKPROP_ENGINE")
        yield folder


def both(model: BaseModel, task: str, given: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return a model's answers on the fast engine and on torch."""
    model.engine = "auto"
    assert model.handler(task) is not model.torch_handler(task)
    found = model(dict(given), task=task)
    model.engine = "torch"
    assert model.handler(task) is model.torch_handler(task)
    return found, model(dict(given), task=task)


def assert_alike(found: Any, wanted: Any) -> None:
    """Texts and labels must be equal, numbers near."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            assert_alike(found[key], wanted[key])
    elif isinstance(wanted, list) and wanted and not isinstance(wanted[0], float):
        for one, other in zip(found, wanted, strict=True):
            assert_alike(one, other)
    elif isinstance(wanted, str):
        assert found == wanted
    else:
        assert np.allclose(found, wanted, rtol=1e-3, atol=2e-4)


# --- Every architecture --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_torch(kind: str) -> None:
    model = load_folder(tiny.folder(kind))
    for task in model.tasks:
        spec = SPECS[task]
        labels = [] if "classifier" in kind or kind in ("efficientnet", "vit") else ["labels"]
        extra = labels if task.endswith("classification") and "multilabel" not in kind else []
        singles = probes.rows(spec, [name for name in extra if name in spec.keys])
        given = {**probes.batch(singles, spec), **probes.short(spec)}
        assert_alike(*both(model, task, given))


@pytest.mark.parametrize(("engine", "module"), [("onnx", "encoder"), ("ctranslate2",) * 2])
@pytest.mark.parametrize("kind", [ST, "bert_classifier", "roberta_qa"])
def test_text_encoders_run_on_either_engine(kind: str, engine: str, module: str) -> None:
    model = load_folder(tiny.folder(kind))
    [task] = model.tasks[:1]
    spec = SPECS[task]
    given = probes.batch(probes.rows(spec), spec)
    model.engine = engine
    found = model(given, task=task)
    assert type(model.handler(task).engine).__module__ == f"backprop.engines.{module}"  # type: ignore[attr-defined]
    model.engine = "torch"
    assert_alike(found, model(given, task=task))


@pytest.mark.parametrize("kind", ["gpt2", "llama_chat", "t5", "bart"])
@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(12, scored=True),
        Decoding(12, min_new=10),
        Decoding(10, beams=3, sequences=3, scored=True),
        Decoding(10, beams=3, length_penalty=2.0, scored=True),
        Decoding(10, beams=2, stop_early=True),
        Decoding(10, repetition_penalty=1.4),
        Decoding(10, sample=True, temperature=0.8, top_k=5, seed=3, sequences=2),
        Decoding(10, stop=lambda tokens: len(tokens) >= 3),
    ],
    ids=["greedy", "least", "beams", "penalty", "early", "repetition", "seed", "stop"],
)
def test_writers_write_what_torch_writes(kind: str, decoding: Decoding) -> None:
    model: Any = load_folder(tiny.folder(kind))
    quick = model.handler("text-generation").writer.generator
    slow = model.torch_handler("text-generation").writer.generator
    prompts = [model.tokenizer(text)["input_ids"] for text in probes.TEXTS]
    found, wanted = (own.generate(prompts, decoding) for own in (quick, slow))
    tokens = [[[each.tokens for each in row] for row in own] for own in (found, wanted)]
    assert tokens[0] == tokens[1]
    if decoding.scored:
        scores = [[each.score for row in own for each in row] for own in (found, wanted)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    # Each alone as in the batch.
    alone = [quick.generate([prompt], decoding)[0] for prompt in prompts]
    assert [[each.tokens for each in row] for row in alone] == tokens[0]


def test_beams_that_sample_have_others_to_go_on_with() -> None:
    model: Any = load_folder(tiny.folder("gpt2"))
    quick = model.handler("text-generation").writer.generator
    prompt = model.tokenizer("the cat")["input_ids"]
    for own in (
        Decoding(6, sample=True, beams=2, sequences=2, top_k=1, scored=True, seed=1),
        Decoding(6, sample=True, beams=2, sequences=2, top_p=0.01, scored=True, seed=1),
    ):
        [found] = quick.generate([prompt], own)
        assert all(each.score > -50 for each in found)


def test_what_may_come_next_is_obeyed_even_against_other_rules() -> None:
    model: Any = load_folder(tiny.folder("gpt2"))
    quick = model.handler("text-generation").writer.generator
    prompt = model.tokenizer("the cat")["input_ids"]
    [end, *_] = quick.ends
    [[found]] = quick.generate([prompt], Decoding(5, min_new=3), lambda *_: [end])
    assert found.tokens == []
    with pytest.raises(InputError, match="No token may come next"):
        quick.generate([prompt], Decoding(5), lambda *_: [])


def test_a_prompt_without_room_is_refused() -> None:
    model: Any = load_folder(tiny.folder("gpt2"))
    quick = model.handler("text-generation").writer.generator
    with pytest.raises(InputError, match="has 0 tokens"):
        quick.generate([[]], Decoding(5))
    with pytest.raises(InputError, match="room for 1 to 256"):
        quick.generate([[5] * 200], Decoding(60))


def test_calls_from_several_threads_do_not_mix() -> None:
    model: Any = load_folder(tiny.folder("llama_chat"))
    quick = model.handler("text-generation").writer.generator
    prompts = [model.tokenizer(text)["input_ids"] for text in probes.TEXTS] * 4
    wanted = [quick.generate([own], Decoding(30)) for own in prompts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda own: quick.generate([own], Decoding(30)), prompts)) == wanted


def test_a_decoder_whose_heads_onnx_runtime_does_not_know_answers_all_the_same() -> None:
    config = GPT2Config(n_embd=36, n_head=3, n_layer=1, vocab_size=512, n_positions=64)
    model: Any = load_folder(tiny.folder("gpt2"))
    wanted = model.torch_handler("text-generation").writer.generator.module
    assert to_decoder.converts(wanted)
    odd = GPT2LMHeadModel(config)
    assert not to_decoder.converts(odd)


@pytest.mark.parametrize("rule", [{"no_repeat_ngram_size": 2}, {"guidance_scale": 1.5}])
def test_rules_that_only_torch_heeds_stay_on_torch(rule: dict[str, Any]) -> None:
    model: Any = load_folder(tiny.folder("gpt2"))
    for name, value in rule.items():
        setattr(model.model.generation_config, name, value)
    assert model.handler("text-generation") is model.torch_handler("text-generation")


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        (ST, "text-vectorisation"),
        ("bert_qa", "qa"),
        ("llama_chat", "text-generation"),
        ("gpt2", "text-generation"),
    ],
)
def test_8_bits_are_near_and_smaller(
    kind: str, task: str, caplog: pytest.LogCaptureFixture, cache: Path
) -> None:
    model: Any = load_folder(tiny.folder(kind))
    plain = model.handler(task)
    model.precision = "int8"
    with caplog.at_level(logging.INFO, logger="backprop"):
        coarse = model.handler(task)
    assert coarse is not plain
    said = [record.message for record in caplog.records if "8 bits" in record.message]
    assert said and float(said[-1].split("cosine of ")[1].split()[0].rstrip(".")) > 0.97
    spec = SPECS[task]
    given = {**probes.batch(probes.rows(spec), spec), **probes.short(spec)}
    found = model(dict(given), task=task)
    assert len(found) == len(probes.rows(spec))
    if task == "text-vectorisation":
        model.precision = "float32"
        exact = np.asarray(model(dict(given), task=task))
        cosines = (np.asarray(found) * exact).sum(1)
        assert 0.97 < cosines.min() < 0.99999


def test_8_bits_are_refused_where_there_are_none() -> None:
    model: Any = load_folder(tiny.folder("t5"))
    model.precision = "int8"
    with pytest.raises(InputError, match="can't run on int8"):
        model({"text": "a cat"}, task="text-generation")
    with pytest.raises(InputError, match="precision must be one of float32, int8"):
        backprop.TextGeneration(precision="int4")
    with pytest.raises(InputError, match="leave engine out"):
        backprop.TextGeneration(precision="int8", engine="torch")


@pytest.mark.parametrize("kind", ["gpt2", "llama_chat", "t5", "bart"])
def test_streams_are_those_of_torch(kind: str) -> None:
    model: Any = load_folder(tiny.folder(kind))
    prompt = model.tokenizer("the cat sat on the mat")["input_ids"]
    quick = model.handler("text-generation").writer.generator
    slow = model.torch_handler("text-generation").writer.generator
    for decoding in (Decoding(9), Decoding(9, stop=lambda tokens: len(tokens) >= 4)):
        assert list(quick.stream(prompt, decoding)) == list(slow.stream(prompt, decoding))


def test_samples_without_a_seed_differ_and_keep_to_the_likeliest() -> None:
    model: Any = load_folder(tiny.folder("gpt2"))
    quick = model.handler("text-generation").writer.generator
    prompt = model.tokenizer("the cat")["input_ids"]
    drawn = quick.generate([prompt], Decoding(8, sample=True, temperature=2.0, sequences=20))[0]
    assert len({tuple(each.tokens) for each in drawn}) > 10
    narrow = quick.generate([prompt], Decoding(8, sample=True, top_k=1, sequences=3))[0]
    assert len({tuple(each.tokens) for each in narrow}) == 1


# --- Which weights answer ------------------------------------------------------------------------


def test_changed_weights_answer_at_the_next_call() -> None:
    model = STModel(tiny.folder(ST))
    before = model({"text": "a cat"}, task="text-vectorisation")
    with torch.no_grad():
        next(iter(model.model[0].auto_model.encoder.parameters())).mul_(3)
    after, wanted = both(model, "text-vectorisation", {"text": "a cat"})
    assert not np.allclose(before, after, atol=1e-3)
    assert_alike(after, wanted)


def test_a_finetuned_model_answers_on_the_fast_engine() -> None:
    task = backprop.TextClassification(STModel(tiny.folder(ST)))
    rows = {
        "texts": ["a cat", "a dog", "red wine", "old bread"] * 4,
        "labels": ["pet"] * 2 + ["food"] * 2,
    }
    rows["labels"] *= 4
    task.finetune(rows, method="full", epochs=1, batch_size=4, show=False)
    assert task.model.engine == "auto"
    found, wanted = both(task.model, "text-classification", {"text": "a cat"})
    assert set(found) == {"pet", "food"}
    assert_alike(found, wanted)


@pytest.mark.parametrize("kind", [ST, "bert_classifier"])
def test_inputs_of_the_last_layer_are_those_of_torch(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_folder(tiny.folder(kind))
    task = backprop.TextClassification(model)
    rows = {"texts": [*probes.TEXTS, "a", "b"] * 2, "labels": ["x", "y", "z", "x", "y"] * 2}
    data = read("text-classification", rows)
    answers = Answers(task.run, {}, written=False)
    objective = objective_for(data)(model, data, {"max_length": 32}, answers)
    objective.prepare()
    layer = model.head("text-classification")
    assert layer is not None
    found = []
    for many, engine in ((1, "auto"), (1, "torch"), (100, "auto")):
        monkeypatch.setattr(heads, "MANY_ROWS", many)
        monkeypatch.setenv("BACKPROP_ENGINE", engine)
        found.append(heads.cache(objective, layer, range(10)))
    assert torch.allclose(found[0].inputs, found[1].inputs, atol=1e-5)
    assert not torch.equal(found[0].inputs, found[1].inputs)  # another engine
    assert torch.equal(found[1].inputs, found[2].inputs)


def test_frozen_vectors_are_read_back_until_the_weights_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heads, "MANY_ROWS", 1)
    monkeypatch.setattr("backprop.finetuning.frozen.MOST_BYTES", 2**20)
    model: Any = load_folder(tiny.folder("bert_classifier"))
    task = backprop.TextClassification(model)
    texts = [f"the cat {word}" * (1 + len(word) % 3) for word in "sat ran ate saw met".split()]
    data = read("text-classification", {"texts": texts, "labels": ["x", "y", "x", "y", "x"]})
    objective = objective_for(data)(model, data, {}, Answers(task.run, {}, written=False))
    objective.prepare()
    layer = model.head("text-classification")
    ran: list[int] = []
    run = ONNXEncoder.run

    def counted(self: Any, function: str, **arrays: Any) -> Any:
        ran.append(len(arrays["input_ids"]))
        return run(self, function, **arrays)

    def cached(rows: list[int]) -> tuple[int, Any]:
        before = len(ran)
        found = heads.cache(objective, layer, rows).inputs
        # Those before are the probes of the conversion.
        return sum(ran[before + 2 :]), found

    monkeypatch.setattr(ONNXEncoder, "run", counted)
    assert cached([0, 1, 2])[0] == 3
    count, first = cached([4, 2, 0])
    assert count == 1
    count, again = cached([0, 2, 4])
    assert count == 0
    assert torch.equal(first.flip(0), again)
    with torch.no_grad():
        model.model.bert.embeddings.word_embeddings.weight.mul_(1.5)
    count, other = cached([0, 2, 4])
    assert count == 3
    assert not torch.allclose(again, other, atol=1e-3)


def test_label_vectors_are_kept_until_the_weights_change() -> None:
    model: Any = STModel(tiny.folder(ST))
    model.engine = "torch"
    given = {"text": "a cat", "labels": ["pet", "food"]}
    handler = model.torch_handler("text-classification")
    model(given, task="text-classification")
    calls: list[str] = []
    run = handler.vectors.engine.run

    def counted(function: str, **arrays: Any) -> Any:
        calls.append(function)
        return run(function, **arrays)

    handler.vectors.engine.run = counted
    first = model(given, task="text-classification")
    assert len(calls) == 1  # the text alone
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    second = model(given, task="text-classification")
    assert len(calls) == 3
    assert first != second


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.train(),
        lambda model: model.model[0].register_forward_hook(lambda *_: None),
    ],
    ids=["training", "hooked"],
)
def test_a_model_that_trains_or_has_hooks_stays_on_torch(change: Any) -> None:
    model = STModel(tiny.folder(ST))
    change(model)
    assert model.handler("text-vectorisation") is model.torch_handler("text-vectorisation")


def test_a_class_of_the_users_own_stays_on_torch() -> None:
    class Mine(STModel):
        def _vectors(self, **tensors: Any) -> Any:
            return super()._vectors(**tensors) * 0 + 1

    found = Mine(tiny.folder(ST))({"text": "a cat"}, task="text-vectorisation")
    assert len(set(found)) == 1


# --- The gate ------------------------------------------------------------------------------------


def test_a_conversion_that_differs_is_discarded_and_torch_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Tail.__call__
    monkeypatch.setattr(Tail, "__call__", lambda self, *given: broken(self, *given) + 0.3)
    model: Any = STModel(tiny.folder(ST))
    with caplog.at_level(logging.WARNING):
        handler = model.handler("text-vectorisation")
    # The exported network has no part in NumPy that could be wrong.
    assert type(handler.engine) is ONNXEngine
    run = ONNXEngine.run
    monkeypatch.setattr(ONNXEngine, "run", lambda *given, **arrays: run(*given, **arrays) + 0.3)
    model = STModel(tiny.folder(ST))
    handler = model.handler("text-vectorisation")
    assert handler is model.torch_handler("text-vectorisation")
    assert "was discarded" in caplog.text
    model.engine = "ctranslate2"
    with pytest.raises(InputError, match="too far from torch's"):
        model.handler("text-vectorisation")


def test_without_the_packages_torch_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_has", lambda package: False)
    model = STModel(tiny.folder(ST))
    assert model.handler("text-vectorisation") is model.torch_handler("text-vectorisation")


@pytest.mark.parametrize("engine", ["tensorrt", ""])
def test_an_engine_there_is_not_is_refused_at_once(engine: str) -> None:
    with pytest.raises(InputError, match="engine must be one of auto, torch, ctranslate2, onnx"):
        backprop.TextVectorisation(engine=engine)


# --- Plans ---------------------------------------------------------------------------------------


def saved(tmp_path: Path, model: BaseModel, name: str) -> Path:
    folder: Path = backprop.save(model, name, path=tmp_path / name)
    return folder


def test_a_saved_model_answers_without_torch_once_converted(tmp_path: Path, cache: Path) -> None:
    folder = saved(tmp_path, STModel(tiny.folder(ST)), "my-vectors")
    wanted = backprop.TextVectorisation(folder)("a cat sat")  # converts
    script = f"""
import json, sys
import backprop
found = backprop.TextVectorisation({str(folder)!r})("a cat sat")
print(json.dumps([found, "torch" in sys.modules, "transformers" in sys.modules]))
"""
    found, has_torch, has_transformers = json.loads(run_python(script).stdout)
    assert (has_torch, has_transformers) == (False, False)
    assert_alike(found, wanted)


def test_what_was_changed_after_loading_is_not_what_others_get(tmp_path: Path) -> None:
    folder = saved(tmp_path, STModel(tiny.folder(ST)), "my-prompts")
    task = backprop.TextVectorisation(folder)
    changing: Any = task.model
    changing.prompt = "query: "
    changed = task("a cat sat")
    assert ready.handler(str(folder), "text-vectorisation") is None
    plain = backprop.TextVectorisation(folder)("a cat sat")
    assert not np.allclose(changed, plain, atol=1e-4)
    assert_alike(backprop.TextVectorisation(folder)("a cat sat"), plain)


def test_a_damaged_conversion_is_made_again(tmp_path: Path, cache: Path) -> None:
    folder = saved(tmp_path, STModel(tiny.folder("sentence_transformer_cls")), "my-damaged")
    wanted = backprop.TextVectorisation(folder)("a cat")
    assert ready.handler(str(folder), "text-vectorisation") is not None
    for unit in (cache / ".engines").glob("unit-*/network.bin"):
        unit.write_bytes(unit.read_bytes()[:-4] + b"\0\1\2\3")
    assert ready.handler(str(folder), "text-vectorisation") is None
    assert_alike(backprop.TextVectorisation(folder)("a cat"), wanted)
    assert ready.handler(str(folder), "text-vectorisation") is not None


def test_decoders_never_need_torch(tmp_path: Path) -> None:
    folder = saved(tmp_path, HFCausalLMTGModel(tiny.folder("llama_chat")), "my-writer")
    options: dict[str, Any] = {
        "temperature": 0.7,
        "seed": 4,
        "repetition_penalty": 1.2,
        "num_generations": 2,
    }
    wanted = backprop.TextGeneration(folder, engine="torch")("a cat", **options)
    backprop.TextGeneration(folder)("a cat", max_length=3)
    task = backprop.TextGeneration(folder)
    assert task("a cat", **options) == wanted
    assert task._model is None


def test_encoder_decoders_load_torch_only_for_seeds(tmp_path: Path) -> None:
    folder = saved(tmp_path, HFSeq2SeqTGModel(tiny.folder("t5")), "my-writer")
    wanted = backprop.TextGeneration(folder, engine="torch")("a cat", temperature=0.7, seed=4)
    backprop.TextGeneration(folder)("a cat", max_length=3)
    task = backprop.TextGeneration(folder)
    task("a cat", max_length=3)
    assert task._model is None
    assert task("a cat", temperature=0.7, seed=4) == wanted


@pytest.mark.parametrize("kind", ["gpt2", "llama_chat"])
@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(70, min_new=70, scored=True),
        Decoding(70, repetition_penalty=1.3, scored=True),
        Decoding(70, sample=True, temperature=0.7, seed=5),
        Decoding(70, sample=True, top_p=0.8, seed=6),
        Decoding(70, min_new=70, stop=lambda tokens: len(tokens) >= 45),
    ],
    ids=["greedy", "repetition", "seed", "likeliest", "stop"],
)
def test_guessed_tokens_change_nothing(
    kind: str, decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = load_folder(tiny.folder(kind))
    quick = model.handler("text-generation").writer.generator
    slow = model.torch_handler("text-generation").writer.generator
    prompt = model.tokenizer("the cat sat on the mat and the cat sat")["input_ids"]
    checked = []
    learn = guessing.Guesses._learn

    def spy(self: Any, guessed: int, right: int) -> None:
        checked.append((guessed, right))
        learn(self, guessed, right)

    monkeypatch.setattr(guessing.Guesses, "_learn", spy)
    [[found]] = quick.generate([prompt], decoding)
    [[wanted]] = slow.generate([prompt], decoding)
    assert found.tokens == wanted.tokens
    assert sum(right for _, right in checked) > 5
    if decoding.scored:
        assert found.score == pytest.approx(wanted.score, abs=1e-3)
    assert list(quick.stream(prompt, decoding)) == wanted.tokens


def test_wrong_guesses_are_dropped_and_then_no_longer_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model: Any = load_folder(tiny.folder("gpt2"))
    quick = model.handler("text-generation").writer.generator
    prompt = model.tokenizer("the cat sat on the mat")["input_ids"]
    decoding = Decoding(60, min_new=60)
    wanted = quick.generate([prompt], decoding)
    runs = []

    def wrong(*_: Any) -> list[int]:
        runs.append(1)
        return [7, 7, 7]

    monkeypatch.setattr(guessing.Guesses, "_written", wrong)
    monkeypatch.setattr(guessing, "followed", lambda *_: [])
    assert quick.generate([prompt], decoding) == wanted
    assert 0 < len(runs) < 20


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(20, stop=lambda tokens: sum(tokens) % 4 == 0),
        Decoding(12, beams=2),
        Decoding(9, sample=True, seed=1, sequences=3),
    ],
    ids=["stop", "beams", "copies"],
)
def test_rows_that_end_make_room_for_the_next_prompts(
    decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = load_folder(tiny.folder("llama_chat"))
    quick = model.handler("text-generation").writer.generator
    prompts = [model.tokenizer(text)["input_ids"] for text in probes.TEXTS] * 3
    wanted = [quick.generate([own], decoding)[0] for own in prompts]
    monkeypatch.setattr(decoder, "MOST_ROWS", 4)
    assert quick.generate(prompts, decoding) == wanted


@pytest.mark.parametrize(
    "made",
    [
        lambda: SpanQA(tiny.folder("bert_qa")),
        lambda: HFSeqTCModel(tiny.folder("bert_classifier")),
        lambda: load_folder(tiny.folder("llama_chat")),
        lambda: load_folder(tiny.folder("clip")),
    ],
    ids=["spans", "classes", "writer", "images"],
)
def test_descriptions_name_what_they_are_made_of(made: Any) -> None:
    model = made()
    [task] = model.tasks[:1]
    handler = model.torch_handler(task)
    parts: list[Any] = []

    def name(part: Any) -> Any:
        if type(part).__name__ in ("TorchEngine", "TorchGenerator", "Tokens"):
            parts.append(part)
            return len(parts) - 1
        return None

    text = json.dumps(describe(handler, name))
    again = build(json.loads(text), parts.__getitem__)
    assert type(again) is type(handler)
    spec = SPECS[task]
    extra = ["labels"] if task == "image-classification" else []
    rows = inputs.read(task, probes.batch(probes.rows(spec, extra), spec)).rows
    options = dict(probes.short(spec))
    assert again.answer(rows, options) == handler.answer(rows, options)


def test_descriptions_build_handlers_only() -> None:
    with pytest.raises(ArtefactError, match="no handler of the kind 'Popen'"):
        build({"kind": "Popen", "args": ["true"]}, lambda name: name)
    with pytest.raises(TypeError, match="can't be described"):
        describe(object(), lambda part: None)


def test_tails_survive_a_plan(tmp_path: Path) -> None:
    layer = Linear(np.ones((2, 3), np.float32), np.array([0.5, 1], np.float32))
    tail = Tail("mean", ["unit", layer, "tanh"])
    again = Tail.read(json.loads(json.dumps(tail.plan())), tail.arrays())
    hidden = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    assert np.array_equal(again(hidden, mask), tail(hidden, mask))
    changed = hidden.copy()
    changed[0, 3] = 99  # padding
    assert np.allclose(tail(changed, mask), tail(hidden, mask))


def test_a_plan_without_its_units_is_no_plan(tmp_path: Path) -> None:
    assert Plan.read(place("plan-of-nothing")) is None


def test_only_the_newest_units_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path))
    for number in range(5):
        unit = place(f"unit-{number}")
        unit.mkdir(parents=True)
        os.utime(unit, (number, number))
    place("plan-0").mkdir()
    monkeypatch.setattr(plans, "MOST_UNITS", 2)
    plans.prune()
    assert sorted(each.name for each in place("").iterdir()) == ["plan-0", "unit-3", "unit-4"]
