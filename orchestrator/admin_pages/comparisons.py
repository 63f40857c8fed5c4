"""Comparisons with their models: how far they are, what decides, and where the report is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, Prefetch
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from orchestrator.admin_pages.read_only import (
    NONE,
    ReadOnly,
    json_block,
    link,
    moment_column,
    table,
)
from orchestrator.models import Arm, Comparison
from orchestrator.selectors.comparison_states import progress_many
from orchestrator.selectors.comparisons import arms_of, scorers_of
from orchestrator.selectors.promotion import rule_words
from orchestrator.templatetags.figures import figure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet
    from django.http import HttpRequest

    from orchestrator.selectors.comparison_state import Progress

REPORTS = ("html", "json", "csv")


class Promoting(admin.SimpleListFilter):
    """Whether a rule approves who wins."""

    title, parameter_name = "promotion rule", "rule"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """What can be chosen."""
        return [("none", "none"), ("waits", "waits for answers"), ("decided", "decided")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The chosen ones."""
        ruled = queryset.filter(promotion__has_key="better_on")
        return {
            "none": queryset.exclude(promotion__has_key="better_on"),
            "waits": ruled.exclude(promotion__has_key="decided"),
            "decided": ruled.filter(promotion__has_key="decided"),
        }.get(self.value() or "", queryset)


class ComparisonList(ChangeList):
    """A page of comparisons whose progress is looked up for all of them at once."""

    def get_results(self, request: HttpRequest) -> None:
        """The rows, each with what its arms have answered."""
        super().get_results(request)
        rows: list[Any] = list(self.result_list)  # type: ignore[has-type]
        self.result_list = rows
        found = progress_many(rows)
        for one in rows:
            one.progress = found[one.pk]


