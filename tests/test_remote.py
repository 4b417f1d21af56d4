"""Tasks on a server: the requests they make and what they make of the answers."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.message import Message
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import backprop
from backprop.client import address, bodies, tries
from backprop.errors import InputError, RemoteError
from backprop.specs import SPECS
from tests import tiny
from tests.guard import run_python

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


Fault = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """What a server was asked, and what it does next instead of answering."""

    url: str = ""
    asked: list[tuple[str, str | None, dict[str, Any]]] = field(default_factory=list)
    headers: list[Message] = field(default_factory=list)
    fault: Fault | None = None
    once: list[Fault] = field(default_factory=list)
    connections: int = 0
    answer: Callable[[str, dict[str, Any]], Any] | None = None


def says(status: int, content: bytes, **headers: str) -> Fault:
    """Answer so."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": JSON, **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def breaks_off(handler: BaseHTTPRequestHandler) -> None:
    """Send half an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"emo')
    hangs_up(handler)


BUSY = says(503, b'{"message": "busy"}', Retry_After="0")


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            state.connections += 1

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == JSON
            body = json.loads(raw)
            state.asked.append((self.path, self.headers["x-api-key"], body))
            state.headers.append(self.headers)
            fault = state.once.pop(0) if state.once else state.fault
            if fault is not None:
                fault(self)
                return
            task = self.path.rsplit("/", 1)[-1]
            found = state.answer(task, body) if state.answer else [0.6, 0.8]
            says(200, json.dumps({ANSWER_KEYS[task]: found}).encode())(self)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Listening(ThreadingHTTPServer):
        request_queue_size = 256
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Say nothing: clients may go."""

    with Listening(("127.0.0.1", 0), Handler) as served:
        state.url = f"http://127.0.0.1:{served.server_port}/v1"
        thread = threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield state
        served.shutdown()
        thread.join()


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Return the server as new."""
    new = Server()
    for name in ("asked", "headers", "fault", "once", "connections", "answer"):
        setattr(running, name, getattr(new, name))
    monkeypatch.setattr(tries, "FIRST_S", 0.002)
    for name in ("BACKPROP_API_URL", "BACKPROP_API_KEY"):
        monkeypatch.delenv(name, raising=False)
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
    assert server.asked[0][:2] == ("/v1/emotion", None)


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
        (500, b'{"detail": "x"}', r"no message \(request"),
        (502, b"<html>Bad gateway</html>", "no message"),
        (404, b"[1]", "no message"),
        (200, b'{"other": 1}', "no message"),
        (200, b"", "no message"),
        (503, b"\xff\xfe", "no message"),
        (400, b'{"error": {"message": "in the form of OpenAI"}}', "in the form of OpenAI"),
        (400, b'{"message": "\\u001b[31mred\\u0007 secret"}', r"\[31mred \*\*\*"),
        (307, b"", "it points to http://elsewhere/x, which is not followed"),
    ],
)
def test_an_error_has_the_servers_words_and_status(
    server: Server, status: int, content: bytes, said: str
) -> None:
    server.fault = says(status, content, Location="http://elsewhere/x", x_request_id="r-17")
    with pytest.raises(RemoteError, match=f"answered {status}: .*{said}") as refused:
        task_on(server, "emotion")("nice")
    assert (refused.value.status, refused.value.request_id) == (status, "r-17")
    assert "request r-17" in str(refused.value)
    assert "secret" not in str(refused.value) and "\x1b" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:9", r"received '127.0.0.1:9'; did you mean http://127.0.0.1:9\?"),
        ("u:pw@server", r"received 'server'; did you mean http://server\?$"),
        ("http:/u:pw@server", "received 'server'"),
        ("https:///u:p/w@server", "received 'server'"),
        ("ftp://127.0.0.1", "must begin with http:// or https://; received 'ftp://127.0.0.1'$"),
        ("http://", "received 'http:'$"),
    ],
)
def test_an_address_that_is_none_is_told_before_anything_is_sent(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        backprop.Emotion(api_url=url)("nice")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://[::1"])
def test_a_server_out_of_reach_is_named(url: str, server: Server) -> None:
    with pytest.raises(RemoteError, match="could not be reached.*check api_url") as refused:
        backprop.Emotion(api_url=url)("nice")
    assert refused.value.status is None


# --- Tries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [BUSY, hangs_up, breaks_off, says(429, b""), says(504, b"")])
def test_what_may_go_better_is_asked_again(server: Server, fault: Fault) -> None:
    server.once = [fault, fault]
    assert task_on(server, "emotion")("nice") == [0.6, 0.8]
    assert len(server.asked) == 3
    assert server.asked[0] == server.asked[2]


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 500, 501])
def test_what_stays_wrong_is_asked_once(server: Server, status: int) -> None:
    server.fault = says(status, b"{}")
    with pytest.raises(RemoteError):
        task_on(server, "emotion")("nice")
    assert len(server.asked) == 1


def test_a_server_that_stays_busy_is_left_after_six_tries(server: Server) -> None:
    server.fault = BUSY
    with pytest.raises(RemoteError, match="answered 503: busy"):
        task_on(server, "emotion")("nice")
    assert len(server.asked) == 1 + tries.RETRIES


def test_the_pause_that_a_server_asks_for_is_kept(server: Server) -> None:
    server.once = [says(503, b"", Retry_After="1")]
    start = time.monotonic()
    assert task_on(server, "emotion")("nice") == [0.6, 0.8]
    assert time.monotonic() - start >= 1


def test_a_pause_beyond_the_time_there_is_ends_it_at_once(server: Server) -> None:
    server.fault = says(429, b'{"message": "100 a minute"}', Retry_After="3600")
    start = time.monotonic()
    with pytest.raises(RemoteError, match="100 a minute"):
        task_on(server, "emotion")("nice")
    assert (time.monotonic() - start < 5, len(server.asked)) == (True, 1)


def test_retry_after_is_seconds_or_a_date() -> None:
    later = datetime.now(timezone.utc) + timedelta(seconds=100)
    assert tries.retry_after_s(" 17 ") == 17
    assert tries.retry_after_s(format_datetime(later, usegmt=True)) == pytest.approx(100, abs=2)
    nonsense = [None, "", "-1", "soon", "1.5", "9" * 40, "nan", "Wed, 99 Foo 2020", "\u0663"]
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert [tries.retry_after_s(text) for text in [*nonsense, past]] == [0] * 10


def test_pauses_are_random_within_a_bound_that_doubles() -> None:
    pauses = []
    for _ in range(100):
        one = tries.Tries(1000)
        pauses.append([one.pause_s() or 0.0 for _ in range(tries.RETRIES)])
        assert one.pause_s() is None
    for number, column in enumerate(zip(*pauses, strict=True)):
        bound = tries.FIRST_S * 2**number
        assert 0 <= min(column) < bound / 4 and bound * 3 / 4 < max(column) <= bound


@pytest.mark.parametrize("fault", ["silent", "dripping"])
@pytest.mark.parametrize("is_async", [False, True])
def test_the_time_of_a_request_is_bounded(server: Server, fault: str, is_async: bool) -> None:
    done = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        done.wait(10)

    def dripping(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not done.wait(0.02):
            handler.wfile.write(b" ")

    server.fault = silent if fault == "silent" else dripping
    task = task_on(server, "emotion", timeout_s=0.3)
    start = time.monotonic()
    with pytest.raises(RemoteError, match=r"no answer within 0.3 s; pass a larger timeout_s"):
        asyncio.run(task.acall("nice")) if is_async else task("nice")
    done.set()
    assert time.monotonic() - start < 5
    assert len(server.asked) <= 1  # none where the connection alone took as long


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_time_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="timeout_s must be above 0"):
        backprop.Emotion(api_url="http://127.0.0.1:9", timeout_s=value)


# --- Connections ---------------------------------------------------------------------------------


def test_a_connection_is_kept(server: Server) -> None:
    for _ in range(5):
        task_on(server, "emotion")("nice")
    assert server.connections <= 1  # one of an earlier test may serve
    assert len(server.asked) == 5


def test_threads_share_connections(server: Server) -> None:
    server.answer = lambda task, body: body["text"]
    task = task_on(server, "emotion")
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(task, map(str, range(100)))) == list(map(str, range(100)))
    assert server.connections <= 8


def _ask(url: str, text: str) -> None:
    assert backprop.Emotion(api_url=url)(text) == text
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_connections_of_its_own(server: Server) -> None:
    server.answer = lambda task, body: body["text"]
    task = task_on(server, "emotion")
    task("before")
    server.connections = 0
    children = [
        multiprocessing.get_context("fork").Process(target=_ask, args=(server.url, f"child {i}"))
        for i in range(3)
    ]
    for child in children:
        child.start()
    assert [task(f"parent {i}") for i in range(20)] == [f"parent {i}" for i in range(20)]
    for child in children:
        child.join(20)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert server.connections == 3


def test_cookies_are_not_kept(server: Server) -> None:
    server.once = [says(200, b'{"emotion": "glad"}', Set_Cookie="session=other; Path=/")]
    task = task_on(server, "emotion")
    task("nice")
    task("nice")
    assert [headers["cookie"] for headers in server.headers] == [None, None]


def test_a_program_ends_without_a_warning(server: Server) -> None:
    code = f"""
    import asyncio, backprop
    task = backprop.Emotion(api_url={server.url!r})
    print(task("nice"), asyncio.run(task.acall("nice")))
    """
    done = run_python(code, env={"PYTHONWARNINGS": "error"})
    assert (done.stdout, done.stderr) == ("[0.6, 0.8] [0.6, 0.8]\n", "")


# --- acall ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", SPECS)
def test_acall_asks_as_the_call_does(server: Server, task: str) -> None:
    positional, named = CALLS[task]
    on_server = task_on(server, task)
    assert on_server(*positional, **named) == asyncio.run(on_server.acall(*positional, **named))
    assert server.asked[0] == server.asked[1]


def test_acall_gives_tensors_and_errors_as_the_call_does(server: Server) -> None:
    task = task_on(server, "text-vectorisation")
    found = asyncio.run(task.acall("go", return_tensor=True))
    assert found.tolist() == pytest.approx([0.6, 0.8])
    with pytest.raises(InputError, match="text is blank"):
        asyncio.run(task.acall(" "))
    with pytest.raises(TypeError):
        asyncio.run(task.acall("go", no_such_option=1))
    server.fault = says(404, b'{"message": "no such model"}')
    with pytest.raises(RemoteError, match="no such model"):
        asyncio.run(task.acall("go"))


def test_many_acalls_wait_at_a_time(server: Server) -> None:
    together = threading.Barrier(60)

    def wait(task: str, body: dict[str, Any]) -> str:
        together.wait(20)  # passes once all have come
        return str(body["text"])

    server.answer = wait
    task = task_on(server, "emotion")

    async def ask() -> Any:
        return await asyncio.gather(*(task.acall(str(number)) for number in range(60)))

    assert asyncio.run(ask()) == list(map(str, range(60)))


def test_acall_tries_again(server: Server) -> None:
    server.once = [BUSY, hangs_up, breaks_off]
    assert asyncio.run(task_on(server, "emotion").acall("nice")) == [0.6, 0.8]
    assert len(server.asked) == 4


def test_the_event_loop_goes_on_meanwhile(server: Server) -> None:
    ticks = 0
    go = threading.Event()
    server.answer = lambda task, body: bool(go.wait(20))

    async def ask() -> Any:
        nonlocal ticks
        asked = asyncio.create_task(task_on(server, "emotion").acall("nice"))
        while ticks < 20:
            await asyncio.sleep(0.001)
            ticks += 1
        go.set()
        return await asked

    assert asyncio.run(ask()) is True


def test_a_local_task_answers_in_a_thread() -> None:
    here = threading.get_ident()
    threads = []

    def model(task_input: Any, task: str = "") -> str:
        threads.append(threading.get_ident())
        return "joy"

    from backprop.models import BaseModel

    task = backprop.Emotion(BaseModel(model, name="mine", tasks=["emotion"]))
    assert asyncio.run(task.acall("nice")) == "joy"
    assert threads and here not in threads


# --- Batches that are more than a request takes --------------------------------------------------


def test_the_bounds_are_those_of_the_server() -> None:
    limits = pytest.importorskip("backprop.serve.limits")
    for name in ("MAX_BODY_BYTES", "MAX_CHARACTERS", "MAX_ROWS", "MAX_WRITTEN"):
        assert getattr(bodies, name) == getattr(limits, name)


@pytest.mark.parametrize("is_async", [False, True])
def test_many_rows_go_in_several_requests(server: Server, is_async: bool) -> None:
    server.answer = lambda task, body: [{label: 1.0 for label in own} for own in body["labels"]]
    texts = [f"text {number}" for number in range(625)]
    labels = [[f"{number}", "other"] for number in range(625)]
    task = task_on(server, "text-classification")
    found = (
        asyncio.run(task.acall(texts, labels, top_k=2))
        if is_async
        else task(texts, labels, top_k=2)
    )
    assert found == [{f"{number}": 1.0, "other": 1.0} for number in range(625)]
    sent = [body for _, _, body in server.asked]
    assert [len(body["text"]) for body in sent] == [256, 256, 113]
    assert [text for body in sent for text in body["text"]] == texts
    assert {body["top_k"] for body in sent} == {2}


def test_labels_that_all_rows_share_are_sent_once_a_request(server: Server) -> None:
    server.answer = lambda task, body: [0] * len(body["text"])
    task_on(server, "text-classification")(["a", "b"], [["x", "y"], ["x", "y"]])
    task_on(server, "text-classification")(["a", "b"], [["x", "y"], ["x", "z"]])
    assert [body["labels"] for _, _, body in server.asked] == [
        ["x", "y"],
        [["x", "y"], ["x", "z"]],
    ]


def test_a_request_has_no_more_text_than_a_server_takes(server: Server) -> None:
    server.answer = lambda task, body: body["text"]
    texts = [str(number) * 190_000 for number in range(10)] + ["😀" * 190_000, "short"]
    assert task_on(server, "emotion")(texts) == texts
    counts = [sum(map(len, body["text"])) for _, _, body in server.asked]
    assert max(counts) <= bodies.MAX_CHARACTERS and len(counts) == 2


def test_a_request_has_no_more_bytes_than_a_server_takes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 40_000)
    server.answer = lambda task, body: body["image"]
    photos = [tiny.photo(number) for number in range(12)]
    found = task_on(server, "image-vectorisation")(photos)
    assert [picture(one).tobytes() for one in found] == [photo.tobytes() for photo in photos]
    sizes = [int(headers["content-length"]) for headers in server.headers]
    assert len(sizes) > 1 and max(sizes) <= 40_000


def test_a_row_that_no_server_takes_is_refused_by_its_number(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 3 << 20)
    with pytest.raises(InputError, match="Row 1 is 3.8 MiB; a server takes at most 3 MiB"):
        task_on(server, "emotion")(["a", "b" * 4_000_000])
    assert server.asked == []


def test_texts_that_are_written_together_are_bounded(server: Server) -> None:
    server.answer = lambda task, body: body["text"]
    texts = list(map(str, range(20)))
    assert task_on(server, "text-generation")(texts, num_generations=8) == texts
    assert [len(body["text"]) for _, _, body in server.asked] == [8, 8, 4]


def test_nothing_is_asked_about_no_rows(server: Server) -> None:
    assert task_on(server, "emotion")([]) == []
    assert server.asked == []


@pytest.mark.parametrize("found", [["one"], "one", None, {"a": 1}])
def test_answers_that_are_not_one_a_row_are_refused(server: Server, found: Any) -> None:
    server.answer = lambda task, body: found
    with pytest.raises(RemoteError, match="answers to 2 rows of emotion"):
        task_on(server, "emotion")(["a", "b"])


def test_stream_map_asks_in_chunks(server: Server) -> None:
    server.answer = lambda task, body: body["text"]
    texts = list(map(str, range(10)))
    assert list(task_on(server, "emotion").stream_map(iter(texts), chunk=4)) == texts
    assert len(server.asked) == 3


# --- Streams -------------------------------------------------------------------------------------


def pieces(*events: Any, end: str = "data: [DONE]\n\n") -> Fault:
    texts = [each if isinstance(each, str) else f"data: {json.dumps(each)}\n\n" for each in events]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for text in [*texts, end]:
            handler.wfile.write(text.encode())
            handler.wfile.flush()
        handler.close_connection = True

    return answer


def cut_off(handler: BaseHTTPRequestHandler) -> None:
    """Answer with a piece of a stream whose connection then breaks, as at a server's end."""
    event = f"data: {json.dumps(piece('a'))}\n\n".encode()
    handler.send_response(200)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
    handler.wfile.flush()
    handler.close_connection = True


