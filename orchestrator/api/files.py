"""Serve one file in pieces, so that a broken download goes on where it stopped."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from django.http import HttpResponse, StreamingHttpResponse
from django.utils.http import content_disposition_header

from orchestrator.artifacts.store import StoredFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from django.http import HttpRequest

PIECE = 1 << 20
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def file_answer(request: HttpRequest, file: Path | StoredFile, *, sha256: str) -> HttpResponse:
    """The file, or the part of it that `Range` asks for; its hash is its ETag."""
    size = file.size if isinstance(file, StoredFile) else file.stat().st_size
    tag = f'"{sha256}"'
    if request.headers.get("If-None-Match") == tag:
        return HttpResponse(status=304, headers={"ETag": tag})
    # A part of an older file must not be glued to this one.
    asked = request.headers.get("Range", "")
    wanted = asked if request.headers.get("If-Range", tag) == tag else ""
    span = _span(wanted, size)
    if span is None:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}", "ETag": tag})
    begin, end = span
    whole = (begin, end) == (0, size)
    answer = StreamingHttpResponse(
        file_pieces(file, begin, end),
        status=200 if whole else 206,
        content_type="application/octet-stream",
        headers={"ETag": tag, "Accept-Ranges": "bytes", "Content-Length": str(end - begin)},
    )
    answer["Content-Disposition"] = content_disposition_header(True, file.name)
    # Nothing in here is a page, whatever a model's files may hold.
    answer["X-Content-Type-Options"] = "nosniff"
    if not whole:
        answer["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    return answer


def file_pieces(file: Path | StoredFile, begin: int, end: int) -> AsyncIterator[bytes]:
    """The bytes of a file from `begin` to `end`, piece by piece."""
    if isinstance(file, StoredFile):
        return _stored_pieces(file, begin, end)
    return _pieces(file, begin, end)


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """The bytes that `Range` asks for: all of them when it is absent or not understood, None when outside."""
    match = RANGE.fullmatch(wanted.strip())
    if match is None or not any(match.groups()):
        return 0, size
    first, last = match.groups()
    if not first:
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), min(size, int(last) + 1) if last else size
    return (begin, end) if begin < end else None


async def _stored_pieces(file: StoredFile, begin: int, end: int) -> AsyncIterator[bytes]:
    """The same out of the artifact store; when it fails on the way, the answer ends short of its length."""
    pieces = file.store.pieces(file.key, begin, end)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


async def _pieces(path: Path, begin: int, end: int) -> AsyncIterator[bytes]:
    """The bytes from `begin` to `end`, read on another thread: a slow disk stalls nobody else."""
    with path.open("rb") as file:
        file.seek(begin)
        while begin < end:
            piece = await asyncio.to_thread(file.read, min(PIECE, end - begin))
            if not piece:
                return
            begin += len(piece)
            yield piece
