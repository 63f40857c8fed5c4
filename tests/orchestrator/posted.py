"""What a browser would send for a page's form: its successful controls, by the rules of HTML."""

from __future__ import annotations

from html.parser import HTMLParser

Fields = dict[str, list[str]]


def fields_of(html: str) -> Fields:
    """Name -> values of the controls of the page's new-run form, or of a bare piece of it."""
    parser = _Controls()
    parser.feed(html)
    parser.close()
    return parser.fields


class _Controls(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.fields: Fields = {}
        self.form: str | None = None
        self.select: str | None = None
        self.options: list[tuple[str, bool]] = []
        self.text: str | None = None
        self.held = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.form = found.get("id") or found.get("action") or "other"
        name = found.get("name", "")
        if tag == "option":
            self.options.append((found.get("value", ""), "selected" in found))
        if self.form not in (None, "new-run") or "disabled" in found:
            return
        if tag == "select":
            self.select, self.options = name, []
        elif tag == "textarea":
            self.text, self.held = name, ""
        elif tag == "input" and name:
            kind = found.get("type", "text")
            if kind not in ("submit", "button", "file") and (
                kind != "checkbox" or "checked" in found
            ):
                self._add(name, found.get("value", ""))

    def handle_data(self, data: str) -> None:
        if self.text is not None:
            self.held += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.form = None
        elif tag == "textarea" and self.text is not None:
            # The first line break after the tag is no part of the value.
            if self.text:
                self._add(self.text, self.held.removeprefix("\n"))
            self.text = None
        elif tag == "select" and self.select is not None:
            chosen = [value for value, selected in self.options if selected]
            first = [value for value, _ in self.options[:1]]
            if self.select and (chosen or first):
                self._add(self.select, (chosen or first)[-1])
            self.select = None

    def _add(self, name: str, value: str) -> None:
        self.fields.setdefault(name, []).append(value)
