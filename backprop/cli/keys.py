"""``backprop keys``: the keys of a server, made, listed and revoked in its database."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from backprop.cli.printing import write
from backprop.errors import InputError
from backprop.optional import load, require

if TYPE_CHECKING:
    from backprop.serve.keys import Keys

__all__ = ["app"]

HELP = """Make, list and revoke the keys of a server, which may be running meanwhile.

backprop keys create --scope write --name laptop

export BACKPROP_API_KEY=$(backprop keys create --scope infer)

backprop keys revoke 3f9c2a71d0be
"""

app = typer.Typer(no_args_is_help=True, help=HELP)

Data = Annotated[Path | None, Option(help="The server's folder, where it is not the default one.")]
Database = Annotated[str, Option(help="URL of the server's database; SQLite in its folder else.")]


@app.command()
def create(
    scope: Annotated[
        str, Option(help="What it may do; each includes those before.", metavar="infer|write|admin")
    ],
    name: Annotated[str, Option(help="To tell keys apart.")] = "",
    data: Data = None,
    database: Database = "",
) -> None:
    """Make a key and print it, alone, so that it can go straight where it is needed."""
    with _keys(data, database) as keys:
        key, text = keys.create(scope, name)
        place = keys.place
    sys.stderr.write(f"key {key.id}, scope {key.scope}, in {place}; it is shown only once:\n")
    write(f"{text}\n")


@app.command("list")
def list_keys(data: Data = None, database: Database = "") -> None:
    """List keys, one tab-separated line each: id, scope, made, active or revoked, name."""
    with _keys(data, database, make=False) as keys:
        found, place = keys.list(), keys.place
    if not found:
        sys.stderr.write(f"no keys in {place}\n")
    for key in found:
        state = f"revoked {key.revoked:%Y-%m-%d}" if key.revoked else "active"
        write(f"{key.id}\t{key.scope}\t{key.created:%Y-%m-%d}\t{state}\t{key.name}\n")


@app.command(no_args_is_help=True)
def revoke(
    ids: Annotated[
        list[str],
        Argument(metavar="ID…", help="Of keys, as list shows them, or the keys themselves."),
    ],
    data: Data = None,
    database: Database = "",
) -> None:
    """Revoke keys for good; a running server refuses them from its next request on."""
    with _keys(data, database, make=False) as keys:
        for each in ids:
            write(f"{keys.revoke(each)}\n")


@contextmanager
def _keys(data: Path | None, database: str, *, make: bool = True) -> Iterator[Keys]:
    """Yield the keys in the server's database.

    Args:
        data: the server's folder.
        database: URL of its database.
        make: whether a database that is not there is made, rather than taken for a mistake.
    """
    for package in ("sqlalchemy", "orjson"):
        require(package, extra="serve")
    settings_class = load("backprop.serve.settings:Settings")
    places = {} if data is None else {"data": data.expanduser().absolute()}
    settings = settings_class(database_url=database, **places)
    if not make:
        file = load("backprop.serve.store.database:file_of")(settings.database_url, settings.data)
        if file is not None and not file.is_file():
            raise InputError(
                f"There is no server's database at {file}, so there are no keys; say where it is "
                "with --data or --database."
            )
    engine = load("backprop.serve.store.database:open_engine")(settings.database_url, settings.data)
    try:
        keys = load("backprop.serve.keys:Keys")(engine)
        yield keys
        keys.close()
    finally:
        engine.dispose()
