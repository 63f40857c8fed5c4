"""What becomes of a run that failed: its restart policy, JSON in the database, validated on access."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainer.problems import Problem, SpecError, problems_of

RuleAction = Literal["exclude-node", "no-retry", "retry"]
ACTIONS: dict[RuleAction, str] = {
    "exclude-node": "goes on elsewhere, never again on the node where it failed",
    "no-retry": "ends, whatever the cause and however many restarts are left",
    "retry": "goes on from its newest checkpoint, whatever the cause",
}


class LogRule(BaseModel):
    """What to do when the log of a failed attempt matches."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    pattern: str = Field(min_length=1, max_length=200)
    """A regular expression of PostgreSQL, looked for in each of the attempt's last 5,000 lines and in its
    last message."""
    action: RuleAction
    """`exclude-node` goes on elsewhere, `no-retry` ends the run, `retry` goes on; the latter two whatever the
    cause."""


class RestartPolicy(BaseModel):
    """Causes that a restart may cure, beside a killed trainer and a lost node. Each restart counts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    on_oom: Literal["fail", "smaller-microbatch"] = "fail"
    """Out of memory: end, or go on with half of `batch.tokens_per_microbatch`, which changes memory and
    speed and never the gradient."""
    on_nan: Literal["fail", "rollback"] = "fail"
    """A loss or gradient that is no number: end, or go on from the newest checkpoint before it."""
    nan_lr_factor: float = Field(0.5, gt=0, le=1)
    """What the learning rate is multiplied by after such a rollback. Healthy: 0.1 to 0.5."""
    on_stall: Literal["tell", "restart", "stop"] = "tell"
    """A trainer that says nothing for longer than its phase ever took: tell it with its stacks, or after that
    end it by force and go on from the newest checkpoint, or end the run. Its node acts, with or without the
    server."""
    log_rules: tuple[LogRule, ...] = Field((), max_length=16)
    """Rules by what the trainer printed; the first one that matches decides."""

    @property
    def acts(self) -> bool:
        """Whether it asks for anything beyond the usual."""
        return self != RestartPolicy(nan_lr_factor=self.nan_lr_factor)


def policy_stored(raw: Any) -> RestartPolicy:
    """The policy that a run was stored with; the usual one where it is of another version."""
    try:
        return RestartPolicy.model_validate(raw)
    except ValidationError:
        return RestartPolicy()


def policy_parse(raw: Any) -> RestartPolicy:
    """The policy of plain data. Raises SpecError with one problem per faulty field."""
    try:
        return RestartPolicy.model_validate(raw)
    except ValidationError as error:
        raise SpecError(
            [
                Problem(path=f"policy.{one.path}".rstrip("."), message=one.message)
                for one in problems_of(error)
            ]
        ) from error
