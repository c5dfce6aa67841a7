"""The report's page as tests look at it: well-formed or not, what it says, what it points to."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input", "hr"}
FETCHED = {"src", "srcset", "poster", "data", "action", "formaction", "background", "ping", "manifest"}


class Page(HTMLParser):
    """A page, read strictly: every element is closed in order, every attribute is given once.

    Attributes:
        source: the HTML.
        text: what a reader sees, spaces collapsed.
        tags: how often each element occurs.
        attributes: names of all attributes.
        ids: all ids, in order.
        references: ids that something inside points to.
        addresses: everything that would be fetched or left to.
        labels: what the pictures say of themselves.
        faults: where it is not well-formed.

    """

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = source
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.addresses: list[str] = []
        self.labels: list[str] = []
        self.faults: list[str] = []
        self._open: list[str] = []
        self._sections: list[str] = []
        self._drawn: list[str] = []
        self._words: list[str] = []
        self._tables: dict[str, list[str]] = {}
        self._table: list[str] = []
        self.feed(source)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self._open]
        self.text = " ".join("".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._start(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID and "svg" not in self._open:
            self.faults.append(f"<{tag}/> closes itself outside of a picture")
        self._start(tag, attrs)

    def _start(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(set(names)) < len(names):
            self.faults.append(f"<{tag}> repeats an attribute at {self.getpos()}")
        self.tags[tag] += 1
        self.attributes |= set(names)
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.append(values["id"])
        for name, value in values.items():
            self._point(name, value)
        if tag == "section":
            self._sections.append(values["id"])
        elif tag == "svg":
            self._drawn.append(self._sections[-1])
            if values.get("role") != "img" or not values.get("aria-label"):
                self.faults.append("a picture has no description")
            self.labels.append(values.get("aria-label", ""))
        elif tag == "table":
            self._table = self._tables.setdefault(values["aria-label"], [])
        elif tag == "th" and values.get("scope") == "row":
            self._table.append("")
        elif tag == "th" and values.get("scope") != "col":
            self.faults.append("a table header has no scope")

    def _point(self, name: str, value: str) -> None:
        if name == "href" and value.startswith("#"):
            self.references.append(value[1:])
        elif name in FETCHED | {"href", "xlink:href"}:
            self.addresses.append(value)
        elif name == "aria-labelledby":
            self.references += value.split()
        elif name in {"style", "clip-path", "fill", "mask", "filter"} and "url(" in value:
            for target in value.split("url(")[1:]:
                inside = target.split(")")[0]
                (self.references if inside.startswith("#") else self.addresses).append(inside.removeprefix("#"))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.faults.append(f"</{tag}> closes nothing that was opened last, at {self.getpos()}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self._words.append(data)
        if self._open[-2:] == ["th", "bdi"] and self._table:
            self._table[-1] += data

    def sections_with_pictures(self) -> set[str]:
        """Ids of the sections that hold a picture."""
        return set(self._drawn)

    def rows_of(self, table: str) -> list[str]:
        """Names of the rows of a table, in order."""
        return self._tables[table]

    def label(self, beginning: str) -> str:
        """What the one picture says of itself whose label begins so."""
        (label,) = [label for label in self.labels if label.startswith(beginning)]
        return label
