"""Models are sent to a server: whole, once, over lines that break; and never with code."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

import backprop
from backprop import artefact, cli, manifest
from backprop.client import connections, sending, tries
from backprop.client.address import Server
from backprop.errors import ArtefactError, InputError, NotFoundError, RemoteError
from backprop.models import AutoModel, BaseModel, HFImageModel, PairEncoder, STModel
from backprop.models.saving import save
from backprop.serve.vetting import vet
from tests import tiny
from tests.guard import run_python
from tests.hub_server import Running, hub_server

pytestmark = pytest.mark.usefixtures("one_thread")

PART_BYTES = 50_000


@pytest.fixture(scope="module")
def model() -> BaseModel:
    return AutoModel.from_pretrained(tiny.folder("sentence_transformer"))


@pytest.fixture(scope="module")
def saved(model: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "mine"
    return save(model, "mine", "what it is", details={"a": 1}, path=path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(tries, "FIRST_S", 0.002)
    monkeypatch.setattr(sending, "PART_BYTES", PART_BYTES)
    monkeypatch.setenv("BACKPROP_CACHE", str(tmp_path / "cache"))
    for name in ("BACKPROP_API_URL", "BACKPROP_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    connections.close()
    with hub_server(tmp_path / "server") as running:
        yield running


def assert_same(hub: Running, name: str, folder: Path, ref: str = "latest") -> None:
    """The hub has a version with just the files of a folder."""
    version = hub.hub.version(name, ref)
    assert dict(version.files) == manifest.describe(folder)
    assert manifest.describe(hub.hub.materialise(version)) == manifest.describe(folder)


def test_a_saved_model_is_sent_and_gets_a_version(hub: Running, saved: Path) -> None:
    first = backprop.upload(saved, api_url=hub.url, api_key="secret")
    assert (str(first), first.version) == ("mine@1", 1)
    assert first.url == f"{hub.url}/models/mine/versions/1"
    assert hub.keys == {"secret"}
    assert_same(hub, "mine", saved)
    version = hub.hub.version("mine")
    assert (version.description, version.meta["details"]) == ("what it is", {"a": 1})


def test_what_the_server_has_is_not_sent_again(hub: Running, saved: Path) -> None:
    backprop.upload(saved, api_url=hub.url)
    before = hub.count("PUT", "/blobs/")
    assert str(backprop.upload(saved, api_url=hub.url)) == "mine@2"
    assert hub.count("PUT", "/blobs/") == before
    # Another description is another backprop.json, manifest and card.
    assert str(backprop.upload(saved, description="better", api_url=hub.url)) == "mine@3"
    assert hub.count("PUT", "/blobs/") == before + 3
    assert hub.hub.version("mine").description == "better"


def test_large_files_go_in_parts(hub: Running, saved: Path) -> None:
    backprop.upload(saved, api_url=hub.url)
    sizes = [each.size_bytes for each in manifest.describe(saved).values()]
    assert max(sizes) > 2 * PART_BYTES
    assert hub.count("PUT", "/blobs/") == sum(-(-size // PART_BYTES) for size in sizes)


def test_lines_that_break_lose_a_part_at_most(hub: Running, saved: Path) -> None:
    hub.cuts += [("up", 70_000), ("up", 5_000), ("down", 10), ("up", 60_000), ("down", 0)]
    assert str(backprop.upload(saved, api_url=hub.line_url)) == "mine@1"
    assert hub.cuts == []
    assert_same(hub, "mine", saved)


def test_a_line_that_goes_is_told_and_the_same_call_goes_on(hub: Running, saved: Path) -> None:
    hub.cuts += [("up", 120_000), *[("up", 0)] * 20]
    with pytest.raises(RemoteError, match="could not be reached"):
        backprop.upload(saved, api_url=hub.line_url)
    assert hub.hub.models() == []
    hub.cuts.clear()
    done = hub.count("PUT", "/blobs/", 201) + hub.count("PUT", "/blobs/", 204)
    assert done > 0
    backprop.upload(saved, api_url=hub.url)
    assert_same(hub, "mine", saved)
    sizes = [each.size_bytes for each in manifest.describe(saved).values()]
    good = hub.count("PUT", "/blobs/", 201) + hub.count("PUT", "/blobs/", 204)
    assert good <= sum(-(-size // PART_BYTES) for size in sizes) + 1


def test_a_busy_server_is_asked_again(hub: Running, saved: Path) -> None:
    again = {"retry-after": "0"}
    hub.refusing += [("HEAD", 503, again), ("PUT", 429, again), ("PUT", 502, {})]
    hub.refusing += [("POST", 503, again), ("POST", 429, again)]
    assert str(backprop.upload(saved, api_url=hub.url)) == "mine@1"
    assert hub.refusing == []


def test_an_answer_that_is_lost_makes_no_second_version(hub: Running, saved: Path) -> None:
    files = {**manifest.describe(saved)}
    backprop.upload(saved, api_url=hub.url)  # so that the commit is all there is to do
    asked = len(hub.asked)

    # The connection that carries the commit passes it on, and nothing back.
    hub.cuts.append(("down", 0))
    lost = sending._commit(Server(hub.line_url), "mine", files, "lost")
    assert str(lost) == "mine@2"
    assert hub.hub.model("mine").versions == [1, 2]
    assert [method for method, _, _ in hub.asked[asked:]] == ["POST", "GET"]


def test_a_gateway_that_gives_up_early_makes_no_second_version(hub: Running, saved: Path) -> None:
    hub.refusing.append(("POST", 504, {}))
    assert str(backprop.upload(saved, api_url=hub.url)) == "mine@1"
    assert hub.hub.model("mine").versions == [1]


def test_a_refusal_has_the_servers_words(hub: Running, saved: Path) -> None:
    hub.refusing.append(("POST", 422, {"x-request-id": "r-1"}))
    with pytest.raises(RemoteError, match=r"answered 422: not now \(request r-1\)") as refused:
        backprop.upload(saved, api_url=hub.url, api_key="secret")
    assert (refused.value.status, refused.value.request_id) == (422, "r-1")
    hub.refusing.append(("HEAD", 401, {}))
    with pytest.raises(RemoteError, match="answered 401"):
        backprop.upload(saved, api_url=hub.url)


def test_a_file_that_changes_meanwhile_is_refused_by_the_server(
    hub: Running, model: BaseModel, tmp_path: Path
) -> None:
    folder = backprop.save(model, "mine", path=tmp_path / "mine")
    listed = manifest.describe(folder)
    card = folder / "README.md"
    card.write_bytes(card.read_bytes()[::-1])
    with pytest.raises(RemoteError, match=r"answered 422: The bytes have the sha256"):
        sending.send_folder(Server(hub.url), "mine", folder, listed)


# --- What is sent --------------------------------------------------------------------------------


def test_a_model_is_saved_aside_and_sent(hub: Running, model: BaseModel, tmp_path: Path) -> None:
    name = model.name
    sent = backprop.upload(model, "my-model", "text", details={"b": 2}, api_url=hub.url)
    assert str(sent) == "my-model@1"
    meta = hub.hub.version("my-model").meta
    assert (meta["name"], meta["description"], meta["details"]) == ("my-model", "text", {"b": 2})
    assert model.name == name
    assert not (tmp_path / "cache" / "my-model").exists()


def test_a_path_keeps_what_was_saved(hub: Running, model: BaseModel, tmp_path: Path) -> None:
    backprop.upload(model, "my-model", path=tmp_path / "kept", api_url=hub.url)
    assert_same(hub, "my-model", tmp_path / "kept")


def test_a_task_sends_its_model(hub: Running, saved: Path) -> None:
    task = backprop.TextVectorisation(saved)
    assert str(task.upload("from-task", "text", api_url=hub.url)) == "from-task@1"
    assert hub.hub.version("from-task").meta["tasks"] == task.model.tasks
    there = backprop.TextVectorisation("mine", api_url=hub.url)
    with pytest.raises(InputError, match="runs on http"):
        there.upload("from-task")


def test_a_saved_model_is_sent_by_name_under_another(
    hub: Running, model: BaseModel, saved: Path
) -> None:
    backprop.save(model, "kept-here")
    sent = backprop.upload("kept-here", "other", tasks=["text-vectorisation"], api_url=hub.url)
    version = hub.hub.version("other")
    assert str(sent) == "other@1"
    assert (version.meta["name"], version.meta["tasks"]) == ("other", ["text-vectorisation"])
    assert "# other" in version.card
    assert artefact.read(artefact.default_path("kept-here")).meta["name"] == "kept-here"


def test_what_is_sent_passes_the_checks_of_a_server(
    hub: Running, saved: Path, tmp_path: Path
) -> None:
    pair = PairEncoder(
        HFImageModel(tiny.folder("vit")), STModel(tiny.folder("sentence_transformer"))
    )
    with hub_server(tmp_path / "strict", vet) as strict:
        backprop.upload(saved, "other", description="An ✓ and\na line", api_url=strict.url)
        backprop.upload(pair, "pair", api_url=strict.url)
        folders = {path.split("/")[0] for path in strict.hub.version("pair").files if "/" in path}
        assert folders == {"image", "text"}
        assert strict.hub.version("other").description == "An ✓ and\na line"


class Mine(BaseModel):
    """A class of a user's own."""

    def __call__(self, task_input: Any, task: str = "") -> str:
        return "joy"


