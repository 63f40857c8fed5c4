"""JSON in and out: strict both ways, with non-finite numbers as strings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ninja.parser import Parser
from ninja.renderers import BaseRenderer
from ninja.responses import NinjaJSONEncoder

from orchestrator.services.event_fields import storable

if TYPE_CHECKING:
    from django.http import HttpRequest


class StrictJSON(BaseRenderer):
    """JSON that every parser reads: NaN and infinities travel as strings."""

    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> str:
        """The text of an answer."""
        try:
            return _dumps(data)
        except ValueError:
            return _dumps(storable(data))


class StrictParser(Parser):
    """JSON without the NaN and Infinity that Python alone would take."""

    def parse_body(self, request: HttpRequest) -> Any:
        """The data of a request's body."""
        return json.loads(request.body, parse_constant=_constant_refuse)


def _constant_refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _dumps(data: Any) -> str:
    return json.dumps(data, cls=NinjaJSONEncoder, allow_nan=False, ensure_ascii=False)
