"""A run that judges pairs: no model, both orders, several times, and each judgement once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.trainer.engine.evaluated import found_of, timeless, torn
from tests.trainer.judges import JudgeServer, Said, completion, user_text
from trainer.answering import item_digest, judge_digest
from trainer.engine import load

if TYPE_CHECKING:
    from tests.trainer.engine.support import Runs

ROWS = [
    {"prompt": f"2 + {n} =", "answer": str(2 + n), "_pairs": [
        {"index": 0, "left": "warm start", "right": "step 300", "left_text": "nine",
         "right_text": str(2 + n)}
    ]}
    for n in range(3)
]  # fmt: skip


def judged_by(url: str, **knobs: Any) -> list[str]:
    knobs = {"type": "pairwise-judge", "url": url, "model": "judge", **knobs}
    text = ", ".join(f"{key} = {json.dumps(value)}" for key, value in knobs.items())
    return ["kind=evaluate", "rewards=[]", f"evaluation.judge={{ {text} }}"]


def judgements(runs: Runs, name: str) -> list[dict[str, Any]]:
    return found_of(runs, name, "judgement")


def honest(body: dict[str, Any]) -> Said:
    return completion("[[B]]" if "<answer-A>\nnine" in user_text(body) else "[[A]]")


def test_each_pair_is_judged_in_both_orders(runs, written, monkeypatch):
    monkeypatch.setattr(load, "starter_build", None)  # no model is made
    with JudgeServer(honest) as server:
        knobs = judged_by(server.url)
        assert runs.run("run", *knobs, written(ROWS)) == 0
    found = judgements(runs, "run")
    sides = [(e["item"], e["left"], e["right"], e["outcome"]) for e in found]
    assert sides == [
        (item_digest(row), *names)
        for row in ROWS
        for names in (("warm start", "step 300", "right"), ("step 300", "warm start", "left"))
    ]
    judge = {"type": "pairwise-judge", "url": server.url, "model": "judge"}
    assert {event["judge"] for event in found} == {judge_digest(judge)}
    assert all(event["problem"] == "" and event["said"] for event in found)
    assert runs.end("run")["state"] == "finished"


def test_a_liking_for_a_side_cancels_out(runs, written):
    with JudgeServer(lambda body: completion("[[A]]")) as server:
        runs.run("run", *judged_by(server.url), written(ROWS))
    winners = [e["left"] if e["outcome"] == "left" else e["right"] for e in judgements(runs, "run")]
    assert winners.count("warm start") == winners.count("step 300") == 3


def test_a_pair_is_judged_as_often_as_asked_for(runs, written):
    with JudgeServer(honest) as server:
        knobs = judged_by(server.url, repeats=3, temperature=0.9, swap=False)
        runs.run("run", *knobs, written(ROWS))
    found = judgements(runs, "run")
    assert [event["repeat"] for event in found] == [0, 1, 2] * 3
    assert {event["left"] for event in found} == {"warm start"}


def test_nonsense_and_refusals_are_problems_beside_good_verdicts(runs, written):
    def moody(body: dict[str, Any]) -> Said:
        if "2 + 0" in user_text(body):
            return completion("I would rather not.")
        return Said(b"no", 400) if "2 + 1" in user_text(body) else honest(body)

    with JudgeServer(moody) as server:
        assert runs.run("run", *judged_by(server.url), written(ROWS)) == 0
    found = judgements(runs, "run")
    assert [event["outcome"] for event in found] == [""] * 4 + ["right", "left"]
    assert all("no verdict" in event["problem"] for event in found[:2])
    assert all("HTTP 400" in event["problem"] for event in found[2:4])


def test_what_was_judged_is_not_asked_again(runs, written):
    with JudgeServer(honest) as server:
        runs.run("run", *judged_by(server.url), written(ROWS))
        calm = timeless(judgements(runs, "run"))
        torn(runs, "run", 4)
        asked = len(server.asked)
        assert runs.resume("run") == 0
        assert len(server.asked) == asked + 2
    assert timeless(judgements(runs, "run")) == calm


def test_what_the_rows_say_was_judged_is_not_asked(runs, written):
    rows = json.loads(json.dumps(ROWS))
    rows[0]["_pairs"][0]["said"] = [{"left": "warm start", "repeat": 0}]
    rows[1]["_pairs"][0]["said"] = [{"left": s, "repeat": 0} for s in ("warm start", "step 300")]
    with JudgeServer(honest) as server:
        runs.run("run", *judged_by(server.url), written(rows))
    sides = [(e["item"], e["left"]) for e in judgements(runs, "run")]
    assert sides == [
        (item_digest(ROWS[0]), "step 300"),
        (item_digest(ROWS[2]), "warm start"),
        (item_digest(ROWS[2]), "step 300"),
    ]


def test_a_judge_that_is_not_there_is_bad_input(runs, written):
    assert runs.run("run", *judged_by("http://127.0.0.1:9/v1"), written(ROWS)) == 2
    end = runs.end("run")
    assert (end["cause"], judgements(runs, "run")) == ("bad-input", [])
    assert end["message"].startswith("evaluation.judge: url: http://127.0.0.1:9/v1 does not answer")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"prompt": "p"}], "no row carries pairs to judge in '_pairs'"),
        ([{"prompt": "p", "_pairs": [{"index": 0, "left": 1}]}], "needs a text 'left'"),
    ],
)
def test_rows_without_pairs_are_named(runs, written, rows, said):
    with JudgeServer(honest) as server:
        assert runs.run("run", *judged_by(server.url), written(rows)) == 2
    assert said in runs.end("run")["message"] and not server.asked


def test_the_key_is_in_nothing_that_the_run_leaves(runs, written, monkeypatch, capfd):
    monkeypatch.setenv("ANNEAL_JUDGE_KEY", "s3cret-of-the-node")
    with JudgeServer(lambda body: Said(b"denied", 401)) as server:
        knobs = judged_by(server.url, key_variable="ANNEAL_JUDGE_KEY")
        assert runs.run("run", *knobs, written(ROWS)) == 0
    assert server.headers[0]["Authorization"] == "Bearer s3cret-of-the-node"
    left = [path.read_bytes() for path in runs.dir("run").path.rglob("*") if path.is_file()]
    assert left and not any(b"s3cret" in content for content in left)
    assert "s3cret" not in "".join(capfd.readouterr())