@admin.register(Comparison)
class ComparisonAdmin(ReadOnly):
    """Which models answered which prompts; they are made, stopped and deleted on the product's pages."""

    list_display = (
        "name",
        "state",
        "models_words",
        "answers_words",
        "scorers_words",
        "votes_words",
        "owner",
        moment_column("created"),
    )
    list_filter = (
        "imported",
        ("stopped", admin.EmptyFieldListFilter),
        Promoting,
        "created",
        ("owner", admin.RelatedOnlyFieldListFilter),
    )
    search_fields = ("name", "id", "owner__username", "arms__name", "=arms__checkpoint__id", "note")
    search_help_text = "Name, id, owner, model, id of a checkpoint, or words of the note"
    list_select_related = ("owner",)
    date_hierarchy = "created"
    ordering = ("-created", "pk")
    fieldsets = (
        (None, {"fields": ("page", "report", "id", "owner", "created", "note")}),
        ("State", {"fields": ("state", "reason", "answers_words", "stopped", "imported")}),
        ("Models", {"fields": ("arms_words",)}),
        ("What was asked", {"fields": ("prompts_words", "sampling_words", "scorers_words", "seed")}),
        ("Promotion", {"fields": ("rule", "decided")}),
        ("Votes", {"fields": ("votes_words", "gold_words")}),
        ("Scorers with their knobs", {"classes": ("collapse",), "fields": ("knobs_words",)}),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Comparison]:
        """With their arms, and how often people voted."""
        arms = Arm.objects.select_related("checkpoint").order_by("position")
        found: QuerySet[Comparison] = super().get_queryset(request)
        counted = found.annotate(vote_count=Count("votes", distinct=True))
        return counted.prefetch_related(Prefetch("arms", queryset=arms))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list that looks up progress."""
        return ComparisonList

    def view_on_site(self, obj: Comparison) -> str:
        """Its page."""
        return reverse("comparison", args=[obj.pk])

    @admin.display(description="page")
    def page(self, obj: Comparison) -> str:
        """Where it is looked at and changed."""
        return link(self.view_on_site(obj), f"{obj.name} · verdict, side by side, votes, delete")

    @admin.display
    def report(self, obj: Comparison) -> str:
        """The files that hold all of it."""
        links = (
            (reverse(f"api:comparison_report_{one}", args=[obj.pk]), one.upper()) for one in REPORTS
        )
        return format_html_join(" · ", '<a href="{}" download>{}</a>', links)

    @admin.display
    def state(self, obj: Comparison) -> str:
        """What its answers and runs make."""
        return _progress(obj).state

    @admin.display
    def reason(self, obj: Comparison) -> str:
        """Why it is there."""
        return _progress(obj).reason or NONE

    @admin.display(description="models")
    def models_words(self, obj: Comparison) -> str:
        """The baseline, and what is compared with it."""
        return " · ".join(arm.name for arm in arms_of(obj))

    @admin.display(description="answers")
    def answers_words(self, obj: Comparison) -> str:
        """How many are there, and how many failed."""
        found = _progress(obj)
        failed = f", {found.failed:,} failed" if found.failed else ""
        return f"{found.there:,} / {found.wanted:,}{failed}"

    @admin.display(description="scorers")
    def scorers_words(self, obj: Comparison) -> str:
        """The one that decides first."""
        return ", ".join(scorers_of(obj)) or NONE

    @admin.display(description="promotion")
    def rule(self, obj: Comparison) -> str:
        """When a model is approved."""
        return rule_words(obj.promotion) or NONE

    @admin.display
    def decided(self, obj: Comparison) -> str:
        """What came of it."""
        rows = [
            ("approved" if one["approve"] else "not approved", one["candidate"], one["reason"])
            for one in obj.promotion.get("decided", [])
        ]
        return table(rows)

    @admin.display(description="votes", ordering="vote_count")
    def votes_words(self, obj: Any) -> str:
        """How many, with the way to them."""
        if not obj.vote_count:
            return "0"
        address = reverse("admin:orchestrator_vote_changelist")
        return link(f"{address}?comparison__id__exact={obj.pk}", f"{obj.vote_count:,}")

    @admin.display(description="test items")
    def gold_words(self, obj: Comparison) -> str:
        """Marked pairs."""
        return f"{obj.gold_marks.count():,}"

    @admin.display(description="models")
    def arms_words(self, obj: Comparison) -> str:
        """One line each."""
        counts = _progress(obj).arms
        rows = [
            (
                "baseline" if arm.position == 0 else str(arm.position + 1),
                _model_link(arm),
                f"{counts[arm.pk].there:,} / {counts[arm.pk].wanted:,}",
                f"{counts[arm.pk].failed:,}",
                NONE if arm.train_seed is None else str(arm.train_seed),
                arm.digest[:12] or NONE,
                _run_links(counts[arm.pk].runs),
            )
            for arm in arms_of(obj)
        ]
        return table(rows, ("", "model", "answers", "failed", "seed", "hash", "runs"))

    @admin.display(description="prompts")
    def prompts_words(self, obj: Comparison) -> str:
        """How many, and whence."""
        sources = ", ".join(str(one.get("source", "")) for one in obj.prompts)
        return f"{figure(_progress(obj).items)}{f' of {sources}' if sources else ''}"

    @admin.display(description="sampling")
    def sampling_words(self, obj: Comparison) -> str:
        """Settings of all models."""
        return ", ".join(f"{key} {figure(value)}" for key, value in obj.sampling.items()) or NONE

    @admin.display(description="knobs")
    def knobs_words(self, obj: Comparison) -> str:
        """All of them."""
        return json_block(obj.scorers)


def _progress(obj: Any) -> Progress:
    """As its list has looked it up, or looked up once for its page."""
    if not hasattr(obj, "progress"):
        obj.progress = progress_many([obj])[obj.pk]
    found: Progress = obj.progress
    return found


def _model_link(arm: Arm) -> str:
    if arm.checkpoint_id:
        return link(reverse("checkpoint", args=[arm.checkpoint_id]), arm.name)
    return format_html('<span title="{}">{}</span>', arm.model, arm.name)


def _run_links(runs: Iterable[str]) -> str:
    made = [link(reverse("run", args=[run]), run) for run in runs]
    return format_html_join(" ", "{}", ((one,) for one in made)) if made else NONE
