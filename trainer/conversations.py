"""Rows that hold whole conversations, as public chat datasets do, become prompt and answer.

`messages` gives a prompt (everything before the last message) and a completion (the last one, when the
assistant wrote it). `chosen` and `rejected` that both begin with the same messages give that beginning
as the prompt. An answer is then text, unless its message says more than that (its thoughts in a field of
their own, say): then it stays a message, for the chat template to show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

Message = Mapping[str, str]


def unfolded(row: dict[str, Any]) -> dict[str, Any]:
    """The row with `prompt` and answers apart; the same row when it holds no whole conversation."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if is_chat(chosen) and is_chat(rejected):
        return row | _pair(row, list(chosen), list(rejected))
    messages = row.get("messages")
    if is_chat(messages) and "prompt" not in row:
        return row | _demonstration(list(messages))
    completion = row.get("completion")
    if is_chat(completion) and len(completion) == 1:
        return row | {"completion": _answer(completion[0])}
    return row


def is_chat(value: Any) -> TypeGuard[Sequence[Message]]:
    """Whether this is a list of messages with role and content."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and all(
            isinstance(item, Mapping)
            and isinstance(item.get("role"), str)
            and isinstance(item.get("content"), str)
            for item in value
        )
    )


def _demonstration(messages: list[Message]) -> dict[str, Any]:
    if messages[-1]["role"] != "assistant" or len(messages) == 1:
        return {"prompt": messages}
    found: dict[str, Any] = {"prompt": messages[:-1]}
    return found | {"completion": _answer(messages[-1])}


def _answer(message: Message) -> Any:
    """The text of an assistant's message; the message itself where it holds more, or is another's."""
    more = {key: value for key, value in message.items() if value is not None}
    plain = more.keys() <= {"role", "content"} and message["role"] == "assistant"
    return message["content"] if plain else [more]


def _pair(row: Mapping[str, Any], chosen: list[Message], rejected: list[Message]) -> dict[str, Any]:
    shared = 0
    # Each side keeps at least its last message.
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    found: dict[str, Any] = {}
    if shared:
        found["prompt"] = chosen[:shared]
        chosen, rejected = chosen[shared:], rejected[shared:]
    elif "prompt" not in row:
        raise ValueError(
            "chosen and rejected are conversations that do not begin with the same message, "
            "and there is no prompt"
        )
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        found[name] = _answer(side[0]) if len(side) == 1 else side
    return found
