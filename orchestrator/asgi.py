"""Serve HTTP by Django and websockets by Channels: the application that daphne runs."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application

# Sets Django up, which the routes below need before they are imported.
pages = get_asgi_application()

from orchestrator.farewell import say_why  # noqa: E402
from orchestrator.routing import websocket_urlpatterns  # noqa: E402

say_why()


class BrowserOriginCheck:
    """Hold browsers to their own origin, and let other programs through to their token check.

    The check protects a signed-in browser from foreign pages. Every browser sends `Origin`;
    a node sends none, has no cookie to abuse, and proves itself by its token.
    """

    def __init__(self, sockets: Any) -> None:
        self.anyone = sockets
        self.same_origin = AllowedHostsOriginValidator(sockets)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from_browser = any(name == b"origin" for name, _ in scope["headers"])
        await (self.same_origin if from_browser else self.anyone)(scope, receive, send)


sockets = BrowserOriginCheck(AuthMiddlewareStack(URLRouter(websocket_urlpatterns)))
application = ProtocolTypeRouter({"http": pages, "websocket": sockets})
