"""Runs and the process starts of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.urls import reverse

from orchestrator.admin_pages.read_only import (
    ReadOnly,
    json_block,
    link,
    metrics_table,
    moment_column,
)
from orchestrator.models import Attempt, Event, Run
from orchestrator.selectors.run_words import method_chips, spec_of
from orchestrator.selectors.runs import primary_key
from orchestrator.templatetags.figures import figure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet
    from django.http import HttpRequest


class Archived(admin.SimpleListFilter):
    """Whether lists leave a run out."""

    title, parameter_name = "archived", "archived"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """What can be chosen."""
        return [("no", "in lists"), ("yes", "archived")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The chosen ones."""
        chosen = {"no": True, "yes": False}.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(archived__isnull=chosen)


@admin.register(Run)
class RunAdmin(ReadOnly):
    """Runs; they are steered, stopped and deleted on their pages."""

    list_display = (
        "name",
        "state",
        "methods",
        "owner",
        "node",
        "progress",
        "primary",
        moment_column("created"),
        moment_column("ended"),
    )
    list_filter = ("state", "kind", Archived, "created", "recipe", "owner", "node")
    search_fields = ("name", "id", "owner__username", "notes", "reason")
    search_help_text = "Name, id, owner, or words of notes and reason"
    list_select_related = ("owner", "node")
    date_hierarchy = "created"
    ordering = ("-created",)
    fieldsets = (
        (None, {"fields": ("page", "id", "kind", "owner", "tags_words", "notes", "recipe", "created")}),
        ("State", {"fields": ("state", "reason", "cause", "progress", "started", "ended", "archived")}),
        ("The five facts", {"fields": ("desired", "desired_by", "desired_at", "process", "last_contact",
                                       "expect_next_in", "phase", "complete")}),
        ("Where it works", {"fields": ("node", "attempt", "priority", "preemptible", "restarts",
                                       "max_restarts", "place")}),
        ("Where it came from", {"fields": ("waits_for", "parent", "parent_name", "parent_step")}),
        ("Newest figures", {"fields": ("latest_words",)}),
        ("Spec as launched", {"classes": ("collapse",), "fields": ("spec_words",)}),
    )  # fmt: skip

    def view_on_site(self, obj: Run) -> str:
        """Its page."""
        return reverse("run", args=[obj.pk])

    @admin.display(description="page")
    def page(self, obj: Run) -> str:
        """Where it is steered."""
        return link(self.view_on_site(obj), f"{obj.name or obj.pk} · charts, log, checkpoints")

    @admin.display
    def methods(self, obj: Run) -> str:
        """What it trains with."""
        return " · ".join(method_chips(spec_of(obj)))

    @admin.display(ordering="step")
    def progress(self, obj: Run) -> str:
        """How far it has come."""
        return f"{figure(obj.step)} / {figure(obj.total_steps) if obj.total_steps else '–'}"

    @admin.display(description="primary metric")
    def primary(self, obj: Run) -> str:
        """The newest value of what tells whether it learns."""
        key = primary_key(obj)
        return f"{key} {figure(obj.latest[key])}" if key in obj.latest else "–"

    @admin.display(description="tags")
    def tags_words(self, obj: Run) -> str:
        """Its tags."""
        return ", ".join(obj.tags) or "–"

    @admin.display(description="metrics")
    def latest_words(self, obj: Run) -> str:
        """All of them."""
        return metrics_table(obj.latest)

    @admin.display(description="spec")
    def spec_words(self, obj: Run) -> str:
        """The whole of it."""
        return json_block(obj.spec)


@admin.register(Attempt)
class AttemptAdmin(ReadOnly):
    """Process starts of runs."""

    list_display = ("run", "number", "node", "dispatched", "claimed", "ended", "cause", "exit_code")
    list_filter = ("cause", "node", "dispatched")
    search_fields = ("run__id", "run__name")
    list_select_related = ("run", "node")
    date_hierarchy = "dispatched"
    exclude = ("lease_digest",)


@admin.register(Event)
class EventAdmin(ReadOnly):
    """What happened to runs."""

    list_display = ("time", "run", "attempt", "source", "type")
    list_filter = ("source", "type")
    search_fields = ("run__id", "run__name")
    list_select_related = ("run",)
    show_full_result_count = False