def test_a_class_of_ones_own_is_refused_before_anything_is_sent(
    hub: Running, tmp_path: Path
) -> None:
    mine = Mine(torch.nn.Linear(2, 2), name="own-class", tasks=["emotion"])
    refusal = "of the class Mine, which is not one of backprop's: .* would run its pickled code"
    with pytest.raises(InputError, match=refusal):
        backprop.upload(mine, api_url=hub.url)
    folder = backprop.save(mine, path=tmp_path / "own")
    with pytest.raises(InputError, match=refusal):
        backprop.upload(folder, api_url=hub.url)
    with pytest.raises(InputError, match=refusal):
        backprop.push_to_hub(folder, "me/mine")
    assert hub.asked == []


@pytest.mark.parametrize(
    ("which", "name", "error", "said"),
    [
        ("no-such-model", None, NotFoundError, "no saved model 'no-such-model'"),
        ("mine", "all-minilm-l6-v2", InputError, "is the name of the catalogue's"),
        ("mine", "No Name!", InputError, "is not valid"),
        ("hub-form", "mine", InputError, "another library's form"),
        ("damaged", None, ArtefactError, "damaged"),
    ],
)
def test_what_can_not_be_sent_is_told_first(
    hub: Running,
    which: str,
    name: str,
    error: type[Exception],
    said: str,
    saved: Path,
    tmp_path: Path,
) -> None:
    places = {"mine": saved, "hub-form": tiny.folder("sentence_transformer")}
    place: Path | str = places.get(which, which)
    if which == "damaged":
        place = shutil.copytree(saved, tmp_path / "damaged")
        (place / "README.md").write_text("other")
    with pytest.raises(error, match=said):
        backprop.upload(place, name, api_url=hub.url)
    assert hub.asked == []


