"""What a dataset can be used for, and why not: the trainer's rules of `trainer.rows`, told before a run.

The verdict comes from the facts that were counted at upload, so that it is as quick as it is sure: a
test holds it against what the trainer does with the same file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer import registry
from trainer.conversations import unfolded
from trainer.rows import ALIASES

if TYPE_CHECKING:
    from orchestrator.models import Dataset

Facts = dict[str, Any]

NEEDS = {
    "demonstrations": ("prompt", "completion"),
    "pairs": ("prompt", "chosen", "rejected"),
    "rollouts": ("prompt",),
    "labels": ("prompt", "completion", "label"),
    "ratings": ("prompt", "completion", "rating"),
}
"""What objectives learn from -> the columns that rows must have."""
TEXTS = frozenset({"prompt", "completion", "chosen", "rejected"})
LIKELY = {
    "prompt": ("question", "instruction", "input", "query", "problem", "prompt_text", "user"),
    "completion": ("response", "output", "solution", "target", "completion_text", "assistant"),
    "chosen": ("preferred", "accepted", "chosen_response", "response_chosen", "winner", "better"),
    "rejected": ("dispreferred", "rejected_response", "response_rejected", "loser", "worse"),
    "messages": ("conversation", "conversations", "chat", "dialog", "dialogue"),
    "answer": ("final_answer", "gold", "ground_truth", "reference"),
    "label": ("desirable", "thumbs", "good", "is_good", "accepted_label"),
    "rating": ("score", "ratings", "stars", "quality"),
}
"""Our name -> what other people call it."""
OURS = tuple(LIKELY)


@dataclass(frozen=True)
class Service:
    """Whether a dataset serves one kind of objective."""

    kind: str
    methods: tuple[str, ...]
    ok: bool
    reason: str
    """What it is used for, or what is missing."""
    lost: int = 0
    """Rows that will be left out, at least."""


def services_of(dataset: Dataset) -> list[Service]:
    """The verdict for each kind of objective."""
    renamed = renamed_facts(dataset)
    broken = _mapping_broken(dataset)
    return [_service(kind, dataset, renamed, broken) for kind in NEEDS]


def suggestions_of(dataset: Dataset) -> dict[str, str]:
    """File's column -> our name that it probably means; nothing where our names are there already."""
    found: dict[str, str] = {}
    taken = set(dataset.columns) | set(dataset.mapping.values())
    by_plain = {name.lower().replace("-", "_").replace(" ", "_"): name for name in dataset.columns}
    for ours, names in LIKELY.items():
        if ours in taken or read_as(dataset, ours):
            continue
        if ours in by_plain:  # "Prompt"
            found[by_plain[ours]] = ours
            continue
        theirs = next((by_plain[name] for name in names if name in by_plain), "")
        if theirs and theirs not in found and theirs not in dataset.mapping:
            found[theirs] = ours
    return found


def read_as(dataset: Dataset, ours: str) -> str:
    """The column that the trainer takes for `prompt` by itself, when none is called that."""
    if ours != "prompt":
        return ""
    names = set(renamed_facts(dataset))
    if names & {"prompt", "messages"}:
        return ""
    return next((other for other in ALIASES["prompt"] if other in names), "")


def renamed_facts(dataset: Dataset) -> dict[str, Facts]:
    """Our name -> facts of the column that carries it."""
    facts = {name: dataset.facts.get(name, {"rows": dataset.rows}) for name in dataset.columns}
    kept = {name: fact for name, fact in facts.items() if name not in dataset.mapping}
    return kept | {
        ours: facts[theirs] for theirs, ours in dataset.mapping.items() if theirs in facts
    }


def _mapping_broken(dataset: Dataset) -> str:
    for theirs in dataset.mapping:
        rows = dataset.facts.get(theirs, {}).get("rows", dataset.rows)
        if rows < dataset.rows:
            missing = dataset.rows - rows
            return (
                f"{theirs} is renamed, but {missing:,} of {dataset.rows:,} rows do not have it; "
                "fill it in the file, or take the renaming back"
            )
    return ""


def _service(kind: str, dataset: Dataset, renamed: dict[str, Facts], broken: str) -> Service:
    methods = tuple(
        tag
        for tag, method in registry.family("objectives").items()
        if getattr(method, "learns_from", "") == kind
    )
    if broken:
        return Service(kind, methods, False, broken)
    try:
        columns, words = _unfolded(dataset, renamed)
    except ValueError as error:
        return Service(kind, methods, False, str(error))
    wanted = NEEDS[kind]
    missing = []
    for name in wanted:
        if name in columns:
            continue
        stand_in = next((other for other in ALIASES.get(name, ()) if other in columns), "")
        if stand_in:
            columns[name], words[name] = columns[stand_in], f"{stand_in} as {name}"
        else:
            missing.append(name)
    if missing:
        return Service(kind, methods, False, _missing(missing, dataset))
    lost = 0
    for name in wanted:
        fact = columns[name]
        if fact.get("other") and name in TEXTS:
            reason = (
                f"{name} is {fact['other']} in row {fact['other_row']:,}; it must be text or chat "
                "messages with role and content"
            )
            return Service(kind, methods, False, reason)
        gone = dataset.rows - fact.get("rows", dataset.rows) + fact.get("empty", 0)
        if gone >= dataset.rows:
            return Service(kind, methods, False, f"{name} is empty in every row")
        lost = max(lost, gone)
    if kind == "rollouts":
        words["answer"] = (
            "answer" if "answer" in columns else "no answer, so rewards must do without"
        )
        wanted = (*wanted, "answer")
    used = ", ".join(words.get(name, name) for name in wanted)
    return Service(kind, methods, True, used, lost)


def _unfolded(
    dataset: Dataset, renamed: dict[str, Facts]
) -> tuple[dict[str, Facts], dict[str, str]]:
    """The columns after whole conversations were taken apart, and in words where they come from."""
    columns = dict(renamed)
    words: dict[str, str] = {}
    messages = columns.get("messages", {})
    if messages.get("chat") and "prompt" not in columns:
        columns["prompt"] = {"rows": messages["chat"]}
        words["prompt"] = "prompt from messages"
        if messages.get("dialogs"):
            kept = columns.get("completion", {})
            columns["completion"] = kept | {"rows": messages["dialogs"]}
            words["completion"] = "completion from their last one"
    sides = columns.get("chosen", {}), columns.get("rejected", {})
    if all(side.get("chat") for side in sides):
        # Rows of the preview stand for all: whether conversations share a beginning is not counted.
        for row in dataset.preview:
            mapped = {dataset.mapping.get(name, name): value for name, value in row.items()}
            unfolded(mapped)
        if "prompt" not in columns:
            columns["prompt"] = {"rows": min(side["chat"] for side in sides)}
            words["prompt"] = "prompt from what chosen and rejected share"
    return columns, words


def _missing(names: list[str], dataset: Dataset) -> str:
    quoted = " and ".join(f"'{name}'" for name in names)
    likely = {ours: theirs for theirs, ours in suggestions_of(dataset).items() if ours in names}
    advice = "".join(f"; rename '{theirs}' to '{ours}'" for ours, theirs in likely.items())
    return f"there is no column {quoted}{advice}"
