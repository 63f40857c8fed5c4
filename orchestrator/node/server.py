"""The server as a node sees it: JSON over HTTP, and files with their hashes."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from trainer.tempo import TEMPO

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = TEMPO.http_timeout
CHUNK = 1 << 20
DOWNLOAD_TRIES = 5


class Unreachable(OSError):
    """The server did not answer, or could not for now; it may later."""


class Refused(Exception):
    """The server answered no; asking again changes nothing."""

    def __init__(self, status: int, detail: str, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        super().__init__(detail)


class Server:
    """Speaks for one node token."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._token = token
        local = urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")
        # A proxy in the environment must not stand between us and this machine.
        handlers = [urllib.request.ProxyHandler({})] if local else []
        self._opener = urllib.request.build_opener(*handlers)

    @property
    def socket_url(self) -> str:
        """Where `ship` connects."""
        scheme, rest = self.url.split("://", 1)
        return f"{'wss' if scheme == 'https' else 'ws'}://{rest}"

    def get(self, path: str) -> dict[str, Any]:
        """GET JSON from a path below /api; raises Unreachable or Refused."""
        return self._json(path)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST JSON to a path below /api; raises Unreachable or Refused."""
        data = json.dumps(body, allow_nan=False).encode()
        return self._json(path, data=data, headers={"Content-Type": "application/json"})

    def put(
        self, path: str, data: bytes, headers: dict[str, str], timeout: float | None = None
    ) -> dict[str, Any]:
        """PUT bytes to a path below /api; raises Unreachable or Refused."""
        headers = {"Content-Type": "application/octet-stream", **headers}
        return self._json(path, data=data, headers=headers, method="PUT", timeout=timeout)

    def _json(self, path: str, **request: Any) -> dict[str, Any]:
        with self._open(path, **request) as answer:
            try:
                found: dict[str, Any] = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise Unreachable(f"{path}: {error}") from error
        return found

    def download(self, path: str, target: Path, sha256: str) -> None:
        """Fetch a file; what a broken connection left is continued. Raises ValueError on a wrong hash."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = part_of(target, sha256)
        for attempt in range(DOWNLOAD_TRIES):
            try:
                self._download_rest(path, part)
                break
            except (OSError, http.client.HTTPException) as error:
                if attempt == DOWNLOAD_TRIES - 1:
                    raise Unreachable(f"{path}: {error}") from error
        arrived(part, target, sha256, path)

    def _download_rest(self, path: str, part: Path) -> None:
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        try:
            answer = self._open(path, headers=headers)
        except Refused as refusal:
            if refusal.status == 416:  # nothing is left to fetch
                return
            raise
        with answer, part.open("ab" if answer.status == 206 else "wb") as file:
            expected = answer.headers.get("Content-Length")
            got = 0
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                got += len(chunk)
        if expected is not None and got < int(expected):
            raise Unreachable(f"the connection broke after {got} of {expected} bytes")

    def _open(
        self,
        path: str,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        method: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        request = urllib.request.Request(
            f"{self.url}/api{quote(path)}",
            data=data,
            method=method,
            headers={"Authorization": f"Bearer {self._token}", **(headers or {})},
        )
        try:
            return self._opener.open(request, timeout=timeout or TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                detail = _detail(error.read())
            if error.code >= 500 or error.code == 429:
                raise Unreachable(f"{path}: {error.code} {detail}") from error
            raise Refused(error.code, detail or error.reason, dict(error.headers)) from error
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise Unreachable(f"{self.url}: {getattr(error, 'reason', error)}") from error


def part_of(target: Path, sha256: str) -> Path:
    """Where a file grows until it is whole."""
    return target.with_name(f".{target.name}.{sha256[:12]}.part")


def arrived(part: Path, target: Path, sha256: str, name: str) -> None:
    """Give a whole file its name. Raises ValueError, and forgets it, when its hash is wrong."""
    found = sha256_of(part)
    if found != sha256:
        part.unlink()
        raise ValueError(f"{name} arrived with SHA-256 {found[:12]}…, {sha256[:12]}… was promised.")
    os.replace(part, target)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _detail(body: bytes) -> str:
    try:
        return str(json.loads(body).get("detail", ""))
    except (ValueError, AttributeError):
        return body[:200].decode(errors="replace")
