"""What every part of a spec is built on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the spec: frozen, unknown keys refused, help text under each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
