"""Where a server keeps uploaded models: rows in a database, bytes in a folder or object store."""

from backprop.serve.store.hub import Hub
from backprop.serve.store.rows import Model, Version

__all__ = ["Hub", "Model", "Version"]
