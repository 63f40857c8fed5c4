"""Serve static files whole and compressed, without a build step."""

from __future__ import annotations

import gzip
from typing import Any

from django.http import HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware

COMPRESSED_FROM = 1400  # bytes; one network packet gains nothing

_compressed: dict[tuple[str, str], bytes] = {}


class StaticFiles(WhiteNoiseMiddleware):
    """WhiteNoise over Django's finders, answering with bytes.

    WhiteNoise streams files, which under ASGI warns and reads the whole file anyway.
    """

    @staticmethod
    def serve(static_file: Any, request: Any) -> HttpResponse:
        """Answer one request for a file that exists."""
        found = static_file.get_response(request.method, request.META)
        content = b""
        if found.file is not None:
            with found.file as file:
                content = file.read()
        answer = HttpResponse(content, status=int(found.status))
        del answer["Content-Type"]
        for name, value in found.headers:
            answer[name] = value
        is_text = answer.get("Content-Type", "").startswith(("text/", "application/json"))
        if answer.status_code == 200 and is_text and len(content) >= COMPRESSED_FROM:
            answer["Vary"] = "Accept-Encoding"
            if "gzip" in request.headers.get("Accept-Encoding", ""):
                version = (request.path_info, answer["ETag"])
                if version not in _compressed:
                    _compressed[version] = gzip.compress(content, compresslevel=6, mtime=0)
                answer.content = _compressed[version]
                answer["Content-Encoding"] = "gzip"
                answer["Content-Length"] = str(len(answer.content))
        return answer
