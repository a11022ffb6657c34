"""How commands print."""

from __future__ import annotations

from typing import Any


def show(**fields: Any) -> None:
    """Print named values in two columns."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        print(f"{name.replace('_', ' '):{width}}  {value}".rstrip())


def print_table(rows: list[dict[str, str]]) -> None:
    """Print rows in aligned columns, those of numbers to the right."""
    left = ("id", "architecture", "licence", "name", "level", "labels", "metric", "genome", "citation", "what")
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for row in [{name: name for name in widths}, *rows]:
        cells = [row[name].ljust(width) if name in left else row[name].rjust(width) for name, width in widths.items()]
        print("  ".join(cells).rstrip())
