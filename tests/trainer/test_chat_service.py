"""Asking a chat service: real requests to a server on the loopback address."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import pytest
from pydantic import ValidationError

from tests.trainer.judges import JudgeServer, Said, completion
from trainer import chat_service
from trainer.chat_service import GONE_AFTER, ChatService, NoAnswer, side_by_side
from trainer.methods import Unavailable

ASK = [{"role": "user", "content": "well?"}]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_service, "PAUSE_FIRST", 0.001)


def service(url: str, **knobs: Any) -> ChatService:
    return ChatService(url=url, model="judge", **knobs)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_it_asks_and_gives_the_reply() -> None:
    with JudgeServer(lambda body: completion("yes")) as judge:
        asked = service(judge.url, temperature=0.5, max_reply_tokens=9)
        assert asked.say(ASK, seed=3) == "yes"
    assert judge.paths == ["/v1/chat/completions"]
    assert judge.asked == [
        {"model": "judge", "messages": ASK, "temperature": 0.5, "max_tokens": 9, "seed": 3}
    ]
    assert "Authorization" not in judge.headers[0]


def test_the_key_comes_from_the_environment_and_from_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANNEAL_JUDGE_KEY", "s3cret")
    with JudgeServer(lambda body: Said(b"no", 401)) as judge:
        asked = service(judge.url, key_variable="ANNEAL_JUDGE_KEY")
        with pytest.raises(NoAnswer, match="HTTP 401: no") as told:
            asked.say(ASK)
    assert judge.headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in f"{told.value!r} {asked!r} {asked.model_dump_json()}"
    assert "s3cret" not in "".join(capfd.readouterr())
    monkeypatch.delenv("ANNEAL_JUDGE_KEY")
    with pytest.raises(ValueError, match="key_variable: ANNEAL_JUDGE_KEY is not set"):
        asked.reach()


@pytest.mark.parametrize("name", ["HOME", "ANNEAL_DATA_DIR", "ANNEAL_JUDGE_", "anneal_judge_x"])
def test_no_other_variable_can_be_named(name: str) -> None:
    with pytest.raises(ValidationError, match="key_variable"):
        service("http://127.0.0.1/v1", key_variable=name)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("ftp://host/v1", "must begin with http"),
        ("file:///etc/passwd", "must begin with http"),
        ("http:///v1", "name a host"),
        ("http://user:key@host/v1", "no user, password"),
        ("http://host/v1?key=1", "no user, password, query"),
        ("http://host:99999/v1", "is no address"),
        ("http://169.254.169.254/v1", "link-local or metadata"),
        ("http://[fe80::1%25eth0]/v1", "link-local or metadata"),
        ("http://[::ffff:169.254.169.254]/v1", "link-local or metadata"),
        ("http://[fd00:ec2::254]/v1", "link-local or metadata"),
        ("http://Metadata.google.internal./v1", "link-local or metadata"),
        ("http://0.0.0.0:8001/v1", "link-local or metadata"),
    ],
)
def test_an_address_is_checked(url: str, fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        service(url)


def test_a_name_that_leads_to_a_metadata_address_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a name leads is looked at once it is connected: a second look-up could say something else."""
    with JudgeServer(lambda body: completion("yes")) as judge:
        monkeypatch.setattr(chat_service, "METADATA_ADDRESSES", frozenset({"127.0.0.1"}))
        asked = service(judge.url.replace("127.0.0.1", "localhost"), retries=0)
        with pytest.raises(
            NoAnswer, match=r"localhost leads to 127\.0\.0\.1, which is a link-local"
        ):
            asked.say(ASK)
    assert judge.paths == []


def test_a_busy_service_is_asked_again() -> None:
    turns = iter([Said(b"", 429, {"Retry-After": "0.01"}), Said(b"", 503), completion("at last")])
    with JudgeServer(lambda body: next(turns)) as judge:
        assert service(judge.url).say(ASK) == "at last"
    assert len(judge.asked) == 3


