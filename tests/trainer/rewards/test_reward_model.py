"""A trained reward model as a reward: its scores are those of plain transformers for the policy's tokens."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.trainer.engine.support import make_policy
from trainer.__main__ import main as command
from trainer.engine.dataset import Example
from trainer.engine.sampler import Sampled
from trainer.engine.scorer import scorer_make
from trainer.engine.scoring import score
from trainer.journal import read_events
from trainer.registry import Answer, family
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = "sort 50316 = "


def scorer_folder(folder: Path, *names: str, **options: Any) -> str:
    policy = make_policy(**options)
    scorer_make(policy, names or ("reward",), 0)
    with torch.no_grad():
        policy.model.score.weight.mul_(20)
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    return str(folder)


def reward(model: str, **knobs: Any) -> Any:
    return family("rewards")["reward-model"](type="reward-model", model=model, **knobs)


def answer(text: str, **fields: Any) -> Answer:
    return Answer(
        **{"prompt": PROMPT, "text": text, "tokens": len(text) + 1, "finish_reason": "stop"}
        | fields
    )


def plain(folder: str, *sequences: list[int]) -> torch.Tensor:
    """Scores (B, K) of whole sequences by transformers, one at a time."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return torch.cat([model(input_ids=torch.tensor([ids])).logits for ids in sequences])


def test_sampled_answers_are_scored_by_the_tokens_that_were_sampled(tmp_path: Path) -> None:
    folder = scorer_folder(tmp_path)
    policy = make_policy(seed=1)
    # Two answers of different lengths; the second was cut off, so it has no end token.
    prompt = policy.tokenizer(PROMPT)["input_ids"]
    tokens = [[5, 6, 7, 1], [9, 8]]
    sampled = [
        Sampled(0, tokens[0], [0.0] * 4, [0.0] * 4, "stop", [0.0] * 4),
        Sampled(0, tokens[1], [0.0] * 2, [0.0] * 2, "length", [0.0] * 2),
    ]
    example = Example("a", {"prompt": PROMPT}, prompt, ())
    part = reward(folder, weight=2.0)
    found = score(policy, [part], [example], sampled, lambda: None)
    wanted = plain(folder, *[prompt + ids for ids in tokens])[:, 0]
    assert found.parts["reward-model"] == pytest.approx(wanted.tolist(), abs=1e-5)
    assert found.totals == pytest.approx((2 * wanted).tolist(), abs=1e-5)
    assert abs(wanted[0] - wanted[1]) > 1e-3


def test_text_alone_is_encoded_with_its_end(tmp_path: Path) -> None:
    folder = scorer_folder(tmp_path)
    tokenizer = make_policy().tokenizer
    prompt, ids = (tokenizer(text)["input_ids"] for text in (PROMPT, "013"))
    wanted = plain(folder, [*prompt, *ids, 1], prompt + ids)[:, 0].tolist()
    part = reward(folder)
    assert part.score(answer("013")) == pytest.approx(wanted[0], abs=1e-5)
    assert part.score(answer("013", finish_reason="length")) == pytest.approx(wanted[1], abs=1e-5)
    assert part.scores([answer("013"), answer("013", finish_reason="length")]) == pytest.approx(
        wanted, abs=1e-5
    )


def test_ids_of_another_tokenizer_are_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    part = reward(scorer_folder(tmp_path))
    vocabulary = make_policy().tokens
    wrong = {"prompt_ids": [4, 4], "token_ids": [5, 1]}
    text = part.score(answer("013"))
    with caplog.at_level(logging.WARNING):
        known = part.score(answer("013", **wrong, vocabulary=vocabulary))
        assert known != text and not caplog.records
        other = dict(vocabulary) | {"new": len(vocabulary)}
        answers = [answer("013", **wrong, vocabulary=other)] * 2
        assert part.scores(answers) == pytest.approx([text, text], abs=1e-6)
    assert [record.message.count("encoded again") for record in caplog.records] == [1]


def test_outputs_are_weighed_by_name_or_number(tmp_path: Path) -> None:
    folder = scorer_folder(tmp_path, "brief", "right")
    tokenizer = make_policy().tokenizer
    ids = tokenizer(PROMPT)["input_ids"] + tokenizer("013")["input_ids"] + [1]
    brief, right = plain(folder, ids)[0].tolist()
    for outputs, wanted in (
        ({"right": 1.0}, right),
        ({"1": 1.0}, right),
        ({"right": 2.0, "brief": -0.5}, 2 * right - 0.5 * brief),
    ):
        assert reward(folder, outputs=outputs).score(answer("013")) == pytest.approx(
            wanted, abs=1e-5
        )
    with pytest.raises(ValueError, match="has the outputs brief, right; say in outputs"):
        reward(folder).prepare()
    with pytest.raises(ValueError, match="has no output 'kind'; it has brief, right"):
        reward(folder, outputs={"kind": 1.0}).prepare()


