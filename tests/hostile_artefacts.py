"""Uploads that must all be refused, each a name and its files; none may run anything.

Whatever would run code here would touch a canary, a file whose absence is then looked for.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Iterator
from typing import Any

from tests.plain_artefacts import Files, as_json, plain, sealed, tokenizer, with_json

__all__ = ["hostile", "pickles"]

PICKLED_NAMES = (
    *("model.dill", "pytorch_model.bin", "model.pkl", "model.pt", "weights.pth", "last.ckpt"),
    *("model.joblib", "training_args.bin", "model.safetensors", "config.json", "spiece.model"),
    "1_Pooling/config.json",
)


class _Touch:
    """Touches the canary when it is unpickled."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def pickles(canary: str) -> Iterator[tuple[int, bytes]]:
    """Yield a pickle that touches ``canary``, in each protocol."""
    for protocol in range(6):
        yield protocol, pickle.dumps(_Touch(canary), protocol)


def hostile(canary: str) -> Iterator[tuple[str, Files]]:
    """Yield uploads, sealed with a manifest that is true of them unless that is the attack."""
    for maker in (_pickled, _code, _remote, _json, _meta, _configs, _weights, _tokenizers):
        for name, files in maker(canary):
            yield name, sealed(files)
    for maker in (_templates, _sentences, _pieces, _odd):
        for name, files in maker(canary):
            yield name, sealed(files)


Made = Iterator[tuple[str, Files]]


def _pickled(canary: str) -> Made:
    for protocol, payload in pickles(canary):
        for name in PICKLED_NAMES:
            yield f"pickle {protocol} as {name}", plain() | {name: payload}


def _code(canary: str) -> Made:
    code = f"import os\nos.system('touch {canary}')\n".encode()
    for name in ("modeling_custom.py", "__init__.py", "setup.py", "sitecustomize.py", "x.pth"):
        yield f"code as {name}", plain() | {name: code}
    yield "hook.so", plain() | {"hook.so": b"\x7fELF"}
    yield "adapter_config.json", plain() | {"adapter_config.json": as_json({"peft_type": "LORA"})}
    yield "classes of the user", with_json("backprop.json", {"class": "user:Mine"})


def _remote(canary: str) -> Made:
    maps = {"AutoModel": "modeling_custom.Model", "AutoConfig": "owner/name--config.Config"}
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        yield f"auto_map in {name}", with_json(name, auto_map=maps)
        yield f"trust_remote_code in {name}", with_json(name, trust_remote_code=True)
        yield f"nested trust in {name}", with_json(name, a={"b": [{"trust_remote_code": True}]})
    deep = {"task_specific_params": {"a": {"b": {"trust_remote_code": True}}}}
    yield "trust in known places", with_json("config.json", deep)
    for key in ("custom_pipelines", "custom_objects", "code_revision", "_target_", "__class__"):
        yield f"{key} in config.json", with_json("config.json", {key: {"a": "os.system"}})
        yield f"{key} in details", with_json("backprop.json", details={"a": [{key: "b"}]})
    yield "kernels of the hub", with_json("config.json", attn_implementation="owner/kernels")
    quantised = {"quant_method": "gptq", "modules": "os"}
    yield "quantization_config", with_json("config.json", quantization_config=quantised)
    for value in (
        "/etc/passwd",
        "../../secret",
        "https://example.com/m",
        "~/x",
        "a/b/c",
        "\\\\h\\s",
    ):
        yield f"_name_or_path {value}", with_json("config.json", _name_or_path=value)
    yield "vocab_file", with_json("tokenizer_config.json", vocab_file="/etc/passwd")
    kwargs = {"model_file": "/etc/passwd"}
    yield "sp_model_kwargs", with_json("tokenizer_config.json", sp_model_kwargs=kwargs)
    yield "init_inputs", with_json("tokenizer_config.json", init_inputs=["/etc/passwd"])
    yield "class of a tokenizer", with_json("tokenizer_config.json", tokenizer_class="RagTokenizer")
    yield "class in config.json", with_json("config.json", tokenizer_class="subprocess")


