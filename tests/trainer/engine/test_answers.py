"""Every answer of an evaluation: drawn by what is asked, scored one by one, once, whatever kills the run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.trainer.engine.evaluated import ALL, answers, found_of, rows_of, timeless, torn
from tests.trainer.engine.support import TINY
from trainer.answering import item_digest, sampling_digest, scorer_digests
from trainer.engine import answers as engine_answers
from trainer.engine import generation
from trainer.engine.progress import SAMPLE_GROUPS
from trainer.rewards.exact_match import ExactMatch


def drawn(events: list[dict[str, Any]]) -> dict[tuple[str, int], list[int]]:
    found = {(event["item"], event["index"]): event["token_ids"] for event in events}
    assert len(found) == len(events)
    return found


def test_every_answer_is_journalled_with_its_scores(runs, written):
    rows = rows_of()
    assert runs.run("run", *ALL, written(rows), "evaluation.temperature=0.8") == 0
    found = answers(runs, "run")
    wanted = [(item_digest(row), index) for row in rows for index in range(3)]
    assert [(event["item"], event["index"]) for event in found] == wanted
    sampling = sampling_digest({"temperature": 0.8, "max_new_tokens": 5}, 0)
    for event in found:
        assert event["sampling"] == sampling
        assert event["scorers"] == scorer_digests(TINY["rewards"])
        assert event["problem"] == ""
        assert event["tokens"] == len(event["token_ids"]) == len(event["logps"]) > 0
        assert event["finish_reason"] in ("stop", "length")
        assert all(value <= 0 for value in event["logps"])
        row = rows[[item_digest(row) for row in rows].index(event["item"])]
        right = event["finish_reason"] == "stop" and event["text"].strip() == row["answer"]
        assert event["scores"]["exact-match"] == {"value": float(right), "problem": ""}
        assert -1 <= event["scores"]["length-window"]["value"] <= 0


def test_some_of_them_are_samples_too_which_pages_show(runs, written):
    assert runs.run("run", *ALL, written(rows_of(9))) == 0
    shown = found_of(runs, "run", "sample")
    assert len(shown) == 3 * SAMPLE_GROUPS and {event["group"] for event in shown} == {0, 1, 2, 3}
    texts = {(event["text"], event["logps"][0]) for event in answers(runs, "run")}
    assert all((event["completion"], event["logps"][0]) in texts for event in shown)
    for event in shown:
        assert event["reward"] == pytest.approx(sum(event["rewards"].values()))


def test_metrics_are_means_of_what_was_journalled(runs, written):
    assert runs.run("run", *ALL, written(rows_of())) == 0
    found, values = answers(runs, "run"), runs.metrics("run")
    scores = [event["scores"]["length-window"]["value"] for event in found]
    assert values[0, "eval/rewards/length-window/mean"] == pytest.approx(sum(scores) / len(found))
    exact = [event["scores"]["exact-match"]["value"] for event in found]
    assert values[0, "eval/accuracy"] == pytest.approx(sum(exact) / len(found))
    assert values[0, "eval/reward"] == pytest.approx((sum(scores) + sum(exact)) / len(found))
    tokens = sum(event["tokens"] for event in found) / len(found)
    assert values[0, "eval/rows/mean_length"] == pytest.approx(tokens)
    assert values[0, "eval/failed_ratio"] == 0
    assert (0, "eval/pass@2") in values and (0, "eval/pass@3") in values


def test_an_answer_depends_on_its_prompt_and_number_alone(runs, written):
    """Neither on the place among others nor on how many there are: models share what is drawn."""
    rows = rows_of()
    runs.run("all", *ALL, written(rows))
    every = drawn(answers(runs, "all"))
    runs.run("some", *ALL, written([rows[3] | {"id": "x"}, rows[1]], "some"))
    some = drawn(answers(runs, "some"))
    assert len(some) == 6 and some.items() <= every.items()
    runs.run("one", *ALL, written(rows), "evaluation.samples_per_prompt=1")
    assert drawn(answers(runs, "one")).items() <= every.items()
    runs.run("seed", *ALL, written(rows), "seed=1")
    assert drawn(answers(runs, "seed")) != every


def test_a_row_may_ask_for_some_of_its_samples(runs, written):
    rows = rows_of()
    runs.run("all", *ALL, written(rows))
    wanted = [
        rows[0] | {"_samples": [2, 0]},
        rows[1] | {"_samples": []},
        rows[2] | {"_samples": [1]},
    ]
    assert runs.run("some", *ALL, written(wanted, "some")) == 0
    found = drawn(answers(runs, "some"))
    digests = [item_digest(row) for row in rows]
    assert list(found) == [(digests[0], 0), (digests[0], 2), (digests[2], 1)]
    assert found.items() <= drawn(answers(runs, "all")).items()


@pytest.mark.parametrize("samples", ["[3]", "[-1]", "[true]", "7", '["0"]', "[0.5]"])
def test_a_wish_for_samples_that_cannot_be_is_named(runs, written, samples):
    rows = [rows_of(1)[0] | {"_samples": json.loads(samples), "id": "r9"}]
    assert runs.run("run", *ALL, written(rows)) == 2
    assert "rows: row r9: '_samples'" in runs.end("run")["message"]


def test_the_same_prompt_twice_is_answered_once(runs, written):
    rows = rows_of(2)
    assert runs.run("run", *ALL, written([rows[0], rows[1], rows[0] | {"id": "again"}])) == 0
    assert len(drawn(answers(runs, "run"))) == 6


def test_a_scorer_that_fails_on_one_answer_fails_that_one(runs, written, monkeypatch):
    rows = rows_of()
    score = ExactMatch.score

    def picky(self, answer):
        if answer.prompt == rows[1]["prompt"]:
            raise LookupError("what is this?")
        return score(self, answer)

    monkeypatch.setattr(ExactMatch, "score", picky)
    assert runs.run("run", *ALL, written(rows)) == 0
    for event in answers(runs, "run"):
        failed = event["item"] == item_digest(rows[1])
        told = event["scores"]["exact-match"]
        assert (told["value"] is None) == failed
        assert told["problem"] == ("raised LookupError: what is this?" if failed else "")
        assert event["problem"] == "" and event["scores"]["length-window"]["value"] is not None
    values = runs.metrics("run")
    assert values[0, "eval/failed_ratio"] == pytest.approx(1 / 5)


def test_a_prompt_that_does_not_fit_is_a_failed_item(runs, written):
    rows = [*rows_of(2), {"prompt": "sort " + "7" * 60 + " = ", "answer": "7"}]
    assert runs.run("run", *ALL, written(rows)) == 0
    long = [event for event in answers(runs, "run") if event["item"] == item_digest(rows[2])]
    assert len(long) == 3
    for event in long:
        assert event["problem"] == "prompt over data.max_prompt_tokens = 32"
        assert (event["text"], event["token_ids"], event["tokens"]) == ("", [], 0)
        assert event["scores"]["exact-match"] == {
            "value": None,
            "problem": "no answer: prompt over data.max_prompt_tokens = 32",
        }
    assert runs.metrics("run")[0, "eval/failed_ratio"] == pytest.approx(1 / 3)


def test_prompts_none_of_which_fits_are_all_failed_items(runs, written):
    rows = [{"prompt": "sort " + "7" * 60 + " = ", "answer": "7"}]
    assert runs.run("run", *ALL, written(rows)) == 0
    assert [event["problem"] != "" for event in answers(runs, "run")] == [True] * 3


def test_an_answer_that_would_leave_the_models_positions_is_a_failed_item(runs, written):
    assert runs.run("run", *ALL, written(rows_of(1)), "evaluation.max_new_tokens=100000") == 0
    assert all("do not fit the model's" in event["problem"] for event in answers(runs, "run"))


def test_answers_that_are_there_are_scored_and_not_drawn(runs, written, monkeypatch):
    rows = rows_of(2)
    runs.run("first", *ALL, written(rows))
    first = answers(runs, "first")
    keys = ("index", "token_ids", "logps", "finish_reason")
    carried = [
        row
        | {"_answers": [{k: e[k] for k in keys} for e in first if e["item"] == item_digest(row)]}
        for row in rows
    ]

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is to be drawn")

    monkeypatch.setattr(generation, "sample", never)
    knobs = ['rewards=[{ type = "answer-length" }]', written(carried, "carried")]
    assert runs.run("again", *ALL, *knobs) == 0
    again = answers(runs, "again")
    same = ("item", "text", *keys)
    assert [[e[k] for k in same] for e in again] == [[e[k] for k in same] for e in first]
    assert [e["scores"]["answer-length"]["value"] for e in again] == [e["tokens"] for e in first]


def test_the_likelihood_of_the_reference_is_the_same_for_all_samples(runs, written):
    rows = rows_of(3)
    rewards = 'rewards=[{ type = "log-likelihood", per = "token" }, { type = "perplexity" }]'
    assert runs.run("run", *ALL, rewards, written([*rows, {"prompt": "sort 1 = "}])) == 0
    by_item: dict[str, set[float | None]] = {}
    for event in answers(runs, "run"):
        mean, perplexity = (event["scores"][label] for label in ("log-likelihood", "perplexity"))
        by_item.setdefault(event["item"], set()).add(mean["value"])
        if mean["value"] is None:
            assert mean["problem"] == "the row has no reference in 'answer'"
        else:
            # The mean is summed from numbers that were not rounded.
            assert perplexity["value"] == pytest.approx(2.718281828459045 ** -mean["value"])
    assert [len(values) for values in by_item.values()] == [1] * 4
    assert list(by_item.values())[3] == {None}


def test_nothing_is_written_to_the_journal_of_samples_otherwise(runs):
    assert runs.run("run", "kind=evaluate") == 0
    assert answers(runs, "run") == []


# --- a run that is killed ------------------------------------------------------------------------

SLICE = 6
SLOW = f"""
import sys, time
from trainer.engine import answers
from trainer.engine.progress import Report
answers.SLICE_ANSWERS = {SLICE}
write = Report.write_answers
def slow(self, kind, events):
    write(self, kind, events)
    time.sleep(0.15)
