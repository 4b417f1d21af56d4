"""The command ``backprop serve``: each setting of a server as a flag."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from backprop.optional import load, require

__all__ = ["app"]

app = typer.Typer()

MIB = 1 << 20
PACKAGES = ("starlette", "uvicorn", "orjson", "sqlalchemy", "prometheus_client")


@app.command()
def serve(
    host: Annotated[str, Option(help="Address to listen on; beyond loopback it takes keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    data: Annotated[Path | None, Option(help="Folder of the database and uploads.")] = None,
    database: Annotated[
        str, Option(help="URL of a database, such as postgresql+psycopg://…; SQLite by default.")
    ] = "",
    storage: Annotated[
        str, Option(help="URL where uploads are kept, such as s3://bucket; a folder by default.")
    ] = "",
    host_name: Annotated[
        list[str] | None, Option(help="A further name the server is called by; repeatable.")
    ] = None,
    model: Annotated[
        list[str] | None,
        Option(help="A catalogue model to serve; repeatable; the starters by default."),
    ] = None,
    preload: Annotated[
        list[str] | None,
        Option(help="A task, or task=model, to load before it is ready; repeatable."),
    ] = None,
    queue: Annotated[int, Option(help="Most items that wait for one model.")] = 512,
    wait: Annotated[float, Option(help="Longest expected wait, in seconds; else refused.")] = 10.0,
    deadline: Annotated[float, Option(help="Seconds after which a request is dropped.")] = 60.0,
    grace: Annotated[float, Option(help="Seconds that requests have to end in at a stop.")] = 30.0,
    idle: Annotated[
        float, Option(help="Seconds until a model nobody asks for is unloaded; 0 never.")
    ] = 900.0,
    memory: Annotated[int, Option(help="MiB that loaded models may take together.")] = 4096,
    rate: Annotated[int, Option(help="Requests a key may make a minute; 0 is any number.")] = 0,
    tokens: Annotated[int, Option(help="Most tokens that may be asked for of one text.")] = 4096,
    upload: Annotated[int, Option(help="MiB of the largest file that may be uploaded.")] = 4096,
    threads: Annotated[int, Option(help="Cores that compute; 0 takes all.")] = 0,
) -> None:
    """Serve models over HTTP: all tasks, uploads, OpenAI's protocol and a web page."""
    for package in PACKAGES:
        require(package, extra="serve")
    settings_class = load("backprop.serve.settings:Settings")
    places = {"data": data.expanduser().absolute()} if data is not None else {}
    settings = settings_class(
        host=host,
        port=port,
        database_url=database,
        storage_url=storage,
        hosts=tuple(host_name or ()),
        models=tuple(model or ()),
        preload=tuple(preload or ()),
        queue=queue,
        wait_s=wait,
        deadline_s=deadline,
        grace_s=grace,
        idle_s=idle,
        memory_bytes=memory * MIB,
        rate_per_minute=rate,
        most_tokens=tokens,
        upload_bytes=upload * MIB,
        threads=threads,
        **places,
    )
    load("backprop.serve.run:run")(settings)