def _json(canary: str) -> Made:
    config = plain()["config.json"]
    yield "a key twice", plain() | {"config.json": b'{"model_type": "bert", ' + config[1:]}
    yield "NaN", plain() | {"config.json": config.replace(b"16", b"NaN", 1)}
    yield "1e999", plain() | {"config.json": config.replace(b"16", b"1e999", 1)}
    yield "many digits", plain() | {"config.json": config.replace(b"16", b"1" * 5000, 1)}
    yield "deep lists", plain() | {"config.json": b"[" * 100_000}
    yield "deep objects", plain() | {"config.json": b'{"a":' * 50_000 + b"1" + b"}" * 50_000}
    yield "many values", plain() | {"config.json": b'{"a":[' + b"[]," * 900_000 + b"1]}"}
    yield "half a pair", plain() | {"config.json": config.replace(b"good", b"\\ud800")}
    yield "UTF-16", plain() | {"config.json": config.decode().encode("utf-16")}
    yield "NUL", plain() | {"config.json": config + b"\0"}
    yield "no JSON", plain() | {"config.json": b"model_type: bert"}
    yield "a list", plain() | {"config.json": b"[]"}
    yield "NUL in README", plain() | {"README.md": b"# a\0b"}
    yield "README not UTF-8", plain() | {"README.md": b"\xff\xfe\xfa"}
    yield "large README", plain() | {"README.md": b"a" * 1_100_000}


def _meta(canary: str) -> Made:
    name = "backprop.json"
    for own in ("BaseModel", "os.system", "AutoModel", "PathModel", "../x", "", 3, None):
        yield f"class {own!r}", with_json(name, {"class": own})
    yield "unknown key", with_json(name, extra=1)
    yield "unknown setting", with_json(name, settings={"device": "cuda"})
    yield "model_class", with_json(name, settings={"model_class": "os:system"})
    yield (
        "another's weights",
        with_json(name, {"class": "EfficientNet"}, settings={"label_encoder": "/etc"}),
    )
    yield (
        "adapter",
        with_json(name, {"class": "SpanQA"}, tasks=["qa"], settings={"adapter": "../../x"}),
    )
    parts = {"../x": {"class": "HFSeqTCModel", "tasks": ["emotion"]}}
    yield "parts", with_json(name, parts=parts)
    yield "pair without parts", with_json(name, {"class": "PairEncoder"})
    yield "task", with_json(name, tasks=["text-classification", "rm -rf"])
    yield "no task", with_json(name, tasks=[])
    for own in ("A", "../plain", "a" * 101, "a b", 3, "abc\n"):
        yield f"name {own!r:.20}", with_json(name, {"name": own})
    yield "format", with_json(name, format=2)
    yield "format True", with_json(name, format=True)
    yield "large description", with_json(name, description="a" * 20_000)
    yield "control characters", with_json(name, description="a\x1b[2Jb")
    yield "no backprop.json", {k: own for k, own in plain().items() if k != name}