def piece(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text}]}


def test_a_text_streams_as_it_is_written(server: Server) -> None:
    server.once = [BUSY, pieces(": still there\n\n", piece("Hello,"), piece(" 世界"), piece(""))]
    task = task_on(server, "text-generation", model="mine")
    assert list(task.stream("Say", max_length=5, stop="x", seed=3)) == ["Hello,", " 世界"]
    path, key, body = server.asked[1]
    assert (path, key) == ("/v1/v1/completions", "secret")
    assert body == {
        "model": "mine",
        "prompt": "Say",
        "max_tokens": 5,
        "stop": ["x"],
        "seed": 3,
        "stream": True,
    }


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (pieces(piece("a"), {"message": "it failed", "error": {}}), "in an error: it failed"),
        (pieces(piece("a"), "data: nonsense\n\n"), "in an error: no message"),
        (pieces(piece("a"), end=""), "broke off before its end"),
        (cut_off, "broke off before its end, as when a server is stopped"),
        (says(400, b'{"message": "no such field"}'), "answered 400: no such field"),
    ],
)
def test_a_stream_that_fails_says_so(server: Server, fault: Fault, said: str) -> None:
    server.fault = fault
    with pytest.raises(RemoteError, match=said):
        list(task_on(server, "text-generation").stream("Say"))
    assert len(server.asked) == 1


