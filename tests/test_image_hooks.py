"""Image models learn every task they say they can, and keep what they learned."""

from __future__ import annotations

import base64
import functools
import io
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import backprop
from backprop.errors import ArtefactError, InputError, UnsupportedTaskError
from backprop.losses import classification_loss, cosine_similarity_loss
from backprop.models import CLIP, AutoModel, EfficientNet, PairEncoder, efficientnet_lite
from backprop.models.augment import augment
from backprop.pictures import open_picture
from tests import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES, VECTORS = "image-classification", "image-vectorisation"
TEXTS, PAIRS = "text-vectorisation", "image-text-vectorisation"
TWO_TOWERS = ["clip", "clip_openai", "siglip", "siglip2"]
SEEING = ["lite", "of_the_hub", "efficientnet", "vit", "dinov2", *TWO_TOWERS]
LABELS = {0: "zebra", 1: "ant", 2: "mole"}
PHOTOS = [tiny.photo(seed, (40 + seed, 50)) for seed in range(6)]
WORDS = [" ".join(text.split()[:12]) for text in tiny.texts(6, seed=3)]
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2])
SCORES = torch.tensor([0.9, -0.5, 0.3])
LEARNING_RATES = {"lite": 1e-4}  # so many random layers in a row leap far at a small step
EVERY = [
    *itertools.product(SEEING, (CLASSES, VECTORS)),
    *itertools.product([*TWO_TOWERS, "pair"], (TEXTS, PAIRS)),
    ("pair", VECTORS),
]


@functools.cache
def lite_folder() -> Path:
    """Return an EfficientNet-Lite with random weights that sees 32 pixels a side."""
    folder = tiny.folder("efficientnet").parent / "lite"
    folder.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = efficientnet_lite.EfficientNetLite(num_classes=4)
        norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
        for norm in norms:  # random weights need norms that fit them, or nothing is left to see
            norm.momentum = None
        with torch.no_grad():
            model.train()(torch.randn(16, 3, 32, 32))
    names = {"id2label": {str(index): f"kind {index}" for index in range(4)}}
    settings = {**efficientnet_lite.config(model.variant), **names}
    efficientnet_lite.save(model, settings, folder)
    efficientnet_lite.write_json(
        folder / "preprocessor_config.json", efficientnet_lite.preprocessing(32)
    )
    return folder


def fresh(kind: str) -> Any:
    if kind == "pair":
        return PairEncoder(fresh("efficientnet"), fresh("clip"), name="pair")
    if kind == "of_the_hub":  # the same files as "efficientnet", in the class made for them
        return EfficientNet(tiny.folder("efficientnet"), device="cpu")
    folder = lite_folder() if kind == "lite" else tiny.folder(kind)
    return AutoModel.from_pretrained(folder, device="cpu")


def ready(kind: str, task: str, *, multi_label: bool = False) -> Any:
    """Return a new model after ``pre_finetuning``, with the same head on every call."""
    model = fresh(kind)
    torch.manual_seed(0)
    if task == CLASSES:
        model.pre_finetuning(labels=LABELS, num_classes=3, multi_label=multi_label)
    else:
        model.pre_finetuning()
    return model


def params_of(task: str) -> list[dict[str, Any]]:
    """Return the rows of a task's finetuning schema, with no key beyond it."""
    rows: list[dict[str, Any]] = [{} for _ in PHOTOS]
    for row, photo, words in zip(rows, PHOTOS, WORDS, strict=True):
        if "image" in task:
            row["image"] = photo
        if "text" in task:
            row["text"] = words
    return rows


def batch_of(model: Any, task: str, rows: slice = slice(None)) -> Mapping[str, Any]:
    made = [model.process_batch(params, task=task) for params in params_of(task)[rows]]
    batch: Mapping[str, Any] = model.collate(made)
    return batch


def loss_of(model: Any, task: str) -> Tensor:
    found = model.training_step(batch_of(model, task))
    if task == CLASSES:
        return classification_loss(found, TARGETS, multi_label=False)
    return cosine_similarity_loss(found[0::2], found[1::2], SCORES)


def same(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    """Compare answers; where weights lie in memory may move the last bits of a sum."""
    assert found == [pytest.approx(answer, abs=1e-6) for answer in expected]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path))
    yield tmp_path