def test_where_to_send_is_told_or_asked_for(
    hub: Running, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="api_url=.*BACKPROP_API_URL.*backprop serve"):
        backprop.upload(saved)
    monkeypatch.setenv("BACKPROP_API_URL", hub.url)
    monkeypatch.setenv("BACKPROP_API_KEY", "from-variable")
    backprop.upload(saved)
    assert hub.keys == {"from-variable"}


# --- The command ---------------------------------------------------------------------------------


def test_the_command_sends_and_prints_the_version(
    hub: Running, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["upload", str(saved), "--api-url", hub.url, "--description", "better"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"mine@1\t{hub.url}/models/mine/versions/1\n"
    assert hub.hub.version("mine").description == "better"


def test_the_command_tells_what_is_missing_and_never_the_key(
    hub: Running, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["upload", str(saved)])
    assert ended.value.code == 2
    assert "backprop serve" in capsys.readouterr().err
    (saved.parent / "nothing").mkdir()
    with pytest.raises(InputError, match="'.*nothing' is empty"):
        backprop.upload(saved.parent / "nothing", api_url=hub.url)
    hub.refusing.append(("HEAD", 403, {}))
    with pytest.raises(SystemExit) as ended:
        cli.main(["upload", str(saved), "--api-url", hub.url, "--api-key", "bp_key_secret"])
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert "answered 403: this api_key may not do that" in told.err
    assert "secret" not in told.err + told.out


def test_a_saved_model_is_sent_without_torch(hub: Running, saved: Path) -> None:
    done = run_python(
        f"""
        import sys
        from backprop.cli import main
        try:
            main(["upload", {str(saved)!r}, "--api-url", {hub.url!r}])
        finally:
            print([name for name in ("torch", "transformers") if name in sys.modules])
        """
    )
    assert done.stdout == f"mine@1\t{hub.url}/models/mine/versions/1\n[]\n", done.stderr


# --- Hugging Face --------------------------------------------------------------------------------


class HuggingFace(ThreadingHTTPServer):
    """As much of the Hugging Face hub's API as one commit takes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _HuggingFaceHandler)
        self.asked: list[tuple[str, str, str | None]] = []
        self.made: list[dict[str, Any]] = []
        self.commit: list[dict[str, Any]] = []
        self.stored: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _HuggingFaceHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HuggingFace

    def do_GET(self) -> None:
        self._note()
        if self.headers["authorization"] != "Bearer hf_secret":
            self._say({"error": "wrong token"}, 401)
            return
        info = {"id": "me/mine", "sha": "0" * 40, "siblings": [], "private": False}
        self._say([] if "/tree/" in self.path else info)

    def do_POST(self) -> None:
        self._note()
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = self.server.url
        if self.path == "/api/repos/create":
            self.server.made.append(json.loads(raw))
            if self.headers["authorization"] != "Bearer hf_secret":
                self._say({"error": "wrong token"}, 401)
                return
            self._say({"url": f"{url}/me/mine", "name": "me/mine"})
        elif "/preupload/" in self.path:
            files = json.loads(raw)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in files
            ]
            self._say({"files": modes})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(raw)["objects"]
            upload = {
                own["oid"]: {"upload": {"href": f"{url}/stored/{own['oid']}"}} for own in objects
            }
            self._say(
                {
                    "transfer": "basic",
                    "objects": [{**own, "actions": upload[own["oid"]]} for own in objects],
                }
            )
        elif "/commit/" in self.path:
            self.server.commit = [json.loads(line) for line in raw.splitlines()]
            self._say({"commitUrl": f"{url}/me/mine/commit/1", "commitOid": "1" * 40})
        else:
            self._say({})

    def do_PUT(self) -> None:
        self._note()
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.stored[self.path.rsplit("/", 1)[-1]] = raw
        self._say({})

    def _note(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers.get("authorization")))

    def _say(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hugging_face() -> Iterator[HuggingFace]:
    with HuggingFace() as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def push(served: HuggingFace, code: str, home: Path) -> str:
    """Return what a program prints that pushes; huggingface_hub reads its address at import."""
    env = {"HF_ENDPOINT": served.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    done = run_python(code, env={**env, "HF_HOME": str(home), "HF_TOKEN": ""})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_saved_model_is_pushed_with_its_card(
    hugging_face: HuggingFace, saved: Path, tmp_path: Path
) -> None:
    printed = push(
        hugging_face,
        f"""
        import backprop, sys
        from backprop.errors import RemoteError
        try:
            backprop.push_to_hub({str(saved)!r}, "me/mine", token="hf_wrong")
        except RemoteError as error:
            print(error.status)
        print(backprop.push_to_hub({str(saved)!r}, "me/mine", private=True, token="hf_secret"))
        print("torch" in sys.modules)
        """,
        tmp_path,
    )
    assert printed == f"401\n{hugging_face.url}/me/mine/commit/1\nFalse\n"
    made = hugging_face.made[-1]
    assert made.get("private") is True or made.get("visibility") == "private"  # by its version
    files = {
        own["value"]["path"]: base64.b64decode(own["value"]["content"])
        for own in hugging_face.commit
        if own["key"] == "file"
    }
    for own in hugging_face.commit:
        if own["key"] == "lfsFile":
            files[own["value"]["path"]] = hugging_face.stored[own["value"]["oid"]]
    names = manifest.describe(saved)
    assert files == {name: (saved / name).read_bytes() for name in names}
    card = files["README.md"].decode()
    assert 'library_name: "backprop"' in card and 'pipeline_tag: "sentence-similarity"' in card
