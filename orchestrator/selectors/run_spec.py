"""The spec of a run as it was launched, as it ran, and what differs from its recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.selectors.spec_changes import spec_changes
from orchestrator.selectors.spec_text import spec_json, spec_toml
from trainer.recipebook import recipe_find, recipe_read
from trainer.spec import SpecError, spec_hash, spec_parse

if TYPE_CHECKING:
    from orchestrator.models import Run


def run_spec(run: Run, *, form: str = "toml") -> dict[str, Any]:
    """`text` of the effective spec, `changes` since launch and since the recipe, and the hashes."""
    launched, misfits = _complete(run.spec)
    effective = run.effective_spec
    recipe = _recipe(run.recipe)
    shown = _in_order(effective) if effective else launched
    return {
        "text": spec_json(shown) if form == "json" else spec_toml(_without_empty(shown)),
        "form": form,
        "effective": effective is not None,
        "sha256": run.spec_hash,
        "sha256_matches": effective is None or spec_hash(effective) == run.spec_hash,
        "since_launch": spec_changes(launched, effective) if effective else [],
        "recipe_found": recipe is not None,
        "since_recipe": spec_changes(recipe, launched) if recipe else [],
        "misfits": misfits,
    }


def _complete(raw: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The spec with every default written out, or as it is with what no longer fits."""
    try:
        return spec_parse(raw).model_dump(mode="json"), []
    except SpecError as error:
        return raw, [str(problem) for problem in error.problems]


def _in_order(spec: dict[str, Any]) -> dict[str, Any]:
    """The same values in the order of the spec's fields, which the database does not keep."""
    ordered, _ = _complete(spec)
    return ordered if ordered == spec else spec


def _without_empty(value: Any) -> Any:
    """Without empty tables, which are only noise in TOML."""
    if isinstance(value, dict):
        return {name: _without_empty(inner) for name, inner in value.items() if inner != {}}
    if isinstance(value, list):
        return [_without_empty(inner) for inner in value]
    return value


def _recipe(name: str) -> dict[str, Any] | None:
    if not name:
        return None
    try:
        return _complete(recipe_read(recipe_find(name)).spec)[0]
    except ValueError:
        return None