# --- every model and task ------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "task"), EVERY)
def test_a_few_steps_lower_the_loss(kind: str, task: str) -> None:
    model = ready(kind, task).eval()  # without chance: six rows are too few to learn past it
    assert model.learns(task)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATES.get(kind, 1e-3))
    losses = []
    for _ in range(7):
        loss = loss_of(model, task)
        torch.autograd.backward(loss)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1e-3


@pytest.mark.parametrize(("kind", "task"), EVERY)
def test_every_part_the_task_uses_gets_a_finite_gradient(kind: str, task: str) -> None:
    model = ready(kind, task).train()
    torch.autograd.backward(loss_of(model, task))
    gradients = [own.grad for own in model.parameters() if own.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(bool(gradient.any()) for gradient in gradients) > len(gradients) / 2
    if task == CLASSES:
        assert model.head(task).weight.grad.any()


@pytest.mark.parametrize(("kind", "task"), EVERY)
def test_a_row_ignores_its_neighbours(kind: str, task: str) -> None:
    model = ready(kind, task).eval()
    with torch.no_grad():
        together = model.training_step(batch_of(model, task))
        alone = [model.training_step(batch_of(model, task, slice(i, i + 1))) for i in range(6)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "task"), EVERY)
def test_learns_on_what_it_answers_by(kind: str, task: str) -> None:
    model = ready(kind, task).eval()
    with torch.no_grad():
        found = model.training_step(batch_of(model, task))
    rows = params_of(task)
    given = {name: [row[name] for row in rows] for name in rows[0]}
    answers = model(given, task=task)
    if task == CLASSES:
        expected = [[answer[label] for label in LABELS.values()] for answer in answers]
        np.testing.assert_allclose(found.softmax(1), expected, atol=1e-5)
    else:
        unit = nn.functional.normalize(found, dim=1)
        answers = nn.functional.normalize(torch.tensor(answers), dim=1)
        torch.testing.assert_close(unit, answers, atol=1e-5, rtol=0)
    if task == PAIRS:
        torch.testing.assert_close(found.norm(dim=1), torch.ones(len(PHOTOS)))


@pytest.mark.parametrize("kind", [*SEEING, "pair"])
def test_the_row_given_stays_as_it_was(kind: str) -> None:
    task = VECTORS if kind != "pair" else PAIRS
    [row, *_] = params_of(task)
    before = (dict(row), row["image"].tobytes())
    fresh(kind).process_batch(row, task)
    assert (row, row["image"].tobytes()) == before


