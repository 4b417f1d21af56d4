"""Every error this library raises on purpose.

::

    BackpropError
    ├── InputError (ValueError)             what the caller passed can't be used
    │   └── UnsupportedTaskError            the model does not do this task
    ├── NotFoundError (KeyError)            no model of that name
    ├── MissingPackageError (ImportError)   an optional package is not installed
    ├── SourceError (OSError)               weights could not be fetched
    │   ├── OfflineError                    nothing cached, and no network
    │   └── IntegrityError                  bytes differ from the expected hash or size
    ├── ArtefactError (ValueError)          a saved folder is damaged or not ours
    └── RemoteError                         a server answered with an error, or not at all

Each message says what was wrong, the value received and what to do. The built-in base in
brackets is there for callers who catch the usual Python error.
"""

__all__ = [
    "ArtefactError",
    "BackpropError",
    "InputError",
    "IntegrityError",
    "MissingPackageError",
    "NotFoundError",
    "OfflineError",
    "RemoteError",
    "SourceError",
    "UnsupportedTaskError",
]


class BackpropError(Exception):
    """Any error this library raises on purpose."""


class InputError(BackpropError, ValueError):
    """What the caller passed can't be used; the message names the field and the remedy."""


class UnsupportedTaskError(InputError):
    """The model does not do the task asked for; the message lists the tasks it does."""


class NotFoundError(BackpropError, KeyError):
    """There is no model of that name; the message lists the nearest ones."""

    def __str__(self) -> str:
        """Return the message itself; ``KeyError`` would show it quoted and escaped."""
        return str(self.args[0]) if self.args else ""


class MissingPackageError(BackpropError, ImportError):
    """An optional package is not installed; the message has the command that installs it."""


class SourceError(BackpropError, OSError):
    """Weights could not be fetched."""


class OfflineError(SourceError):
    """The weights are not in the cache and the network is off or out of reach."""


class IntegrityError(SourceError):
    """Fetched bytes differ from the hash or size the catalogue expects."""


class ArtefactError(BackpropError, ValueError):
    """A saved model's folder is damaged, incomplete or not one of ours."""


class RemoteError(BackpropError):
    """A server answered with an error.

    Args:
        message: what the server said.
        status: HTTP status, or None when no answer came.
        request_id: by which the server's log knows the request, where it said so.
    """

    def __init__(
        self, message: str, *, status: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id
