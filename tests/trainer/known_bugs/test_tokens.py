"""From chats to tokens: one beginning, an end that is trained on, masks that are neither empty nor full."""

from __future__ import annotations

import itertools
import json

import pytest

from tests.trainer.engine.support import tiny_spec
from tests.trainer.engine.templates import FAMILIES, chat, make_chat_policy, make_tokenizer
from trainer.engine.chat import UNTRAINED
from trainer.engine.dataset import parts_encode, parts_load

CHAT_FAMILIES = ["qwen", "llama", "gemma"]
WITH_BOS = ["llama", "gemma"]


@pytest.fixture
def encoded(tmp_path):
    """What the data path makes of rows: their part, with its examples and what it dropped."""

    def encode(policy, rows, kind, *overrides):
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows))
        spec = tiny_spec(
            f"objective.type={kind}", f'data.train=[{{source = "{path}"}}]',
            "data.max_prompt_tokens=500", "data.max_tokens=600", *overrides,
        )  # fmt: skip
        learns_from = spec.objective.learns_from
        parts = parts_load(spec.data.train, seed=0, learns_from=learns_from, datasets={})
        parts_encode(parts, policy, spec.data, learns_from)
        return parts[0]

    return encode


def spoken(example, policy):
    """The pieces of the answer that are trained on, as text with its special tokens."""
    flags = example.trained or [True] * len(example.answers[0])
    runs = itertools.groupby(zip(example.answers[0], flags, strict=True), key=lambda pair: pair[1])
    return [[token for token, _ in run] for trained, run in runs if trained]


@pytest.mark.parametrize("name", CHAT_FAMILIES)
@pytest.mark.parametrize("tags", [False, True], ids=["by prefixes", "by generation tags"])
def test_bug_20_every_turn_of_the_assistant_ends_with_its_stop_token(encoded, name, tags):
    policy = make_chat_policy(name, tags=tags)
    stop = policy.tokenizer.convert_tokens_to_ids(FAMILIES[name]["stop"])
    assert stop in policy.eos_ids
    rows = [{"messages": chat("two plus two?", "four", "and five?", "nine", "so?", "yes")}]
    part = encoded(policy, rows, "sft", "data.train_on=assistant")
    (example,) = part.examples
    turns = spoken(example, policy)
    assert [turn[-1] for turn in turns] == [stop] * 3
    assert [policy.tokenizer.decode(turn[:-1]) for turn in turns] == ["four", "nine", "yes"]
    # And in an answer alone, for demonstrations and for both sides of a pair.
    pair = {"prompt": chat("two plus two?"), "chosen": "four", "rejected": "five"}
    (example,) = encoded(policy, [pair], "dpo").examples
    assert [answer[-1] for answer in example.answers] == [stop, stop]


@pytest.mark.parametrize("name", CHAT_FAMILIES)
def test_bug_21_the_mask_by_prefixes_is_the_mask_by_generation_tags(encoded, name):
    rows = [{"messages": chat("two plus two?", "four", "and five?", "nine")}]
    found = []
    for tags in (False, True):
        policy = make_chat_policy(name, tags=tags)
        (example,) = encoded(policy, rows, "sft", "data.train_on=assistant").examples
        found.append((example.prompt + example.answers[0], spoken(example, policy)))
        # Neither empty nor full: what the user said is not trained on.
        assert 0 < sum(example.trained) < len(example.trained)
        assert "five" not in policy.tokenizer.decode(
            [token for turn in spoken(example, policy) for token in turn]
        )
    assert found[0] == found[1]


def test_bug_21_tags_that_mark_nothing_are_an_error_that_says_so(encoded):
    policy = make_chat_policy("qwen")
    policy.tokenizer.chat_template += (
        "{% if false %}{% generation %}x{% endgeneration %}{% endif %}"
    )
    rows = [{"messages": chat("two plus two?", "four")}]
    with pytest.raises(ValueError, match="mark no token of the assistant"):
        encoded(policy, rows, "sft", "data.train_on=assistant")


