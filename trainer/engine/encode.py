"""From text and chat messages to tokens.

A prompt is encoded alone and an answer behind it, as at sampling time, so that an answer never changes
the tokens of its prompt. The end token belongs to the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.engine.policy import Policy

Text = str | list[dict[str, str]]
"""Plain text or chat messages."""


def prompts_encode(policy: Policy, prompts: Sequence[Text]) -> list[list[int]]:
    """Token ids of prompts; chat goes through the model's own template."""
    plain = [prompt for prompt in prompts if isinstance(prompt, str)]
    encoded = iter(_ids(policy, plain, special=True))
    found = [
        next(encoded) if isinstance(prompt, str) else _templated(policy, prompt)
        for prompt in prompts
    ]
    # Some tokenizers end every text; a prompt goes on.
    return [ids[:-1] if len(ids) > 1 and ids[-1] in policy.eos_ids else ids for ids in found]


def answers_encode(
    policy: Policy, prompts: Sequence[Text], answers: Sequence[Text]
) -> list[list[int]]:
    """Token ids of answers, each with its end token."""
    texts = [
        _answer_text(policy, prompt, answer)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    return [_ended(policy, ids) for ids in _ids(policy, texts, special=False)]


def text_of(prompt: Text) -> str:
    """A prompt as people and rewards read it."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def answer_text(policy: Policy, tokens: Sequence[int]) -> str:
    """The text of a sampled answer, special tokens left out."""
    return str(policy.tokenizer.decode(tokens, skip_special_tokens=True))


def _ids(policy: Policy, texts: Sequence[str], *, special: bool) -> list[list[int]]:
    if not texts:
        return []
    encoded = policy.tokenizer(list(texts), add_special_tokens=special, return_attention_mask=False)
    return [list(ids) for ids in encoded["input_ids"]]


def _templated(policy: Policy, messages: list[dict[str, str]]) -> list[int]:
    rendered = _render(policy, messages, add_generation_prompt=True)
    return _ids(policy, [rendered], special=False)[0]


def _render(policy: Policy, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    if not getattr(policy.tokenizer, "chat_template", None):
        raise ValueError(
            "the data holds chat messages, but this model's tokenizer has no chat template; "
            "use text prompts or a chat model"
        )
    text = policy.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return str(text)


def _answer_text(policy: Policy, prompt: Text, answer: Text) -> str:
    content = answer if isinstance(answer, str) else "".join(m["content"] for m in answer)
    if isinstance(prompt, str):
        return content
    start = _render(policy, prompt, add_generation_prompt=True)
    message = {"role": "assistant", "content": content}
    whole = _render(policy, [*prompt, message], add_generation_prompt=False)
    # A template that rewrites earlier turns gives no clean rest; the bare content then stands for it.
    return whole.removeprefix(start) if whole.startswith(start) else content


def _ended(policy: Policy, ids: list[int]) -> list[int]:
    """The answer up to its end token, which is added where the text has none."""
    for index, token in enumerate(ids):
        if token in policy.eos_ids:
            return ids[: index + 1]
    return [*ids, policy.eos_ids[0]]


def characters_in(value: Any) -> set[str]:
    """Every character of the texts in a row's field."""
    if isinstance(value, str):
        return set(value)
    if isinstance(value, list):
        return set().union(*(characters_in(item) for item in value))
    if isinstance(value, dict):
        return characters_in(value.get("content", ""))
    return set()
