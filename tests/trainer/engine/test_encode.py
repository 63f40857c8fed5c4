"""Tokens of prompts, answers and conversations, behind templates of three families and one that thinks."""

from __future__ import annotations

import pytest
import torch
from tokenizers import processors

from tests.trainer.engine.support import make_policy
from tests.trainer.engine.templates import FAMILIES, chat, make_chat_policy, make_tokenizer
from trainer.engine.chat import REWRITTEN, UNCONTINUED, UNTRAINED, Unusable, end_of_turn
from trainer.engine.encode import (
    BadRow,
    answer_text,
    answers_encode,
    conversation,
    prompts_encode,
    turns_encode,
)
from trainer.engine.load import policy_make
from trainer.engine.sampler import Sampling, sample
from trainer.engine.seeds import sample_keys

TURNS = chat("what is two plus two?", "four", "and three and five?", "the answer is eight")
SHOWN = ["qwen", "llama", "gemma"]


def shown(policy, ids):
    return policy.tokenizer.decode(ids)


def stop_of(policy, name):
    return policy.tokenizer.convert_tokens_to_ids(FAMILIES[name]["stop"])


@pytest.mark.parametrize("name", FAMILIES)
def test_bug_22_there_is_one_beginning_whatever_the_way(name):
    policy = make_chat_policy(name)
    bos = policy.tokenizer.bos_token_id
    raw = ["two plus two", (policy.tokenizer.bos_token or "") + "two plus two"]
    prompts = prompts_encode(policy, [*raw, TURNS[:1]])
    if bos is None:
        assert name == "qwen" and prompts[0] == prompts[1]
        return
    assert [ids[0] for ids in prompts] == [bos] * 3
    assert [ids.count(bos) for ids in prompts] == [1] * 3
    if name != "thinking":
        turns = turns_encode(policy, TURNS)
        assert turns.prompt[0] == bos and [*turns.prompt, *turns.answer].count(bos) == 1
    answers = answers_encode(policy, [raw[0], TURNS[:1]], ["four", "<think>\nx\n</think>\n\nfour"])
    assert all(bos not in ids for ids in answers)


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("tags", [False, True], ids=["plain", "tagged"])
def test_bug_20_every_turn_of_the_assistant_ends_with_the_stop_token(name, tags):
    policy = make_chat_policy(name, tags=tags)
    stop = stop_of(policy, name)
    assert stop in policy.eos_ids
    turns = turns_encode(policy, TURNS)
    pieces, words = [], []
    for token, flag, before in zip(
        turns.answer, turns.trained, [False, *turns.trained], strict=False
    ):
        if flag and not before:
            pieces.append([])
        if flag:
            pieces[-1].append(token)
    assert [piece[-1] for piece in pieces] == [stop, stop]
    assert [piece.count(stop) for piece in pieces] == [1, 1]
    words = [shown(policy, piece[:-1]) for piece in pieces]
    assert words == ["four", "the answer is eight"]
    assert turns.answer[-1] == stop and shown(policy, turns.prompt).endswith(("\n", ">"))


@pytest.mark.parametrize(
    ("name", "system"),
    [("qwen", ""), ("qwen", "be brief"), ("llama", ""), ("llama", "be brief"), ("gemma", "")],
)
def test_bug_21_what_is_rendered_turn_by_turn_equals_the_generation_tags(name, system):
    messages = chat(
        "what is two?", "two  and\n\nno more", "and?", "three", "so?", "", system=system
    )
    plain = turns_encode(make_chat_policy(name), messages)
    tagged = turns_encode(make_chat_policy(name, tags=True), messages)
    assert plain == tagged
    assert 0 < sum(plain.trained) < len(plain.trained)


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("scheme", ["first", "always"])
def test_bug_21_a_space_before_every_text_is_in_neither_mask(name, scheme):
    """SentencePiece begins a text with a space; a turn that is spelled alone would have one too many."""
    plain = turns_encode(make_chat_policy(name, scheme=scheme), TURNS)
    policy = make_chat_policy(name, tags=True, scheme=scheme)
    assert policy.spaces_texts
    assert plain == turns_encode(policy, TURNS)
    whole = policy.tokenizer.apply_chat_template(TURNS, tokenize=True, return_dict=True)
    ids = plain.prompt + plain.answer
    assert ids == whole["input_ids"][: len(ids)]
    assert 0 < sum(plain.trained) < len(plain.trained)


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("scheme", ["first", "always"])
@pytest.mark.parametrize("border", [("two?", "four"), ("two? ", "four"), ("two?", " four")])
def test_bug_23_a_space_before_every_text_does_not_come_between_prompt_and_answer(
    name, scheme, border
):
    policy = make_chat_policy(name, scheme=scheme)
    asked, said = border
    (prompt,), (answer,) = prompts_encode(policy, [asked]), answers_encode(policy, [asked], [said])
    text = policy.tokenizer.decode(prompt + answer[:-1], skip_special_tokens=True)
    assert text == asked + said
    messages = chat(asked, said)
    (prompt,), (answer,) = (
        prompts_encode(policy, [messages[:1]]),
        answers_encode(policy, [messages[:1]], [said]),
    )
    whole = policy.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)
    assert prompt + answer == whole["input_ids"][: len(prompt + answer)]


