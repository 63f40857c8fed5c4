"""From rows to examples: what is dropped and counted, what is cut, what is refused."""

from __future__ import annotations

import json

import pytest

from tests.trainer.engine.support import KINDS
from tests.trainer.engine.templates import chat, make_chat_policy
from trainer.engine.chat import REWRITTEN, UNTRAINED
from trainer.engine.dataset import parts_encode, parts_load
from trainer.spec import Data, DataSource

THOUGHT = "<think>\ntwo and two\n</think>\n\nfour"
TALK = chat("what is two plus two?", "four", "and three and five?", "the answer is eight")


def examples(tmp_path, rows, name="llama", learns_from="demonstrations", **limits):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = [DataSource(source=str(path))]
    parts = parts_load(sources, seed=0, learns_from=learns_from, datasets={})
    policy = make_chat_policy(name)
    parts_encode(parts, policy, Data(train=tuple(sources), **limits), learns_from)
    return policy, parts[0]


def trained_text(policy, example):
    (answer,) = example.answers
    flags = example.trained or [True] * len(answer)
    return policy.tokenizer.decode([t for t, flag in zip(answer, flags, strict=True) if flag])


def test_the_last_message_alone_is_trained_on_unless_every_turn_is_wanted(tmp_path):
    policy, part = examples(tmp_path, [{"messages": TALK}])
    assert trained_text(policy, part.examples[0]) == "the answer is eight<|eot_id|>"
    policy, every = examples(tmp_path, [{"messages": TALK}], train_on="assistant")
    (example,) = every.examples
    assert trained_text(policy, example) == "four<|eot_id|>the answer is eight<|eot_id|>"
    assert example.trained_tokens == sum(example.trained) < len(example.answers[0])
    # The model sees the same conversation either way.
    whole = [e.prompt + e.answers[0] for e in (part.examples[0], example)]
    assert whole[0] == whole[1]


def test_rows_of_prompt_and_completion_know_their_earlier_turns_too(tmp_path):
    rows = [
        {"prompt": TALK[:3], "completion": TALK[3]["content"], "id": "chat"},
        {"prompt": "two plus two?", "completion": "four", "id": "text"},
    ]
    policy, part = examples(tmp_path, rows, train_on="assistant")
    assert [example.id for example in part.examples] == ["chat", "text"]
    assert trained_text(policy, part.examples[0]).count("<|eot_id|>") == 2
    assert part.examples[1].trained is None
    assert trained_text(policy, part.examples[1]) == "four<|end_of_text|>"


def test_bug_23_rows_that_the_template_rewrites_are_dropped_and_counted(tmp_path):
    rewritten = {"messages": chat("two plus two?", THOUGHT, "and?", "five")}
    _, part = examples(tmp_path, [{"messages": TALK}, rewritten], "qwen", train_on="assistant")
    assert len(part.examples) == 1 and part.dropped == {REWRITTEN: 1}
    _, part = examples(tmp_path, [rewritten], "qwen")
    assert len(part.examples) == 1 and part.dropped == {}
    with pytest.raises(ValueError, match=r"no row is left .the chat template rewrites"):
        examples(tmp_path, [rewritten], "qwen", train_on="assistant")


def test_bug_21_nothing_to_train_on_in_the_whole_data_is_an_error(tmp_path):
    row = {"prompt": TALK[:1], "completion": [{"role": "user", "content": "hello"}]}
    with pytest.raises(ValueError, match=f"{UNTRAINED}: 1"):
        examples(tmp_path, [row], train_on="assistant")
    _, part = examples(tmp_path, [row, {"messages": TALK}], train_on="assistant")
    assert len(part.examples) == 1 and part.dropped == {UNTRAINED: 1}


def test_a_refused_role_names_source_and_row(tmp_path):
    good = {"id": "first", "prompt": TALK[:1]}
    bad = {"id": "second", "prompt": chat("hello", system="be brief")}
    with pytest.raises(ValueError, match="rows: row second: the model's chat template refuses"):
        examples(tmp_path, [good, bad], "gemma", learns_from="rollouts")
    demonstrations = [row | {"completion": "hello"} for row in (good, bad)]
    with pytest.raises(ValueError, match=r"rows: row second: .*\(system, user, assistant\)"):
        examples(tmp_path, demonstrations, "gemma", train_on="assistant")


@pytest.mark.parametrize("overlong", ["drop", "truncate", "error"])
def test_limits_cut_the_mask_with_the_tokens(tmp_path, overlong):
    _, whole = examples(tmp_path, [{"messages": TALK}], train_on="assistant")
    (full,) = whole.examples
    first_stop = full.trained.index(False)
    limits = {
        "train_on": "assistant",
        "overlong": overlong,
        "max_prompt_tokens": len(full.prompt),
        "max_tokens": len(full.prompt) + first_stop + 2,
    }
    short = {"messages": chat("two?", "2")}
    if overlong == "error":
        with pytest.raises(ValueError, match=r"row rows:1: row over data\.max_tokens"):
            examples(tmp_path, [short, {"messages": TALK}], **limits)
        return
    _, part = examples(tmp_path, [short, {"messages": TALK}], **limits)
    if overlong == "drop":
        assert len(part.examples) == 1
        assert sum(part.dropped.values()) == 1 and "data.max_tokens" in next(iter(part.dropped))
        return
    cut = part.examples[1]
    assert cut.answers[0] == full.answers[0][: first_stop + 2]
    assert cut.trained == [True] * first_stop + [False] * 2


def test_a_row_whose_trained_tokens_are_all_cut_off_is_dropped(tmp_path):
    talk = {"messages": chat("two?", "2")}
    _, part = examples(tmp_path, [talk], train_on="assistant")
    room = len(part.examples[0].prompt)
    limits = {"max_prompt_tokens": room, "max_tokens": room, "overlong": "truncate"}
    with pytest.raises(ValueError, match=UNTRAINED):
        examples(tmp_path, [talk], train_on="assistant", **limits)


def test_a_run_says_how_many_rows_the_template_could_not_show(runs, tmp_path):
    policy = make_chat_policy("qwen")
    policy.model.save_pretrained(tmp_path / "model")
    policy.tokenizer.save_pretrained(tmp_path / "model")
    path = tmp_path / "talks.jsonl"
    rows = [{"messages": TALK}] * 3 + [{"messages": chat("2+2?", THOUGHT, "and?", "five")}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = [
        f"model.name={tmp_path / 'model'}",
        "model.options={}",
        "data.train.0.options={}",
        f"data.train.0.source={path}",
        "data.eval=[]",
        "data.train_on=assistant",
        "data.max_prompt_tokens=100",
        "data.max_tokens=200",
        "rewards=[]",
        "budget.max_steps=2",
    ]
    assert runs.run("run", *KINDS["sft"], *overrides) == 0
    alerts = [event for event in runs.events("run") if event["type"] == "alert"]
    assert any(
        event["code"] == "rows-dropped" and f"{REWRITTEN}: 1" in event["message"]
        for event in alerts
    )
    values = runs.metrics("run")
    assert 0 <= values[1, "batch/pad_frac"] < 1 and values[1, "loss"] > 0
