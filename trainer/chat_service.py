"""Asks a chat model behind an OpenAI-compatible address: what the judges share. Standard library only.

The key stands in an environment variable of the node whose name begins with ANNEAL_JUDGE_: a spec can name no
other secret of that machine. It is sent to the address of the spec alone (redirects are not followed), and
is in no message, journal or log.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from trainer.methods import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Found = TypeVar("Found")

ANSWER_BYTES = 1 << 20
"""Most that is read of an answer."""
PAUSE_FIRST, PAUSE_MOST = 0.5, 30.0
"""Seconds before the first retry, doubled for each further one, and at most."""
GONE_AFTER = 5
"""Requests in a row that may go without any answer before the service counts as gone."""
BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Answers after which asking again may help."""
SHOWN = 200
"""Characters of a foreign text that a sentence repeats."""
METADATA = frozenset({"metadata.google.internal", "metadata.goog", "instance-data"})
"""Names under which clouds tell a machine its own keys."""
METADATA_ADDRESSES = frozenset({"100.100.100.200", "fd00:ec2::254", "168.63.129.16"})
"""Where they do so outside of the link-local range."""
NEVER = "is a link-local or metadata address, where no judge is; name the host of the service"


def never_asked(host: str) -> bool:
    """Whether a host is where a machine learns of itself: link-local, cloud metadata, no address at all."""
    if host.rstrip(".").lower() in METADATA:
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        # A name; where it leads to is looked at once it is connected.
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    odd = mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified
    return odd or str(mapped) in METADATA_ADDRESSES


class NoAnswer(Exception):
    """A request that came to nothing; the text says why."""


class ChatService(BaseModel):
    """The knobs of whoever asks a chat model, and the asking."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    url: str = Field(min_length=8, max_length=500, json_schema_extra={"basic": True})
    """Address of an OpenAI-compatible service, without `/chat/completions`: http://127.0.0.1:8001/v1. Prompts
    and answers are sent there. It holds no password and no key."""
    model: str = Field(min_length=1, max_length=200, json_schema_extra={"basic": True})
    """What the service calls the model."""
    key_variable: str = Field("", max_length=64, pattern=r"^(ANNEAL_JUDGE_[A-Z0-9_]+)?$")
    """Name of the variable in the node's environment that holds the key, beginning with ANNEAL_JUDGE_; empty
    sends none."""
    temperature: float = Field(0.0, ge=0, le=2)
    """Sampling temperature of the judge. Healthy: 0; above it where it is asked several times."""
    max_reply_tokens: int = Field(512, ge=1, le=32768)
    """Longest reply of the judge. Unit: tokens."""
    timeout_seconds: float = Field(60.0, gt=0, le=600)
    """How long one request may take. Unit: seconds."""
    retries: int = Field(3, ge=0, le=10)
    """How often a request is repeated that got no answer or found the service busy, each time after a longer
    pause."""
    parallel: int = Field(4, ge=1, le=64)
    """Requests under way at a time."""

    _silent: list[int] = PrivateAttr(default_factory=lambda: [0])

    @field_validator("url")
    @classmethod
    def _an_address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            named = parts.hostname and (parts.port is None or parts.port)
        except ValueError as error:
            raise ValueError(f"is no address: {error}") from error
        if parts.scheme not in ("http", "https") or not named:
            raise ValueError("must begin with http:// or https:// and name a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "must hold no user, password, query or fragment; the key comes from key_variable"
            )
        if never_asked(str(parts.hostname)):
            raise ValueError(f"{parts.hostname} {NEVER}")
        return value.rstrip("/")

    def reach(self) -> None:
        """See that the service is there. Raises ValueError that says what to change."""
        self._key()
        try:
            self._send("GET", "/models", None)
        except _Refused:
            # Whatever it says of its models, something answers there.
            return
        except NoAnswer as error:
            raise ValueError(f"url: {self.url} does not answer ({error})") from error

    def say(self, messages: Sequence[dict[str, str]], *, seed: int = 0) -> str:
        """The reply to these messages.

        Raises NoAnswer when this request came to nothing, Unavailable when the service is gone.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            "temperature": self.temperature,
            "max_tokens": self.max_reply_tokens,
        }
        if self.temperature > 0:
            body["seed"] = seed
        return _reply(self._ask(json.dumps(body).encode()))

    def _ask(self, body: bytes) -> bytes:
        pause = PAUSE_FIRST
        for turn in range(self.retries + 1):
            try:
                found = self._send("POST", "/chat/completions", body)
            except _Refused as refusal:
                self._silent[0] = 0
                if refusal.status not in BUSY or turn == self.retries:
                    raise
                wait = refusal.wait or pause
            except NoAnswer as error:
                if turn == self.retries:
                    self._silent[0] += 1
                    if self._silent[0] >= GONE_AFTER:
                        raise Unavailable(
                            f"{self.url} has not answered {GONE_AFTER} requests in a row ({error}); see that "
                            "it runs, then resume"
                        ) from error
                    raise
                wait = pause
            else:
                self._silent[0] = 0
                return found
            time.sleep(min(wait, PAUSE_MOST))
            pause *= 2
        raise AssertionError("every turn returns, raises or goes on")

    def _send(self, method: str, path: str, body: bytes | None) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := self._key():
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url + path, data=body, headers=headers, method=method)
        end = time.monotonic() + self.timeout_seconds
        try:
            with self._opener().open(request, timeout=self.timeout_seconds) as answer:
                found = _read(answer, end)
        except urllib.error.HTTPError as error:
            with error:
                raise _Refused(error.code, _wait_of(error), _shown(error.read(2000))) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise NoAnswer(f"{type(reason).__name__}: {_shown(str(reason))}") from error
        return found

    def _opener(self) -> urllib.request.OpenerDirector:
        # A proxy in the environment must not stand between us and this machine.
        here = urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")
        proxies = [urllib.request.ProxyHandler({})] if here else []
        return urllib.request.build_opener(_NoRedirect, _Http, _Https, *proxies)

    def _key(self) -> str:
        if not self.key_variable:
            return ""
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise ValueError(
                f"key_variable: {self.key_variable} is not set in the environment of this node"
            )
        return key


