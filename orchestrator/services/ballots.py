"""Blind votes: give out ballots, take votes, take them back, mark test items.

The pair of a ballot is kept in the database. What goes to the page is a signed name for it, which says
nothing of the models: which of them wrote what is told only in answer to the vote.
"""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.utils import timezone

from orchestrator.models import Ballot, GoldMark, Outcome, Role, Vote
from orchestrator.models.user import ROLE_RANK
from orchestrator.selectors.ballot_pool import ballot_pool, pair_texts
from orchestrator.selectors.vote_room import room_of
from orchestrator.services.ballot_draw import ballot_draw

if TYPE_CHECKING:
    from orchestrator.models import Comparison, User

EXPIRES_SECONDS = 4 * 3600
VOTE_PERMISSION = "orchestrator.add_vote"
"""What an admin gives to a viewer who shall vote too."""
TOKEN_MOST = 300
_SALT = "orchestrator.ballots"
_REFUSED = "ballot: not one that this server gave out; ask for a new one"


class Settled(ValueError):
    """It has been done, or came too late: the text says what, and what to do now."""


class NothingToVote(ValueError):
    """There is no pair for this voter now; the text says why."""


def may_vote(user: User, role: str | None = None, *, reads_only: bool = False) -> bool:
    """Whether this person may vote: operators, admins, and those whom an admin gave the permission.

    `role` and `reads_only` are those of an API token, which may be less than its user's.
    """
    if reads_only:
        return False
    rank = ROLE_RANK[Role(role or user.role)]
    return rank >= ROLE_RANK[Role.OPERATOR] or bool(user.has_perm(VOTE_PERMISSION))


def ballot_next(*, comparison: Comparison, voter: User) -> tuple[Ballot, dict[str, str]]:
    """The pair that this voter is to judge, and its texts: prompt, left and right.

    It stays the same one, in the same order, until it is voted on or too old: loading the page again draws
    no other. Raises NothingToVote.
    """
    with transaction.atomic():
        _one_at_a_time(comparison, voter)
        ballot = Ballot.objects.filter(comparison=comparison, voter=voter, closed=None).first()
        if ballot is not None:
            texts = None if _is_old(ballot) else _texts(ballot)
            if texts is not None:
                return ballot, texts
            Ballot.objects.filter(pk=ballot.pk).update(closed=timezone.now())
        pool = ballot_pool(comparison, voter)
        drawn = ballot_draw(pool, random.SystemRandom(), gold_rate=settings.ANNEAL_GOLD_RATE)
        if drawn is None:
            raise NothingToVote(room_of(pool).sentence)
        ballot = Ballot.objects.create(
            comparison=comparison,
            voter=voter,
            item_id=drawn.item,
            index=drawn.index,
            left_id=drawn.left,
            right_id=drawn.right,
            gold=drawn.gold,
        )
        texts = _texts(ballot)
        assert texts is not None
        return ballot, texts


def ballot_token(ballot: Ballot) -> str:
    """What the page sends back with the vote: readable, and it says nothing of the pair."""
    return signing.dumps([ballot.pk, ballot.voter_id], salt=_SALT)


def vote_cast(
    *, comparison: Comparison, voter: User, token: str, outcome: str, seconds: float = 0.0
) -> Vote:
    """Store a vote, once. Raises ValueError for a ballot that is none, Settled for one that is used up."""
    if outcome not in Outcome.values:
        raise ValueError(f"outcome: must be one of {', '.join(Outcome.values)}")
    ballot = _ballot_read(token, comparison, voter)
    now = timezone.now()
    with transaction.atomic():
        mine = Ballot.objects.filter(pk=ballot.pk, voter=voter, closed=None)
        if mine.update(closed=now) != 1:
            raise Settled(
                "This pair has had its vote: from another tab, or by a second click. The first one "
                "counts; go on with the next pair."
            )
        return Vote.objects.create(
            comparison=comparison,
            voter=voter,
            item_id=ballot.item_id,
            index=ballot.index,
            left_id=ballot.left_id,
            right_id=ballot.right_id,
            gold=ballot.gold,
            outcome=outcome,
            # A browser can be wrong, but not by more than the time since it got the pair.
            seconds=min(seconds, (now - ballot.created).total_seconds()),
        )


