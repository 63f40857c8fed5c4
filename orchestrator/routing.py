"""Which socket is served by which consumer."""

from __future__ import annotations

from django.urls import path

from orchestrator.consumers.browser import BrowserConsumer
from orchestrator.consumers.node import NodeConsumer

websocket_urlpatterns = [
    path("ws/node/", NodeConsumer.as_asgi(), name="socket-node"),
    path("ws/browser/", BrowserConsumer.as_asgi(), name="socket-browser"),
]