def test_only_some_tokenizers_put_a_space_before_texts():
    assert not any(make_chat_policy(name).spaces_texts for name in FAMILIES)
    assert not make_policy().spaces_texts
    assert not make_policy(tokenizer="bpe", vocab_size=300).spaces_texts


def test_bug_21_tags_that_mark_nothing_are_an_error_that_names_the_tokenizer():
    policy = make_chat_policy("qwen")
    policy.tokenizer.name_or_path = "owner/model"
    policy.tokenizer.chat_template += "{% generation %}{% endgeneration %}"
    with pytest.raises(ValueError, match=r"owner/model: the generation tags .* mark no token"):
        turns_encode(policy, TURNS)


def test_bug_21_a_conversation_without_an_assistant_has_nothing_to_train_on():
    with pytest.raises(Unusable, match=UNTRAINED):
        turns_encode(make_chat_policy("llama"), chat("hello"))


def test_bug_20_an_end_token_just_outside_the_tags_is_taken_in():
    outside = make_chat_policy("qwen", tags=True)
    template = outside.tokenizer.chat_template
    moved = template.replace(
        "{{- text + '<|im_end|>' -}}{%- endgeneration -%}",
        "{{- text -}}{%- endgeneration -%}{{- '<|im_end|>' -}}",
    )
    assert moved != template
    outside.tokenizer.chat_template = moved
    assert turns_encode(outside, TURNS) == turns_encode(make_chat_policy("qwen", tags=True), TURNS)


def test_a_template_of_plain_words_still_ends_its_conversations():
    policy = make_policy()
    policy.tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}sort {% else %}= {% endif %}"
        "{{ m['content'] }} {% endfor %}{% if add_generation_prompt %}= {% endif %}"
    )
    assert end_of_turn(policy.tokenizer) is None
    turns = turns_encode(policy, chat("12", "34", "56", "78"))
    assert shown(policy, turns.prompt) == "sort 12 = "
    assert turns.answer[-1] == policy.eos_ids[0] and turns.trained[-1]
    assert shown(policy, turns.answer[:-1]) == "34 sort 56 = 78 "


THOUGHT = "<think>\ntwo and two\n</think>\n\nfour"


@pytest.mark.parametrize("tags", [False, True])
def test_bug_23_a_template_that_strips_earlier_thoughts_is_found_out(tags):
    policy = make_chat_policy("qwen", tags=tags)
    with pytest.raises(Unusable, match=REWRITTEN):
        turns_encode(policy, chat("what is two plus two?", THOUGHT, "and?", "five"))
    # Thoughts of the last turn are shown, and trained.
    turns = turns_encode(policy, chat("two?", "two", "two plus two?", THOUGHT))
    assert shown(policy, turns.answer).endswith(THOUGHT + "<|im_end|>")


@pytest.mark.parametrize("name", FAMILIES)
def test_an_answer_stands_behind_its_prompt_as_at_sampling_time(name):
    policy = make_chat_policy(name)
    text = THOUGHT if name in ("qwen", "thinking") else "four"
    (prompt,) = prompts_encode(policy, [TURNS[:3]])
    for answer in (text, [{"role": "assistant", "content": text}]):
        (ids,) = answers_encode(policy, [TURNS[:3]], [answer])
        whole = shown(policy, prompt + ids)
        assert ids[-1] == stop_of(policy, name) and whole.count("<think>") == text.count("<think>")
        # Behind a generation prompt that opens a thought, the answer goes on with it.
        assert whole.endswith(text + FAMILIES[name]["stop"])


def test_an_answer_without_a_thought_does_not_fit_a_prompt_that_opens_one():
    policy = make_chat_policy("thinking")
    (reason,) = answers_encode(policy, [TURNS[:1]], ["four"])
    assert isinstance(reason, Unusable) and str(reason) == UNCONTINUED


def test_thinking_tags_stay_in_the_text_that_rewards_read():
    policy = make_chat_policy("qwen")
    (ids,) = answers_encode(policy, ["two?"], [THOUGHT])
    assert answer_text(policy, ids) == THOUGHT