def test_a_conversation_goes_through_the_models_own_template(tmp_path: Path) -> None:
    policy = make_policy()
    scorer_make(policy, ("reward",), 0)
    policy.tokenizer.chat_template = (
        "{% for m in messages %}{{ '0' if m.role == 'user' else '1' }}{{ m.content }}{% endfor %}="
    )
    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    row = {"prompt": [{"role": "user", "content": "sort"}]}
    ids = policy.tokenizer("0sort1345=")["input_ids"]
    found = reward(str(tmp_path)).score(answer("345", row=row))
    assert found == pytest.approx(plain(str(tmp_path), ids)[0].item(), abs=1e-6)


def test_what_cannot_be_scored_is_none_and_spoils_no_neighbour(tmp_path: Path) -> None:
    part = reward(scorer_folder(tmp_path, max_positions=24))
    short, long = answer("013"), answer("0" * 30)
    scores = part.scores([short, long, short])
    assert scores[1] is None and scores[0] == scores[2] == pytest.approx(
        part.score(short), abs=1e-6
    )


def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no model"):
        reward(str(tmp_path / "nowhere")).prepare()
    policy = make_policy()
    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is no reward model: it has no score\.weight"):
        reward(str(tmp_path)).prepare()
    for name in ("run:abc", "checkpoint:abc", "external:abc"):
        with pytest.raises(ValueError, match=f"give its folder with --reward-path {name}=FOLDER"):
            reward(name).prepare()
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no usable GPU"):
            reward(scorer_folder(tmp_path / "good"), device="cuda").prepare()


def run(folder: Path, spec: dict[str, Any], *overrides: str) -> tuple[int, list[dict[str, Any]]]:
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps(spec))
    code = command(["run", str(folder / "spec.json"), "--dir", str(folder / "run"), *overrides])
    return code, list(read_events(RunDir(folder / "run").attempt(1).journal("trainer")))


def taste(events: list[dict[str, Any]]) -> list[float]:
    values = [event["values"] for event in events if event["type"] == "metrics"]
    return [one["rewards/taste/mean"] for one in values if "rewards/taste/mean" in one]


def test_a_policy_learns_from_the_reward_model_that_was_trained_before(tmp_path: Path) -> None:
    shared: dict[str, Any] = {
        "model": {"options": {"hidden_size": 32, "layers": 2, "heads": 2}},
        "data": {"train": [{"source": "noisy-sort", "limit": 64, "options": {"digits": 3}}],
                 "eval": [{"source": "noisy-sort", "split": "test", "limit": 8}]},
        "optimizer": {"lr": 1e-2},
    }  # fmt: skip
    code, events = run(
        tmp_path / "scorer",
        shared | {"objective": {"type": "bradley-terry"}, "budget": {"max_steps": 12}},
    )
    assert code == 0
    final = [event for event in events if event["type"] == "checkpoint"][-1]["path"]
    folder = str(tmp_path / "scorer" / "run" / final)
    part = {"type": "reward-model", "model": folder, "name": "taste"}
    grpo = shared | {
        "objective": {"type": "grpo"},
        "rewards": [part],
        "rollout": {"group_size": 8, "max_new_tokens": 5},
        "budget": {"max_steps": 10},
    }
    code, events = run(tmp_path / "writer", grpo)
    assert code == 0
    rewards = taste(events)
    assert len(rewards) == 10 and rewards[-1] > rewards[0] + 0.3
    # The same model by the name that a server gives it.
    named = grpo | {"rewards": [part | {"model": "checkpoint:abc"}]}
    code, events = run(tmp_path / "named", named, f"--reward-path=checkpoint:abc={folder}")
    assert code == 0 and taste(events) == rewards
    code, events = run(tmp_path / "unknown", named, f"--reward-path=checkpoint:abd={folder}")
    assert code == 2 and "checkpoint:abc is known to the server only" in events[-1]["message"]
    code, events = run(
        tmp_path / "typo", grpo, 'rewards=[{type = "reward-model", model = "/nowhere/at/all"}]'
    )
    assert code == 2 and "holds no model" in events[-1]["message"]
