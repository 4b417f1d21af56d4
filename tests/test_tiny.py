"""The tiny models open with the classes that users open the real ones with."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from tests import tiny
from tests.guard import run_python

TEXTS = [*tiny.texts(16), "", "  Two  spaces,\ttab and\nline. ", "It's 2009: 12.5% (or “more”)…"]
WITH_TOKENIZER = [kind for kind, entry in tiny.KINDS.items() if entry.tokenizer]
WITH_PIXELS = [kind for kind, entry in tiny.KINDS.items() if entry.pixels]
GENERATORS = ["t5", "bart", "gpt2", "llama_chat"]
CLASSIFIERS = [kind for kind in WITH_TOKENIZER if tiny.KINDS[kind].labels]
SENTENCES = [kind for kind in tiny.KINDS if tiny.KINDS[kind].auto == "SentenceTransformer"]
OTHERS = [kind for kind in tiny.KINDS if kind not in SENTENCES]


def opened(kind: str, auto: str) -> Any:
    return getattr(transformers, auto).from_pretrained(tiny.folder(kind))


def inputs_for(kind: str) -> dict[str, torch.Tensor]:
    inputs: dict[str, torch.Tensor] = {}
    if kind in WITH_TOKENIZER:
        tokenizer = opened(kind, "AutoTokenizer")
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        # SigLIP reads its answer off the last position, so it is always padded in full.
        padding = "max_length" if kind.startswith("siglip") else "longest"
        texts = ["Sally lives in London.", "cats"]
        inputs.update(tokenizer(texts, padding=padding, return_tensors="pt"))
    if kind in WITH_PIXELS:
        processor = opened(kind, "AutoImageProcessor")
        inputs.update(processor(images=[tiny.photo(0), tiny.photo(1)], return_tensors="pt"))
    return inputs


@pytest.mark.parametrize("kind", OTHERS)
def test_opens_by_its_auto_class_and_tells_two_inputs_apart(kind: str) -> None:
    model, inputs = opened(kind, tiny.KINDS[kind].auto).eval(), inputs_for(kind)
    with torch.inference_mode():
        if kind in GENERATORS and model.config.is_encoder_decoder:
            start = torch.full((2, 1), model.config.decoder_start_token_id)
            output = model(**inputs, decoder_input_ids=start)
        else:
            output = model(**inputs)
    values = output[1] if kind.startswith(("clip", "siglip")) else output[0]
    assert values.isfinite().all()
    assert (values[0] - values[1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", GENERATORS)
def test_generation_differs_between_prompts(kind: str) -> None:
    model, inputs = opened(kind, tiny.KINDS[kind].auto).eval(), inputs_for(kind)
    rows = model.generate(**inputs, max_new_tokens=8, min_new_tokens=8, do_sample=False).tolist()
    assert rows[0][-8:] != rows[1][-8:]


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classifiers_choose_more_than_one_class(kind: str) -> None:
    model = opened(kind, tiny.KINDS[kind].auto).eval()
    tokenizer = opened(kind, "AutoTokenizer")
    found = set()
    for text in tiny.texts(24):
        inputs = tokenizer(text, truncation=True, max_length=100, return_tensors="pt")
        found.add(model(**inputs).logits.argmax().item())
    assert len(found) > 1
    assert list(model.config.id2label.values()) == tiny.KINDS[kind].labels


@pytest.mark.parametrize("kind", SENTENCES)
def test_sentence_encoder_gives_distinct_vectors(kind: str) -> None:
    encoder = SentenceTransformer(str(tiny.folder(kind)), device="cpu")
    vectors = encoder.encode(["Sally lives in London.", "cats"], convert_to_tensor=True)
    assert vectors.shape == (2, 24 if kind.endswith("dense") else 32)
    assert (vectors[0] - vectors[1]).abs().max() > 1e-2
    assert (abs(vectors.norm(dim=1) - 1) < 1e-5).all() != kind.endswith("dense")
    assert bool(encoder.prompts.get("query")) == kind.endswith("dense")


@pytest.mark.parametrize("kind", WITH_TOKENIZER)
def test_both_tokenizer_libraries_give_the_same_ids(kind: str) -> None:
    through_auto = opened(kind, "AutoTokenizer")
    raw = Tokenizer.from_file(str(tiny.folder(kind) / "tokenizer.json"))
    expected = through_auto(TEXTS)["input_ids"]
    assert [encoding.ids for encoding in raw.encode_batch(TEXTS)] == expected
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
    expected_pairs = through_auto(TEXTS, TEXTS[::-1])
    assert [encoding.ids for encoding in raw.encode_batch(pairs)] == expected_pairs["input_ids"]
    if "token_type_ids" in expected_pairs:
        types = [encoding.type_ids for encoding in raw.encode_batch(pairs)]
        assert types == expected_pairs["token_type_ids"]
    config = json.loads((tiny.folder(kind) / "config.json").read_text())
    assert raw.get_vocab_size() == config.get("text_config", config)["vocab_size"]


@pytest.mark.parametrize(
    ("kind", "tail"),
    [
        ("t5", ["</s>"]),
        ("bart", ["</s>"]),
        ("bert_nli3", ["[SEP]"]),
        ("xlnet_classifier", ["<sep>", "<cls>"]),
        ("clip", ["<|endoftext|>"]),
        ("siglip", ["</s>"]),
        ("siglip2", ["<eos>"]),
        ("gpt2", ["ats"]),
    ],
)
def test_special_tokens_stand_where_the_family_has_them(kind: str, tail: list[str]) -> None:
    raw = Tokenizer.from_file(str(tiny.folder(kind) / "tokenizer.json"))
    assert raw.encode("London and two cats").tokens[-len(tail) :] == tail


@pytest.mark.parametrize("kind", ["llama_chat", "llama_chat_inline"])
def test_chat_template_is_found_and_its_markers_are_single_tokens(kind: str) -> None:
    tokenizer = opened(kind, "AutoTokenizer")
    chat = [{"role": "user", "content": "Who is Tom?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\n")
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer(text)["input_ids"].count(tokenizer.eos_token_id) == 2


def test_a_kind_is_the_same_in_every_process(tmp_path: Path) -> None:
    kinds = ["t5", "bert_nli3", "clip", "siglip", "siglip2", "efficientnet"]
    code = f"""
        from pathlib import Path
        from tests import tiny
        for kind in {kinds!r}:
            tiny.build(kind, Path({str(tmp_path)!r}) / kind)
    """
    finished = run_python(code)
    assert finished.returncode == 0, finished.stderr
    for kind in kinds:
        assert digests(tmp_path / kind) == digests(tiny.folder(kind)), kind


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_building_leaves_the_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    tiny.build("bert_encoder", tmp_path / "model")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr", "I;16", "F"])
def test_photo_comes_in_every_mode(mode: str) -> None:
    picture = tiny.photo(3, (20, 30), mode)
    assert (picture.size, picture.mode) == ((20, 30), mode)
    assert picture.tobytes() == tiny.photo(3, (20, 30), mode).tobytes()


def test_texts_run_from_one_word_to_hundreds() -> None:
    lengths = [len(text.split()) for text in tiny.texts(24, seed=5)]
    assert min(lengths) == 1
    assert max(lengths) >= 300
    assert tiny.texts(24, seed=5) == tiny.texts(24, seed=5) != tiny.texts(24, seed=6)


def test_photo_and_texts_need_no_torch() -> None:
    code = "from tests import tiny; tiny.photo(); tiny.texts(3)"
    finished = run_python(code, blocked=["torch", "transformers"])
    assert finished.returncode == 0, finished.stderr
