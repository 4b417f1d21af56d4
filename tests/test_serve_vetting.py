"""An uploaded model is served when our own classes saved it, and refused when anything is odd."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from backprop.errors import ArtefactError
from backprop.models import CLIP, HFImageModel, HFModel, STModel
from backprop.models.base import BaseModel
from backprop.models.saving import save
from backprop.serve.vetting import vet
from backprop.serve.vetting.checking import check
from backprop.serve.vetting.demands import demanded
from backprop.serve.vetting.expressions import MOST_COPIES
from backprop.serve.vetting.meta import CLASSES, SETTINGS
from backprop.serve.vetting.patterns import check_pattern
from backprop.serve.vetting.templates import check_template, render_template
from tests import tiny
from tests.guard import run_python
from tests.hostile_artefacts import hostile
from tests.plain_artefacts import CONFIG, Files, plain, sealed, with_json, write
from tests.test_saving import MAKERS

pytestmark = pytest.mark.usefixtures("one_thread")


def refusal(files: Files, folder: Path) -> str:
    with pytest.raises(ArtefactError) as caught:
        check(write(sealed(files), folder))
    return str(caught.value)


def _with_own_head() -> BaseModel:
    model = CLIP(tiny.folder("clip"))
    model.pre_finetuning({0: "cat", 1: "dog"})
    return model


def _with_labels() -> BaseModel:
    model = HFImageModel(tiny.folder("dinov2"))
    model.pre_finetuning({0: "cat", 1: "dog"})
    return model


def _with_classes() -> BaseModel:
    model = STModel(tiny.folder("sentence_transformer"))
    model.pre_finetuning({0: "bad", 1: "good"}, task="text-classification")
    return model


LEARNED: Mapping[str, Callable[[], BaseModel]] = {
    "clip-head": _with_own_head,
    "image-head": _with_labels,
    "classes": _with_classes,
    "bare": lambda: HFModel(tiny.folder("bert_encoder"), tasks=["qa"]),
}


@pytest.mark.parametrize("kind", [*MAKERS, *LEARNED])
def test_every_class_of_ours_is_let_in_as_it_is_saved(kind: str, tmp_path: Path) -> None:
    model = {**MAKERS, **LEARNED}[kind]()
    path = save(model, "my-model", "what it is", details={"rows": [1, 2]}, path=tmp_path / "m")
    meta = check(path)
    assert (meta["name"], meta["class"]) == ("my-model", type(model).__name__)
    assert set(model.settings()) <= set(SETTINGS[meta["class"]])


def test_the_classes_are_those_that_a_saved_folder_can_name() -> None:
    from backprop.models import auto

    assert CLASSES == auto.CLASSES == SETTINGS.keys()


def test_a_plain_model_is_let_in_by_a_process_of_its_own(tmp_path: Path) -> None:
    assert vet(write(sealed(plain()), tmp_path))["name"] == "plain-model"


def test_no_hostile_upload_is_let_in_and_none_of_them_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    passed = []
    for i, (name, files) in enumerate(hostile(str(canary))):
        folder = tmp_path / str(i)
        try:
            check(write(files, folder))
        except ArtefactError as error:
            assert str(tmp_path) not in str(error).replace(str(canary), ""), name
            assert str(error).isprintable() and len(str(error)) < 1500, name
            continue
        passed.append(name)
    assert not passed
    assert not canary.exists()


def test_links_and_special_files_are_refused(tmp_path: Path) -> None:
    folder = write(sealed(plain()), tmp_path / "m")
    target = tmp_path / "config.json"
    (folder / "config.json").rename(target)
    (folder / "config.json").symlink_to(target)
    with pytest.raises(ArtefactError, match=r"config\.json: it is a link"):
        check(folder)
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(ArtefactError, match=r"config\.json: it is a link or a special file"):
        check(folder)


def test_what_takes_too_long_is_refused_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backprop.serve.vetting import apart

    monkeypatch.setattr(apart, "TIMEOUT_S", 0.001)
    with pytest.raises(ArtefactError, match="more time or memory"):
        vet(write(sealed(plain()), tmp_path))


def test_vetting_imports_nothing_that_runs_models_or_unpickles(tmp_path: Path) -> None:
    folder = write(sealed(plain()), tmp_path)
    done = run_python(
        f"""
        from pathlib import Path
        from backprop.serve.vetting.checking import check
        print(check(Path({str(folder)!r}))["name"])
        """,
        blocked=["torch", "transformers", "dill", "sentence_transformers"],
    )
    assert done.stdout.strip() == "plain-model", done.stderr


# Each message says what to do


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (plain() | {"model.dill": b""}, "model.dill: weights of this kind can hold code; save"),
        (plain() | {"run.py": b""}, "run.py: code that comes with a model is never run; leave"),
        (with_json("config.json", auto_map={}), "'auto_map' would bring code along"),
        (with_json("config.json", hidden_size=1 << 40), "config.json, hidden_size: received"),
        (with_json("config.json", model_type="rag"), "model_type 'rag' is not one of those served"),
        (
            with_json("backprop.json", {"class": "user:Mine"}),
            "upload a model of a class of backprop",
        ),
        (with_json("config.json", hidden_size=4096), "ask for at least"),
        (with_json("tokenizer_config.json", chat_template="{{ 1 * 1 }}"), "line 1 has"),
        (plain() | {"README.md": b"a\0b"}, "README.md: it holds a NUL byte"),
    ],
)
def test_a_refusal_names_the_file_and_the_remedy(files: Files, words: str, tmp_path: Path) -> None:
    assert words in refusal(files, tmp_path)


# Sizes that a configuration asks for


def test_sizes_are_held_against_the_weights_whatever_they_are_called() -> None:
    small = demanded(CONFIG)
    for key in ("hidden_size", "d_model", "n_embd", "num_hidden_layers", "n_layer", "vocab_size"):
        assert demanded({**CONFIG, key: 4096}) > 10 * small, key


# Patterns of tokenizers

DECENT_PATTERNS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
    r"<\|startoftext\|>|'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r"[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+",
    r" {2,}",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]",
)


@pytest.mark.parametrize("pattern", DECENT_PATTERNS)
def test_patterns_that_tokenizers_have_are_let_in(pattern: str) -> None:
    check_pattern(pattern, "here")


@pytest.mark.parametrize(
    "pattern",
    [
        *("(a+)+", "(a*)*b", "(?:a+){2,}", "(?>a|b)*", "((a|b)c)+", "(?:x?)+y", "a+b+c+"),
        *("a?" * 20, r"(\w+)\1", "(?<name>a)", "(?<!a)b", "(?i)a", "a{5000}", "a" * 3000),
    ],
)
def test_patterns_that_may_run_long_are_refused(pattern: str) -> None:
    with pytest.raises(ArtefactError):
        check_pattern(pattern, "here")


# Chat templates

DECENT_TEMPLATES = {
    "smollm": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}{{ '<|im_start|>' + "
        "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "qwen": """
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
{%- elif messages[0].role == 'system' %}
    {{- messages[0].content + '\\n\\n' }}
{%- endif %}
{%- set ns = namespace(steps=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.steps and message.role == "user" and not message.content.startswith('<tool>') %}
        {%- set ns.steps = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}
    {%- else %}{%- set content = '' %}{%- endif %}
    {%- if message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or reasoning) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') }}
        {%- endif %}
        {{- content }}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
                {{- tool_call.name }}{{- tool_call.arguments | tojson }}
            {%- endfor %}
        {%- endif %}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- 'tool' }}{%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
""",
    "mistral": """
{%- set today = strftime_now("%Y-%m-%d") %}
{%- set preset = "You are kind. Today is " + today + "." %}
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}{%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = preset %}{%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set kept = [] %}
{%- for message in loop_messages %}
    {%- if message["role"] not in ["tool", "results"] and not message.get("tool_calls") %}
        {%- set kept = kept + [message] %}
    {%- endif %}
{%- endfor %}
{%- for message in kept %}
    {%- if (message["role"] == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("Roles must alternate") }}
    {%- endif %}
{%- endfor %}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {%- for key, val in tool.items() if key != "return" %}
                    {{- '"' + key + '": ' + val|tojson }}{{- ", " if not loop.last else "" }}
                {%- endfor %}
            {%- endfor %}
        {%- endif %}
        {{- '[INST]' + system_message + message['content'] + '[/INST]' }}
    {%- elif message.tool_calls is defined %}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}{{- out[:-1] }}{{- tool_call.id[-9:] }}
        {%- endfor %}
    {%- else %}
        {{- message['content'] + eos_token }}
    {%- endif %}
{%- endfor %}
""",
    "llama": """
{{- bos_token }}
{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set system_message = "" %}{%- endif %}
{%- if tools is not none %}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
{%- endif %}
{{- system_message }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start|>' + message['role'] + '<|end|>' + message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}{{- raise_exception("one call") }}{%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {%- for name, value in tool_call.arguments | items %}
            {{- name + '="' + value + '"' }}{%- if not loop.last %}{{- ", " }}{%- endif %}
        {%- endfor %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}
""",
    "gemma": """
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}{%- set first = messages[0]['content'][0]['text'] + '\\n\\n' -%}{%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}{%- set first = "" -%}{%- set loop_messages = messages -%}{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}{%- set role = "model" -%}
    {%- else -%}{%- set role = message['role'] -%}{%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (first if loop.first else "") }}
    {%- if message['content'] is string -%}{{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}{{ '<image>' }}
            {%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{'<start_of_turn>model\\n'}}{%- endif -%}
""",
    "switches": """
{%- set thinks = true -%}{%- set start = "<|h|>" -%}{%- set end = "<|e|>" -%}
{%- if messages[0].role == 'system' -%}
    {%- set words = messages[0].content -%}
    {%- if '/no_think' in words -%}
        {%- set words = words.replace('/no_think', '')|trim -%}{%- set thinks = false -%}
    {%- endif -%}
    {{- start ~ words ~ end -}}
{%- endif -%}
{%- macro turn(role, text) -%}{{ start ~ role ~ end }}{{ text | trim }}{%- endmacro -%}
{%- for message in messages -%}
    {% generation %}{{ turn(message.role, message.content) }}{% endgeneration %}
    {%- if loop.last %}{% break %}{% endif -%}
{%- endfor -%}
{%- if not thinks | default(false) -%}{{- '<think></think>' -}}{%- endif -%}
""",
}


@pytest.mark.parametrize("name", DECENT_TEMPLATES)
def test_templates_that_models_have_are_let_in(name: str) -> None:
    check_template(DECENT_TEMPLATES[name], name)
    render_template(DECENT_TEMPLATES[name], name)


def test_a_template_that_writes_a_text_over_and_over_is_refused() -> None:
    once = "{{ messages[0].content }}"
    check_template(once * 20, "here")
    with pytest.raises(ArtefactError, match="same text"):
        check_template(once * (MOST_COPIES + 1), "here")


def test_numbers_that_count_turns_may_be_divided() -> None:
    counts = "{% set ns = namespace(i=0) %}{% for m in messages %}{% set ns.i = ns.i + 1 %}"
    check_template(counts + "{{ ns.i % 2 }}{% endfor %}", "here")
    with pytest.raises(ArtefactError, match="% of what may be text"):
        check_template(counts + "{% set ns.i = m.content %}{{ ns.i % 2 }}{% endfor %}", "here")


def test_json_that_uploads_hold_is_counted_before_it_is_read(tmp_path: Path) -> None:
    files = plain() | {"config.json": b'{"a": [' + b"[]," * 500_000 + b"1]}"}
    assert "values for its size" in refusal(files, tmp_path)


def test_details_may_hold_addresses_and_settings_may_not_name_others(tmp_path: Path) -> None:
    details = {"data": "https://example.com/rows", "scores": {"f1": 0.5}}
    check(write(sealed(with_json("backprop.json", details=details)), tmp_path / "m"))


def test_a_hub_models_older_keys_are_let_in(tmp_path: Path) -> None:
    older: dict[str, Any] = {
        "gradient_checkpointing": False,
        "position_embedding_type": "absolute",
        "_name_or_path": "owner/some-model",
        "task_specific_params": {"summarization": {"max_length": 200, "prefix": "summarize: "}},
        "torch_dtype": "float32",
        "transformers_version": "4.8.2",
    }
    meta = check(write(sealed(with_json("config.json", older)), tmp_path))
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] and meta
