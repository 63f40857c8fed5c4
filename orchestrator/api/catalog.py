"""What can be launched: methods, recipes, and what each metric means."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router

from orchestrator.api.shapes import Listed, MetricHelpOut, RecipeOut
from trainer.catalog import catalog_data
from trainer.metrics import help_of, known_keys
from trainer.recipebook import recipes

router = Router(tags=["catalogue"])


@router.get("/catalog")
def catalog(request: HttpRequest) -> dict[str, Any]:
    """Every method and every section of the spec with its knobs."""
    return catalog_data()


@router.get("/recipes", response=Listed[RecipeOut])
def recipe_list(request: HttpRequest) -> dict[str, Any]:
    """The shipped recipes; `missing` says what one still needs on this server."""
    found = recipes()
    return {"items": [vars(recipe) for recipe in found], "count": len(found)}


@router.get("/metrics", response=dict[str, MetricHelpOut])
def metric_help(
    request: HttpRequest, names: Annotated[str, Query(alias="keys", max_length=60_000)] = ""
) -> dict[str, Any]:
    """Definition, unit, normaliser and healthy range of each metric named in `keys`."""
    wanted = [key for key in names.split(",") if key] or list(known_keys())
    return {key: asdict(help_of(key)) for key in wanted}
