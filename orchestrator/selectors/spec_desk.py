"""Everything that the new-run page shows of one draft: form, review, text, and what to launch."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.models.restart_policy import policy_parse
from orchestrator.selectors import spec_choices
from orchestrator.selectors.checkpoints import checkpoint_get
from orchestrator.selectors.policy_form import FIELDS, policy_fields, policy_read
from orchestrator.selectors.spec_form import Form, form_of
from orchestrator.selectors.spec_history import similar_run
from orchestrator.selectors.spec_lacks import lacks
from orchestrator.selectors.spec_post import Draft, draft_read, item_add, item_remove, spec_of
from orchestrator.selectors.spec_review import spec_checked, spec_review
from orchestrator.selectors.spec_text import TextError, spec_json, spec_read, spec_toml
from trainer.spec import CHECKPOINT_PREFIX, Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.models import Checkpoint
    from orchestrator.selectors.spec_start import Start

FORMATS = ("toml", "json")
_HIGHEST_PRIORITY = 1000


@dataclass
class Desk:
    """The page's state for one draft."""

    draft: Draft
    spec: dict[str, Any]
    review: dict[str, Any]
    form: Form
    text: str
    format: str = "toml"
    from_text: bool = False
    """Whether the text, and not the fields, was edited last."""
    text_error: str = ""
    text_line: int = 0
    recipe: str = ""
    key: str = ""
    """Of this page: it launches the same thing only once."""
    source: str = ""
    notes: list[str] = field(default_factory=list)
    tags: str = ""
    priority: str = ""
    preemptible: str = ""
    """"yes" or "no"."""
    max_restarts: str = ""
    policy: dict[str, Any] = field(default_factory=dict)
    policy_typed: dict[str, str] = field(default_factory=dict)
    """The fields of the policy as they were typed."""
    fork: str = ""
    """Id of the checkpoint that it is forked from."""
    explained: dict[str, str] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)

    @property
    def launchable(self) -> bool:
        """Whether nothing known stands against it."""
        return not self.review["errors"] and not self.text_error

    @property
    def kept(self) -> str:
        """What was typed for types that are not chosen, for a hidden field."""
        return json.dumps(self.draft.kept)

    @property
    def places(self) -> dict[str, list[str]]:
        """Problems by path, for the script that puts them at their fields."""
        found: dict[str, list[str]] = {}
        for problem in self.review["errors"]:
            found.setdefault(problem["path"], []).append(problem["message"])
        return found

    @property
    def doubts(self) -> dict[str, list[str]]:
        """Warnings by path."""
        found: dict[str, list[str]] = {}
        for problem in self.review["warnings"]:
            found.setdefault(problem["path"], []).append(problem["message"])
        return found

    @property
    def order(self) -> dict[str, Any]:
        """Keyword arguments for `run_create`."""
        tags = [tag for part in self.tags.split(",") if (tag := part.strip()[:64])]
        return {
            "spec": json.loads(json.dumps(self.spec)),
            "name": str(self.spec.get("name") or ""),
            "tags": tags,
            "priority": int(self.priority or 0),
            "preemptible": self.preemptible == "yes",
            "max_restarts": int(self.max_restarts or 3),
            "policy": self.policy,
            "recipe": self.recipe,
        }

    @property
    def parent(self) -> Checkpoint | None:
        """The checkpoint that it is forked from, unless another model was chosen since."""
        model = self.spec.get("model")
        name = model.get("name") if isinstance(model, dict) else ""
        if not self.fork or name != f"{CHECKPOINT_PREFIX}{self.fork}":
            return None
        return checkpoint_get(self.fork)

    @property
    def policy_fields(self) -> dict[str, Any]:
        """What the fields of the policy show."""
        return policy_fields(self.policy)

    def add_problem(self, path: str, message: str) -> None:
        """A problem that only the launch found."""
        self.add_problems([Problem(path=path, message=message)])

    def add_problems(self, problems: Iterable[Problem]) -> None:
        """Problems that only the launch found, put at their fields."""
        self.review["errors"] += [problem.model_dump() for problem in problems]
        self.form = form_of(self.draft.raw, _pairs(self.review["errors"]))


