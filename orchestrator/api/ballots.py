"""Blind votes: take a ballot, vote, take a vote back; test items, for admins."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from django.http import Http404, HttpRequest
from ninja import Field, Path, Router, Schema
from ninja.errors import AuthorizationError

from orchestrator.api.access import ADMINS, Bearer, Caller, Session
from orchestrator.api.problems import Conflict
from orchestrator.api.shapes import Strict
from orchestrator.models import GoldMark, Role, Vote
from orchestrator.selectors.ballot_pool import ballot_pool
from orchestrator.selectors.vote_room import room_of, sides_told, voted_by
from orchestrator.selectors.votes import comparison_get
from orchestrator.services import ballots

if TYPE_CHECKING:
    from orchestrator.models import Comparison

router = Router(tags=["comparisons"])

ComparisonId = Annotated[str, Path(max_length=12)]
RowId = Annotated[int, Path(ge=1, lt=2**63)]
DAY_SECONDS = 86_400


def _voting(caller: Caller) -> Caller:
    if not ballots.may_vote(caller.user, caller.role, reads_only=caller.reads_only):
        raise AuthorizationError(
            message="only operators, admins and those whom an admin allowed vote; the ratings are open to you"
        )
    return caller


class VotersToken(Bearer):
    """An API token of somebody who may vote, and that does more than read."""

    def authenticate(self, request: HttpRequest, token: str) -> Caller:
        """Find the caller, or refuse."""
        return _voting(super().authenticate(request, token))


class VotersSession(Session):
    """The session of somebody who may vote."""

    def __call__(self, request: HttpRequest) -> Caller | None:
        """Find the caller, or refuse; None without a session."""
        caller = super().__call__(request)
        return caller and _voting(caller)


VOTERS: list[Any] = [VotersToken(Role.VIEWER), VotersSession(Role.VIEWER)]


class BallotOut(Schema):
    """Two answers to one prompt. Nothing in here tells which model wrote which."""

    ballot: str
    """Send it back with the vote; it is good for four hours, for one vote, for this person."""
    prompt: str
    left: str
    right: str
    voted: int
    """Votes of this person in this comparison."""
    left_words: str
    """How many pairs are left, roughly."""


class VoteIn(Strict):
    """What was said of a ballot's answers."""

    ballot: str = Field(max_length=ballots.TOKEN_MOST)
    outcome: Literal["left", "right", "tie", "both-bad"]
    seconds: float = Field(0.0, ge=0, le=DAY_SECONDS, allow_inf_nan=False)
    """From showing the pair to the vote."""


class WriterOut(Schema):
    """Who wrote an answer."""

    name: str
    position: int
    model: str
    checkpoint: str | None


class VoteOut(Schema):
    """A vote, and the names that it was given without."""

    id: int
    outcome: str
    left: WriterOut
    right: WriterOut
    voted: int


class MarkIn(Strict):
    """A test item to be made from one's own vote."""

    vote: int = Field(ge=1, lt=2**63)


class MarkOut(Schema):
    """A test item."""

    id: int
    item: int
    """Number of the prompt."""
    sample: int
    better: str
    worse: str
    by: str
    created: datetime


@router.post("/comparisons/{comparison_id}/ballots", auth=VOTERS, response=BallotOut)
def ballot_take(request: HttpRequest, comparison_id: ComparisonId) -> dict[str, Any]:
    """The pair to judge next: the same one until it is voted on. 409 where there is none, with the reason.

    Operators, admins, and those with the permission `orchestrator.add_vote`.
    """
    comparison, caller = comparison_or_404(comparison_id), request.auth
    try:
        ballot, texts = ballots.ballot_next(comparison=comparison, voter=caller.user)
    except ballots.NothingToVote as error:
        raise Conflict(str(error)) from error
    room = room_of(ballot_pool(comparison, caller.user))
    return {
        "ballot": ballots.ballot_token(ballot),
        **texts,
        "voted": voted_by(comparison, caller.user),
        "left_words": room.left_words,
    }