def vote_undo(*, comparison: Comparison, voter: User, vote_id: int) -> None:
    """Take one's own vote back. The pair is not shown to this voter again, who knows the names now.

    Raises Vote.DoesNotExist, or Settled for a vote that was taken back before.
    """
    mine = Vote.objects.filter(comparison=comparison, voter=voter, pk=vote_id)
    if mine.filter(undone=None).update(undone=timezone.now()) != 1:
        mine.get()
        raise Settled("This vote was taken back already; it does not count.")


def gold_mark(*, comparison: Comparison, user: User, role: str | None, vote_id: int) -> GoldMark:
    """Make the pair of one's own vote a test item, with what was voted as the right answer. Admins only.

    Raises Vote.DoesNotExist; ValueError for a vote for neither side; Settled where it is one already.
    """
    if (role or user.role) != Role.ADMIN:
        raise PermissionDenied("only admins mark test items")
    vote = Vote.objects.get(comparison=comparison, voter=user, pk=vote_id, undone=None)
    if vote.outcome not in (Outcome.LEFT, Outcome.RIGHT):
        raise ValueError(
            f"vote: {vote.outcome} names no better answer; a test item needs left or right"
        )
    ends = (vote.left_id, vote.right_id)
    better, worse = ends if vote.outcome == Outcome.LEFT else ends[::-1]
    with transaction.atomic():
        _one_at_a_time(comparison, user)
        known = GoldMark.objects.filter(
            item=vote.item_id, index=vote.index, better__in=ends, worse__in=ends
        )
        if known.exists():
            raise Settled("This pair is a test item already.")
        return GoldMark.objects.create(
            comparison=comparison,
            item_id=vote.item_id,
            index=vote.index,
            better_id=better,
            worse_id=worse,
            by=user,
        )


def gold_unmark(*, comparison: Comparison, user: User, role: str | None, mark_id: int) -> None:
    """Let a pair be voted on for the ratings again. Raises GoldMark.DoesNotExist."""
    if (role or user.role) != Role.ADMIN:
        raise PermissionDenied("only admins mark test items")
    GoldMark.objects.get(comparison=comparison, pk=mark_id).delete()


def _ballot_read(token: str, comparison: Comparison, voter: User) -> Ballot:
    try:
        ballot_id, voter_id = signing.loads(token, salt=_SALT, max_age=EXPIRES_SECONDS)
    except signing.SignatureExpired as error:
        hours = EXPIRES_SECONDS // 3600
        raise Settled(
            f"This pair was shown more than {hours} hours ago; take a new one."
        ) from error
    except (signing.BadSignature, ValueError, TypeError) as error:
        raise ValueError(_REFUSED) from error
    ballot: Any = Ballot.objects.filter(pk=ballot_id, comparison=comparison).first()
    if ballot is None:
        raise ValueError(_REFUSED)
    if voter_id != voter.pk:
        raise ValueError("ballot: it was given to somebody else; ask for one of your own")
    return ballot


def _is_old(ballot: Ballot) -> bool:
    return timezone.now() - ballot.created > timedelta(seconds=EXPIRES_SECONDS)


def _texts(ballot: Ballot) -> dict[str, str] | None:
    """What the voter reads; None where an answer is gone."""
    found = pair_texts(ballot.item, ballot.index, ballot.left, ballot.right)
    return found and {"prompt": ballot.item.prompt, "left": found[0], "right": found[1]}


def _one_at_a_time(comparison: Comparison, voter: User) -> None:
    """Two tabs that ask at once get the same ballot."""
    key = f"ballot/{comparison.pk}/{voter.pk}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])