@pytest.mark.parametrize("kind", SEEING)
def test_pictures_come_in_any_form(kind: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    PHOTOS[0].save(buffer, "PNG")
    text = base64.b64encode(buffer.getvalue()).decode()
    path = tmp_path / "photo.png"
    path.write_bytes(buffer.getvalue())
    forms = [str(path), path, buffer.getvalue(), text, f"data:image/png;base64,{text}"]
    model = fresh(kind)
    expected = model.process_batch({"image": PHOTOS[0]}, VECTORS)["pixel_values"]
    for form in [*forms, open_picture(PHOTOS[0], "images[0]")]:
        assert model.process_batch({"image": form}, VECTORS)["pixel_values"].equal(expected)


@pytest.mark.parametrize("kind", SEEING)
def test_floats_are_taken_as_they_are(kind: str) -> None:
    model = ready(kind, CLASSES).eval()
    batch = batch_of(model, CLASSES)
    scaled = torch.from_numpy(model.pixels().arrays([open_picture(p, "image") for p in PHOTOS]))
    with torch.no_grad():
        expected = model.training_step(batch)
        assert model.training_step({"pixel_values": scaled}).equal(expected)


@pytest.mark.parametrize("kind", ["lite", "vit"])
def test_training_varies_what_is_seen_and_evaluation_does_not(kind: str) -> None:
    model = ready(kind, VECTORS).eval()
    model.train()
    for part in model.modules():
        if isinstance(part, nn.Dropout) or hasattr(part, "drop"):
            part.eval()
    batch = batch_of(model, VECTORS)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(model.training_step(batch))
    assert found[0].equal(found[1])
    assert not found[0].allclose(found[2])
    model.eval()
    assert model.training_step(batch).equal(model.training_step(batch))


@pytest.mark.parametrize("kind", ["lite", "efficientnet", "pair"])
def test_statistics_of_batch_norms_stay(kind: str) -> None:
    model = fresh(kind)
    before = {name: value.clone() for name, value in model.named_buffers()}
    model.train()
    assert model.training
    model.training_step(batch_of(model, VECTORS))
    assert any("running_var" in name for name in before)
    for name, value in model.named_buffers():
        assert value.equal(before[name]), name


# --- classes of one's own ------------------------------------------------------------------------


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("kind", SEEING)
def test_own_labels_are_answered_saved_and_loaded(
    kind: str, multi_label: bool, cache: Path
) -> None:
    model = ready(kind, CLASSES, multi_label=multi_label)
    given = {"image": PHOTOS}
    answers = model(given, task=CLASSES)
    vectors = model(given, task=VECTORS)
    sums = np.array([sum(answer.values()) for answer in answers])
    assert all(set(answer) == set(LABELS.values()) for answer in answers)
    assert np.allclose(sums, 1, atol=1e-5) != multi_label
    loaded: Any = backprop.load(backprop.save(model, name=f"own-{kind.replace('_', '-')}"))
    same(loaded(given, task=CLASSES), answers)
    np.testing.assert_allclose(loaded(given, task=VECTORS), vectors, atol=1e-6)
    assert (loaded.labels, loaded.multi_label) == (list(LABELS.values()), multi_label)


@pytest.mark.parametrize("kind", SEEING)
def test_several_labels_can_be_learned(kind: str) -> None:
    model = ready(kind, CLASSES, multi_label=True)
    targets = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 0, 1], [0, 1, 0]])
    batch = batch_of(model, CLASSES)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATES.get(kind, 1e-3))
    losses = []
    for _ in range(8):
        loss = classification_loss(model.eval().training_step(batch), targets, multi_label=True)
        torch.autograd.backward(loss)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1e-3
    logits = model.training_step(batch)
    answers = model({"image": PHOTOS}, task=CLASSES)
    found = [[answer[label] for label in LABELS.values()] for answer in answers]
    np.testing.assert_allclose(logits.sigmoid().detach(), found, atol=1e-5)


@pytest.mark.parametrize("kind", SEEING)
def test_the_head_is_the_last_layer(kind: str) -> None:
    model = ready(kind, CLASSES).eval()
    head = model.head(CLASSES)
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    with torch.no_grad():
        logits = model.training_step(batch_of(model, CLASSES))
    hook.remove()
    [inputs] = seen
    torch.testing.assert_close(inputs @ head.weight.T + head.bias, logits)
    assert head.out_features == len(LABELS)
    assert model.head(VECTORS) is None


@pytest.mark.parametrize("kind", SEEING)
def test_the_same_labels_keep_the_head(kind: str) -> None:
    model = ready(kind, CLASSES)
    before = model.head(CLASSES)
    model.pre_finetuning(labels=LABELS, num_classes=3, multi_label=True)
    assert model.head(CLASSES) is before
    assert model.multi_label
    model.pre_finetuning(labels={0: "zebra", 1: "mole", 2: "ant"})
    assert model.head(CLASSES) is not before
    answer = model({"image": PHOTOS[0]}, task=CLASSES)
    assert set(answer) == {"zebra", "mole", "ant"}


@pytest.mark.parametrize("kind", ["lite", "vit", "dinov2"])
def test_a_new_head_follows_the_seed(kind: str) -> None:
    one, same = ready(kind, CLASSES).head(CLASSES), ready(kind, CLASSES).head(CLASSES)
    assert one.weight.equal(same.weight)
    other = fresh(kind)
    torch.manual_seed(1)
    other.pre_finetuning(labels=LABELS)
    assert not one.weight.equal(other.head(CLASSES).weight)


