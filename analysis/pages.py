"""Pages of HTML that stand alone: tables and figures inside, no scripts, nothing fetched when they are opened.

Every text is escaped. Colours follow the reader's choice of light or dark.
"""

from __future__ import annotations

import base64
import math
import re
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

_LONG = 40
"""Tables with more rows are folded up until the reader opens them."""

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
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
p, ul { max-width: 46rem; }
a { color: var(--mark); }
.soft, figcaption, caption { color: var(--soft); font-size: .9rem; }
.said { border-left: 4px solid var(--mark); background: var(--panel); padding: .8rem 1rem; margin: 1rem 0;
  font-size: 1.05rem; max-width: 52rem; }
nav ul { columns: 2; column-gap: 2rem; padding-left: 1.2rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { border-bottom: 2px solid var(--line); }
td.number, th.number { text-align: right; white-space: nowrap; }
td:not(.number) { max-width: 34rem; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; background: #ffffff; padding: .5rem; border-radius: 4px; }
details > summary { cursor: pointer; color: var(--mark); }
@media print { nav { display: none; } }
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


def page(title: str, sections: Iterable[Section], *, lead: str = "") -> str:
    """Return a whole page.

    Parameters
    ----------
    title, lead
        Plain text: what the page is about, and a line below.
    sections
        Its parts; those without blocks are left out.

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
<nav aria-label="Contents"><ul>{contents}</ul></nav>
</header>
<main>
{body}
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
        ``"said"`` for the statement of a page, ``"soft"`` for a remark; default neither.

    Returns
    -------
    str
    """
    return f'<p class="{escape(style)}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"


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
    """Return a table; one of more than 40 rows is folded up until it is opened.

    Parameters
    ----------
    frame
        Numbers and texts. Its index is shown where it has a name.
    caption
        Plain text above it.
    decimals
        Of numbers that are no integers; those that would round to 0 keep two significant digits, unless they are
        below 1e-9. Default 3.

    Returns
    -------
    str
    """
    import pandas as pd

    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    types = pd.api.types
    numeric = [types.is_numeric_dtype(kind) and not types.is_bool_dtype(kind) for kind in frame.dtypes]
    names = [" ".join(str(part) for part in name if part) if isinstance(name, tuple) else str(name) for name in frame]
    head = "".join(_cell("th", name, right) for name, right in zip(names, numeric, strict=True))
    rows = [
        "".join(_cell("td", shown(value, decimals), right) for value, right in zip(row, numeric, strict=True))
        for row in frame.itertuples(index=False, name=None)
    ]
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    whole = f'<div class="scroll"><table>{above}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    if len(rows) <= _LONG:
        return whole
    return f"<details><summary>{escape(caption or 'Table')} ({len(rows):,} rows)</summary>\n{whole}\n</details>"


def _cell(tag: str, text: str, right: bool) -> str:
    kind = ' class="number"' if right else ""
    scope = ' scope="col"' if tag == "th" else ""
    return f"<{tag}{scope}{kind}>{escape(text)}</{tag}>"


def shown(value: Any, decimals: int = 3) -> str:
    """Return a value as it is shown in a table.

    Parameters
    ----------
    value
        A number, a text, True or False, or nothing (None, NaN, NA).
    decimals
        See `table`.

    Returns
    -------
    str

    Examples
    --------
    >>> shown(0.12345), shown(0.00012), shown(1648), shown(float("nan")), shown(True)
    ('0.123', '0.00012', '1,648', '–', 'yes')
    """
    import pandas as pd

    if value is None or value is pd.NA or (isinstance(value, float | np.floating) and math.isnan(value)):
        return NOTHING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        number = float(value) if abs(float(value)) > _ROUNDING else 0.0
        text = f"{number:,.{decimals}f}"
        return f"{number:.2g}" if number and not re.search(r"[1-9]", text) else text
    return str(value)


def figure(picture: str | Path, caption: str = "") -> str:
    """Return a figure with the picture inside.

    Parameters
    ----------
    picture
        File of a PNG, JPEG or SVG.
    caption
        Plain text below it, also what is read aloud in place of the picture.

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
    return f'<figure><img alt="{escape(caption or path.stem)}" src="data:{kind};base64,{inside}">{below}</figure>'
