"""What people and judges said of pairs of answers: the record, which nobody edits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html

from orchestrator.admin_pages.read_only import NONE, ReadOnly, link, moment_column
from orchestrator.models import Ballot, GoldMark, Judgement, Vote
from orchestrator.selectors.ballot_pool import pair_texts
from orchestrator.templatetags.figures import figure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet
    from django.http import HttpRequest

    from orchestrator.models import Arm, Comparison, Item

PROMPT_SHOWN = 80
HIDDEN = "hidden until it is voted on"
RELATED = admin.RelatedOnlyFieldListFilter


class Gold(admin.SimpleListFilter):
    """Whether it was a hidden test item."""

    title, parameter_name = "test item", "gold"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """What can be chosen."""
        return [("yes", "test items"), ("no", "others")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The chosen ones."""
        chosen = {"yes": queryset.exclude(gold=""), "no": queryset.filter(gold="")}
        return chosen.get(self.value() or "", queryset)


class Failed(admin.SimpleListFilter):
    """Whether a judge gave no outcome."""

    title, parameter_name = "outcome there", "there"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """What can be chosen."""
        return [("yes", "judged"), ("no", "failed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The chosen ones."""
        chosen = {"yes": queryset.exclude(outcome=""), "no": queryset.filter(outcome="")}
        return chosen.get(self.value() or "", queryset)


class OfPair(ReadOnly):
    """What all records of a pair of answers show."""

    date_hierarchy = "created"
    ordering = ("-created", "-pk")

    def view_on_site(self, obj: Any) -> str:
        """The page of its comparison."""
        return reverse("comparison", args=[obj.comparison_id])

    @admin.display(description="comparison", ordering="comparison__name")
    def of(self, obj: Any) -> str:
        """Which one."""
        return link(self.view_on_site(obj), obj.comparison.name)

    @admin.display(description="prompt", ordering="item__number")
    def prompt(self, obj: Any) -> str:
        """Its number and how it begins."""
        return _prompt_words(obj.item)

    @admin.display(description="whole prompt")
    def prompt_whole(self, obj: Any) -> str:
        """As it was shown."""
        return _text(obj.item.prompt)


class Shown(OfPair):
    """A pair in the order in which it was shown."""

    @admin.display(description="left answer")
    def left_text(self, obj: Any) -> str:
        """What stood there."""
        return _answer(obj.comparison, obj.item, obj.index, obj.left, obj.right)[0]

    @admin.display(description="right answer")
    def right_text(self, obj: Any) -> str:
        """What stood there."""
        return _answer(obj.comparison, obj.item, obj.index, obj.left, obj.right)[1]


@admin.register(Vote)
class VoteAdmin(Shown):
    """Votes of people; they are cast and taken back on the comparison's page."""

    list_display = (
        moment_column("created"),
        "of",
        "prompt",
        "left",
        "right",
        "outcome_words",
        "test",
        "voter",
    )
    list_filter = (
        ("comparison", RELATED),
        ("voter", RELATED),
        "outcome",
        Gold,
        ("undone", admin.EmptyFieldListFilter),
        "created",
    )
    search_fields = (
        "comparison__name",
        "=comparison__id",
        "voter__username",
        "left__name",
        "right__name",
        "item__prompt",
    )
    search_help_text = "Comparison, voter, model, or words of the prompt"
    list_select_related = ("comparison", "item", "left", "right", "voter")
    fieldsets = (
        (
            None,
            {"fields": ("of", "voter", "outcome", "test", "created", "seconds_words", "undone")},
        ),
        (
            "The pair, as it was shown",
            {"fields": ("prompt_whole", "index", "left", "left_text", "right", "right_text")},
        ),
    )

    @admin.display(description="outcome", ordering="outcome")
    def outcome_words(self, obj: Vote) -> str:
        """What was chosen, and whether that counts."""
        chosen = obj.get_outcome_display()
        return chosen if obj.undone is None else f"{chosen}, taken back"

    @admin.display(description="test item", ordering="gold")
    def test(self, obj: Vote) -> str:
        """Whether a hidden one was voted on rightly."""
        if not obj.gold:
            return NONE
        return "right" if obj.gold == obj.outcome else f"wrong, {obj.gold} is right"

    @admin.display(description="seconds", ordering="seconds")
    def seconds_words(self, obj: Vote) -> str:
        """From showing to voting."""
        return figure(obj.seconds)


@admin.register(Ballot)
class BallotAdmin(Shown):
    """Pairs that were given out. An open one does not tell whose answers its voter is looking at."""

    list_display = (
        "id",
        moment_column("created"),
        "of",
        "prompt",
        "voter",
        "left_words",
        "right_words",
        "test",
        moment_column("closed"),
    )
    list_display_links = ("id",)
    list_filter = (
        ("comparison", RELATED),
        ("voter", RELATED),
        ("closed", admin.EmptyFieldListFilter),
        "created",
    )
    search_fields = ("id", "comparison__name", "=comparison__id", "voter__username", "item__prompt")
    search_help_text = "Id, comparison, voter, or words of the prompt"
    list_select_related = ("comparison", "item", "left", "right", "voter")
    fieldsets = (
        (None, {"fields": ("id", "of", "voter", "created", "closed", "test")}),
        (
            "The pair, as it was shown",
            {
                "fields": (
                    "prompt_whole",
                    "index",
                    "left_words",
                    "left_text",
                    "right_words",
                    "right_text",
                )
            },
        ),
    )

    @admin.display(description="left")
    def left_words(self, obj: Ballot) -> str:
        """Whose answer stood there."""
        return obj.left.name if obj.closed else HIDDEN

    @admin.display(description="right")
    def right_words(self, obj: Ballot) -> str:
        """Whose answer stood there."""
        return obj.right.name if obj.closed else HIDDEN

    @admin.display(description="test item")
    def test(self, obj: Ballot) -> str:
        """What is right of a hidden one."""
        return (obj.gold or NONE) if obj.closed else HIDDEN


@admin.register(GoldMark)
class GoldMarkAdmin(OfPair):
    """Pairs whose better answer an admin vouches for; they are marked on the side-by-side page."""

    list_display = (moment_column("created"), "of", "prompt", "better", "worse", "index", "by")
    list_filter = (("comparison", RELATED), ("by", RELATED), "created")
    search_fields = (
        "comparison__name",
        "=comparison__id",
        "by__username",
        "better__name",
        "worse__name",
        "item__prompt",
    )
    search_help_text = "Comparison, who marked it, model, or words of the prompt"
    list_select_related = ("comparison", "item", "better", "worse", "by")
    fieldsets = (
        (None, {"fields": ("of", "by", "created")}),
        (
            "The pair",
            {"fields": ("prompt_whole", "index", "better", "better_text", "worse", "worse_text")},
        ),
    )

    @admin.display(description="better answer")
    def better_text(self, obj: GoldMark) -> str:
        """What it says."""
        return _answer(obj.comparison, obj.item, obj.index, obj.better, obj.worse)[0]

    @admin.display(description="worse answer")
    def worse_text(self, obj: GoldMark) -> str:
        """What it says."""
        return _answer(obj.comparison, obj.item, obj.index, obj.better, obj.worse)[1]


@admin.register(Judgement)
class JudgementAdmin(Shown):
    """What judge models said of pairs, in one order each."""

    list_display = (
        moment_column("created"),
        "of",
        "prompt",
        "left",
        "right",
        "outcome_words",
        "judge_words",
        "repeat",
    )
    list_filter = (("comparison", RELATED), "outcome", Failed, "judge", "created")
    search_fields = (
        "comparison__name",
        "=comparison__id",
        "judge",
        "left__name",
        "right__name",
        "problem",
        "said",
        "item__prompt",
    )
    search_help_text = (
        "Comparison, model, hash of the judge, or words of problem, prompt or what it said"
    )
    list_select_related = ("comparison", "item", "left", "right")
    fieldsets = (
        (None, {"fields": ("of", "judge", "outcome_words", "problem", "repeat", "created")}),
        (
            "The pair, as it was shown",
            {"fields": ("prompt_whole", "index", "left", "left_text", "right", "right_text")},
        ),
        ("In the judge's words", {"fields": ("said_whole",)}),
    )

    @admin.display(description="outcome", ordering="outcome")
    def outcome_words(self, obj: Judgement) -> str:
        """What it decided, or that it failed."""
        return obj.outcome or "failed"

    @admin.display(description="judge", ordering="judge")
    def judge_words(self, obj: Judgement) -> str:
        """The beginning of the hash of its knobs."""
        return obj.judge[:12]

    @admin.display(description="said")
    def said_whole(self, obj: Judgement) -> str:
        """All of it."""
        return _text(obj.said) if obj.said else NONE


def _prompt_words(item: Item) -> str:
    first = " ".join(item.prompt.split())
    return f"{item.number} · {first[:PROMPT_SHOWN]}{'…' if len(first) > PROMPT_SHOWN else ''}"


def _answer(
    comparison: Comparison, item: Item, index: int, one: Arm, other: Arm
) -> tuple[str, str]:
    """The two answers as people read them."""
    item.comparison = comparison
    found = pair_texts(item, index, one, other)
    if found is None:
        return ("is not stored any more",) * 2
    return _text(found[0]), _text(found[1])


def _text(words: str) -> str:
    return format_html('<pre class="json">{}</pre>', words)