@router.post("/comparisons/{comparison_id}/votes", auth=VOTERS, response={201: VoteOut})
def vote_send(
    request: HttpRequest, comparison_id: ComparisonId, payload: VoteIn
) -> tuple[int, dict[str, Any]]:
    """Vote, and learn who wrote what. 409 where the ballot has had its vote."""
    comparison, caller = comparison_or_404(comparison_id), request.auth
    try:
        vote = ballots.vote_cast(
            comparison=comparison,
            voter=caller.user,
            token=payload.ballot,
            outcome=payload.outcome,
            seconds=payload.seconds,
        )
    except ballots.Settled as error:
        raise Conflict(str(error)) from error
    told = {"id": vote.pk, "outcome": vote.outcome, **sides_told(vote)}
    return 201, {**told, "voted": voted_by(comparison, caller.user)}


@router.delete("/comparisons/{comparison_id}/votes/{vote_id}", auth=VOTERS, response={204: None})
def vote_take_back(
    request: HttpRequest, comparison_id: ComparisonId, vote_id: RowId
) -> tuple[int, None]:
    """Take one's own vote back; the pair does not come again, since its names are known."""
    comparison, caller = comparison_or_404(comparison_id), request.auth
    try:
        ballots.vote_undo(comparison=comparison, voter=caller.user, vote_id=vote_id)
    except Vote.DoesNotExist as error:
        raise Http404("you gave no such vote here") from error
    except ballots.Settled as error:
        raise Conflict(str(error)) from error
    return 204, None


@router.get("/comparisons/{comparison_id}/gold", auth=ADMINS, response=list[MarkOut])
def gold_list(request: HttpRequest, comparison_id: ComparisonId) -> list[dict[str, Any]]:
    """Test items that admins marked; those of the exact scorer are not listed."""
    marks = GoldMark.objects.filter(comparison=comparison_or_404(comparison_id))
    return [_mark(one) for one in marks.select_related("item", "better", "worse", "by")]


@router.post("/comparisons/{comparison_id}/gold", auth=ADMINS, response={201: MarkOut})
def gold_add(
    request: HttpRequest, comparison_id: ComparisonId, payload: MarkIn
) -> tuple[int, dict[str, Any]]:
    """Make the pair of one's own vote a hidden test item, with what was voted as the right answer."""
    comparison, caller = comparison_or_404(comparison_id), request.auth
    words = {"user": caller.user, "role": caller.role, "vote_id": payload.vote}
    try:
        return 201, _mark(ballots.gold_mark(comparison=comparison, **words))
    except Vote.DoesNotExist as error:
        raise Http404("you gave no such vote here, or took it back") from error
    except ballots.Settled as error:
        raise Conflict(str(error)) from error


@router.delete("/comparisons/{comparison_id}/gold/{mark_id}", auth=ADMINS, response={204: None})
def gold_remove(
    request: HttpRequest, comparison_id: ComparisonId, mark_id: RowId
) -> tuple[int, None]:
    """Let the pair be voted on for the ratings again."""
    comparison, caller = comparison_or_404(comparison_id), request.auth
    words = {"user": caller.user, "role": caller.role, "mark_id": mark_id}
    try:
        ballots.gold_unmark(comparison=comparison, **words)
    except GoldMark.DoesNotExist as error:
        raise Http404("there is no such test item") from error
    return 204, None


def comparison_or_404(comparison_id: str) -> Comparison:
    """The comparison with this id."""
    comparison = comparison_get(comparison_id)
    if comparison is None:
        raise Http404("there is no such comparison")
    return comparison


def _mark(mark: GoldMark) -> dict[str, Any]:
    return {
        "id": mark.pk,
        "item": mark.item.number,
        "sample": mark.index,
        "better": mark.better.name,
        "worse": mark.worse.name,
        "by": mark.by.get_username(),
        "created": mark.created,
    }