def test_a_refusal_is_not_repeated_and_a_busy_one_not_for_ever() -> None:
    with JudgeServer(lambda body: Said(b"what?", 400)) as judge:
        with pytest.raises(NoAnswer, match="HTTP 400: what"):
            service(judge.url).say(ASK)
        assert len(judge.asked) == 1
        judge.answer = lambda body: Said(b"", 500)
        with pytest.raises(NoAnswer, match="HTTP 500"):
            service(judge.url, retries=2).say(ASK)
    assert len(judge.asked) == 4


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": null}}]}',
        b'{"choices": [{"message": {"content": "  "}}]}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_an_answer_that_is_none_is_told(body: bytes) -> None:
    with JudgeServer(lambda _: Said(body)) as judge, pytest.raises(NoAnswer, match="its "):
        service(judge.url).say(ASK)


def test_an_endless_answer_is_cut_off() -> None:
    with (
        JudgeServer(lambda _: Said(b"x" * (chat_service.ANSWER_BYTES + 1))) as judge,
        pytest.raises(NoAnswer, match="longer than"),
    ):
        service(judge.url, retries=0).say(ASK)


def test_a_slow_answer_is_given_up() -> None:
    def slow(_: Any) -> Said:
        time.sleep(0.6)
        return completion("late")

    with JudgeServer(slow) as judge:
        begin = time.monotonic()
        with pytest.raises(NoAnswer, match=r"TimeoutError|timed out"):
            service(judge.url, timeout_seconds=0.1, retries=1).say(ASK)
        assert time.monotonic() - begin < 0.55


def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNEAL_JUDGE_KEY", "s3cret")
    with JudgeServer(lambda body: completion("stolen")) as other:
        away = Said(b"", 302, {"Location": other.url + "/chat/completions"})
        with JudgeServer(lambda body: away) as judge, pytest.raises(NoAnswer, match="HTTP 302"):
            service(judge.url, key_variable="ANNEAL_JUDGE_KEY").say(ASK)
    assert not other.paths and not other.asked


def test_nobody_there_is_told_at_once_and_ends_the_run_later() -> None:
    asked = service(f"http://127.0.0.1:{free_port()}/v1", retries=1)
    with pytest.raises(ValueError, match=r"url: .* does not answer \(ConnectionRefusedError"):
        asked.reach()
    for _ in range(GONE_AFTER - 1):
        with pytest.raises(NoAnswer):
            asked.say(ASK)
    with pytest.raises(Unavailable, match=f"has not answered {GONE_AFTER} requests in a row"):
        asked.say(ASK)


def test_an_answer_between_two_failures_counts() -> None:
    """Failures are counted in a row: an error is an answer too."""
    dead = f"http://127.0.0.1:{free_port()}/v1"
    with JudgeServer(lambda body: Said(b"", 400)) as judge:
        asked = service(judge.url, retries=0)
        for _ in range(GONE_AFTER):
            object.__setattr__(asked, "url", dead)
            for _ in range(GONE_AFTER - 1):
                with pytest.raises(NoAnswer):
                    asked.say(ASK)
            object.__setattr__(asked, "url", judge.url)
            with pytest.raises(NoAnswer):
                asked.say(ASK)


def test_whatever_answers_can_be_reached() -> None:
    with JudgeServer(lambda body: completion("")) as judge:
        service(judge.url).reach()
        service(judge.url + "/elsewhere").reach()
    assert judge.paths == ["/v1/models", "/v1/elsewhere/models"]


def test_jobs_run_side_by_side_and_keep_their_order() -> None:
    together = threading.Barrier(3, timeout=5)

    def job(number: int) -> int:
        together.wait()
        if number == 4:
            raise KeyError(number)
        return number

    found = side_by_side([lambda n=n: job(n) for n in range(6)], 3)  # type: ignore[misc]
    assert [type(one).__name__ for one in found] == ["int"] * 4 + ["KeyError", "int"]
    assert [one for one in found if isinstance(one, int)] == [0, 1, 2, 3, 5]


def test_an_address_holds_no_slash_at_its_end() -> None:
    assert service("http://127.0.0.1:1/v1/").url == "http://127.0.0.1:1/v1"
    assert json.loads(service("http://h:1/v1").model_dump_json())["key_variable"] == ""