def _configs(canary: str) -> Made:
    name = "config.json"
    for key in ("hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings"):
        yield f"huge {key}", with_json(name, {key: 10**12})
        yield f"negative {key}", with_json(name, {key: -1})
    yield "wide", with_json(name, hidden_size=16_384, intermediate_size=131_072)
    yield "long", with_json(name, vocab_size=1_000_000, hidden_size=16_000)
    yield "layers", with_json(name, num_hidden_layers=256, hidden_size=4096)
    yield "many labels", with_json(name, num_labels=10**9)
    yield "model_type", with_json(name, model_type="rag")
    yield "no model_type", with_json(name, model_type=None)
    yield "model_type is a list", with_json(name, model_type=["bert"])
    yield "architecture", with_json(name, architectures=["RagModel"])
    yield "architecture of another", with_json(name, architectures=["pipeline"])
    yield "unknown key", with_json(name, my_own=1)
    yield "pruned_heads", with_json(name, pruned_heads={"0": [1]})
    gpt2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_positions": 1 << 20}
    yield "masks", with_json(name, gpt2, n_layer=48)
    yield (
        "aliases",
        with_json(name, gpt2, n_positions=16, n_embd=16_384, hidden_size=8, n_layer=200),
    )
    generation = "generation_config.json"
    yield "endless answers", with_json(generation, max_new_tokens=10**9)
    yield "beams", with_json(generation, num_beams=10_000)
    yield "a second model", with_json(generation, assistant_model="owner/name")
    yield "generation code", with_json(generation, custom_generate="owner/name")
    pixels = "preprocessor_config.json"
    yield "large pictures", with_json(pixels, size={"height": 10**6, "width": 10**6})
    yield "image processor", with_json(pixels, image_processor_type="subprocess.Popen")


def _header(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def _weights(canary: str) -> Made:
    name, whole = "model.safetensors", plain()["model.safetensors"]

    def one(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8), **more: Any) -> bytes:
        tensor = {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}
        return _header({"a": tensor}, b"\0" * 8)

    cases: dict[str, bytes] = {
        "empty": b"",
        "short": b"\x01\0\0",
        "cut": whole[:-3],
        "cut in the header": whole[:100],
        "more at the end": whole + b"PK\x03\x04",
        "header too long": _header({}, length=1 << 40),
        "header past the end": _header({}, length=1000),
        "no header": _header(b"", b"abc"),
        "header is a list": _header([]),
        "no JSON": _header(b"{not json}"),
        "a key twice": _header(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{}}'),
        "deep": _header(b'{"a":' * 9000 + b"1" + b"}" * 9000),
        "dtype": one("F128"),
        "dtype is code": one("__import__('os')"),
        "negative shape": one(shape=[-2, -1]),
        "shape of floats": one(shape=[2.0]),
        "shape is true": one(shape=[True, 2]),
        "shape is text": one(shape="2"),
        "huge shape": one(shape=[1 << 40, 1 << 40]),
        "shape of zero times much": one(shape=[0, 1 << 60], offsets=[0, 0]),
        "offsets too large": one(offsets=[0, 1 << 50]),
        "offsets turned round": one(offsets=[8, 0]),
        "offsets negative": one(offsets=[-8, 0]),
        "unknown field": one(code="os.system"),
        "hole": _header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"\0" * 8),
        "overlap": _header(
            {
                "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
            },
            b"\0" * 8,
        ),
        "metadata of numbers": _header({"__metadata__": {"a": 1}}),
        "metadata is a list": _header({"__metadata__": ["a"]}),
        "zip": b"PK\x03\x04" + b"\0" * 200,
    }
    for what, raw in cases.items():
        yield f"safetensors: {what}", plain() | {name: raw}
    yield "no weights", {k: own for k, own in plain().items() if k != name}
    yield "a shard alone", plain() | {"model-00001-of-00002.safetensors": whole}
    index = {"metadata": {}, "weight_map": {"a": "../../x.safetensors"}}
    yield "an index of others", plain() | {"model.safetensors.index.json": as_json(index)}


