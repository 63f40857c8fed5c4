"""Every URL, every API operation and every socket is closed unless it stands on a list here.

They are walked without a login, with too small a role, and as a person who does not own the object. What
counts is the database: a request that should not change anything must leave every row as it was.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from channels.testing import WebsocketCommunicator
from django.apps import apps
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from orchestrator.asgi import application
from orchestrator.models import (
    ApiToken,
    Attempt,
    Checkpoint,
    Comparison,
    Dataset,
    External,
    GoldMark,
    Node,
    Role,
    Run,
    User,
)
from orchestrator.routing import websocket_urlpatterns
from orchestrator.selectors.judges import Judge
from orchestrator.services.judges import judge_checked
from orchestrator.services.tokens import api_token_create, digest_of
from tests.orchestrator.compared import compared, voted
from tests.orchestrator.playing import playground_ready
from trainer.answering import judge_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

OPEN_TO_STRANGERS = {
    ("GET", "/login/"),
    ("POST", "/login/"),
    ("PUT", "/login/"),  # Django's forms take it for POST
    ("GET", "/login/link/TOKEN/"),
    ("POST", "/login/link/TOKEN/"),
    ("GET", "/api/health"),
}
"""Answered without a login: the ways in, and health without details."""

OPEN_TO_VIEWERS = {
    ("POST", "/login/"),
    ("POST", "/login/link/TOKEN/"),
    ("POST", "/logout/"),
    ("POST", "/admin/logout/"),
    ("POST", "/account/tokens/"),
    ("POST", "/api/runs/validate"),
}
"""Requests other than GET that do something for everybody signed in, and change nothing but their own."""

MADE_BY_OPERATORS = re.compile(
    r"POST /api/(runs|datasets|externals|runs/\w+/(clone|fork)|comparisons|comparisons/import"
    r"|comparisons/\w+/(ballots|votes|preferences|evaluation-set)|playgrounds)"
)
"""What an operator may do without owning anything: make something new, and vote."""
NEW_FROM_OLD = ("/clone", "/fork")
"""So do these, from a run that anybody may look at."""

TOKENS_ONLY = {("GET", "/metrics")}
"""For programs: a session does not let in, so that no page can read it in somebody's browser."""

SOCKETS = {"ws/node/", "ws/browser/"}

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
REFUSED = {302, 401, 403, 404, 405}
OWN_BUSINESS = {ApiToken, User}
"""Tables that a person's own requests may change: tokens, last login."""

RUN_VERBS = (
    *("stop", "pause", "resume", "retry", "archive", "unarchive", "delete", "save", "evaluate"),
)
NODE_VERBS = ("drain", "undrain", "cordon", "uncordon", "change", "renew", "revoke", "remove")
COMPARISON_VERBS = ("read", "ask", "again")
VERBS = (*RUN_VERBS, *NODE_VERBS, *COMPARISON_VERBS)
"""What pages ask of runs, nodes and comparisons."""

TOKENS_OF_ROUTES = {
    "token": "TOKEN",
    "tab": "charts",
    "recipe": "arith-grpo",
    "app_label": "orchestrator",
    "content_type_id": "1",
    "object_id": "1",
    "id": "1",
    "url": "nothing",
    "family": "objectives",
    "tag": "grpo",
}


@pytest.fixture
def people(db: None) -> dict[str, User]:
    roles = {"ada": Role.OPERATOR, "bob": Role.OPERATOR, "vera": Role.VIEWER}
    return {name: User.objects.create_user(name, password="x", role=roles[name]) for name in roles}