# --- Which server, and which key -----------------------------------------------------------------


def test_variables_alone_send_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPROP_API_URL", server.url)
    monkeypatch.setenv("BACKPROP_API_KEY", "secret")
    assert backprop.Emotion().is_remote is False


def test_a_key_goes_to_the_server_that_the_variable_names(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKPROP_API_URL", f"{server.url}/")
    backprop.Emotion(api_key=" secret\n")("nice")
    assert server.asked[0][:2] == ("/v1/emotion", "secret")


def test_a_key_of_one_server_is_not_sent_to_another(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKPROP_API_KEY", "secret")
    backprop.Emotion(api_url=server.url)("nice")
    monkeypatch.setenv("BACKPROP_API_URL", server.url)
    backprop.Emotion(api_url=server.url)("nice")
    monkeypatch.setenv("BACKPROP_API_URL", "https://other")
    backprop.Emotion(api_url=server.url)("nice")
    assert [key for _, key, _ in server.asked] == ["secret", "secret", None]


@pytest.mark.parametrize("key", ["se cret", "secret\nx-other: 1", "sécret", "\x00secret"])
def test_a_key_that_can_be_none_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(InputError, match="copy the key again") as refused:
        backprop.Emotion(api_url="http://127.0.0.1:9", api_key=key)
    assert "secret" not in str(refused.value)


def test_secrets_are_not_shown() -> None:
    server = address.Server("http://me:passw0rd@127.0.0.1:9/x", "secret")
    assert server.shown == "http://127.0.0.1:9/x"
    assert "secret" not in repr(server)
    assert server.clean("passw0rd and secret") == "*** and ***"


def test_a_task_on_a_server_loads_neither_torch_nor_models(server: Server) -> None:
    code = f"""
    import sys, backprop
    print(backprop.Emotion(api_url={server.url!r})("nice"))
    print([name for name in ("torch", "transformers", "sklearn") if name in sys.modules])
    """
    assert run_python(code).stdout == "[0.6, 0.8]\n[]\n"
