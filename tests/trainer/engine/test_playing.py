"""A playground: both models answer by the same draws, each prompt once, also where the trainer is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.trainer.engine.evaluated import found_of, timeless, torn
from tests.trainer.engine.support import make_policy, nothing
from trainer.answering import item_digest
from trainer.control import Control
from trainer.engine.playing import pieces
from trainer.engine.sampler import Sampling, sample
from trainer.engine.seeds import answer_keys
from trainer.rundir import RunDir, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.trainer.engine.support import Runs

BLEND = {"mode": "mix", "weight": 0.5}


def asked(number: int, prompt: str = "sort 31 = ", **how: Any) -> dict[str, Any]:
    return {"id": number, "prompt": prompt, "max_new_tokens": 6, **how}


def ask(run: RunDir, *requests: dict[str, Any], attempt: int = 1) -> None:
    place = run.attempt(attempt)
    place.path.mkdir(parents=True, exist_ok=True)
    write_atomic(place.requests, json.dumps({"requests": requests}))


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Three models on the disk."""
    found = []
    for seed, name in enumerate(("one", "two", "three"), start=1):
        policy = make_policy(seed=seed)
        policy.model.save_pretrained(tmp_path / name)
        policy.tokenizer.save_pretrained(tmp_path / name)
        found.append(str(tmp_path / name))
    return found


@pytest.fixture
def playing(runs: Runs, folders: list[str]) -> Callable[..., int]:
    """Run a playground that ends as soon as nothing is asked any more."""

    def play(name: str, *options: str, models: list[str] | None = None, idle: float = 1e-4) -> int:
        spec = {"kind": "play", "play": {"models": models or folders, "idle_minutes": idle}}
        runs.spec_path.write_text(json.dumps(spec))
        return runs.run(name, "--attempt=1", *options)

    return play


def played(runs: Runs, name: str = "run") -> list[dict[str, Any]]:
    return found_of(runs, name, "played")


def names(events: list[dict[str, Any]]) -> list[tuple[int, str, int]]:
    return [(event["request"], event["voice"], event["index"]) for event in events]


def test_every_voice_answers_and_both_models_read_it(runs, playing):
    voices = ["a", "b", "base", "blend"]
    ask(runs.dir("run"), asked(7, voices=voices, blend=BLEND, samples=2, seed=3))
    assert playing("run") == 0
    events = played(runs)
    assert names(events) == [(7, voice, index) for voice in voices for index in range(2)]
    end = runs.end("run")
    assert (end["state"], end["cause"]) == ("finished", "budget") and "nobody has asked" in end[
        "message"
    ]
    for event in events:
        assert "".join(event["pieces"]) == event["text"]
        assert len(event["pieces"]) == len(event["token_ids"]) == len(event["logps"]) > 0
        assert event["problem"] == "" and event["readings"].keys() == {"a", "b"}
        if event["voice"] in "ab":
            # At a temperature of 1 a model reads its own answer as it wrote it.
            assert event["readings"][event["voice"]] == pytest.approx(event["logps"], abs=1e-4)
    assert len({event["text"] for event in events}) > 2


def test_draws_are_those_of_an_evaluation_of_the_prompt(runs, playing):
    ask(runs.dir("run"), asked(1, seed=9, voices=["b", "a"]), asked(2, seed=9, voices=["a"]))
    playing("run")
    by_name = {
        name: event["token_ids"]
        for name, event in zip(names(played(runs)), played(runs), strict=True)
    }
    for voice, seed in (("a", 1), ("b", 2)):
        policy = make_policy(seed=seed)
        keys = answer_keys(9, [item_digest({"prompt": "sort 31 = "})], [0])
        prompts = policy.tokenizer(["sort 31 = "])["input_ids"]
        (alone,) = sample(policy, prompts, keys, Sampling(6), budget=1 << 20, tick=nothing)
        assert by_name[1, voice, 0] == alone.tokens
    assert by_name[2, "a", 0] == by_name[1, "a", 0], "asked again it says the same"


@pytest.mark.parametrize(("weight", "plain"), [(0, "a"), (1, "b")])
def test_the_ends_of_the_slider_are_the_two_models(runs, playing, weight, plain):
    blend = {"mode": "mix", "weight": weight}
    ask(runs.dir("run"), asked(1, voices=["a", "b", "blend"], blend=blend, samples=4))
    playing("run")
    told = {voice: [] for voice in ("a", "b", "blend")}
    for event in played(runs):
        told[event["voice"]].append((event["token_ids"], event["logps"], event["readings"]))
    assert told["blend"] == told[plain] and told["a"] != told["b"]