def test_a_model_of_vectors_alone_learns_classes() -> None:
    model = fresh("dinov2")
    assert model.tasks == [VECTORS]
    assert model.head(CLASSES) is None
    vectors = model({"image": PHOTOS[0]}, task=VECTORS)
    model.pre_finetuning(labels=LABELS)
    assert model.tasks == [CLASSES, VECTORS]
    np.testing.assert_allclose(model({"image": PHOTOS[0]}, task=VECTORS), vectors, atol=1e-6)


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_a_two_tower_head_begins_as_the_zero_shot_classifier(kind: str) -> None:
    model = fresh(kind)
    names = list(LABELS.values())
    before = model({"image": PHOTOS, "labels": names}, task=CLASSES)
    model.pre_finetuning(labels=LABELS)
    after = model({"image": PHOTOS}, task=CLASSES)
    if isinstance(model, CLIP) and kind.startswith("clip"):
        for one, other in zip(before, after, strict=True):
            assert one == pytest.approx(other, abs=1e-4)
    else:  # a sigmoid a label: the order is the same, the shares are not
        assert [list(one) for one in before] == [list(other) for other in after]


@pytest.mark.parametrize("kind", ["lite", "clip", "dinov2"])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"labels": {0: "a", 2: "b"}}, "0, 1, 2 and so on"),
        ({"labels": {0: "a", 1: "a"}}, "names that differ"),
        ({"labels": ["a", "b"]}, "0, 1, 2 and so on"),
        ({"num_classes": 2}, "received None"),
        ({"labels": {0: "a"}}, "two labels at least"),
        ({"labels": {}}, "two labels at least"),
        ({"labels": {}, "multi_label": True}, "one label at least"),
        ({"labels": {0: "a", 1: "b"}, "num_classes": 3}, "num_classes is 3"),
    ],
    ids=str,
)
def test_wrong_labels_change_nothing(kind: str, given: dict[str, Any], says: str) -> None:
    model = fresh(kind)
    labels, head = model.labels, model.head(CLASSES)
    with pytest.raises(InputError, match=says):
        model.pre_finetuning(**given)
    assert model.labels == labels
    assert model.head(CLASSES) is head


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_a_head_that_does_not_fit_is_refused(kind: str, cache: Path) -> None:
    folder = backprop.save(ready(kind, CLASSES), "own")
    head = folder / "classifier.safetensors"
    with pytest.raises(ArtefactError, match=r"no heads for image-classification.*\(3, \d+\)"):
        type(fresh(kind))(folder, labels=["zebra", "ant"])
    for content in (b"", head.read_bytes()[:-8]):
        head.write_bytes(content)
        with pytest.raises(ArtefactError, match="no heads for image-classification"):
            type(fresh(kind))(folder, labels=list(LABELS.values()))


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "params", "task"),
    [
        ("lite", {}, CLASSES),
        ("lite", {"image": None}, VECTORS),
        ("vit", {"image": "no such file"}, CLASSES),
        ("clip", {"image": PHOTOS[0]}, PAIRS),
        ("clip", {"text": "a"}, PAIRS),
        ("clip", {"text": 5}, TEXTS),
        ("pair", {"image": PHOTOS[0]}, PAIRS),
    ],
)
def test_a_row_without_what_it_needs_is_refused(
    kind: str, params: dict[str, Any], task: str
) -> None:
    with pytest.raises(InputError, match="image|text"):
        fresh(kind).process_batch(params, task)


@pytest.mark.parametrize("kind", ["lite", "vit", "clip", "pair"])
def test_other_tasks_are_refused(kind: str) -> None:
    model = fresh(kind)
    assert not model.learns("emotion")
    with pytest.raises(UnsupportedTaskError, match="emotion"):
        model.process_batch({"image": PHOTOS[0], "text": "a"}, "emotion")


def test_a_two_tower_model_without_classes_says_what_to_call() -> None:
    model = fresh("clip")
    with pytest.raises(InputError, match="pre_finetuning"):
        model.training_step(batch_of(model, CLASSES))


def test_a_pair_learns_what_its_sides_learn() -> None:
    class Deaf(CLIP):
        LEARNS = (VECTORS,)

    deaf = Deaf(tiny.folder("clip"), device="cpu")
    for task in (TEXTS, PAIRS):
        with pytest.raises(UnsupportedTaskError, match=task):
            deaf.process_batch(params_of(task)[0], task)
    pair = PairEncoder(fresh("efficientnet"), deaf)
    assert [task for task in (VECTORS, TEXTS, PAIRS) if pair.learns(task)] == [VECTORS]
    with pytest.raises(UnsupportedTaskError, match=PAIRS):
        pair.process_batch(params_of(PAIRS)[0], PAIRS)


