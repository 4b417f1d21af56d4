"""The adapters that ship with the library: their form, and what the models made of them can do."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import backprop
from backprop.errors import ArtefactError
from backprop.models import starter_adapters
from backprop.models.starter_adapters import FOLDER, add, pack, read, unpack, write
from tests.conversations import CONVERSATIONS, SALLY, Conversation

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("minilm-emotion", "minilm-qa")
MOST_BYTES = 8_000_000


def test_all_adapters_together_are_small() -> None:
    files = sorted(FOLDER.glob("*.safetensors"))
    assert [path.stem for path in files] == list(NAMES)
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_has_a_model_card_beside_it(name: str) -> None:
    card = (FOLDER / f"{name}.md").read_text("utf-8")
    assert card.startswith(f"# {name}\n")
    assert "Licence" in card


@pytest.mark.parametrize(("bits", "error"), [(2, 0.5), (3, 0.25), (4, 0.12), (8, 0.008)])
def test_packing_loses_little(bits: int, error: float) -> None:
    torch.manual_seed(0)
    values = torch.randn(48, 256) * 1e-3
    codes, scales = pack(values, bits)
    assert codes.numel() == values.numel() * bits // 8
    assert float((unpack(codes, scales) - values).norm() / values.norm()) < error


def test_what_did_not_change_stays() -> None:
    values = torch.zeros(4, 128)
    values[1] = 1e-3
    back = unpack(*pack(values, 4))
    assert torch.equal(back[0], values[0])
    assert torch.allclose(back[1], values[1], rtol=1e-3)


def test_an_adapter_written_is_an_adapter_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(128, 128), nn.LayerNorm(128))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(torch.randn_like(weight) * 1e-2)
    after = {name: value.clone() for name, value in encoder.state_dict().items()}
    head = {"weight": torch.ones(2, 128), "bias": torch.zeros(2)}
    write(tmp_path / "own.safetensors", before, after, head, {"task": "qa"}, bits=8)
    monkeypatch.setattr(starter_adapters, "FOLDER", tmp_path)
    adapter = read("own")
    encoder.load_state_dict(before)
    add(adapter, encoder)
    for name, value in encoder.state_dict().items():
        assert torch.allclose(value, after[name], atol=2e-4), name
    assert adapter.details == {"task": "qa"}
    assert torch.equal(adapter.head["weight"], head["weight"])


def test_an_adapter_for_another_model_is_refused() -> None:
    with pytest.raises(ArtefactError, match="does not fit"):
        add(read("minilm-qa"), nn.Linear(2, 2))


@pytest.mark.parametrize("name", ["no-such", "../minilm-qa", "/etc/passwd"])
def test_only_names_that_ship_are_read(name: str) -> None:
    with pytest.raises(ArtefactError, match="There is no adapter"):
        read(name)


def test_a_file_of_another_form_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "own.safetensors")
    monkeypatch.setattr(starter_adapters, "FOLDER", tmp_path)
    with pytest.raises(ArtefactError, match="another form"):
        read("own")


# --- What they can do --------------------------------------------------------------------


@pytest.fixture(scope="module")
def qa() -> backprop.QA:
    return backprop.QA()


@pytest.mark.parametrize("talk", CONVERSATIONS, ids=lambda talk: talk.turns[-1][0])
def test_questions_lean_on_those_before(qa: backprop.QA, talk: Conversation) -> None:
    history: list[tuple[str, str]] = []
    for question, answer in talk.turns:
        assert qa(question, talk.context, history).lower() == answer.lower()
        history.append((question, answer))


def test_what_the_text_does_not_say_has_no_answer(qa: backprop.QA) -> None:
    assert qa("What is the capital of Peru?", SALLY, allow_no_answer=True) == ""
    assert qa("Where does Sally live?", SALLY, allow_no_answer=True) == "London"


def test_the_qa_starter_is_saved_whole(qa: backprop.QA, tmp_path: Path) -> None:
    folder = qa.save("own-qa", path=tmp_path / "own-qa")
    again = backprop.QA(str(folder))
    question = "Where does Sally live?"
    assert again(question, SALLY, details=True) == qa(question, SALLY, details=True)


@pytest.mark.parametrize(
    ("text", "emotion"),
    [
        ("Thank you so much for your help!", "gratitude"),
        ("I am so scared of the dark.", "fear"),
        ("This makes me furious!", "anger"),
        ("I love you with all my heart.", "love"),
        ("Haha, that is hilarious.", "amusement"),
        ("The bus leaves at nine.", "neutral"),
    ],
)
def test_plain_emotions_are_told(text: str, emotion: str) -> None:
    assert emotions()(text) == emotion


def emotions() -> backprop.Emotion:
    if not KEPT:
        KEPT.append(backprop.Emotion())
    return KEPT[0]


KEPT: list[backprop.Emotion] = []


def test_all_28_emotions_have_a_probability() -> None:
    shares = emotions()("What a day!", top_k=28)
    assert len(shares) == 28
    assert all(0 <= share <= 1 for share in shares.values())
