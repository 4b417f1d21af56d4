"""Tasks on a server: the requests they make and what they make of the answers."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import backprop
from backprop.errors import InputError, RemoteError
from backprop.specs import SPECS
from tests import tiny

ANSWER_KEYS = {
    "qa": "answer",
    "text-classification": "probabilities",
    "image-classification": "probabilities",
    "emotion": "emotion",
    "summarisation": "summary",
    "text-generation": "output",
    "text-vectorisation": "vector",
    "image-vectorisation": "vector",
    "image-text-vectorisation": "vector",
}
"""As the protocol of 2021 has them."""

JSON = "application/json"


@dataclass
class Server:
    """What a server was asked, and what it says next instead of an answer."""

    url: str = ""
    asked: list[tuple[str, str | None, dict[str, Any]]] = field(default_factory=list)
    fault: tuple[int, bytes, str] | None = None


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == JSON
            state.asked.append((self.path, self.headers["x-api-key"], json.loads(raw)))
            key = ANSWER_KEYS[self.path.rsplit("/", 1)[-1]]
            good = (200, json.dumps({key: [0.6, 0.8]}).encode(), JSON)
            status, content, kind = state.fault or good
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        state.url = f"http://127.0.0.1:{served.server_port}/v1"
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield state
        served.shutdown()
        thread.join()


@pytest.fixture
def server(running: Server) -> Server:
    """Return the server as new."""
    running.asked.clear()
    running.fault = None
    return running


PHOTO = tiny.photo()
CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "qa": (("Who?", "Sally.", [("Where?", "London")]), {}),
    "text-classification": (("a dog", ["dog", "cat"], 1), {}),
    "emotion": (("nice",), {}),
    "summarisation": (("long",), {}),
    "text-generation": (("go", 1, 5, 0.7, 3, 0.9, 1.2, 0.8, 2, 2, True), {"stop": "x", "seed": 4}),
    "text-vectorisation": ((["go", "on"],), {"dimensions": 2}),
    "image-classification": ((PHOTO, ["dog", "cat"]), {}),
    "image-vectorisation": (([PHOTO, PHOTO],), {}),
    "image-text-vectorisation": ((PHOTO, "a photo"), {}),
}
BODIES: dict[str, dict[str, Any]] = {
    "qa": {"question": "Who?", "context": "Sally.", "prev_q": ["Where?"], "prev_a": ["London"]},
    "text-classification": {"text": "a dog", "labels": ["dog", "cat"], "top_k": 1},
    "emotion": {"text": "nice"},
    "summarisation": {"text": "long"},
    "text-generation": {
        "text": "go",
        "min_length": 1,
        "max_length": 5,
        "temperature": 0.7,
        "top_k": 3,
        "top_p": 0.9,
        "repetition_penalty": 1.2,
        "length_penalty": 0.8,
        "num_beams": 2,
        "num_generations": 2,
        "do_sample": True,
        "stop": ["x"],
        "seed": 4,
    },
    "text-vectorisation": {"text": ["go", "on"], "dimensions": 2},
    "image-classification": {"labels": ["dog", "cat"]},
    "image-vectorisation": {},
    "image-text-vectorisation": {"text": "a photo"},
}


def task_on(server: Server, task: str, **options: Any) -> Any:
    return getattr(backprop, SPECS[task].task_class)(
        api_url=server.url, api_key="secret", **options
    )


def picture(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True))).convert("RGB")


@pytest.mark.parametrize("task", SPECS)
def test_a_task_asks_as_the_protocol_says(server: Server, task: str) -> None:
    positional, named = CALLS[task]
    assert task_on(server, task)(*positional, **named) == [0.6, 0.8]
    [(path, key, body)] = server.asked
    assert (path, key, body.pop("model")) == (f"/v1/{task}", "secret", "")
    if "image" in task:
        sent = body.pop("image")
        assert isinstance(sent, list) == isinstance(positional[0], list)
        for one in sent if isinstance(sent, list) else [sent]:
            assert picture(one).tobytes() == PHOTO.tobytes()
    assert body == BODIES[task]


def test_the_models_name_is_sent_whatever_it_is(server: Server) -> None:
    task_on(server, "emotion", model="my-own-model")("nice")
    assert server.asked[0][2]["model"] == "my-own-model"


def test_a_slash_at_the_end_of_the_address_is_fine_and_the_key_may_be_missing(
    server: Server,
) -> None:
    backprop.Emotion(api_url=f"{server.url}/")("nice")
    assert server.asked[0][:2] == ("/v1/emotion", "")


def test_a_picture_file_is_sent_as_it_is(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    PHOTO.save(file)
    for given in (file, str(file), file.read_bytes(), base64.b64encode(file.read_bytes()).decode()):
        task_on(server, "image-vectorisation")(given)
        assert base64.b64decode(server.asked[-1][2]["image"]) == file.read_bytes()


def test_an_answer_can_become_a_tensor(server: Server) -> None:
    found = task_on(server, "text-vectorisation")("go", return_tensor=True)
    assert found.tolist() == pytest.approx([0.6, 0.8])
    assert "return_tensor" not in server.asked[0][2]


def test_wrong_input_is_not_sent(server: Server) -> None:
    with pytest.raises(InputError, match="text is blank"):
        task_on(server, "emotion")(" ")
    assert server.asked == []


@pytest.mark.parametrize("wrapped", [tuple, list])
def test_lists_and_numbers_of_any_kind_become_json(server: Server, wrapped: Any) -> None:
    import numpy as np

    labels = np.array(["dog", "cat"])
    task_on(server, "text-classification")(wrapped(["a", "b"]), labels, top_k=np.int64(1))
    body = server.asked[0][2]
    assert (body["text"], body["labels"], body["top_k"]) == (["a", "b"], ["dog", "cat"], 1)


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (400, b'{"message": "text is too long"}', "text is too long"),
        (401, b'{"message": "wrong key"}', "wrong key"),
        (500, b'{"detail": "x"}', "no message"),
        (502, b"<html>Bad gateway</html>", "no message"),
        (404, b"[1]", "no message"),
        (200, b'{"other": 1}', "no message"),
        (200, b"", "no message"),
        (503, b"\xff\xfe", "no message"),
    ],
)
def test_an_error_has_the_servers_words_and_status(
    server: Server, status: int, content: bytes, said: str
) -> None:
    server.fault = (status, content, JSON)
    with pytest.raises(RemoteError, match=f"answered {status}.*{said}") as refused:
        task_on(server, "emotion")("nice")
    assert refused.value.status == status
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "nonsense", "ftp://127.0.0.1", "http://[::1"]
)
def test_a_server_out_of_reach_is_named(url: str) -> None:
    with pytest.raises(RemoteError, match="could not be reached.*check api_url") as refused:
        backprop.Emotion(api_url=url)("nice")
    assert refused.value.status is None
