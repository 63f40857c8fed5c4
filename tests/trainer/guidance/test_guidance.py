"""The guidance that gives none."""

from __future__ import annotations

from trainer.guidance.none import NoGuidance
from trainer.spec import spec_parse


def test_no_guidance_is_the_default() -> None:
    spec = spec_parse({"rewards": [{"type": "exact-match"}]})
    assert isinstance(spec.guidance, NoGuidance)
