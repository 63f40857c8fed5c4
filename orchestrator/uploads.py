"""Refuse files that are too large before they are stored, and keep the form's other fields."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.files.uploadhandler import FileUploadHandler, StopUpload

FIELDS_MOST = 1 << 16
"""Bytes that the other fields of the form and its boundaries may take."""


def upload_most() -> int:
    """The size of the largest file that may be uploaded, in bytes."""
    return int(settings.ANNEAL_MAX_UPLOAD_MB) * 2**20


class SizeLimit(FileUploadHandler):
    """Leaves files out of a body that is too large; what stood before them in the form stays."""

    too_large = False

    def handle_raw_input(
        self, input_data: Any, META: dict, content_length: int, *rest: Any
    ) -> None:
        """Look at the size that the sender announced; Django reads no more than that."""
        self.too_large = content_length > upload_most() + FIELDS_MOST

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        """Stop at the first file of a body that is too large."""
        if self.too_large:
            raise StopUpload(connection_reset=False)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        """Hand every piece on to the next handler."""
        return raw_data

    def file_complete(self, file_size: int) -> None:
        """Leave the file to the next handler."""


def upload_too_large(request: Any) -> bool:
    """Whether this request's files were left out for their size."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    return length.isdigit() and int(length) > upload_most() + FIELDS_MOST