def test_bug_21_rows_without_a_token_to_train_on_are_counted_and_never_trained_on(encoded):
    policy = make_chat_policy("qwen")
    good = {"messages": chat("two plus two?", "four")}
    cut = {"messages": chat("two plus two? " * 12, "four")}
    silent = {"prompt": chat("two plus two?"), "completion": [*chat("and five?")]}
    options = ["data.train_on=assistant", "data.overlong=truncate"]
    part = encoded(policy, [good, silent, cut, silent], "sft", *options)
    assert len(part.examples) == 2
    assert part.dropped == {UNTRAINED: 2}
    # A row that is cut keeps a token of the assistant's, or it goes as well.
    limit = len(part.examples[0].prompt) + 10
    small = [f"data.max_prompt_tokens={limit}", f"data.max_tokens={limit + 1}"]
    part = encoded(policy, [good, cut], "sft", *options, *small)
    assert [len(example.answers[0]) for example in part.examples][1:] == [1]
    assert all(example.trained_tokens > 0 for example in part.examples)


@pytest.mark.parametrize("name", WITH_BOS)
def test_bug_22_a_sequence_begins_once(encoded, name):
    """Template and tokenizer both add a beginning; plain text may hold one already."""
    policy = make_chat_policy(name)
    bos = policy.tokenizer.bos_token_id
    assert policy.tokenizer("two")["input_ids"][0] == bos
    rows = [
        {"prompt": chat("two plus two?"), "chosen": "four", "rejected": "five"},
        {"prompt": "two plus two?", "chosen": "four", "rejected": "five"},
        {"prompt": policy.tokenizer.bos_token + "two plus two?", "chosen": "4", "rejected": "5"},
    ]
    for example in encoded(policy, rows, "dpo").examples:
        assert example.prompt[0] == bos and example.prompt.count(bos) == 1
        assert not any(bos in answer for answer in example.answers)
    turns = [{"messages": chat("two plus two?", "four", "and five?", "nine")}]
    (example,) = encoded(policy, turns, "sft", "data.train_on=assistant").examples
    whole = example.prompt + example.answers[0]
    assert whole[0] == bos and whole.count(bos) == 1


def test_bug_22_no_beginning_is_made_up_where_there_is_none(encoded):
    policy = make_chat_policy("qwen")
    assert policy.tokenizer.bos_token_id is None
    row = {"prompt": chat("two plus two?"), "completion": "four"}
    (example,) = encoded(policy, [row], "sft").examples
    first = policy.tokenizer.convert_ids_to_tokens(example.prompt[0])
    assert first == "<|im_start|>"


@pytest.mark.parametrize("name", CHAT_FAMILIES)
def test_bug_23_a_prompt_has_the_same_tokens_alone_and_before_its_answer(encoded, name):
    policy = make_chat_policy(name)
    prompt = chat("two plus two?", "four", "and five?")
    row = {"prompt": prompt, "completion": "nine", "chosen": "nine", "rejected": " nine "}
    examples = [encoded(policy, [row], kind).examples[0] for kind in ("grpo", "sft", "dpo")]
    assert examples[0].prompt == examples[1].prompt == examples[2].prompt
    text = policy.tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    assert policy.tokenizer.decode(examples[0].prompt) == text


def test_bug_23_rows_whose_template_rewrites_the_prompt_are_dropped_and_counted(encoded):
    policy = make_chat_policy("qwen")
    fits = {"messages": chat("two plus two?", "<think>\nno\n</think>\nfour")}
    rewritten = {"messages": chat("two?", "<think>\nhm\n</think>\nfour", "five?", "nine")}
    rows = [fits, rewritten, rewritten]
    part = encoded(policy, rows, "sft", "data.train_on=assistant")
    assert len(part.examples) == 1
    assert part.dropped == {"the chat template rewrites earlier turns of the conversation": 2}


def test_the_tokenizers_of_these_tests_add_a_beginning_of_their_own():
    for name in WITH_BOS:
        tokenizer = make_tokenizer(name)
        assert tokenizer("two")["input_ids"].count(tokenizer.bos_token_id) == 1
