"""Several files as one uncompressed tar, made while it is sent: nothing of it is held in memory or on a disk."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header

from orchestrator.api.files import file_pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from orchestrator.artifacts.store import StoredFile

END = 2 * tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Member:
    """A file of the archive."""

    name: str
    file: Path | StoredFile
    size: int


def tar_answer(name: str, members: Sequence[Member], *, modified: float) -> StreamingHttpResponse:
    """The archive as a download of a known length; `name` is that of its only folder and, with .tar, its own."""
    heads = [_head(name, one, modified) for one in members]
    length = END + sum(
        len(head) + one.size + _padding(one.size) for head, one in zip(heads, members, strict=True)
    )
    answer = StreamingHttpResponse(
        _pieces(heads, members),
        content_type="application/x-tar",
        headers={"Content-Length": str(length), "X-Content-Type-Options": "nosniff"},
    )
    answer["Content-Disposition"] = content_disposition_header(True, f"{name}.tar")
    return answer


async def _pieces(heads: Sequence[bytes], members: Sequence[Member]) -> AsyncIterator[bytes]:
    for head, one in zip(heads, members, strict=True):
        yield head
        sent = 0
        async for piece in file_pieces(one.file, 0, one.size):
            sent += len(piece)
            yield piece
        if sent != one.size:
            # The connection ends short of its length: nobody takes half a file for a whole one.
            raise OSError(f"{one.name} ended after {sent} of {one.size} bytes")
        yield bytes(_padding(one.size))
    yield bytes(END)


def _head(folder: str, member: Member, modified: float) -> bytes:
    info = tarfile.TarInfo(f"{folder}/{member.name}")
    info.size, info.mtime, info.mode = member.size, int(modified), 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> int:
    return -size % tarfile.BLOCKSIZE
