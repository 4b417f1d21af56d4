"""The fences of ``guard.py`` hold, and let through what they should."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guard import NetworkBlockedError, blocked_modules, no_network, run_python


def test_fresh_process_gets_dedented_code_and_extra_environment() -> None:
    code = """
        import os
        if os.environ["COLOUR"]:
            print(os.environ["COLOUR"])
    """
    assert run_python(code, env={"COLOUR": "blue"}).stdout == "blue\n"


def test_failure_of_a_fresh_process_is_returned() -> None:
    finished = run_python("raise SystemExit('no')")
    assert (finished.returncode, finished.stderr) == (1, "no\n")


@pytest.mark.parametrize(
    ("module", "fails"),
    [("json", True), ("json.decoder", True), ("xml.dom", True), ("xml", False), ("csv", False)],
)
def test_blocked_modules_and_all_below_raise_import_error(module: str, fails: bool) -> None:
    code = f"try:\n    import {module}\nexcept ImportError as error:\n    print(error.name)\n"
    finished = run_python(blocked_modules("json", "xml.dom") + code)
    assert finished.returncode == 0, finished.stderr
    assert bool(finished.stdout) == fails


def test_no_network_refuses_and_records_connections_and_look_ups() -> None:
    with no_network() as attempts:
        with pytest.raises(NetworkBlockedError), socket.socket() as connection:
            connection.connect(("127.0.0.1", 9))
        with pytest.raises(OSError, match=r"example\.org"):
            socket.create_connection(("example.org", 443))
        assert attempts() == ["127.0.0.1:9", "example.org"]


def test_no_network_reaches_python_processes_started_inside() -> None:
    code = "import socket\nsocket.create_connection(('example.org', 443))"
    with no_network() as attempts:
        finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "NetworkBlockedError" in finished.stderr
        assert attempts() == ["example.org"]


def test_no_network_leaves_unix_sockets_and_listening(tmp_path: Path) -> None:
    with no_network() as attempts, socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        with socket.socket(socket.AF_UNIX) as client, socket.create_server(("127.0.0.1", 0)):
            client.connect(str(tmp_path / "s"))
        assert attempts() == []


def test_network_is_back_afterwards() -> None:
    with no_network():
        pass
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
