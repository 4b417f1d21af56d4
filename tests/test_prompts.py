import functools
from typing import Any

import pytest

from backprop.errors import InputError
from backprop.handlers.prompts import ChatTemplate, Message, fill
from tests.tiny_tokenizers import CHAT_TEMPLATE, chat

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}

CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

LLAMA_3 = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

GEMMA = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}\
{% endif %}\
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}\
{% else %}{% set role = message['role'] %}{% endif %}\
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

GENERATION = """\
{% for message in messages %}
    {% if message.role == 'assistant' %}
        {% generation %}
            {{- '[bot] ' + message.content + eos_token }}
        {% endgeneration %}
    {% else %}
[{{ message.role }}] {{ message.content }}
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}[bot]{% endif %}
"""

GADGETS = """\
{%- set ns = namespace(seen=0, system='') -%}
Today is {{ strftime_now("%Y in the style %%d") }}.
{%- macro shown(message) %}{{ message | tojson }}{% endmacro %}
{% for message in messages %}
    {%- if message.role == 'system' %}
        {%- set ns.system = message.content %}
        {%- continue %}
    {%- endif %}
    {%- if ns.seen >= 3 %}
        {%- break %}
    {%- endif %}
    {%- set ns.seen = ns.seen + 1 %}
{{ shown(message) }} {{ message | tojson(indent=2) }} {{ message.items() | list | length }}
{% endfor %}
{{ {'b': ['<é>'], 'a': ns.system} | tojson(ensure_ascii=True, separators=(',', ':')) }}
{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}
{%- if documents %}{{ documents }}{% endif %}
"""

TEMPLATES = {
    "ChatML": CHATML,
    "Llama 3": LLAMA_3,
    "Gemma": GEMMA,
    "generation": GENERATION,
    "gadgets": GADGETS,
    "SmolLM2": CHAT_TEMPLATE,
}

SYSTEM: Message = {"role": "system", "content": "Be  brief. "}
USER: Message = {"role": "user", "content": " Who's <there>?\n{{ 7 * 7 }} — “é” 😀 "}
BOT: Message = {"role": "assistant", "content": 'Nobody, "really".'}
AGAIN: Message = {"role": "user", "content": "{% if %} Who else?"}

CONVERSATIONS = {
    "question": [USER],
    "turns": [USER, BOT, AGAIN],
    "system": [SYSTEM, USER],
    "all": [SYSTEM, USER, BOT, AGAIN, BOT, AGAIN],
}


@functools.cache
def tokenizer() -> Any:
    found: Any = chat()
    found.bos_token, found.eos_token = SPECIAL["bos_token"], SPECIAL["eos_token"]
    return found


def theirs(template: str, messages: list[Message]) -> str:
    rendered = tokenizer().apply_chat_template(
        messages,
        chat_template=template,
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    assert isinstance(rendered, str)
    return rendered


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_conversation_reads_as_transformers_renders_it(
    name: str, messages: list[Message]
) -> None:
    given = [dict(message) for message in messages]
    found = ChatTemplate(TEMPLATES[name], SPECIAL).render(given)
    assert given == messages
    if name == "Gemma" and messages[0] is SYSTEM:
        both = f"{SYSTEM['content']}\n\n{messages[1]['content']}"
        messages = [{"role": "user", "content": both}, *messages[2:]]
    assert found == theirs(TEMPLATES[name], messages)


def test_the_system_s_words_go_to_the_user_s_first_where_there_is_no_system() -> None:
    messages = [SYSTEM, {"role": "user", "content": "Hi."}]
    assert ChatTemplate(GEMMA, SPECIAL).render(messages) == (
        "<s><start_of_turn>user\nBe  brief. \n\nHi.<end_of_turn>\n<start_of_turn>model\n"
    )
    assert messages == [SYSTEM, {"role": "user", "content": "Hi."}]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([USER, USER], "roles must alternate"),
        ([SYSTEM, BOT, AGAIN], "roles must alternate"),
        ([SYSTEM], "System role not supported"),
        ([BOT], "roles must alternate"),
    ],
)
def test_a_refusal_names_its_reason_and_the_roles(messages: list[Message], reason: str) -> None:
    with pytest.raises(InputError) as refusal:
        ChatTemplate(GEMMA, SPECIAL).render(messages)
    assert reason in str(refusal.value)
    assert str([message["role"] for message in messages]) in str(refusal.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ strftime_now.__globals__['json'] }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ lipsum.__globals__['os'].popen('true').read() }}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'system'}) }}",
        "{{ messages[0].clear() }}",
        "{{ ().__class__.__bases__[0] }}",
        "{% set x = messages.__init__.__func__ %}{{ x() }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os }}",
    ],
)
def test_a_template_can_t_reach_out_of_its_sandbox(source: str) -> None:
    messages = [dict(USER)]
    with pytest.raises(InputError):
        ChatTemplate(source, SPECIAL).render(messages)
    assert messages == [USER]


@pytest.mark.parametrize("what", ["raise_exception.__globals__", "messages | attr('__class__')"])
def test_what_is_hidden_from_a_template_reads_as_nothing(what: str) -> None:
    assert ChatTemplate(f"<{{{{ {what} }}}}>", SPECIAL).render([USER]) == "<>"


@pytest.mark.parametrize(
    "source",
    [
        "{% for message in messages %}",  # never closed
        "{{ messages | no_such_filter }}",
        "{{ 1 + 'a' }}",
        "{{ 1 / 0 }}",
        "{{ nothing.at_all }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_a_template_with_an_error_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="template"):
        ChatTemplate(source, SPECIAL).render([USER])


def test_special_tokens_that_are_not_known_are_left_out() -> None:
    assert (
        ChatTemplate("{{ bos_token }}{{ messages[0].content }}", {}).render([BOT])
        == (BOT["content"])
    )


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("{text}", {"text": "cats"}, "cats"),
        ("Q: {q} T: {t} Q: {q}", {"q": "a", "t": "b"}, "Q: a T: b Q: a"),
        ("{q} {t}", {"q": "{t}", "t": "{q}"}, "{t} {q}"),  # values are not read again
        ("{text}", {"text": r"\1 {0} {} }{ \g<0>"}, r"\1 {0} {} }{ \g<0>"),
        ("{} {other} {{text}} {te xt}", {"text": "x"}, "{} {other} {x} {te xt}"),
        ("no place", {"text": "x"}, "no place"),
        ("", {"text": "x"}, ""),
    ],
)
def test_names_in_braces_are_filled(template: str, values: dict[str, str], expected: str) -> None:
    assert fill(template, **values) == expected
