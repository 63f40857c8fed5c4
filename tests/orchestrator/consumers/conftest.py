"""Sockets run their queries on another thread, whose connection must not outlive the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(autouse=True)
async def connections_closed() -> AsyncIterator[None]:
    """Close that thread's connection after everything else of the test is torn down."""
    yield
    await sync_to_async(connections.close_all)()
