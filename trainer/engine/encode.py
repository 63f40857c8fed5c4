"""From text and chat messages to tokens.

A prompt is encoded alone and an answer behind it, as at sampling time, so that an answer never changes
the tokens of its prompt. The end token belongs to the answer. What was sampled never comes through here:
it stays the tokens that it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.engine.chat import (
    OTHERS,
    UNTRAINED,
    Messages,
    Unusable,
    answer_render,
    is_tagged,
    render,
    turns_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.engine.policy import Policy

Text = str | Messages
"""Plain text or chat messages."""


@dataclass(frozen=True)
class Turns:
    """A conversation whose assistant's turns are trained on."""

    prompt: list[int]
    """Up to the first of these turns."""
    answer: list[int]
    """From there to the end of the last one."""
    trained: list[bool]
    """Which tokens of the answer the assistant wrote; the last of each turn is its end token."""


class BadRow(ValueError):
    """A row that cannot be encoded at all."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


def prompts_encode(policy: Policy, prompts: Sequence[Text]) -> list[list[int]]:
    """Token ids of prompts; chat goes through the model's own template. Raises BadRow."""
    plain = [prompt for prompt in prompts if isinstance(prompt, str)]
    encoded = iter(_ids(policy, plain, special=True))
    rendered = [
        _checked(index, policy, prompt)
        for index, prompt in enumerate(prompts)
        if not isinstance(prompt, str)
    ]
    chats = iter(_ids(policy, rendered, special=False))
    return [
        _open(policy, next(encoded)) if isinstance(prompt, str) else _one_bos(policy, next(chats))
        for prompt in prompts
    ]


def answers_encode(
    policy: Policy, prompts: Sequence[Text], answers: Sequence[Text]
) -> list[list[int] | Unusable]:
    """Token ids of answers, each with its end token, or why there are none. Raises BadRow."""
    texts: list[str | Unusable] = []
    for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        try:
            texts.append(_answer_text(policy, prompt, answer))
        except Unusable as reason:
            texts.append(reason)
        except ValueError as error:
            raise BadRow(index, str(error)) from error
    pairs = zip(prompts, texts, strict=True)
    found = iter(_behind(policy, [(p, text) for p, text in pairs if isinstance(text, str)]))
    return [ended(policy, next(found)) if isinstance(text, str) else text for text in texts]


def turns_encode(policy: Policy, messages: Messages) -> Turns:
    """A conversation with every turn of the assistant to be trained on.

    The template's own generation tags decide where it has them, else what it renders message by
    message. Raises Unusable for a conversation that cannot be trained on, ValueError for a template that
    marks nothing.
    """
    pieces = turns_of(policy.tokenizer, messages)
    if is_tagged(policy.tokenizer):
        ids, trained = _tagged(policy, messages)
    else:
        ids, trained = [], []
        texts = [text for piece in pieces for text in piece]
        pairs = [("".join(texts[:number]), text) for number, text in enumerate(texts)]
        for number, piece in enumerate(_behind(policy, pairs)):
            ids += piece
            trained += [number % 2 == 1] * len(piece)
        whole = ids
        ids = _one_bos(policy, whole)
        trained = trained[len(whole) - len(ids) :]
    trained = _until_the_stop(policy, ids, trained)
    if True not in trained[1:]:
        raise Unusable(UNTRAINED)
    first = max(1, trained.index(True))
    end = len(trained) - trained[::-1].index(True)
    answer, trained = ids[first:end], trained[first:end]
    if answer[-1] not in policy.eos_ids:
        # A template of plain words: the conversation at least ends.
        answer, trained = [*answer, policy.eos_ids[0]], [*trained, True]
    return Turns(ids[:first], answer, trained)


def conversation(prompt: Text, answer: Text) -> Messages | None:
    """Prompt and answer as one conversation; None where the prompt is plain text."""
    if isinstance(prompt, str):
        return None
    return [*prompt, *_messages(answer)]


