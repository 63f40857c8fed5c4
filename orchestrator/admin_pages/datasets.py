"""Uploaded rows."""

from __future__ import annotations

from django.contrib import admin
from django.urls import reverse

from orchestrator.admin_pages.read_only import (
    ReadOnly,
    bytes_words,
    json_block,
    link,
    moment_column,
    table,
)
from orchestrator.models import Dataset
from orchestrator.selectors.dataset_serves import services_of
from orchestrator.selectors.datasets import runs_using
from orchestrator.templatetags.figures import figure


@admin.register(Dataset)
class DatasetAdmin(ReadOnly):
    """Uploaded rows; they are renamed, mapped and deleted on their pages."""

    list_display = (
        "name",
        "rows_words",
        "size",
        "columns_words",
        "serves",
        "owner",
        moment_column("created"),
    )
    list_filter = ("created", "owner")
    search_fields = ("name", "id", "filename", "sha256")
    search_help_text = "Name, id, file, or hash"
    list_select_related = ("owner",)
    date_hierarchy = "created"
    ordering = ("-created",)
    fieldsets = (
        (None, {"fields": ("page", "id", "owner", "created")}),
        ("Rows", {"fields": ("rows_words", "columns_words", "mapping_words", "serves", "used_by")}),
        ("File", {"fields": ("filename", "size", "sha256")}),
        ("First rows", {"classes": ("collapse",), "fields": ("preview_words",)}),
    )

    def view_on_site(self, obj: Dataset) -> str:
        """Its page."""
        return reverse("dataset", args=[obj.pk])

    @admin.display(description="page")
    def page(self, obj: Dataset) -> str:
        """Where it is changed."""
        return link(self.view_on_site(obj), f"{obj.name} · columns, first rows, delete")

    @admin.display(description="rows", ordering="rows")
    def rows_words(self, obj: Dataset) -> str:
        """How many."""
        return figure(obj.rows)

    @admin.display(ordering="bytes")
    def size(self, obj: Dataset) -> str:
        """Of the file."""
        return bytes_words(obj.bytes)

    @admin.display(description="columns")
    def columns_words(self, obj: Dataset) -> str:
        """The first of them."""
        more = len(obj.columns) - 6
        return ", ".join(obj.columns[:6]) + (f" and {more} more" if more > 0 else "")

    @admin.display(description="mapping")
    def mapping_words(self, obj: Dataset) -> str:
        """What its columns are called here."""
        return table(obj.mapping.items())

    @admin.display(description="can serve")
    def serves(self, obj: Dataset) -> str:
        """What can be trained on it."""
        return ", ".join(one.kind for one in services_of(obj) if one.ok) or "–"

    @admin.display
    def used_by(self, obj: Dataset) -> str:
        """Runs that name it."""
        rows = [
            (link(reverse("run", args=[run.pk]), run.name or run.pk), run.state)
            for run in runs_using(obj)[:20]
        ]
        return table(rows)

    @admin.display(description="rows")
    def preview_words(self, obj: Dataset) -> str:
        """The first ones."""
        return json_block(obj.preview)
