"""Reads pages of HTML with the standard library's parser."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Checks that every element is closed in order; keeps elements with their attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def named(reader: Reader, tag: str) -> list[dict[str, str | None]]:
    return [attributes for name, attributes in reader.elements if name == tag]
