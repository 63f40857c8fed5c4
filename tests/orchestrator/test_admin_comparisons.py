"""The admin of comparisons and votes: all is told, nothing is changed, no row costs a query, doors stay shut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from orchestrator.models import (
    Ballot,
    Checkpoint,
    Comparison,
    External,
    GoldMark,
    Judgement,
    Run,
    User,
    Vote,
)
from tests.orchestrator.compared import EXACT, compared, judged, scored, voted

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

pytestmark = pytest.mark.django_db
KINDS = (Comparison, Vote, Ballot, GoldMark, Judgement)


def list_of(kind: Any) -> str:
    return reverse(f"admin:orchestrator_{kind._meta.model_name}_changelist")


def page_of(thing: Any) -> str:
    return reverse(f"admin:orchestrator_{thing._meta.model_name}_change", args=[thing.pk])


def words_of(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, address
    return str(answer.content.decode())


def filled(owner: User, voter: User, name: str = "base against tuned", number: int = 1) -> Any:
    """A comparison with a vote, an open ballot, a test item and two judgements."""
    made = compared(owner, scorers=[EXACT], name=name)
    scored(made, lambda arm, item: float(arm == "tuned"))
    voted(made, voter, number, "left", seconds=4.0, gold="right")
    judged(made, number, "left", said="The first is shorter.")
    judged(made, number, "", problem="nonsense", sides=("tuned", "base"))
    base, tuned = made.arms.all()
    pair = {"comparison": made, "item": made.items.get(number=number)}
    Ballot.objects.create(**pair, left=base, right=tuned, voter=voter)
    GoldMark.objects.create(**pair, better=tuned, worse=base, by=owner)
    return made


@pytest.fixture
def signed(client: Client, alma: User) -> User:
    """An admin by role, whom nobody made staff or superuser."""
    client.force_login(alma)
    return alma


@pytest.fixture
def made(ada: User, vera: User) -> Comparison:
    return filled(ada, vera)


def test_a_comparisons_page_tells_all_and_links_to_the_products(
    client: Client, signed: User, made: Comparison
) -> None:
    made.promotion = {
        "better_on": "exact-match", "not_worse_on": "", "margin": 0.0,
        "decided": [{"candidate": "tuned", "approve": True, "reason": "It is <i>better</i>."}],
    }  # fmt: skip
    made.save()
    text = words_of(client, page_of(made))
    for word in (
        f'href="{reverse("comparison", args=[made.pk])}"',
        f'href="{reverse("api:comparison_report_html", args=[made.pk])}"',
        "16 / 16", "ready", "8 / 8", "better on exact-match", "approved", "baseline", "arithmetic",
        "CSV", "&lt;i&gt;better", f"comparison__id__exact={made.pk}",
    ):  # fmt: skip
        assert word in text, word
    row = words_of(client, list_of(Comparison)).partition('id="result_list"')[2]
    for word in ("ready", "16 / 16", "base · tuned", "exact-match", "ada"):
        assert word in row, word


def test_a_comparison_that_lacks_answers_says_so(client: Client, signed: User, ada: User) -> None:
    missing = compared(ada, text=lambda arm, number, index: None if number else "x")
    text = words_of(client, page_of(missing))
    assert "2 / 16" in text and "14 answers are missing" in text


def test_votes_and_judgements_tell_what_was_shown(
    client: Client, signed: User, made: Comparison
) -> None:
    text = words_of(client, page_of(Vote.objects.get()))
    for word in (
        "What is 1 + 1?",
        "wrong, right is right",
        "vera",
        "4",
        "base",
        "tuned",
        "answer ",
    ):
        assert word in text, word
    for one in Judgement.objects.all():
        text = words_of(client, page_of(one))
        assert ("The first is shorter." in text) == bool(one.outcome)
        assert ("nonsense" in text and "failed" in text) == (not one.outcome)
    assert "tuned" in words_of(client, page_of(GoldMark.objects.get()))


def test_an_open_ballot_does_not_tell_whose_answers_it_holds(
    client: Client, signed: User, made: Comparison
) -> None:
    ballot = Ballot.objects.get()
    for address in (page_of(ballot), list_of(Ballot)):
        text = words_of(client, address)
        assert text.count("hidden until it is voted on") == 3 and ">tuned<" not in text
    Ballot.objects.update(closed=timezone.now())
    assert ">tuned<" in words_of(client, page_of(ballot))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_nothing_is_added_changed_or_deleted(
    client: Client, signed: User, made: Comparison, kind: Any
) -> None:
    one = kind.objects.first()
    assert 'name="_save"' not in words_of(client, page_of(one))
    assert client.post(page_of(one), {"name": "x", "outcome": "tie"}).status_code == 403
    assert client.get(f"{list_of(kind)}add/").status_code == 403
    assert (
        client.post(page_of(one).replace("/change/", "/delete/"), {"post": "yes"}).status_code
        == 403
    )
    assert client.post(
        list_of(kind), {"action": "delete_selected", "_selected_action": [one.pk], "post": "yes"}
    ).status_code in (200, 302)
    assert kind.objects.filter(pk=one.pk).exists()


@pytest.mark.parametrize(
    ("kind", "query", "count"),
    [
        (Comparison, "q=tuned", 1), (Comparison, "q=nobody", 0), (Comparison, "q=ada", 1),
        (Comparison, "rule=none", 1), (Comparison, "rule=waits", 0), (Comparison, "rule=decided", 0),
        (Comparison, "imported__exact=1", 0), (Comparison, "stopped__isempty=1", 1), (Comparison, "o=7.1", 1),
        (Vote, "outcome__exact=left", 1), (Vote, "outcome__exact=tie", 0), (Vote, "gold=yes", 1),
        (Vote, "gold=no", 0),
        (Vote, "undone__isempty=1", 1), (Vote, "q=vera", 1), (Vote, "q=What is 1", 1), (Vote, "q=zzz", 0),
        (Ballot, "closed__isempty=1", 1), (Ballot, "closed__isempty=0", 0), (Ballot, "q=vera", 1),
        (GoldMark, "q=ada", 1), (GoldMark, "q=zzz", 0), (Judgement, "there=no", 1), (Judgement, "there=yes", 1),
        (Judgement, "q=shorter", 1), (Judgement, f"judge={'a' * 64}", 2),
    ],
)  # fmt: skip
def test_lists_are_filtered_and_searched(
    client: Client, signed: User, made: Comparison, kind: Any, query: str, count: int
) -> None:
    page = client.get(f"{list_of(kind)}?{query}")
    assert page.status_code == 200 and page.context["cl"].result_count == count
    assert "e=1" not in page.request["QUERY_STRING"]


def test_votes_are_filtered_by_comparison_and_voter(
    client: Client, signed: User, made: Comparison, ada: User, bob: User, vera: User
) -> None:
    filled(bob, ada, "another")
    address = list_of(Vote)
    for query in (f"comparison__id__exact={made.pk}", f"voter__id__exact={vera.pk}"):
        assert client.get(f"{address}?{query}").context["cl"].result_count == 1
    assert client.get(address).context["cl"].result_count == 2


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_more_rows_cost_no_more_queries(
    client: Client, signed: User, made: Comparison, ada: User, vera: User, kind: Any
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            words_of(client, list_of(kind))
        return len(seen)

    queries()
    before = queries()
    for place in range(4):
        filled(ada, vera, f"number {place}")
    assert kind.objects.count() >= 5
    assert queries() <= before < 20


def test_lists_of_runs_checkpoints_and_externals_cost_no_query_a_row(
    client: Client, signed: User, run: Run, ada: User
) -> None:
    def more(place: int) -> None:
        one = Run.objects.create(name=f"r{place}", owner=ada, spec=run.spec, node=run.node)
        Checkpoint.objects.create(run=one, attempt=1, step=place, path="x", sha256=f"{place:064d}")
        External.objects.create(name=f"e{place}", kind="hub", source=f"NAME/M{place}", owner=ada)

    def queries(kind: Any) -> int:
        with CaptureQueriesContext(connection) as seen:
            words_of(client, list_of(kind))
        return len(seen)

    more(1)
    kinds = (Run, Checkpoint, External)
    before = {kind: queries(kind) for kind in kinds}
    for place in range(2, 8):
        more(place)
    for kind in kinds:
        assert queries(kind) <= before[kind] < 20, kind


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_the_admin_is_shut_to_whom_no_admin_let_in(
    client: Client, person: Callable[..., User], made: Comparison, role: str
) -> None:
    client.force_login(person("eve", role))
    for kind in KINDS:
        for address in (list_of(kind), page_of(kind.objects.first())):
            assert client.get(address).status_code == 302, address
    assert client.get(reverse("admin:index"), follow=True).status_code == 403


def test_who_was_given_a_permission_looks_at_that_alone(
    client: Client, person: Callable[..., User], made: Comparison, run: Run
) -> None:
    eve = person("eve")
    eve.is_staff = True
    eve.save()
    client.force_login(eve)
    kept = [
        Checkpoint.objects.create(run=run, attempt=1, step=step, path="x", sha256=str(step) * 64)
        for step in (1, 2)
    ]
    assert client.get(list_of(Vote)).status_code == 403
    allowed = ("view_checkpoint", "view_vote", "view_comparison")
    eve.user_permissions.add(*Permission.objects.filter(codename__in=allowed))
    for kind in (Checkpoint, Vote, Comparison):
        assert client.get(list_of(kind)).status_code == 200
        assert client.get(page_of(kind.objects.first())).status_code == 200
    for kind in (Ballot, GoldMark, Judgement, Run, User, External):
        assert client.get(list_of(kind)).status_code == 403, kind
    form = {"action": "compare_selected", "_selected_action": [one.pk for one in kept]}
    assert "/compare/new?with=" in client.post(list_of(Checkpoint), form)["Location"]


def test_an_admin_who_loses_the_role_loses_the_admin(
    client: Client, signed: User, made: Comparison
) -> None:
    assert client.get(list_of(Vote)).status_code == 200
    signed.role = "operator"
    signed.save()
    assert client.get(list_of(Vote)).status_code == 302
    signed.role, signed.is_active = "admin", False
    assert not signed.has_perm("orchestrator.view_vote") and not signed.may_enter_admin


def test_models_of_both_kinds_open_the_form_with_them(
    client: Client, signed: User, run: Run, ada: User
) -> None:
    kept = [
        Checkpoint.objects.create(run=run, attempt=1, step=step, path="x", sha256=f"{step:064d}")
        for step in range(1, 8)
    ]
    brought = [
        External.objects.create(name=name, kind="hub", source=f"NAME/{name}", owner=ada)
        for name in "ab"
    ]
    for kind, chosen, prefix in (
        (Checkpoint, kept[:6], "checkpoint"),
        (External, brought, "external"),
    ):
        form = {"action": "compare_selected", "_selected_action": [one.pk for one in chosen]}
        page = client.post(list_of(kind), form, follow=True)
        assert page.status_code == 200 and page.redirect_chain
        for one in chosen:
            assert f'value="{prefix}:{one.pk}"' in page.content.decode()
    form = {"action": "compare_selected", "_selected_action": [one.pk for one in kept]}
    text = client.post(list_of(Checkpoint), form, follow=True).content.decode()
    assert "7 are selected; a comparison has at most 6 models." in text
    form["_selected_action"] = [kept[0].pk]
    text = client.post(list_of(Checkpoint), form, follow=True).content.decode()
    assert "Choose at least two to compare." in text


def test_a_vote_that_was_taken_back_says_so_in_the_list(
    client: Client, signed: User, made: Comparison
) -> None:
    assert "taken back" not in words_of(client, list_of(Vote))
    Vote.objects.update(undone=timezone.now())
    assert "Left, taken back" in words_of(client, list_of(Vote))
