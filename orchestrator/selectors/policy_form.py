"""A restart policy as a form has it: fields in, plain data out, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from orchestrator.models.restart_policy import ACTIONS, RestartPolicy, RuleAction, policy_stored
from trainer.spec import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

FIELDS = ("on_oom", "on_nan", "nan_lr_factor", "on_stall", "log_rules")
CHOICES: dict[str, list[tuple[str, str]]] = {
    "on_oom": [("fail", "end the run"), ("smaller-microbatch", "halve the micro-batch")],
    "on_nan": [("fail", "end the run"), ("rollback", "roll back, lower rate")],
    "on_stall": [
        ("tell", "tell, with its stacks"),
        ("restart", "restart from checkpoint"),
        ("stop", "end the run"),
    ],
}


def policy_fields(raw: dict[str, Any]) -> dict[str, Any]:
    """What the fields of a stored policy show, and their choices."""
    policy = policy_stored(raw)
    return {
        "on_oom": policy.on_oom,
        "on_nan": policy.on_nan,
        "on_stall": policy.on_stall,
        "nan_lr_factor": f"{policy.nan_lr_factor:g}",
        "log_rules": "\n".join(f"{rule.action}: {rule.pattern}" for rule in policy.log_rules),
        **policy_words(),
    }


def policy_words() -> dict[str, Any]:
    """What a form says beside the fields."""
    found = RestartPolicy.model_fields
    return {
        "choices": CHOICES,
        "actions": ACTIONS,
        "help": {name: " ".join((found[name].description or "").split()) for name in FIELDS},
    }


def policy_read(text: Callable[[str], str]) -> dict[str, Any]:
    """The plain data of the fields, where `text` gives one by its name.

    Raises SpecError for a rule that is not of the form `action: pattern`, and a factor that is no number.
    """
    found: dict[str, Any] = {name: value for name in CHOICES if (value := text(name).strip())}
    if factor := text("nan_lr_factor").strip():
        found["nan_lr_factor"] = factor
    if rules := _rules_read(text("log_rules")):
        found["log_rules"] = rules
    return found


def _rules_read(text: str) -> list[dict[str, str]]:
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        action, separator, pattern = line.strip().partition(":")
        if not separator or action.strip() not in get_args(RuleAction) or not pattern.strip():
            actions = ", ".join(get_args(RuleAction))
            message = (
                f"line {number} must be an action ({actions}), a colon and a regular expression"
            )
            raise SpecError([Problem(path="policy.log_rules", message=message)])
        rules.append({"action": action.strip(), "pattern": pattern.strip()})
    return rules
