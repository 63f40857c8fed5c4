"""Conversations through the model's own chat template, as text: prompts, answers, the assistant's turns.

A template is a program that came with the model. It may refuse roles, add a system message, strip the
thoughts of earlier turns or open a thought in its generation prompt; what it renders is taken as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Messages = list[dict[str, Any]]

NO_TEMPLATE = (
    "the data holds chat messages, but this model's tokenizer has no chat template; "
    "use text prompts or a chat model"
)
REWRITTEN = "the chat template rewrites earlier turns of the conversation"
"""Why a conversation cannot be trained on in all its turns: what an earlier turn looked like when it was
the last one (with its thoughts, say) is not what the whole conversation shows."""
UNCONTINUED = "the chat template does not go on from its generation prompt to the answer"
UNTRAINED = "no token to train on"
OTHERS = "the answer holds messages of others than the assistant"

_TAGGED = re.compile(r"\{%-?\s*generation\s*-?%\}")
_THOUGHT = "<think>"


class Unusable(ValueError):
    """Why this row cannot be encoded; it is dropped and counted."""


def render(tokenizer: Any, messages: Sequence[Mapping[str, Any]], *, open_answer: bool) -> str:
    """The text of a conversation; `open_answer` ends it with the assistant's header.

    Raises ValueError when there is no template, or when the template refuses.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(NO_TEMPLATE)
    try:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=open_answer
        )
    except TemplateError as error:
        roles = ", ".join(str(message["role"]) for message in messages)
        raise ValueError(
            f"the model's chat template refuses the conversation ({roles}): {error}"
        ) from error
    return str(text)


def answer_render(tokenizer: Any, prompt: Messages, answer: Messages) -> str:
    """What stands behind the generation prompt of `prompt` when the answer is there.

    Raises Unusable where the template does not go on from one to the other.
    """
    start = render(tokenizer, prompt, open_answer=True)
    whole = render(tokenizer, [*prompt, *answer], open_answer=False)
    if whole.startswith(start):
        return whole[len(start) :]
    # A generation prompt that opens a thought, behind a template that shows no thoughts: the answer's own
    # begins with the same tag.
    content = str(answer[-1]["content"])
    closed = start.rstrip().removesuffix(_THOUGHT)
    if len(answer) == 1 and closed != start.rstrip() and content.lstrip().startswith(_THOUGHT):
        header = closed.rstrip()
        shown = content.rsplit("</think>", 1)[-1].strip()
        tail = whole[len(header) :] if whole.startswith(header) else ""
        if shown and tail.lstrip().startswith(shown):
            opened = start[len(closed) + len(_THOUGHT) :]
            thought = content.lstrip()[len(_THOUGHT) :].rstrip()
            return thought.removeprefix(opened) + tail.lstrip()[len(shown) :]
    raise Unusable(UNCONTINUED)


def is_tagged(tokenizer: Any) -> bool:
    """Whether the template itself says where the assistant speaks."""
    return bool(_TAGGED.search(str(getattr(tokenizer, "chat_template", "") or "")))


def turns_of(tokenizer: Any, messages: Messages) -> list[tuple[str, str]]:
    """The conversation as (what stands before, assistant's turn) pieces that make up its text.

    Each turn begins behind its generation prompt and ends where the next message begins; what follows
    the last one is left out. Raises Unusable where an earlier turn is shown otherwise than when it was
    the last one.
    """
    whole = render(tokenizer, messages, open_answer=False)
    pieces: list[tuple[str, str]] = []
    end = 0
    for index, message in enumerate(messages):
        # An assistant's greeting before anybody asked answers no prompt that a template could render.
        if message["role"] != "assistant" or index == 0:
            continue
        start = render(tokenizer, messages[:index], open_answer=True)
        until = render(tokenizer, messages[: index + 1], open_answer=False)
        if not until.startswith(start):
            raise Unusable(UNCONTINUED)
        if not whole.startswith(until) or len(start) < end:
            raise Unusable(REWRITTEN)
        pieces.append((whole[end : len(start)], whole[len(start) : len(until)]))
        end = len(until)
    return pieces


def end_of_turn(tokenizer: Any) -> int | None:
    """The special token that the template puts behind an assistant's message; None without one."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    mark = "anneal"
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": mark}]
    try:
        text = render(tokenizer, messages, open_answer=False)
    except ValueError:
        return None
    _, found, rest = text.rpartition(mark)
    ids = tokenizer(rest.lstrip(), add_special_tokens=False)["input_ids"] if found else []
    special = {
        index for index, token in tokenizer.added_tokens_decoder.items() if token.special
    } | set(tokenizer.all_special_ids)
    return int(ids[0]) if ids and ids[0] in special else None
