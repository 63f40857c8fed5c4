"""Talk to PostgreSQL in its binary format, where Django's cursors would spell bytes out as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Sequence


def execute(query: str, values: Sequence[Any]) -> None:
    """Run a statement in the current transaction; its values travel beside it, bytes as bytes."""
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(query, values)


def rows_read(query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The rows of a query, in binary."""
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        return cursor.execute(query, values, binary=True).fetchall()
