"""Facts that the services keep together: in the admin they are looked at, and changed on the product's pages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.html import format_html, format_html_join

from orchestrator.compare_link import compare_address
from orchestrator.models.comparison import ARMS_MOST
from orchestrator.selectors.checkpoints import changes_of
from orchestrator.services.registry import subject_of
from orchestrator.templatetags.figures import figure, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

NONE = "–"


class ReadOnly(admin.ModelAdmin):
    """Editing a fact here would break the rest."""

    list_per_page = 50

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes here."""
        return False


def link(address: str, words: str) -> str:
    """A link to one of the product's pages."""
    return format_html('<a href="{}">{}</a>', address, words)


def bytes_words(count: int | None) -> str:
    """Bytes as the pages say them."""
    return NONE if count is None else size(count)


def moment_words(moment: datetime | None) -> str:
    """A moment in the server's time zone."""
    return NONE if moment is None else timezone.localtime(moment).strftime("%Y-%m-%d %H:%M")


def moment_column(field: str) -> Callable[[Any], str]:
    """A narrow column of a list for a field that holds a moment."""

    @admin.display(description=field.replace("_", " "), ordering=field)
    def shown(obj: Any) -> str:
        return moment_words(getattr(obj, field))

    shown.__name__ = field
    return shown


def json_block(value: Any) -> str:
    """JSON for people."""
    text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False)
    return format_html('<pre class="json">{}</pre>', text)


def table(rows: Iterable[tuple[Any, ...]], head: Iterable[str] = ()) -> str:
    """Rows of texts as a small table, under the names of its columns."""
    lines = [
        format_html("<tr>{}</tr>", format_html_join("", "<td>{}</td>", ((cell,) for cell in row)))
        for row in rows
    ]
    if not lines:
        return NONE
    names = format_html_join("", "<th>{}</th>", ((name,) for name in head))
    return format_html(
        '<table class="inside">{}<tbody>{}</tbody></table>',
        format_html("<thead><tr>{}</tr></thead>", names) if names else "",
        format_html_join("", "{}", ((line,) for line in lines)),
    )


def metrics_table(metrics: dict[str, Any]) -> str:
    """Metrics by name."""
    return table((key, figure(value)) for key, value in sorted(metrics.items()))


def changes_table(thing: Any) -> str:
    """Who changed what people say of a model, and when."""
    return table(
        (
            moment_words(one.at),
            one.by,
            one.what,
            f"{plain_words(one.old)} → {plain_words(one.new)}",
            one.why,
        )
        for one in changes_of(subject_of(thing))
    )


def plain_words(value: Any) -> str:
    """A value before or after a change."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or NONE
    return str(value) if value not in (None, "") else NONE


def models_compare(
    page: admin.ModelAdmin, request: HttpRequest, chosen: QuerySet[Any]
) -> HttpResponse | None:
    """Go to the comparison of the chosen models; None, with a message, for fewer than two."""
    names = [subject_of(one) for one in chosen]
    address = compare_address(names)
    if len(names) < 2 or address is None:
        page.message_user(request, "Choose at least two to compare.", level="warning")
        return None
    if len(names) > ARMS_MOST:
        words = f"{len(names)} are selected; a comparison has at most {ARMS_MOST} models."
        page.message_user(request, words, level="warning")
        return None
    return redirect(address)


class Comparable(ReadOnly):
    """Models that can be compared, where the product has a page for that."""

    actions = ["compare_selected"]

    @admin.action(description="Compare selected %(verbose_name_plural)s")
    def compare_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """Open the comparison with the selected ones."""
        return models_compare(self, request, queryset)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Without a page that compares there is nothing to choose for."""
        found: dict[str, Any] = super().get_actions(request)
        if compare_address([]) is None:
            found.pop("compare_selected", None)
        return found
