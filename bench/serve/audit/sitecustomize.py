"""Tells ``hostile.py`` what every Python process of the server under test does that it should not.

Only a process that ``hostile.py`` starts has this folder on its path and the variable that turns it
on. Reports go over a socket, since the vetting process may write no file.
"""

import os
import sys

PLACE = os.environ.get("BACKPROP_BENCH_AUDIT", "")

ALWAYS = {
    *(
        "pickle.find_class",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "subprocess.Popen",
    ),
    *("ctypes.dlopen", "marshal.loads", "marshal.load", "shutil.rmtree", "os.putenv", "pty.spawn"),
}
UNPICKLERS = {"torch", "transformers", "dill", "cloudpickle", "joblib"}
MAKERS_OF_CLASSES = ("dataclasses.py", "collections/__init__.py", "enum.py", "typing.py")


def _start() -> None:
    import _socket

    sender = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    sender.connect(PLACE)
    busy = False

    def hook(event: str, args: tuple) -> None:  # type: ignore[type-arg]
        nonlocal busy
        if busy:
            return
        busy = True
        try:
            told = _told(event, args)
            if told:
                sender.send(f"{os.getpid()}\t{event}\t{told}"[:4000].encode("utf-8", "replace"))
        finally:
            busy = False

    sys.addaudithook(hook)


def _told(event: str, args: tuple) -> str:  # type: ignore[type-arg]
    """Return what to report of an event; empty for what any server does."""
    if event in ("marshal.loads", "marshal.load"):  # every import of a compiled module
        return ""
    if event in ALWAYS:
        return repr(args)
    if event == "import" and args[0].partition(".")[0] in UNPICKLERS:
        return str(args[0])
    if event == "open":
        path, mode, flags = args
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return f"write {path!r}" if writes or set(str(mode or "")) & set("wax+") else ""
    if event == "exec":
        name = getattr(args[0], "co_filename", "?")
        if name.startswith("<") and not name.startswith("<frozen"):
            caller = sys._getframe(2).f_code.co_filename
            if not caller.endswith(MAKERS_OF_CLASSES):
                return f"{name} by {caller}"
    if event == "socket.connect" and isinstance(args[1], tuple):
        return repr(args[1])
    return ""


if PLACE:
    _start()
