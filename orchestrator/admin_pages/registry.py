"""Checkpoints, external models, and who changed what of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.urls import reverse

from orchestrator.admin_pages.read_only import (
    NONE,
    Comparable,
    ReadOnly,
    bytes_words,
    changes_table,
    link,
    metrics_table,
    moment_column,
    plain_words,
    table,
)
from orchestrator.models import Checkpoint, External, RegistryChange
from orchestrator.selectors.external_facts import fact_rows, size_words
from orchestrator.selectors.externals import where_words
from orchestrator.selectors.registry_lineage import flat, lineage_of
from orchestrator.templatetags.figures import figure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet
    from django.http import HttpRequest

SHOWN = ("eval/reward", "eval/accuracy", "eval/pair_accuracy", "eval/loss")
"""The first of these that a checkpoint has stands in the list."""
FILES = ("size", "path", "sha256", "stored", "files", "deleted", "deleted_by", "freed_words")
REGISTRY = ("stage", "stage_by", "stage_at", "pinned", "tags_words", "note")


class Kept(admin.SimpleListFilter):
    """Whether the files are there."""

    title, parameter_name = "files", "files"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """What can be chosen."""
        return [("kept", "kept"), ("removed", "removed by the keep policy"), ("deleted", "deleted")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The chosen ones."""
        if self.value() == "kept":
            return queryset.filter(deleted=None)
        if self.value() == "removed":
            return queryset.exclude(deleted=None).filter(deleted_by="")
        return queryset.exclude(deleted_by="") if self.value() == "deleted" else queryset


class Registered(Comparable):
    """What a checkpoint and an external model have in common."""

    @admin.display(description="stage", ordering="stage")
    def stage_words(self, obj: Any) -> str:
        """How far people have come with it."""
        return str(obj.stage) or NONE

    @admin.display(description="tags")
    def tags_words(self, obj: Any) -> str:
        """Its tags."""
        return ", ".join(obj.tags) or NONE

    @admin.display(ordering="bytes")
    def size(self, obj: Any) -> str:
        """Of its files."""
        return bytes_words(obj.bytes)

    @admin.display
    def lineage(self, obj: Any) -> str:
        """Where it came from."""
        return lineage_table(obj)

    @admin.display
    def changes(self, obj: Any) -> str:
        """Who changed what."""
        return changes_table(obj)


@admin.register(Checkpoint)
class CheckpointAdmin(Registered):
    """Saved weights; they are tagged, pinned, staged and deleted on their pages."""

    list_display = (
        "title",
        "stage_words",
        "marks",
        "measured",
        "size",
        "owner",
        moment_column("created"),
        "files",
    )
    list_display_links = ("title",)
    list_filter = ("stage", "pinned", "final", Kept, "created", "run__kind", "run__owner")
    search_fields = ("id", "run__id", "run__name", "sha256", "note")
    search_help_text = "Id, run, hash of the manifest, or words of the note"
    list_select_related = ("run", "run__owner")
    date_hierarchy = "created"
    ordering = ("-created", "-step")
    fieldsets = (
        (None, {"fields": ("page", "run_page", "step", "attempt", "final", "owner", "created")}),
        ("Registry", {"fields": REGISTRY}),
        ("Measured at this step", {"fields": ("metrics_words",)}),
        ("Lineage", {"fields": ("lineage",)}),
        ("Files", {"fields": FILES}),
        ("Changes", {"fields": ("changes",)}),
    )  # fmt: skip

    def view_on_site(self, obj: Checkpoint) -> str:
        """Its page."""
        return reverse("checkpoint", args=[obj.pk])

    @admin.display(description="checkpoint", ordering="run__name")
    def title(self, obj: Checkpoint) -> str:
        """What it is called."""
        return str(obj)

    @admin.display(description="page")
    def page(self, obj: Checkpoint) -> str:
        """Where it is changed."""
        return link(self.view_on_site(obj), f"{obj} · files, stage, pin, delete")

    @admin.display(description="run")
    def run_page(self, obj: Checkpoint) -> str:
        """Its run."""
        return link(reverse("run", args=[obj.run_id]), obj.run.name or obj.run_id)

    @admin.display(ordering="run__owner__username")
    def owner(self, obj: Checkpoint) -> str:
        """Whose run it is."""
        return str(obj.run.owner)

    @admin.display
    def measured(self, obj: Checkpoint) -> str:
        """The first figure by which people choose."""
        key = next((key for key in SHOWN if key in obj.metrics), None)
        return f"{key.removeprefix('eval/')} {figure(obj.metrics[key])}" if key else NONE

    @admin.display
    def marks(self, obj: Checkpoint) -> str:
        """What it is to its run, and whether it is pinned."""
        return ", ".join(word for word in ("final", "pinned") if getattr(obj, word)) or NONE

    @admin.display(description="freed")
    def freed_words(self, obj: Checkpoint) -> str:
        """Since it was deleted."""
        return bytes_words(obj.freed)

    @admin.display(ordering="deleted")
    def files(self, obj: Checkpoint) -> str:
        """Whether they are there."""
        if obj.deleted is None:
            return "kept"
        return f"deleted by {obj.deleted_by}" if obj.deleted_by else "removed"

    @admin.display(description="metrics")
    def metrics_words(self, obj: Checkpoint) -> str:
        """All of them."""
        return metrics_table(obj.metrics)


