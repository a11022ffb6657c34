"""Pages of HTML that stand alone: tables and figures inside, no scripts, nothing fetched when they are opened.

Every text is escaped. Colours follow the reader's choice of light or dark.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

NOTHING = "\u2013"
"""What stands in a cell that has no value."""

MINUS = "\u2212"
"""As wide as a plus sign and a digit, so that numbers stay aligned; a hyphen is not."""

_LONG = 15
"""Tables with more rows are folded up until the reader opens them."""

_WORDS = 24
"""Columns with longer texts break their lines; all others keep each cell on one line."""

_NUMBER = re.compile(r"[^A-Za-z]*\d[^A-Za-z]*")
"""A text that is a number, or a number with its interval."""

_DOTS = 96
"""Dots per inch of a page, by definition of CSS."""

_ROUNDING = 1e-9
"""Numbers nearer to 0 are what rounding leaves of it."""

_KINDS = {
    ".png": ("image/png", b"\x89PNG\r\n"),
    ".svg": ("image/svg+xml", b"<"),
    ".jpg": ("image/jpeg", b"\xff\xd8\xff"),
    ".jpeg": ("image/jpeg", b"\xff\xd8\xff"),
}

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #ffffff; --soft: #5b5b5b; --line: #d0d0d0;
  --panel: #f4f5f7; --mark: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181b; --soft: #a8adb3; --line: #3a3f45;
  --panel: #1f2327; --mark: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 68rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
p, ul { max-width: 46rem; }
a { color: var(--mark); }
.soft, figcaption, caption { color: var(--soft); font-size: .9rem; }
.answer { border-left: 4px solid var(--mark); background: var(--panel); padding: .8rem 1rem; margin: 1rem 0; }
.answer h2 { font-size: 1.5rem; border: 0; margin: 0 0 .3rem; padding: 0; }
.answer p { font-size: 1.05rem; margin: 0; max-width: 52rem; }
nav { margin-top: 2rem; }
nav h2 { font-size: 1rem; margin: 0; padding-top: .8rem; }
nav ul { columns: 20rem 2; column-gap: 2rem; padding-left: 1.2rem; margin: .3rem 0; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; }
caption span { display: block; position: sticky; left: 0; width: max-content; max-width: min(46rem, 100vw - 2rem); }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  white-space: nowrap; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; white-space: normal; }
tbody th { font-weight: normal; }
.number { text-align: right; }
.words { white-space: normal; min-width: 15rem; max-width: 30rem; }
figure { margin: 1.2rem 0 1.8rem; }
figure img { max-width: 100%; height: auto; background: #ffffff; padding: .5rem; border-radius: 4px; }
figcaption { max-width: 46rem; }
details { margin: .6rem 0; }
details > summary { cursor: pointer; color: var(--mark); }
@media print {
  :root { --ink: #000000; --paper: #ffffff; --soft: #444444; --line: #bbbbbb; --panel: #f4f5f7; --mark: #0072b2; }
  @page { margin: 14mm; }
  body { font-size: 10pt; max-width: none; padding: 0; }
  nav { display: none; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: .15rem .3rem; white-space: normal; }
  .number { white-space: nowrap; }
  .words { min-width: 0; }
  tr, figure, .answer { break-inside: avoid; }
  h2, caption, summary { break-after: avoid; }
  figure img { max-width: 130mm; max-height: 120mm; width: auto; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
""".strip()


class Section(NamedTuple):
    """A part of a page.

    Attributes
    ----------
    heading
        Plain text.
    blocks
        Pieces of HTML, as the functions of this module give them.
    """

    heading: str
    blocks: Sequence[str]