def desk_open(start: Start) -> Desk:
    """The desk of a page that was just opened."""
    desk = _desk(Draft(start.raw), recipe=start.recipe)
    desk.source, desk.notes, desk.tags = start.source, start.notes, ", ".join(start.tags)
    desk.key = secrets.token_hex(8)
    desk.fork, desk.policy = start.fork, start.policy
    desk.preemptible = "yes" if start.preemptible else "no"
    desk.max_restarts = "" if start.max_restarts is None else str(start.max_restarts)
    return desk


def desk_read(post: Mapping[str, Sequence[str]]) -> Desk:
    """The desk that a posted page describes, after doing what its button asked for."""

    def text(name: str) -> str:
        return str((post.get(name) or ("",))[-1]).replace("\x00", "")

    draft = draft_read(post)
    error: TextError | None = None
    from_text = text("_source") == "text"
    if from_text:
        try:
            draft = Draft(spec_read(text("_text")), draft.kept)
        except TextError as problem:
            error = problem
    _act(draft, text("_do"))
    draft.raw = spec_choices.columns_filled(draft.raw)
    asked = text("_format")
    desk = _desk(
        draft, recipe=text("_recipe"), format=asked if asked in FORMATS else "toml", whole=from_text
    )
    desk.from_text = from_text
    desk.tags, desk.source, desk.key = text("_tags"), text("_made_from"), text("_key")
    if from_text:
        desk.text = text("_text")
    if error is not None:
        desk.text_error, desk.text_line = str(error), error.line
    desk.preemptible = text("_preemptible")
    desk.fork = text("_fork")[:12]
    _numbers(desk, text("_priority"), text("_max_restarts"))
    _policy(desk, {name: text(f"_{name}") for name in FIELDS})
    return desk


def _policy(desk: Desk, typed: dict[str, str]) -> None:
    """What becomes of the run when it fails."""
    desk.policy_typed = typed
    try:
        policy = policy_parse(policy_read(lambda name: typed[name]))
    except SpecError as error:
        desk.review["errors"] += [
            {"path": "_" + one.path.split(".")[1], "message": one.message} for one in error.problems
        ]
    else:
        desk.policy = policy.model_dump(mode="json", exclude_defaults=True)


def _desk(draft: Draft, *, recipe: str, format: str = "toml", whole: bool = False) -> Desk:
    # Text is judged as written; the form leaves out what its objective has no use for.
    spec = draft.raw if whole else spec_of(draft.raw)
    review = spec_review(spec)
    found = [*spec_choices.name_problems(spec), *lacks(spec)]
    review["errors"] += [problem.model_dump() for problem in found]
    parsed, _ = spec_checked(spec)
    desk = Desk(
        draft=draft,
        spec=spec,
        review=review,
        form=form_of(draft.raw, _pairs(review["errors"])),
        text=(spec_json if format == "json" else spec_toml)(spec),
        format=format,
        recipe=recipe,
        explained=spec_choices.names_explained(spec),
    )
    if parsed is not None:
        desk.history = similar_run(parsed)
    return desk


def _act(draft: Draft, command: str) -> None:
    """`add rewards exact-match`, `remove rewards.1`."""
    verb, _, rest = command.partition(" ")
    path, _, tag = rest.partition(" ")
    if verb == "add":
        item_add(draft, path, tag)
    elif verb == "remove":
        item_remove(draft, path)


def _numbers(desk: Desk, priority: str, max_restarts: str) -> None:
    """The two numbers of the launch itself, which are no part of the spec."""
    desk.priority, desk.max_restarts = priority.strip(), max_restarts.strip()
    for path, text, low, high in (
        ("_priority", desk.priority, -_HIGHEST_PRIORITY, _HIGHEST_PRIORITY),
        ("_max_restarts", desk.max_restarts, 0, 100),
    ):
        try:
            if text and not low <= int(text) <= high:
                raise ValueError
        except ValueError:
            words = {"_priority": "priority", "_max_restarts": "max restarts"}[path]
            desk.review["errors"].append(
                {"path": path, "message": f"{words} must be a whole number from {low} to {high}"}
            )


def _pairs(problems: Iterable[dict[str, str]]) -> list[tuple[str, str]]:
    return [(problem["path"], problem["message"]) for problem in problems]