def _tokenizers(canary: str) -> Made:
    name, content = "tokenizer.json", tokenizer()

    def changed(**own: Any) -> Files:
        return plain() | {name: as_json({**content, **own})}

    regex = {"type": "Split", "behavior": "Isolated", "invert": False}
    for pattern in ("(a+)+$", "(a|a)*b", "(?:a?){50}a{50}", r"(a)\1+", "(?<=a+)b", "a*a*a*a*b"):
        yield f"pattern {pattern}", changed(pre_tokenizer={**regex, "pattern": {"Regex": pattern}})
    grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"}
    yield "growing text", changed(normalizer={"type": "Sequence", "normalizers": [grow] * 12})
    yield "unknown component", changed(pre_tokenizer={"type": "Python", "code": "os"})
    yield "unknown model", changed(model={"type": "Pickle", "vocab": {}})
    yield "unknown key", changed(loader="os.system")
    yield "token number", changed(model={**content["model"], "vocab": {"a": 1 << 60}})
    yield "long token", changed(model={**content["model"], "vocab": {"a" * 10_000: 1}})
    fixed = {"strategy": {"Fixed": 1 << 40}, "direction": "Right", "pad_id": 0}
    yield "padding", changed(padding={**fixed, "pad_type_id": 0, "pad_token": "[PAD]"})
    yield "large", plain() | {name: b'{"model":"' + b"a" * (65 << 20) + b'"}'}


TEMPLATES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__ }}",
    "{{ messages['__class__'] }}",
    "{{ messages|attr('__class__') }}",
    "{{ messages|map(attribute='__class__')|list }}",
    "{{ cycler.__init__.__globals__.os.popen('touch CANARY').read() }}",
    "{{ lipsum.__globals__['os'].system('touch CANARY') }}",
    "{{ lipsum(n=100000) }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ raise_exception.__code__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.system('touch CANARY') }}",
    "{% from 'os' import system %}{{ system('touch CANARY') }}",
    "{% extends '/etc/passwd' %}",
    "{% block a %}{{ self.a() }}{% endblock %}",
    "{% for i in range(100000) %}{% for j in range(100000) %}a{% endfor %}{% endfor %}",
    "{% for i in range(10**9) %}a{% endfor %}",
    "{% for i in range(99999) %}a{% endfor %}",
    "{% for a in messages %}{% for b in messages %}{{ b.content }}{% endfor %}{% endfor %}",
    "{% for a in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{{ 'a' * 1000000000 }}",
    "{{ 2 ** 100000000 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ 'a'.center(1000000000) }}",
    "{{ 'a'|center(1000000000) }}",
    "{{ 'a'.ljust(1000000000) }}",
    "{{ 'a'|indent(1000000000, first=true) }}",
    "{{ 'a'.replace('', 'b' * 1000000) }}",
    "{{ strftime_now('%1000000000Y') }}",
    "{{ messages|tojson(indent=1000000000) }}",
    "{% set a = 'ab' %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}",
    "{% set n = namespace(a='ab') %}{% for m in messages %}{% set n.a = n.a + n.a %}{% endfor %}",
    "".join(f"{{% set a{i + 1} = a{i} ~ a{i} %}}" for i in range(60)) + "{{ a60 }}",
    "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}{{ " + "f(" * 9 + "messages" + ")" * 9 + " }}",
    "{{ messages" + "|tojson" * 40 + " }}",
    "{{ messages[0].content" + "|join('aaaaaaaaaa')" * 12 + " }}",
    "{% set range = messages %}{{ range(1) }}",
    "{{ dict(**messages[0]) }}",
    "{{ caller() }}",
    "{% call messages() %}{% endcall %}",
    "{% filter upper %}a{% endfilter %}",
    "{{ messages.append(1) }}",
    "{{ messages|random }}{{ messages|pprint }}",
    "{{ messages|urlize }}",
    "{{ ''|xmlattr }}",
    "{% for m in messages %",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ 1 }}" * 20_000,
    "{{ raise_exception('never') }}",
    "{% for m in messages %}{% for c in m.content %}" + "x" * 5000 + "{% endfor %}{% endfor %}",
)


def _templates(canary: str) -> Made:
    for i, source in enumerate(TEMPLATES):
        text = source.replace("CANARY", canary)
        yield f"template {i}: {source[:60]}", plain() | {"chat_template.jinja": text.encode()}
    inside = TEMPLATES[5].replace("CANARY", canary)
    yield "template in a file", with_json("tokenizer_config.json", chat_template=inside)
    named = [{"name": "default", "template": "{{ 1 }}"}, {"name": "rag", "template": inside}]
    yield "template by name", with_json("tokenizer_config.json", chat_template=named)
    other = {"additional_chat_templates/rag.jinja": inside.encode()}
    yield "a further template", plain() | other