@pytest.fixture
def values(people: dict[str, User]) -> dict[str, str]:
    """What stands in the URLs: things that ada owns."""
    ada = people["ada"]
    node = Node.objects.create(name="n1", token_digest=digest_of("node-token"))
    run = Run.objects.create(name="r", owner=ada, spec={}, attempt=1, node=node, process="alive")
    Run.objects.update(state="running")
    Attempt.objects.create(run=run, number=1, node=node)
    checkpoint = Checkpoint.objects.create(run=run, attempt=1, step=1, path="x", sha256="0" * 64)
    dataset = Dataset.objects.create(
        name="d",
        owner=ada,
        filename="d.jsonl",
        sha256="0" * 64,
        bytes=1,
        rows=1,
        columns=["prompt"],
    )
    comparison = compared(ada)
    # Its judge is at work elsewhere, as far as anybody knows.
    knobs = judge_checked({"url": "http://127.0.0.1:9/v1", "model": "wise"})
    judge = Judge(judge_digest(knobs), knobs, (("base", "tuned"),), begun="2026-01-01T00:00:00Z")
    Comparison.objects.filter(pk=comparison.pk).update(judges=[judge.plain()])
    vote = voted(comparison, ada, 0, "left")
    ends = {"better": vote.left, "worse": vote.right}
    mark = GoldMark.objects.create(comparison=comparison, item=vote.item, by=ada, **ends)
    external = External.objects.create(name="e", kind="hub", source="NAME/MODEL", owner=ada)
    playground = playground_ready(ada, node, ["one", "two"])
    api_token_create(user=ada)
    return TOKENS_OF_ROUTES | {
        "comparison_id": comparison.pk,
        "digest": judge.digest,
        "vote_id": str(vote.pk),
        "mark_id": str(mark.pk),
        "playground_id": playground.pk,
        "run_id": run.pk,
        "checkpoint_id": checkpoint.pk,
        "dataset_id": dataset.pk,
        "external_id": external.pk,
        "node_id": node.pk,
        "token_id": str(ApiToken.objects.get().pk),
        "name": "model.safetensors",
    }


