"""A chat service on the loopback address, as a judge behind an OpenAI-compatible address is."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Said:
    """What the service answers."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def completion(text: str) -> Said:
    """A chat completion with this text."""
    message = {"role": "assistant", "content": text}
    return Said(json.dumps({"choices": [{"index": 0, "message": message}]}).encode())


class JudgeServer:
    """Answers each request by a function of its body; keeps what was asked."""

    def __init__(self, answer: Callable[[dict[str, Any]], Said]) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        judge = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                judge.paths.append(self.path)
                self._give(Said(b'{"data": []}'))

            def do_POST(self) -> None:
                judge.paths.append(self.path)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                judge.asked.append(body)
                judge.headers.append(dict(self.headers))
                self._give(judge.answer(body))

            def _give(self, said: Said) -> None:
                self.send_response(said.status)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(said.body)))
                self.end_headers()
                self.wfile.write(said.body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self._thread = threading.Thread(target=self.server.serve_forever, args=[0.05])

    def __enter__(self) -> JudgeServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


def user_text(body: dict[str, Any]) -> str:
    """What the judge was shown."""
    return str(next(m["content"] for m in body["messages"] if m["role"] == "user"))
