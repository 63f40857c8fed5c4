"""The REST interface: every route under /api, closed to strangers unless a route opens itself."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.contrib.auth.views import redirect_to_login
from django.views.decorators.http import require_safe

from orchestrator.api.access import VIEWERS, caller_or_none
from orchestrator.api.answers import StrictJSON, StrictParser
from orchestrator.api.problems import ProblemAPI, problem, problems_register
from orchestrator.version import version

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

# A part of the product that was left out takes its routes with it.
ROUTERS = (
    "health",
    "runs",
    "queue",
    "forks",
    "life_cycle",
    "telemetry",
    "truth",
    "plan",
    "post_mortem",
    "catalog",
    "checkpoints",
    "checkpoint_copies",
    "externals",
    "retention",
    "nodes",
    "rendezvous",
    "node_changes",
    "datasets",
    "ballots",
    "ratings",
    "comparisons",
    "comparison_reports",
    "judges",
    "playgrounds",
)


def _readers_only(view: Callable[..., Any]) -> Callable[..., Any]:
    """Open the documentation to everybody who may look, by session or by token."""

    @require_safe
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if caller_or_none(request) is not None:
            return view(request, *args, **kwargs)
        if "text/html" in request.headers.get("Accept", ""):
            return redirect_to_login(request.get_full_path())
        return problem(401, "sign in or send a token", WWW_Authenticate='Bearer realm="anneal"')

    return guarded


api = ProblemAPI(
    title="Anneal",
    version=version(),
    description="Launch, watch and compare post-training runs of language models.",
    urls_namespace="api",
    auth=VIEWERS,
    renderer=StrictJSON(),
    parser=StrictParser(),
    docs_decorator=_readers_only,
)
problems_register(api)
for name in ROUTERS:
    if find_spec(f"orchestrator.api.{name}"):
        api.add_router("", import_module(f"orchestrator.api.{name}").router)
