"""Changing live knobs of a running training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from trainer.spec import spec_parse
from trainer.specfile import set_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainer.spec import RunSpec


def with_knobs(spec: RunSpec, knobs: Mapping[str, Any]) -> RunSpec:
    """The spec with live changes. Raises ValueError for a knob that cannot change while running."""
    data = spec.model_dump(mode="json")
    for path, value in knobs.items():
        if not is_live(spec, path):
            raise ValueError(f"{path} cannot change while the run is going")
        set_path(data, path, value)
    return spec_parse(data)


def is_live(spec: RunSpec, path: str) -> bool:
    """Whether a knob may change while the run is going."""
    *sections, name = path.split(".")
    place: Any = spec
    for section in sections:
        place = getattr(place, section, None)
    info = type(place).model_fields.get(name) if isinstance(place, BaseModel) else None
    extra = info.json_schema_extra if info is not None else None
    return isinstance(extra, dict) and bool(extra.get("live"))
