"""What the files of an external model say, as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.models import External

LABELS = (
    ("architecture", "Architecture"),
    ("parameters", "Parameters"),
    ("layers", "Layers"),
    ("hidden_size", "Hidden size"),
    ("positions", "Positions"),
    ("dtype", "Stored as"),
    ("vocab_size", "Vocabulary"),
    ("tokens", "Tokens of the tokenizer"),
    ("tokenizer", "Tokenizer"),
    ("adapter", "Adapter"),
    ("base", "Stands on"),
    ("outputs", "Outputs"),
)


def fact_rows(external: External) -> list[tuple[str, Any]]:
    """Label and value of each fact that is known, in reading order."""
    facts = external.facts
    rows = [(label, _value(facts[key])) for key, label in LABELS if key in facts]
    if facts:
        rows.append(("Chat template", "yes" if facts.get("chat_template") else "none"))
    return rows


def size_words(external: External) -> str:
    """Architecture and parameters in a few words: "LlamaForCausalLM, 1.2 M"."""
    facts = external.facts
    count = facts.get("parameters")
    parts = [str(facts.get("architecture") or facts.get("adapter") or "")]
    if isinstance(count, int):
        parts.append(parameters_words(count))
    return ", ".join(part for part in parts if part)


def parameters_words(count: int) -> str:
    """A number of parameters as people say it: "7.62 B"."""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return str(count)


def _value(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