def text_of(prompt: Text) -> str:
    """A prompt as people and rewards read it."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def answer_text(policy: Policy, tokens: Sequence[int]) -> str:
    """The text of a sampled answer, special tokens left out; rewards may look for the tags of thoughts."""
    spoken = [token for token in tokens if token not in policy.mute_ids]
    text = policy.tokenizer.decode(
        spoken, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return str(text)


def ended(policy: Policy, ids: list[int]) -> list[int]:
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


def _ids(policy: Policy, texts: Sequence[str], *, special: bool) -> list[list[int]]:
    if not texts:
        return []
    encoded = policy.tokenizer(list(texts), add_special_tokens=special, return_attention_mask=False)
    return [list(ids) for ids in encoded["input_ids"]]


def _behind(policy: Policy, pairs: Sequence[tuple[Text, str]]) -> list[list[int]]:
    """Token ids of texts that go on behind others: those that both together have behind the first ones.

    Alone a text begins with a space of SentencePiece's, which nobody wrote. Where a token reaches across
    the border the text is spelled as behind a line's end: what stands before keeps the tokens it has.
    """
    texts = [text for _, text in pairs]
    alone = _ids(policy, texts, special=False)
    if not policy.spaces_texts:
        return alone
    starts = [
        start if isinstance(start, str) else render(policy.tokenizer, start, open_answer=True)
        for start, _ in pairs
    ]
    joined = [start + text for start, text in zip(starts, texts, strict=True)]
    lines = ["\n" + text for text in texts]
    start_ids, joined_ids, line_ids = (
        _ids(policy, some, special=False) for some in (starts, joined, lines)
    )
    (end_of_line,) = _ids(policy, ["\n"], special=False)
    found = []
    for ids, start, whole, line in zip(alone, start_ids, joined_ids, line_ids, strict=True):
        if whole[: len(start)] == start:
            ids = whole[len(start) :]
        elif line[: len(end_of_line)] == end_of_line:
            ids = line[len(end_of_line) :]
        found.append(ids)
    return found


def _checked(index: int, policy: Policy, messages: Messages) -> str:
    try:
        return render(policy.tokenizer, messages, open_answer=True)
    except ValueError as error:
        raise BadRow(index, str(error)) from error


def _open(policy: Policy, ids: list[int]) -> list[int]:
    """A plain prompt: begun once, and not ended, as some tokenizers end every text."""
    ids = _one_bos(policy, ids)
    return ids[:-1] if len(ids) > 1 and ids[-1] in policy.eos_ids else ids


def _one_bos(policy: Policy, ids: list[int]) -> list[int]:
    """Without the second of two beginnings: one from the text or template, one from the tokenizer."""
    bos = policy.tokenizer.bos_token_id
    while bos is not None and ids[:2] == [bos, bos]:
        ids = ids[1:]
    return ids


def _messages(answer: Text) -> Messages:
    return [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer


def _answer_text(policy: Policy, prompt: Text, answer: Text) -> str:
    messages = _messages(answer)
    if any(message["role"] != "assistant" for message in messages):
        raise Unusable(OTHERS)
    if isinstance(prompt, str):
        return "".join(message["content"] for message in messages)
    # Several messages in a row are one turn; templates know no other.
    whole = {**messages[-1], "content": "".join(message["content"] for message in messages)}
    return answer_render(policy.tokenizer, prompt, [whole])


def _tagged(policy: Policy, messages: Messages) -> tuple[list[int], list[bool]]:
    found = policy.tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    trained = [bool(flag) for flag in found["assistant_masks"]]
    if not any(trained):
        raise ValueError(
            f"{policy.tokenizer.name_or_path or 'the tokenizer'}: the generation tags of its chat template"
            ' mark no token of the assistant; mend the template, or set data.train_on = "answer"'
        )
    return list(found["input_ids"]), trained


def _until_the_stop(policy: Policy, ids: list[int], trained: list[bool]) -> list[bool]:
    """Each turn up to its first end token, which is taken in where the turn stopped just before it."""
    found = [False] * len(ids)
    done = False
    for index, (token, flag) in enumerate(zip(ids, trained, strict=True)):
        before = index > 0 and trained[index - 1]
        stop = token in policy.eos_ids
        if flag and not before:
            done = False
        takes = (flag and not done) or (stop and before and not flag and not done)
        found[index] = takes
        if takes and stop:
            done = True
    return found
