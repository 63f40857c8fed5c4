"""A hub on this machine: the few calls of its HTTP interface that an upload makes."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_the_tests"


class Hub:
    """Repositories in memory. `files` holds what was committed, by repository and path."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.calls: list[str] = []
        self.broken = ""
        """A part of a path at which the hub answers 403."""
        self._large: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments: Any) -> None:
                pass

            def do_POST(self) -> None:
                hub._post(self, self._body())

            def do_PUT(self) -> None:
                hub._put(self, self._body())

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Once or more often."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _post(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        path = request.path.split("?")[0]
        self.calls.append(path)
        if self.broken and self.broken in path:
            return _answer(request, 403, {"error": "Your quota is used up."})
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _answer(request, 401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            order = json.loads(body)
            repo = f"{order.get('organization') or 'ada'}/{order['name']}"
            self.files.setdefault(repo, {})
            self.private.setdefault(
                repo, bool(order.get("private")) or order.get("visibility") == "private"
            )
            return _answer(request, 200, {"url": f"{self.url}/{repo}", "id": repo})
        if "/preupload/" in path:
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return _answer(request, 200, {"files": files})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.url}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return _answer(request, 200, {"transfer": "basic", "objects": objects})
        assert "/commit/" in path, path
        repo = "/".join(path.split("/")[3:5])
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                content = base64.b64decode(entry["value"]["content"])
                self.files[repo][entry["value"]["path"]] = content
            elif entry["key"] == "lfsFile":
                self.files[repo][entry["value"]["path"]] = self._large[entry["value"]["oid"]]
        return _answer(request, 200, {"commitUrl": f"{self.url}/{repo}", "commitOid": "0" * 40})

    def _put(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.calls.append(request.path)
        oid = request.path.rsplit("/", 1)[1]
        assert hashlib.sha256(body).hexdigest() == oid
        self._large[oid] = body
        _answer(request, 200, {})


def _answer(request: BaseHTTPRequestHandler, code: int, data: dict[str, Any]) -> None:
    body = json.dumps(data).encode()
    request.send_response(code)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