def page(title: str, sections: Iterable[Section], *, lead: str = "", opening: Iterable[str] = ()) -> str:
    """Return a whole page.

    Parameters
    ----------
    title, lead
        Plain text: what the page is about, and a line below.
    sections
        Its parts; those without blocks are left out.
    opening
        Pieces of HTML that stand above the contents: what a reader in a hurry is to see. Default none.

    Returns
    -------
    str
        A document of HTML 5 that loads nothing: its own policy forbids it.
    """
    kept = [part for part in sections if part.blocks]
    anchors = [f"part-{number}" for number in range(1, len(kept) + 1)]
    contents = "".join(
        f'<li><a href="#{anchor}">{escape(part.heading)}</a></li>' for anchor, part in zip(anchors, kept, strict=True)
    )
    body = "\n".join(
        f'<section id="{anchor}">\n<h2>{escape(part.heading)}</h2>\n' + "\n".join(part.blocks) + "\n</section>"
        for anchor, part in zip(anchors, kept, strict=True)
    )
    below = f'<p class="soft">{escape(lead)}</p>' if lead else ""
    first = "".join(f"{block}\n" for block in opening)
    nav = f'<nav aria-labelledby="contents">\n<h2 id="contents">Contents</h2>\n<ul>{contents}</ul>\n</nav>\n'
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_STYLE}
</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{below}
</header>
<main>
{first}{nav if kept else ""}{body}
</main>
</body>
</html>
"""


def paragraph(text: str, *, style: str = "") -> str:
    """Return a paragraph.

    Parameters
    ----------
    text
        Plain text.
    style
        ``"soft"`` for a remark; default none.

    Returns
    -------
    str
    """
    return f'<p class="{escape(style)}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"


def answer(heading: str, text: str) -> str:
    """Return the statement of a page, which stands out.

    Parameters
    ----------
    heading, text
        Plain text: in a few words, and in sentences.

    Returns
    -------
    str
    """
    return f'<section class="answer">\n<h2>{escape(heading)}</h2>\n<p>{escape(text)}</p>\n</section>'


def folded(summary: str, blocks: Iterable[str]) -> str:
    """Return pieces that are hidden until the reader opens them; printed, they are open.

    Parameters
    ----------
    summary
        Plain text: what there is.
    blocks
        Pieces of HTML.

    Returns
    -------
    str
    """
    return f"<details><summary>{escape(summary)}</summary>\n" + "\n".join(blocks) + "\n</details>"


def bullets(texts: Iterable[str]) -> str:
    """Return a list of plain texts.

    Parameters
    ----------
    texts
        Its points.

    Returns
    -------
    str
    """
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def table(frame: pd.DataFrame, caption: str = "", *, decimals: int = 3) -> str:
    """Return a table that scrolls where it is wider than the page; one of more than 15 rows is folded up.

    Parameters
    ----------
    frame
        Numbers and texts. Its index is shown where it has a name. Columns of numbers, and of texts that are numbers,
        are aligned at the right.
    caption
        Plain text above it.
    decimals
        Of numbers that are no integers: the same in all rows of a column. A column where all would round to 0 has as
        many as its largest number needs for two digits. Default 3.

    Returns
    -------
    str
    """
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    names = [" ".join(str(part) for part in name if part) if isinstance(name, tuple) else str(name) for name in frame]
    columns = [_column(frame.iloc[:, number], decimals) for number in range(len(names))]
    styles = [_style(cells, frame.dtypes.iloc[number]) for number, cells in enumerate(columns)]
    head = "".join(_cell("th", name, style, "col") for name, style in zip(names, styles, strict=True))
    rows = [
        "".join(
            _cell("td" if number else "th", text, style, "" if number else "row")
            for number, (text, style) in enumerate(zip(row, styles, strict=True))
        )
        for row in zip(*columns, strict=True)
    ]
    above = f"<caption><span>{escape(caption)}</span></caption>" if caption else ""
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    # Whoever has no mouse scrolls what can be focused.
    around = f'<section class="scroll" aria-label="{escape(caption or "Table")}" tabindex="0">'
    whole = f"{around}<table>{above}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></section>"
    return whole if len(rows) <= _LONG else folded(f"{caption or 'Table'} ({len(rows):,} rows)", [whole])


def _column(values: pd.Series[Any], decimals: int) -> list[str]:
    """Return a column as texts, numbers with the same decimals."""
    known = [abs(float(one)) for one in values if isinstance(one, float | np.floating) and math.isfinite(one)]
    largest = max(known, default=0.0)
    if _ROUNDING < largest < 0.5 * 10**-decimals:
        decimals = 1 - math.floor(math.log10(largest))
    return [shown(value, decimals) for value in values]


def _style(cells: list[str], kind: Any) -> str:
    """Return how a column is set: as numbers, as words that break their lines, or neither."""
    import pandas as pd

    types, filled = pd.api.types, [text for text in cells if text not in ("", NOTHING)]
    numeric = types.is_numeric_dtype(kind) and not types.is_bool_dtype(kind)
    if numeric or (filled and all(_NUMBER.fullmatch(text) for text in filled)):
        return "number"
    return "words" if max(map(len, filled), default=0) > _WORDS else ""


def _cell(tag: str, text: str, style: str, scope: str) -> str:
    kind = f' class="{style}"' if style else ""
    head = f' scope="{scope}"' if scope else ""
    return f"<{tag}{head}{kind}>{escape(text)}</{tag}>"


def shown(value: Any, decimals: int = 3) -> str:
    """Return a value as it is shown in a table.

    Parameters
    ----------
    value
        A number, a text, True or False, or nothing (None, NaN, NA).
    decimals
        Of numbers that are no integers. Default 3.

    Returns
    -------
    str
        Numbers have a true minus sign.

    Examples
    --------
    >>> shown(0.12345), shown(-1.0), shown(1648), shown(float("nan")), shown(True)
    ('0.123', '−1.000', '1,648', '–', 'yes')
    """
    import pandas as pd

    if value is None or value is pd.NA or (isinstance(value, float | np.floating) and math.isnan(value)):
        return NOTHING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace("-", MINUS)
    if isinstance(value, float | np.floating):
        number = float(value) if abs(float(value)) > _ROUNDING else 0.0
        return f"{number:,.{decimals}f}".replace("-", MINUS)
    return str(value)


def figure(picture: str | Path, caption: str = "", *, alt: str = "") -> str:
    """Return a figure with the picture inside, at the size it was drawn for.

    Parameters
    ----------
    picture
        File of a PNG, JPEG or SVG.
    caption
        Plain text below it.
    alt
        Plain text that is read aloud in place of the picture. Default: the caption, or the name of the file.

    Returns
    -------
    str

    Raises
    ------
    InputError
        The file cannot be read, is none of these kinds, or does not hold what its name says.
    """
    path = Path(picture)
    if path.suffix.lower() not in _KINDS:
        raise InputError(f"{path}: a picture of kind {', '.join(_KINDS)} is wanted.")
    kind, begin = _KINDS[path.suffix.lower()]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: the picture cannot be read: {error.strerror}.") from error
    if not data.startswith(begin):
        raise InputError(f"{path}: does not hold a picture of kind {kind}; write the figures again.")
    inside = base64.b64encode(data).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    text = f'alt="{escape(alt or caption or path.stem)}"{_size(data)}'
    return f'<figure><img {text} src="data:{kind};base64,{inside}">{below}</figure>'


def _size(data: bytes) -> str:
    """Return width and height of a PNG that says how many dots an inch has, as attributes; else nothing.

    Source: Portable Network Graphics, third edition, sections 11.2.1 (IHDR) and 11.3.4.3 (pHYs).
    """
    at = data.find(b"pHYs", 0, data.find(b"IDAT"))
    if not data.startswith(_KINDS[".png"][1]) or at < 0:
        return ""
    dots = struct.unpack(">II", data[16:24])
    # Dots per meter.
    density = struct.unpack(">II", data[at + 4 : at + 12])
    width, height = (round(many / (each * 0.0254) * _DOTS) for many, each in zip(dots, density, strict=True))
    return f' width="{width}" height="{height}"'
