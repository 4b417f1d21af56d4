"""``backprop upload``: a saved model, sent to a server."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Argument, Option

from backprop.cli.printing import write
from backprop.cli.quiet import announced
from backprop.models.sharing import upload as send

__all__ = ["app"]

app = typer.Typer()


@app.command(no_args_is_help=True)
def upload(
    model: Annotated[str, Argument(metavar="NAME_OR_PATH", help="A saved model.")],
    name: Annotated[str | None, Option(help="Its name there; its own by default.")] = None,
    description: Annotated[str | None, Option(help="For people; its own by default.")] = None,
    api_url: Annotated[
        str | None, Option(help="The server; $BACKPROP_API_URL by default.", metavar="URL")
    ] = None,
    api_key: Annotated[
        str | None,
        Option(
            help="Better given as $BACKPROP_API_KEY: other users see command lines.",
            metavar="KEY",
        ),
    ] = None,
) -> None:
    """Send a saved model to a server, and print its name there with its version.

    The server answers with it at once. Run the same line again to go on after a break.
    """
    with announced():
        sent = send(model, name, description, api_key=api_key, api_url=api_url)
    write(f"{sent}\t{sent.url}\n")