def test_what_cannot_be_answered_is_a_problem_beside_what_can(runs, playing, folders):
    ask(
        runs.dir("run"),
        asked(1, prompt="sort " * 1500, max_new_tokens=1000),
        asked(2, chat=True),
        asked(3, voices=["a", "blend"], blend={"mode": "proxy", "weight": 1}),
        {"id": 4, "prompt": ""},
        asked(5, voices=["a"]),
    )
    assert playing("run", models=folders[:2]) == 0
    problems = {(e["request"], e["voice"]): e["problem"] for e in played(runs)}
    assert "do not fit the model's" in problems[1, "a"]
    assert "no chat template" in problems[2, "b"]
    assert problems[3, "a"] == problems[5, "a"] == ""
    assert "needs a third model" in problems[3, "blend"]
    alerts = [event for event in runs.events("run") if event["type"] == "alert"]
    assert [alert["code"] for alert in alerts] == ["request-unreadable"]
    assert alerts[0]["message"].startswith("request 4: prompt: ")


def test_an_attempt_goes_on_behind_what_was_answered(runs, playing):
    requests = [asked(n, voices=["a", "b", "blend"], blend=BLEND, samples=2) for n in (1, 2, 3)]
    ask(runs.dir("run"), *requests)
    playing("run")
    calm = timeless(played(runs))
    torn(runs, "run", 8)  # in the middle of the second prompt's
    ask(runs.dir("run"), *requests, attempt=2)
    assert runs.resume("run", "--attempt=2") == 0
    assert timeless(played(runs)) == calm and len(calm) == 18


def test_it_ends_when_told_to(runs, playing):
    ask(runs.dir("run"), asked(1))
    Control("stop", "user", "stopped by ada").write(runs.dir("run").attempt(1).control)
    assert playing("run", idle=5) == 3
    assert runs.end("run")["message"] == "stopped by ada"


def test_models_that_do_not_fit_end_it_with_a_sentence(runs, playing, folders, tmp_path):
    other = make_policy(seed=1)
    other.model.save_pretrained(tmp_path / "other")
    other.tokenizer.add_tokens(["Z"])
    other.tokenizer.save_pretrained(tmp_path / "other")
    assert playing("run", models=[folders[0], str(tmp_path / "other")]) == 2
    said = runs.end("run")
    assert said["cause"] == "bad-input"
    assert "different vocabularies, 1 tokens differ ('Z' is no token of a" in said["message"]
    assert playing("gone", models=[folders[0], str(tmp_path / "nowhere")]) == 2
    assert runs.end("gone")["message"] == f"play.models.1: no folder {tmp_path / 'nowhere'}"
    assert playing("id", models=[folders[0], "checkpoint:abc"]) == 2
    assert "play.models.1: checkpoint:abc is known to the server only" in runs.end("id")["message"]


def test_a_folder_stands_for_a_checkpoint(runs, playing, folders):
    ask(runs.dir("run"), asked(1))
    models = ["checkpoint:abc", folders[1]]
    assert playing("run", f"--play-path=checkpoint:abc={folders[0]}", models=models) == 0
    assert names(played(runs)) == [(1, "a", 0), (1, "b", 0)]


def test_pieces_keep_characters_of_several_tokens_whole():
    class Bytes:
        """A tokenizer of UTF-8 bytes."""

        def decode(self, tokens: list[int], **_: Any) -> str:
            return bytes(tokens).decode(errors="replace")

    class Voice:
        tokenizer, mute_ids = Bytes(), frozenset[int]()

    text = "naïve 雪!"
    assert pieces(Voice(), list(text.encode())) == [  # type: ignore[arg-type]
        *"na", "", "ï", *"ve ", "", "", "雪", "!"
    ]  # fmt: skip
    assert pieces(Voice(), list("é".encode())[:1]) == ["\ufffd"]  # type: ignore[arg-type]


@pytest.mark.slow
def test_killed_while_it_answers_it_says_each_answer_once(runs, playing, folders):
    requests = [
        asked(n, voices=["a", "b", "blend"], blend=BLEND, samples=2, seed=n, max_new_tokens=40)
        for n in range(1, 9)
    ]
    ask(runs.dir("calm"), *requests)
    playing("calm")
    calm = timeless(played(runs, "calm"))
    run = runs.dir("run")
    spec = {"kind": "play", "play": {"models": folders, "idle_minutes": 1}}
    runs.spec_path.write_text(json.dumps(spec))
    ask(run, requests[0])
    start = ["run", str(runs.spec_path), "--dir", str(run.path), "--attempt=1"]
    with subprocess.Popen(
        [sys.executable, "-m", "trainer", *start], stdout=subprocess.DEVNULL
    ) as it:
        try:
            _wait_for(lambda: len(played(runs)) == 6)
            # It waits for prompts, and takes at once what comes.
            ask(run, *requests)
            _wait_for(lambda: 6 < len(played(runs)) < 48)
        finally:
            it.send_signal(signal.SIGKILL)
    said = len(played(runs))
    assert 6 < said < 48
    # The server has not heard of the last answers yet, so it still asks for all of them.
    ask(run, *requests, attempt=2)
    assert runs.resume("run", "--attempt=2", "play.idle_minutes=0.0001") == 0
    assert timeless(played(runs)) == calm
    assert len(found_of(runs, "run", "played")) == 48


def _wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "nothing came for a minute"
        time.sleep(0.002)
