"""Machines."""

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
from orchestrator.models import Node
from orchestrator.selectors.nodes import node_status


@admin.register(Node)
class NodeAdmin(ReadOnly):
    """Machines; they are invited, drained and revoked on the nodes page."""

    list_display = (
        "name",
        "status",
        "slots",
        "gpus",
        "labels_words",
        "local",
        moment_column("last_seen"),
        moment_column("joined"),
    )
    list_filter = ("drained", "cordoned", "local", "joined", "revoked", "removed")
    search_fields = ("name", "id")
    date_hierarchy = "joined"
    ordering = ("name",)
    fieldsets = (
        (None, {"fields": ("page", "id", "status", "slots", "labels_words", "local")}),
        ("Contact", {"fields": ("joined", "last_seen", "heard_since", "expect_next_in")}),
        ("Taking runs", {"fields": ("drained", "cordoned", "closed", "revoked", "removed")}),
        ("Machine", {"fields": ("machine", "gpu_table")}),
        ("Everything it reported", {"classes": ("collapse",), "fields": ("inventory_words",)}),
    )

    def view_on_site(self, obj: Node) -> str:
        """The page of the machines."""
        return reverse("nodes")

    @admin.display(description="page")
    def page(self, obj: Node) -> str:
        """Where it is changed."""
        return link(self.view_on_site(obj), "Nodes · drain, labels, token, remove")

    @admin.display
    def status(self, obj: Node) -> str:
        """What it does now."""
        return "removed" if obj.removed else node_status(obj)

    @admin.display(description="GPUs")
    def gpus(self, obj: Node) -> str:
        """How many, and of which kind."""
        found = obj.inventory.get("gpus", [])
        return f"{len(found)} × {found[0].get('name', 'GPU')}" if found else "none"

    @admin.display(description="labels")
    def labels_words(self, obj: Node) -> str:
        """Words that runs may ask for."""
        return ", ".join(map(str, obj.labels)) or "–"

    @admin.display
    def machine(self, obj: Node) -> str:
        """What it has."""
        have = obj.inventory
        rows = [
            ("host", have.get("host", "–")),
            ("system", have.get("system", "–")),
            ("CPUs", have.get("cpus", "–")),
            ("memory", bytes_words(have.get("memory"))),
            *((f"version of {name}", text) for name, text in have.get("versions", {}).items()),
        ]
        return table(rows)

    @admin.display(description="GPUs")
    def gpu_table(self, obj: Node) -> str:
        """One line each."""
        return table(
            (gpu.get("index", place), gpu.get("name", "–"), bytes_words(gpu.get("memory")))
            for place, gpu in enumerate(obj.inventory.get("gpus", []))
        )

    @admin.display(description="inventory")
    def inventory_words(self, obj: Node) -> str:
        """The whole of it."""
        return json_block(obj.inventory)
