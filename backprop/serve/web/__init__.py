"""The server's web pages: catalogue, model, try it, live figures, log in."""

from backprop.serve.web.friendly import FriendlyErrors
from backprop.serve.web.pages import routes

__all__ = ["FriendlyErrors", "routes"]
