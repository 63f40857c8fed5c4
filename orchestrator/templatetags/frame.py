"""What the frame of every page needs: icons, the rail, the theme."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html

register = template.Library()

THEMES = ("light", "dark")
THEME_COOKIE = "anneal_theme"

RAIL = (
    ("runs", "Runs"),
    ("new-run", "New run"),
    ("compare", "Compare"),
    ("checkpoints", "Checkpoints"),
    ("datasets", "Datasets"),
    ("rewards", "Rewards"),
    ("sweeps", "Sweeps"),
    ("nodes", "Nodes"),
    ("methods", "Methods"),
)
"""Pages of the rail by the name of their route; a page appears when its route exists."""

SECTION_OF = {
    "run": "runs",
    "run-tab": "runs",
    "queue": "runs",
    "compare_new": "compare",
    "comparison": "compare",
    "comparison_side": "compare",
    "comparison_regressions": "compare",
    "comparison_report": "compare",
    "checkpoint": "checkpoints",
    "external": "checkpoints",
    "external-register": "checkpoints",
    "retention": "checkpoints",
    "dataset": "datasets",
    "comparison_vote": "compare",
    "comparison_ratings": "compare",
    "node-invite": "nodes",
}
"""Routes below a page of the rail, which keep it marked."""


@register.simple_tag
def icon(name: str) -> str:
    """An icon of the sprite in `partials/icons.html`."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="#i-{}"/></svg>', name)


@register.simple_tag(takes_context=True)
def nav_items(context: dict[str, Any]) -> list[dict[str, Any]]:
    """The pages of the rail that exist, with the current one marked."""
    match = getattr(context.get("request"), "resolver_match", None)
    name = match.url_name if match else ""
    current = SECTION_OF.get(name or "", name)
    return [
        {"url": url, "label": label, "icon": route, "current": route == current}
        for route, label in RAIL
        if (url := _url_or_none(route))
    ]


@register.simple_tag
def api_docs_url() -> str:
    """Where the API is described, or "" when it is not served."""
    return _url_or_none("api:openapi-view") or ""


@register.simple_tag(takes_context=True)
def theme(context: dict[str, Any]) -> str:
    """The theme that this browser chose; "" follows the system."""
    request = context.get("request")
    chosen = request.COOKIES.get(THEME_COOKIE, "") if request else ""
    return chosen if chosen in THEMES else ""


@register.filter
def toast_icon(level: str) -> str:
    """The icon of a message's level."""
    return {"success": "check", "warning": "warning", "error": "error"}.get(level, "info")


def _url_or_none(route: str, *args: Any) -> str | None:
    try:
        return reverse(route, args=args)
    except NoReverseMatch:
        return None


@register.simple_tag
def route_or_none(route: str, *args: Any) -> str | None:
    """The address of a route, or None while its page does not exist."""
    return _url_or_none(route, *args)