class _Refused(NoAnswer):
    """The service answered, with an error."""

    def __init__(self, status: int, wait: float, text: str) -> None:
        super().__init__(f"HTTP {status}: {text}" if text else f"HTTP {status}")
        self.status, self.wait = status, wait


class _Checked(http.client.HTTPConnection):
    """Speaks to nobody who must not be asked, whatever name led there."""

    def connect(self) -> None:
        """Connect, and look where to. Raises OSError."""
        super().connect()
        address = str(self.sock.getpeername()[0])
        if never_asked(address):
            self.close()
            raise OSError(f"{self.host} leads to {address}, which {NEVER}")


class _CheckedSecure(http.client.HTTPSConnection, _Checked):
    """The same behind TLS."""


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Checked, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_CheckedSecure, req)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key and the texts are for the host of the spec."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _read(answer: http.client.HTTPResponse, end: float) -> bytes:
    """The whole of an answer. Raises NoAnswer where it is too long, or still comes at `end`."""
    found = bytearray()
    while piece := answer.read1(1 << 16):
        found += piece
        if len(found) > ANSWER_BYTES:
            raise NoAnswer(f"its answer is longer than {ANSWER_BYTES} bytes")
        if time.monotonic() > end:
            raise NoAnswer("its answer did not come to an end in time")
    return bytes(found)


def _wait_of(error: urllib.error.HTTPError) -> float:
    """Seconds that the service asks to wait; 0 where it does not say."""
    try:
        return max(0.0, float(error.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0


def _reply(raw: bytes) -> str:
    """The text of a reply. Raises NoAnswer for what is none."""
    try:
        text = json.loads(raw)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise NoAnswer(f"its answer is no chat completion: {_shown(raw)}") from error
    if not isinstance(text, str) or not text.strip():
        raise NoAnswer("its reply is empty")
    return text


def _shown(text: bytes | str) -> str:
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return " ".join(text.split())[:SHOWN]


def side_by_side(jobs: Sequence[Callable[[], Found]], width: int) -> list[Found | Exception]:
    """What each job gave or raised, `width` of them at a time.

    The threads do not keep the process from ending: whoever is interrupted while waiting leaves them behind.
    """
    found: dict[int, Found | Exception] = {}
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(jobs)):
        waiting.put(number)
    left = threading.Event()

    def work() -> None:
        while not left.is_set():
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                found[number] = jobs[number]()
            except Exception as error:
                # What a job raised is its result: whoever gave it raises it or tells it.
                found[number] = error

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(width, len(jobs)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        left.set()
    return [found[number] for number in range(len(jobs))]
