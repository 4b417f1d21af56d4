"""The server as a whole: a process of its own, spoken to over loopback."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

import backprop
from backprop.cli import main
from backprop.errors import RemoteError
from backprop.specs import SPECS
from tests.guard import ROOT

EXAMPLES = ROOT / "backprop" / "examples"
CONTEXT = "Sally has been living in London for 3 years. Previously, Sally lived in Liverpool."
INPUTS: dict[str, dict[str, Any]] = {
    "qa": {"question": "Where does Sally live?", "context": CONTEXT},
    "text-classification": {"text": "The train was late.", "labels": ["travel", "food"]},
    "emotion": {"text": "I am so happy today!"},
    "summarisation": {"text": f"{CONTEXT} She likes the river. She works in a bank."},
    "text-generation": {"text": "Say hello.", "max_length": 8},
    "text-vectorisation": {"text": "The train was late."},
    "image-classification": {"image": str(EXAMPLES / "cat.jpg"), "top_k": 3},
    "image-vectorisation": {"image": str(EXAMPLES / "cat.jpg")},
    "image-text-vectorisation": {"image": str(EXAMPLES / "cat.jpg"), "text": "a cat"},
}
START_S = 120


class Server:
    """A server that runs in a process of its own."""

    def __init__(self, data: Path, *flags: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "backprop", "serve", "--port", str(self.port)]
        environment = {k: v for k, v in os.environ.items() if k != "BACKPROP_ENGINE"}
        self.log = (data.parent / f"{data.name}.log").open("w+b")
        self.process = subprocess.Popen(
            [*command, "--data", str(data), *flags],
            stdout=self.log,
            stderr=self.log,
            env=environment,
        )
        self.client = httpx.Client(base_url=self.url, timeout=60)
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.client.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(self.lines())

    def lines(self) -> str:
        self.log.seek(0)
        return self.log.read().decode()

    def close(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server") / "data")
    yield running
    running.close()


@pytest.fixture(scope="module")
def mapped(server: Server) -> Path:
    return Path(f"/proc/{server.process.pid}/maps")


def remote(server: Server, task: str, model: str | None = None) -> Any:
    return getattr(backprop, SPECS[task].task_class)(model, api_url=server.url)


@pytest.mark.parametrize("task", SPECS)
def test_every_task_is_answered_one_and_many(server: Server, task: str) -> None:
    own = remote(server, task)
    one = own.run(INPUTS[task])
    shared = {field.name for field in SPECS[task].fields}
    many = own.run({k: [v] * 3 if k in shared else v for k, v in INPUTS[task].items()})
    assert isinstance(many, list) and len(many) == 3
    if SPECS[task].answer == "vector":
        assert many[0] == pytest.approx(one, abs=1e-4)
    elif SPECS[task].answer == "probabilities":
        assert many[0] == pytest.approx(one, abs=1e-4) and list(many[0]) == list(one)
    else:
        assert many[0] == one


def test_the_server_never_loads_torch(server: Server, mapped: Path) -> None:
    remote(server, "text-vectorisation")("warm")
    if not mapped.exists():
        pytest.skip("needs /proc")
    loaded = mapped.read_text()
    assert "onnxruntime" in loaded
    assert "libtorch" not in loaded


def test_what_does_not_fit_is_told_in_the_words_of_the_library(server: Server) -> None:
    answer = server.client.post("/text-vectorisation", json={"text": ""})
    assert (answer.status_code, set(answer.json())) == (400, {"message"})
    assert "blank" in answer.json()["message"]
    with pytest.raises(RemoteError, match="no-such-model") as told:
        remote(server, "qa", "no-such-model")("Who?", CONTEXT)
    assert told.value.status == 404
    near = server.client.post("/qa", json={"model": "minilm-qs", **INPUTS["qa"]})
    assert "The nearest names are: minilm-qa, " in near.json()["message"]
    assert (
        server.client.post("/qa", json={"model": "all-minilm-l6-v2", **INPUTS["qa"]})
        .json()["message"]
        .startswith("all-minilm-l6-v2 does not do 'qa'")
    )


def test_the_command_line_asks_a_server(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "text-vectorisation", "--text", "a", "--text", "b", "--api-url", server.url]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--json"])
    assert ended.value.code == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert shown == remote(server, "text-vectorisation")(["a", "b"])
    with pytest.raises(SystemExit) as ended:
        main([*command, "--engine", "torch"])
    assert ended.value.code == 2
    assert "received --engine, which only models that run here heed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"text": "a" * 100_001}, "characters"),
        ({"text": ["a"] * 257}, "items"),
        ({"text": ["a" * 90_000] * 25}, "in all"),
        ({"text": "a", "dimensions": 2**40}, "dimensions"),
        ({"text": "a", "model": "m" * 161}, "model must be"),
        ({"text": [[["a"]]]}, "text"),
    ],
)
def test_what_is_too_much_is_refused_before_it_is_read(
    server: Server, body: dict[str, Any], word: str
) -> None:
    answer = server.client.post("/text-vectorisation", json=body)
    assert answer.status_code == 400 and word in answer.json()["message"]


@pytest.mark.parametrize("encoding", [{}, "", 0, False, [], "int8"])
def test_an_encoding_there_is_not_is_refused(server: Server, encoding: Any) -> None:
    body = {"input": "a", "model": "all-minilm-l6-v2", "encoding_format": encoding}
    answer = server.client.post("/v1/embeddings", json=body)
    assert answer.status_code == 400
    assert "must be float or base64" in answer.json()["error"]["message"]


def test_no_path_is_an_image_here(server: Server) -> None:
    answer = server.client.post("/image-vectorisation", json={"image": str(EXAMPLES / "cat.jpg")})
    assert answer.status_code == 400


def test_a_method_that_is_not_taken_is_told_with_those_that_are(server: Server) -> None:
    answer = server.client.request("PATCH", "/models/my-model")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"DELETE", "GET", "HEAD"}


def test_a_bad_prompt_does_not_harm_those_beside_it(server: Server) -> None:
    good = [{"text": f"Say the number {i}.", "max_length": 4} for i in range(6)]
    bad = {"text": "word " * 9000, "max_length": 4}
    alone = [server.client.post("/text-generation", json=each).json()["output"] for each in good]
    with ThreadPoolExecutor(8) as pool:
        futures = [
            pool.submit(server.client.post, "/text-generation", json=each)
            for each in (*good[:3], bad, *good[3:])
        ]
        answers = [each.result() for each in futures]
    assert answers.pop(3).status_code == 400
    assert [each.json()["output"] for each in answers] == alone


def test_openai_s_own_client_gets_vectors(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    texts = ["The train was late.", "Good morning."]
    ours = remote(server, "text-vectorisation")(texts)
    for encoding in ("float", "base64"):
        found = client.embeddings.create(
            input=texts, model="all-minilm-l6-v2", encoding_format=encoding
        )
        assert [each.index for each in found.data] == [0, 1]
        for each, own in zip(found.data, ours, strict=True):
            vector: Any = each.embedding
            if isinstance(vector, str):
                vector = np.frombuffer(base64.b64decode(vector), "<f4").tolist()
            assert vector == pytest.approx(own, abs=1e-4)
        assert found.usage.prompt_tokens > 0
    shorter = client.embeddings.create(input="hi", model="", dimensions=8)
    assert len(shorter.data[0].embedding) == 8
    assert "all-minilm-l6-v2" in [each.id for each in client.models.list()]


def test_openai_s_own_client_gets_texts_whole_and_streamed(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    messages: Any = [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": "Say hello."},
    ]
    model = "smollm2-135m-instruct"
    whole = client.chat.completions.create(model=model, messages=messages, max_tokens=12)
    stream = client.chat.completions.create(
        model=model,
        messages=messages,
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([piece for piece in pieces if piece]) > 2
    assert chunks[-1].usage is not None and whole.usage is not None
    assert chunks[-1].usage == whole.usage
    assert whole.usage.prompt_tokens > 20  # of which the words are seven: the template is read too
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    own = client.completions.create(model=model, prompt=["Say hello.", "Count."], max_tokens=6)
    assert [each.index for each in own.choices] == [0, 1]
    assert own.choices[0].text == remote(server, "text-generation")("Say hello.", max_length=6)
    with pytest.raises(openai.BadRequestError, match="presence_penalty"):
        client.completions.create(model=model, prompt="a", presence_penalty=1)
    with pytest.raises(
        openai.BadRequestError, match="max_tokens is at most 4096 here; received 10"
    ):
        client.completions.create(model=model, prompt="a", max_tokens=10**6)
    faults: list[tuple[dict[str, Any], str]] = [
        (
            {"prompt": "a", "max_tokens": 5, "max_completion_tokens": 10**6},
            "max_completion_tokens is",
        ),
        ({"prompt": "a", "max_tokens": 4, "min_length": 9}, r"min_length .*max_tokens"),
        ({"prompt": ""}, r"prompt\[0\] is blank"),
        ({"prompt": "word " * 12_000, "max_tokens": 9}, "prompt 0 has .* tokens"),
    ]
    for body, told in faults:
        answer = server.client.post("/v1/completions", json={"model": model, **body})
        assert answer.status_code == 400
        assert re.match(told, answer.json()["message"]), answer.json()
    with pytest.raises(openai.BadRequestError, match=r"input\[0\] is blank"):
        client.embeddings.create(input="", model="")
    with pytest.raises(openai.BadRequestError, match="messages must not be empty"):
        client.chat.completions.create(model=model, messages=[])
    for path, field in (("chat/completions", "messages"), ("embeddings", "input")):
        answer = server.client.post(f"/v1/{path}", json={"model": ""})
        assert answer.json()["message"].startswith(f"{field} is missing; send ")
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="nothing-like-it", prompt="a")


def test_a_finetuned_model_is_an_endpoint_for_every_client(server: Server, tmp_path: Path) -> None:
    sort = backprop.TextClassification()
    mails = EXAMPLES / "mail.csv"
    sort.finetune(str(mails), method="head", validation_split=0.25, show=False)
    text = "Where is my parcel?"
    here = sort(text)
    assert str(sort.upload("mail-desk", "Sorts mail", api_url=server.url)) == "mail-desk@1"
    body = {"model": "mail-desk", "text": text}
    answer = server.client.post("/text-classification", json=body).json()["probabilities"]
    assert answer == pytest.approx(here, abs=1e-4) and list(answer) == list(here)
    desk = remote(server, "text-classification", "mail-desk@1")
    assert desk([text, text], top_k=1) == [pytest.approx(desk(text, top_k=1))] * 2
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    found = client.embeddings.create(model="mail-desk", input=text)
    assert found.model == "mail-desk@1"
    assert client.models.retrieve(found.model).owned_by == "hub"
    # What was uploaded is what answers from then on, and the first version is a step away.
    sort.upload("mail-desk", "Sorts mail again", api_url=server.url)
    assert client.embeddings.create(model="mail-desk", input=text).model == "mail-desk@2"
    alias = server.client.put("/models/mail-desk/aliases/live", json={"version": 1})
    assert alias.status_code == 200
    live = client.embeddings.create(model="mail-desk@live", input=text)
    assert live.model == "mail-desk@1"
    told = server.client.get("/models/mail-desk").json()
    assert (told["licence"], told["languages"]) == ("Apache-2.0", ["en"])
    # Its own card says what it was made for, rather than what it began as.
    card = (sort.save("mail-desk", path=tmp_path / "desk") / "README.md").read_text("utf-8")
    assert 'pipeline_tag: "text-classification"' in card and 'license: "apache-2.0"' in card
    assert "\nall-minilm-l6-v2, finetuned for text-classification: " in card
    again = backprop.TextClassification(tmp_path / "desk")
    rows = {
        "texts": ["it rains", "it snows", "a sunny day"] * 4,
        "labels": ["wet", "wet", "dry"] * 4,
    }
    again.finetune(rows, method="head", show=False)
    card = (again.save("weather", path=tmp_path / "weather") / "README.md").read_text("utf-8")
    assert "\nmail-desk, finetuned for text-classification: dry, wet.\n" in card
    sort.model.description = "Sorts the mail of an office."
    card = (sort.save("mail-desk", path=tmp_path / "desk") / "README.md").read_text("utf-8")
    assert "\nSorts the mail of an office.\n" in card


def test_a_stream_that_nobody_reads_on_ends(server: Server) -> None:
    body = {"prompt": "Write a long story about a river.", "max_tokens": 2000, "stream": True}
    with server.client.stream("POST", "/v1/completions", json=body) as answer:
        next(answer.iter_lines())
    start = time.monotonic()
    assert remote(server, "text-generation")("Say hello.", max_length=4)
    assert time.monotonic() - start < 20


def test_figures_are_counted_by_task_and_model(server: Server) -> None:
    remote(server, "emotion")("I am glad.")
    text = server.client.get("/metrics").text
    labels = 'model="minilm-emotion",task="emotion"'
    assert f"backprop_batch_rows_count{{{labels}}}" in text.replace(
        'task="emotion",model="minilm-emotion"', labels
    )
    assert "backprop_queue_rows" in text and "backprop_request_seconds_bucket" in text
    stats = server.client.get("/stats.json").json()
    assert any(each["task"] == "emotion" and each["requests"] for each in stats["models"])


def test_the_document_names_every_route(server: Server) -> None:
    paths = server.client.get("/openapi.json").json()["paths"]
    assert {f"/{task}" for task in SPECS} <= paths.keys()
    example = paths["/qa"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    answer = server.client.post("/qa", json=example["single"]["value"])
    assert answer.json() == {"answer": "London"}


@pytest.mark.parametrize(
    ("preload", "word"), [("qa=nosuch", "nosuch"), ("qa=all-minilm-l6-v2", "does not do 'qa'")]
)
def test_what_can_not_be_loaded_before_the_start_is_told(
    tmp_path: Path, preload: str, word: str
) -> None:
    command = [sys.executable, "-m", "backprop", "serve", "--port", "0", "--preload", preload]
    done = subprocess.run(
        [*command, "--data", str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and word in done.stderr.splitlines()[-1]


def test_a_small_budget_unloads_models_without_dropping_requests(tmp_path: Path) -> None:
    running = Server(tmp_path / "data", "--memory", "100")
    try:
        tasks = ["text-vectorisation", "image-vectorisation", "qa", "emotion"] * 3
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda task: remote(running, task).run(INPUTS[task]), tasks))
        assert len(found) == len(tasks)
        end = time.monotonic() + 20  # where all were in use to the end, they go a moment later
        while '"event":"unloaded"' not in running.lines():
            assert time.monotonic() < end, running.lines()
            time.sleep(0.1)
    finally:
        running.close()


def test_an_unloaded_model_gives_its_memory_back(tmp_path: Path) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    running = Server(tmp_path / "data", "--idle", "1")
    try:

        def memory_mb() -> float:
            pages = Path(f"/proc/{running.process.pid}/statm").read_text().split()[1]
            return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6

        before = memory_mb()
        remote(running, "text-generation").run(INPUTS["text-generation"])
        assert memory_mb() > before + 400  # of weights
        end = time.monotonic() + 20
        while memory_mb() > before + 150:
            assert time.monotonic() < end, memory_mb()
            time.sleep(0.2)
    finally:
        running.close()


def test_sigterm_ends_after_what_was_accepted(tmp_path: Path) -> None:
    running = Server(tmp_path / "data", "--preload", "text-generation")
    try:
        answers: list[httpx.Response] = []
        body = {"text": "Tell me about rivers.", "max_length": 64, "min_length": 64}
        asking = threading.Thread(
            target=lambda: answers.append(running.client.post("/text-generation", json=body))
        )
        asking.start()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with httpx.Client(base_url=running.url) as client:
                stats = client.get("/stats.json").json()
            if any(each["queue"] or each["requests"] for each in stats["models"]):
                break
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0
        asking.join()
        assert answers[0].status_code == 200 and answers[0].json()["output"]
    finally:
        running.close()
