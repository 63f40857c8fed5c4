"""The adapters that change nothing."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from trainer import registry
from trainer.adapters.none import NoAdapter
from trainer.spec import RunSpec, spec_parse


def test_no_adapter_is_the_default_and_has_no_knobs() -> None:
    spec = spec_parse({"rewards": [{"type": "exact-match"}]})
    assert isinstance(spec.adapter, NoAdapter)
    with pytest.raises(ValidationError):
        registry.family("adapters")["none"](type="none", rank=8)
    assert "adapter" in RunSpec.model_fields