# --- size of pictures and of texts ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lite", "of_the_hub"])
def test_pictures_can_be_seen_at_another_size(kind: str, cache: Path) -> None:
    model = fresh(kind)
    model.pre_finetuning(labels=LABELS, image_size=64)
    row = model.process_batch({"image": Image.new("RGB", (80, 80))}, CLASSES)
    assert row["pixel_values"].shape == (3, 64, 64)
    answers = model({"image": PHOTOS}, task=CLASSES)
    loaded: Any = backprop.load(backprop.save(model, name="another-size"))
    assert loaded.pixels() == model.pixels()
    same(loaded({"image": PHOTOS}, task=CLASSES), answers)


@pytest.mark.parametrize("size", [0, 31, 100_000])
def test_a_size_out_of_bounds_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"received {size}"):
        fresh("lite").pre_finetuning(labels=LABELS, image_size=size)


def test_tiny_pictures_are_advised_to_be_seen_smaller() -> None:
    model = fresh("lite")  # its configuration is that of a model for 224 pixels
    assert isinstance(model, EfficientNet)
    assert model.size_for([32, 32, 500]) == 160
    model.pre_finetuning(labels=LABELS, image_size=160)
    assert model.size_for([32]) == 160
    assert model.size_for([300, 40, 400]) is None
    assert model.size_for([]) is None


@pytest.mark.parametrize("kind", ["clip", "siglip2"])
def test_texts_are_cut_at_the_limit(kind: str) -> None:
    model = fresh(kind)
    long = "one two three four " * 100
    whole = model.process_batch({"text": long}, TEXTS)["input_ids"]
    assert len(whole) == model.model.config.text_config.max_position_embeddings
    cut = model.process_batch({"text": long, "max_length": 9}, TEXTS)["input_ids"]
    pad = model.tokenizer.pad_token_id
    kept = [token for token in cut if token != pad] if kind == "siglip2" else cut
    assert kept == [*whole[:8], whole[-1]]


@pytest.mark.parametrize("kind", ["clip", "pair"])
@pytest.mark.parametrize("task", [TEXTS, PAIRS])
def test_what_is_cut_off_a_text_is_counted(kind: str, task: str) -> None:
    model = fresh(kind)
    short = {"image": PHOTOS[0], "text": "one two"}
    long = {**short, "text": "one two three four " * 100}
    assert model.cut(short, task) == 0
    assert 0 < model.cut(long, task) < model.cut({**long, "max_length": 9}, task)
    assert model.cut(short, VECTORS) == 0


# --- variety -------------------------------------------------------------------------------------


def test_variety_keeps_shape_and_range_and_follows_the_seed() -> None:
    torch.manual_seed(3)
    pictures = torch.rand(5, 3, 40, 30)
    before = pictures.clone()
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(augment(pictures))
    assert pictures.equal(before)
    assert found[0].shape == pictures.shape
    assert found[0].min() >= 0
    assert found[0].max() <= 1
    assert found[0].equal(found[1])
    assert not found[0].equal(found[2])


def test_variety_mirrors_half_of_the_pictures_and_turns_none_upside_down() -> None:
    torch.manual_seed(0)
    # Brighter to the right, and redder to the bottom.
    across = torch.linspace(0.3, 0.6, 32).expand(200, 3, 32, 32).clone()
    across[:, 0] += torch.linspace(0, 0.2, 32)[:, None]
    found = augment(across)
    mirrored = found[:, 2, 16, 0] > found[:, 2, 16, -1]
    assert 0.4 < mirrored.float().mean() < 0.6
    redness = (found[:, 0] - found[:, 2]).mean(2)
    assert (redness[:, -1] > redness[:, 0]).all()


def test_variety_shows_most_of_a_picture() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 64).expand(300, 3, 64, 64)
    found = augment(ramp)
    shown = found[:, 0, 32].amax(1) - found[:, 0, 32].amin(1)
    assert shown.min() > 0.7 * 0.9 * 0.8 * 0.8  # crop, stretch, contrast, brightness
    plain = torch.full((300, 3, 8, 8), 0.5)
    levels = augment(plain)[:, 0, 0, 0]
    assert 0.5 * 0.8 - 1e-6 <= levels.min() < 0.45
    assert 0.55 < levels.max() <= 0.5 * 1.2 + 1e-6