@admin.register(External)
class ExternalAdmin(Registered):
    """Models that people brought."""

    list_display = (
        "name",
        "stage_words",
        "pinned_words",
        "kind",
        "source",
        "model_words",
        "size",
        "owner",
        moment_column("created"),
    )
    list_filter = ("stage", "pinned", "kind", "created", "node", "owner")
    search_fields = ("id", "name", "source", "sha256", "note")
    search_help_text = "Id, name, source, hash, or words of the note"
    list_select_related = ("owner", "node")
    date_hierarchy = "created"
    ordering = ("-created",)
    fieldsets = (
        (None, {"fields": ("page", "kind", "source", "revision", "where", "owner", "created")}),
        ("Registry", {"fields": REGISTRY}),
        ("What its files say", {"fields": ("facts_words", "size", "sha256", "read")}),
        ("Lineage", {"fields": ("lineage",)}),
        ("Changes", {"fields": ("changes",)}),
    )

    def view_on_site(self, obj: External) -> str:
        """Its page."""
        return reverse("external", args=[obj.pk])

    @admin.display(description="page")
    def page(self, obj: External) -> str:
        """Where it is changed."""
        return link(self.view_on_site(obj), f"{obj.name} · stage, pin, forget")

    @admin.display(description="pinned", ordering="pinned")
    def pinned_words(self, obj: External) -> str:
        """Whether it is."""
        return "pinned" if obj.pinned else NONE

    @admin.display(description="on")
    def where(self, obj: External) -> str:
        """On which machines it can be read."""
        return where_words(obj)

    @admin.display(description="model")
    def model_words(self, obj: External) -> str:
        """Architecture and parameters."""
        return size_words(obj) or NONE

    @admin.display(description="facts")
    def facts_words(self, obj: External) -> str:
        """All that is known."""
        return table((label, figure(value)) for label, value in fact_rows(obj))


@admin.register(RegistryChange)
class RegistryChangeAdmin(ReadOnly):
    """Who changed what people say of a model: the record, which nobody edits."""

    list_display = (moment_column("at"), "title", "what", "by", "old_words", "new_words", "why")
    list_filter = ("what", "at", "by")
    search_fields = ("subject", "title", "by", "why")
    date_hierarchy = "at"
    ordering = ("-at", "-pk")
    fieldsets = (
        (
            None,
            {"fields": ("at", "by", "subject", "title", "what", "old_words", "new_words", "why")},
        ),
    )

    @admin.display(description="old")
    def old_words(self, obj: RegistryChange) -> str:
        """What it was."""
        return plain_words(obj.old)

    @admin.display(description="new")
    def new_words(self, obj: RegistryChange) -> str:
        """What it became."""
        return plain_words(obj.new)


def lineage_table(thing: Checkpoint | External) -> str:
    """The tree as indented rows, without the model itself."""
    rows = [(depth, kin) for depth, kin in flat(lineage_of(thing)) if depth]
    return table(
        (
            f"{'· ' * (depth - 1)}{kin.relation}",
            link(kin.url, kin.title) if kin.url else kin.title,
            kin.note,
        )
        for depth, kin in rows
    )