def _sentences(canary: str) -> Made:
    first = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    kind = "sentence_transformers.models.Pooling"
    pool = {"idx": 1, "name": "1", "path": "1_Pooling", "type": kind}
    base = with_json("backprop.json", {"class": "STModel"}, tasks=["text-vectorisation"])
    base["1_Pooling/config.json"] = as_json({"word_embedding_dimension": 8})

    def modules(*own: Any) -> Files:
        return base | {"modules.json": as_json(own)}

    yield "module of the user", modules(first, {**pool, "type": "custom_module.Pooling"})
    yield "module is os.system", modules(first, {**pool, "type": "os.system"})
    router = "sentence_transformers.base.modules.router.Router"
    yield "router", modules(first, {**pool, "type": router})
    yield "module elsewhere", modules(first, {**pool, "path": "../../x"})
    yield "module's arguments", modules(first, {**pool, "kwargs": {"trust_remote_code": True}})
    yield "no modules", base
    config = {"model_args": {"trust_remote_code": True}}
    extra = {"sentence_bert_config.json": as_json(config)}
    yield "sentence_bert_config", modules(first, pool) | extra
    extra = {"sentence_bert_config.json": as_json({"config_args": {"attn_implementation": "a/b"}})}
    yield "config_args", modules(first, pool) | extra
    dense = {**pool, "path": "2_Dense", "idx": 2, "type": "sentence_transformers.models.Dense"}
    for activation in ("os.system", "torch.hub.load", "torch.nn.modules.activation.__import__"):
        own = {"in_features": 8, "out_features": 8, "activation_function": activation}
        files = {"2_Dense/config.json": as_json(own), "2_Dense/model.safetensors": b""}
        yield f"activation {activation}", modules(first, pool, dense) | files


def _pieces(canary: str) -> Made:
    yield "spiece.model is text", plain() | {"spiece.model": b"hello there"}
    yield "spiece.model is cut", plain() | {"spiece.model": b"\x0a\xff\xff\xff\x7f"}
    table = b"\x12" + bytes([8]) + b"ABCDEFGH"
    own = b"\x0a\x05\x0a\x03abc" + b"\x1a" + bytes([len(table)]) + table
    yield "spiece.model has a table", plain() | {"spiece.model": own}


def _odd(canary: str) -> Made:
    whole = sealed(plain())
    listed = json.loads(whole["manifest.json"])

    def manifest(files: dict[str, Any]) -> Files:
        text = json.dumps({"files": files}, indent=2, sort_keys=True) + "\n"
        return whole | {"manifest.json": text.encode()}

    facts = listed["files"]
    wrong = {**facts, "config.json": {**facts["config.json"], "sha256": "0" * 64}}
    yield "wrong hash", manifest(wrong)
    larger = {**facts, "config.json": {**facts["config.json"], "size_bytes": 10**9}}
    yield "wrong size", manifest(larger)
    yield (
        "a file that is missing",
        manifest({**facts, "generation_config.json": wrong["config.json"]}),
    )
    yield "a file that is not listed", whole | {"generation_config.json": b"{}"}
    yield "a manifest of paths", manifest({**facts, "../../x": wrong["config.json"]})
    yield "no manifest content", whole | {"manifest.json": b"{}"}
    yield "manifest is a pickle", whole | {"manifest.json": pickle.dumps({})}
    for name in (".hidden", "config.json.bak", "sub/config.json", "a/b/config.json", "CONFIG.JSON"):
        yield f"a file named {name}", plain() | {name: b"{}"}
    yield "many files", plain() | {f"f{i}.json": b"{}" for i in range(600)}