def routes(patterns: list[Any] | None = None, before: str = "/") -> Iterator[str]:
    """Every URL pattern of the project, as one route each."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        else:
            assert isinstance(pattern, URLPattern)
            verbs = VERBS if "<slug:verb>" in route else ("",)
            yield from (route.replace("<slug:verb>", verb) for verb in verbs)


def url_of(route: str, values: dict[str, str]) -> str:
    """A URL that the route matches; a parameter that is not known here must be added to `values`."""
    if route.startswith("/^") or "(?P<" in route:
        route = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"<\1>", route).replace("^", "").replace("$", "")
        route = route.replace(".*", "nothing")
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda match: values[match[1]], route)


def rows() -> dict[str, str]:
    """Table -> a digest of its rows, for all tables of the project but those of people's own business.

    One question for all of them: it is put after each of many hundred requests.
    """
    tables = [
        model._meta.db_table
        for model in apps.get_app_config("orchestrator").get_models(include_auto_created=True)
        if model not in OWN_BUSINESS
    ]
    one = "SELECT '{0}', md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '')) FROM \"{0}\" t"
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(one.format(table) for table in tables))
        return dict(cursor.fetchall())


def ask(client: Client, method: str, url: str, values: dict[str, str]) -> int:
    """The status of a request that would do something if it were let in."""
    run_id = values["run_id"]
    fields = {
        "run": run_id,
        "runs": run_id,
        "ids": run_id,
        "id": run_id,
        "name": "taken",
        "slots": 9,
    }
    if method == "GET":
        return int(client.get(url).status_code)
    if url.startswith("/api/"):
        change = {"stage": "approved"} if "/checkpoints/" in url else {"name": "taken"}
        asked = {"prompt": "x"} if url.endswith("/questions") else {}
        body = json.dumps(change if method == "PATCH" else asked)
        return int(client.generic(method, url, body, "application/json").status_code)
    if method == "POST":
        return int(client.post(url, fields).status_code)
    return int(client.generic(method, url).status_code)


def signed_in(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


@pytest.mark.django_db
def test_a_changed_row_is_seen(values: dict[str, str]) -> None:
    """The tests below rest on it."""
    before = rows()
    Run.objects.update(name="another")
    after = rows()
    assert {table for table in after if after[table] != before[table]} == {"orchestrator_run"}


@pytest.mark.django_db
def test_strangers_reach_nothing_but_the_ways_in(values: dict[str, str]) -> None:
    before, reached = rows(), []
    client = Client(raise_request_exception=False)
    for route in routes():
        url = url_of(route, values)
        for method in METHODS:
            status = ask(client, method, url, values)
            if status not in REFUSED and (method, url) not in OPEN_TO_STRANGERS:
                reached.append(f"{method} {url} -> {status}")
    assert not reached
    assert rows() == before


@pytest.mark.django_db
def test_what_is_open_still_exists(values: dict[str, str]) -> None:
    """A list that names what is gone hides what will come back under that name."""
    known = {url_of(route, values) for route in routes()}
    assert {url for _, url in OPEN_TO_STRANGERS | OPEN_TO_VIEWERS | TOKENS_ONLY} <= known


@pytest.mark.django_db
def test_a_session_is_no_token(values: dict[str, str], people: dict[str, User]) -> None:
    client = signed_in(people["ada"])
    for method, url in TOKENS_ONLY:
        assert ask(client, method, url, values) == 401, f"{method} {url} let a session in"


@pytest.mark.django_db
def test_viewers_change_nothing(values: dict[str, str], people: dict[str, User]) -> None:
    before, reached, client = rows(), [], signed_in(people["vera"])
    for route in routes():
        url = url_of(route, values)
        for method in METHODS[1:]:
            if (method, url) in OPEN_TO_VIEWERS:
                continue
            status = ask(client, method, url, values)
            if url.startswith("/api/") and status not in REFUSED:
                reached.append(f"{method} {url} -> {status}")
            assert rows() == before, f"{method} {url} changed something"
    assert not reached
    assert client.get("/account/").status_code == 200, "signed out on the way: nothing was proved"


@pytest.mark.django_db
def test_operators_change_nothing_of_others(
    values: dict[str, str], people: dict[str, User]
) -> None:
    before, reached, client = rows(), [], signed_in(people["bob"])
    for route in routes():
        url = url_of(route, values)
        for method in METHODS[1:]:
            if (method, url) in OPEN_TO_VIEWERS or MADE_BY_OPERATORS.fullmatch(f"{method} {url}"):
                continue
            status = ask(client, method, url, values)
            if url.startswith("/api/") and status not in REFUSED:
                reached.append(f"{method} {url} -> {status}")
            assert rows() == before, f"{method} {url} changed something"
    assert not reached
    assert client.get("/account/").status_code == 200, "signed out on the way: nothing was proved"


@pytest.mark.django_db
def test_the_admin_is_for_admins(values: dict[str, str], people: dict[str, User]) -> None:
    for name in ("vera", "bob"):
        client = signed_in(people[name])
        for route in routes():
            if route.startswith("/admin/") and "logout" not in route:
                url = url_of(route, values)
                assert client.get(url).status_code in REFUSED, f"{name} reads {url}"


@pytest.mark.django_db
def test_nothing_changes_by_get(values: dict[str, str], people: dict[str, User]) -> None:
    """A link, a prefetch or an image must never do anything."""
    before, client = rows(), signed_in(people["ada"])
    for route in routes():
        url = url_of(route, values)
        client.get(url)
        assert rows() == before, f"GET {url} changed something"


def test_every_socket_is_known() -> None:
    assert {str(pattern.pattern) for pattern in websocket_urlpatterns} == SOCKETS


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", sorted(SOCKETS))
async def test_sockets_refuse_strangers(path: str) -> None:
    socket = WebsocketCommunicator(application, f"/{path}")
    connected, _ = await socket.connect()
    assert connected
    assert json.loads(await socket.receive_from())["op"] == "refused"
    assert (await socket.receive_output())["type"] == "websocket.close"