Report.write_answers = slow
from trainer.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_run_killed_again_and_again_leaves_the_answers_of_a_calm_one(runs, written, monkeypatch):
    monkeypatch.setattr(engine_answers, "SLICE_ANSWERS", SLICE)
    knobs = [*ALL, written(rows_of(16)), "evaluation.temperature=1.3"]
    assert runs.run("calm", *knobs) == 0
    arguments = ["run", str(runs.spec_path), "--dir", str(runs.folder / "killed"), *knobs]
    for attempt, enough in ((1, SLICE), (2, 2 * SLICE)):
        victim = subprocess.Popen(
            [sys.executable, "-c", SLOW, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        journal = runs.dir("killed").attempt(attempt).journal("samples")
        deadline = time.monotonic() + 120
        while not journal.exists() or journal.read_bytes().count(b"\n") < enough:
            assert victim.poll() is None and time.monotonic() < deadline, victim.stderr.read()
            time.sleep(0.005)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        victim.stderr.close()
        arguments = ["resume", str(runs.folder / "killed")]
    assert runs.resume("killed") == 0
    found = answers(runs, "killed")
    assert len(runs.dir("killed").attempts()) == 3
    assert len(drawn(found)) == 48
    assert timeless(found) == timeless(answers(runs, "calm"))
    assert runs.metrics("killed") == runs.metrics("calm")


def test_a_write_that_was_cut_is_made_good_to_the_bit(runs, written):
    """A slice of which a part is there is drawn as a whole again, and only the rest is written."""
    knobs = [*ALL, written(rows_of(6))]
    runs.run("calm", *knobs)
    runs.run("torn", *knobs)
    torn(runs, "torn", 7)
    assert runs.resume("torn") == 0
    assert timeless(answers(runs, "torn")) == timeless(answers(runs, "calm"))
    assert runs.metrics("torn") == runs.metrics("calm")


def test_answers_of_other_settings_are_not_taken_for_these(runs, written):
    runs.run("run", *ALL, written(rows_of(2)))
    assert runs.resume("run", "evaluation.temperature=0.5") == 0
    found = answers(runs, "run")
    assert len(found) == 12 and len({event["sampling"] for event in found}) == 2