def test_thinking_tags_stay_when_they_are_special_tokens_and_others_go():
    policy = make_chat_policy("qwen")
    policy.tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<think>", "</think>", "<|im_start|>"]}
    )
    vars(policy).pop("mute_ids", None)
    (ids,) = answers_encode(policy, ["two?"], [THOUGHT])
    start = policy.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert answer_text(policy, [start, *ids, policy.pad_id]) == THOUGHT


def test_several_messages_of_the_assistant_are_one_turn_and_others_make_no_answer():
    policy = make_chat_policy("llama")
    one, two = ({"role": "assistant", "content": text} for text in ("the ", "answer"))
    user = {"role": "user", "content": "why?"}
    found = answers_encode(policy, [TURNS[:1]] * 2, [[one, two], [one, user, two]])
    assert shown(policy, found[0]) == "the answer<|eot_id|>"
    assert isinstance(found[1], Unusable)


def test_a_conversation_is_a_prompt_and_its_answer_together():
    assert conversation(TURNS[:3], "eight") == [
        *TURNS[:3],
        {"role": "assistant", "content": "eight"},
    ]
    assert conversation(TURNS[:1], TURNS[1:]) == TURNS
    assert conversation("text", "answer") is None


@pytest.mark.parametrize(
    ("name", "messages", "reason"),
    [
        ("gemma", chat("hello", system="be brief"), "a system message has no place here"),
        ("gemma", [*TURNS[:1], *TURNS[:1]], "user and assistant must take turns"),
    ],
)
def test_roles_that_a_template_refuses_name_the_row(name, messages, reason):
    policy = make_chat_policy(name)
    with pytest.raises(BadRow, match=reason) as caught:
        prompts_encode(policy, ["plain", TURNS[:1], messages])
    assert caught.value.index == 2
    assert "refuses the conversation" in str(caught.value)


def test_a_prompt_stays_open_though_the_tokenizer_ends_every_text():
    policy = make_chat_policy("gemma")
    special = [
        (token, policy.tokenizer.convert_tokens_to_ids(token)) for token in ("<bos>", "<eos>")
    ]
    policy.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=special
    )
    assert policy.tokenizer("two?")["input_ids"][-1] == policy.tokenizer.eos_token_id
    (prompt,) = prompts_encode(policy, ["two?"])
    assert shown(policy, prompt) == "<bos>two?"


def test_bug_18_the_padding_token_may_end_answers():
    policy = make_chat_policy("llama")
    assert policy.pad_id == policy.eos_ids[0]
    (ids,) = answers_encode(policy, ["two?"], ["four"])
    assert ids[-1] == policy.pad_id and policy.pad_id not in ids[:-1]


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_bug_19_every_end_token_ends_an_answer_and_is_kept(name):
    policy = make_chat_policy(name)
    policy.model.generation_config.eos_token_id = [policy.eos_ids[0], 7]
    policy = policy_make(policy.model, policy.tokenizer, torch.device("cpu"), "float32")
    assert policy.eos_ids == (policy.tokenizer.eos_token_id, 7, stop_of(policy, name))
    # Plain transformers must stop an export's answers at the same tokens.
    assert policy.model.generation_config.eos_token_id == list(policy.eos_ids)
    head = policy.model.get_output_embeddings()
    for stop in policy.eos_ids:
        bias = torch.nn.Parameter(torch.zeros(policy.vocabulary))
        with torch.no_grad():
            bias[stop] = 1e4
        head.bias = bias
        keys = sample_keys(0, "test", 1, [0], 2)
        found = sample(
            policy,
            prompts_encode(policy, ["two?"]),
            keys,
            Sampling(4),
            budget=999,
            tick=lambda: None,
        )
        assert [(item.tokens, item.finish_reason) for item in found] == [([stop], "stop")] * 2


def test_the_end_of_a_turn_is_found_in_the_template():
    for name, family in FAMILIES.items():
        tokenizer = make_tokenizer(name)
        assert end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids(family["stop"])
        tokenizer.chat_template = None
        assert end_of_turn(tokenizer) is None


def test_encoding_and_decoding_are_not_inverse_here():
    """What makes re-tokenised rollouts wrong: these tokenizers have many spellings of one text."""
    policy = make_chat_policy("llama")
    letters = [policy.tokenizer.convert_tokens_to_ids(c) for c in "the"]
    assert all(isinstance(i, int) for i in letters)
    again = policy.tokenizer(answer_text(policy, letters), add_special_tokens=False)["input_ids"]
    assert again != letters and len(again) < len(letters)
    assert shown(policy, again) == shown(policy, letters)
