"""Pages of HTML: read back by the standard library's parser."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages_read import named, read

from analysis import pages
from embedstore.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n and the rest"


def test_a_page_has_its_sections_and_loads_nothing():
    sections = [
        pages.Section("First", [pages.paragraph("one")]),
        pages.Section("Nothing here", []),
        pages.Section("Second", [pages.bullets(["a", "b"])]),
    ]
    html = pages.page("A title", sections, lead="below it")
    assert html.startswith("<!DOCTYPE html>")
    found = read(html)
    assert [link["href"] for link in named(found, "a")] == ["#part-1", "#part-2"]
    assert [part["id"] for part in named(found, "section")] == ["part-1", "part-2"]
    assert "Nothing here" not in html
    assert "script" not in html
    assert not [tag for tag, _ in found.elements if tag in ("link", "script", "iframe", "object")]
    policy = next(tag["content"] for tag in named(found, "meta") if "http-equiv" in tag)
    assert policy.startswith("default-src 'none'")
    assert named(found, "html") == [{"lang": "en"}]
    assert found.text.index("one") > found.text.index("Second")  # contents above the parts
    above = read(pages.page("A title", sections, opening=[pages.answer("In short", "it is so")]))
    assert above.text.index("it is so") < above.text.index("Contents")
    assert "nav" not in [tag for tag, _ in read(pages.page("A title", [], opening=["<p>x</p>"])).elements]
    assert "prefers-color-scheme: dark" in html
    assert {"A title", "below it", "one", "a", "b"} <= set(found.text)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1))
def test_any_text_comes_back_as_it_was(text):
    frame = pd.DataFrame({text: [text]}, index=pd.Index([text], name=text + "."))
    blocks = [pages.paragraph(text), pages.paragraph(text, style="soft"), pages.bullets([text])]
    blocks += [pages.answer(text, text), pages.folded(text, [pages.paragraph(text)])]
    found = read(pages.page(text, [pages.Section(text, [*blocks, pages.table(frame, text)])], lead=text))
    # Title twice, lead, contents, heading, two paragraphs, a point, the answer and its heading, what is folded and its
    # heading, the caption, a head and two cells.
    assert found.text.count(text) == 16
    assert [part["aria-label"] for part in named(found, "section") if part.get("class") == "scroll"] == [text]


def test_markup_in_texts_is_shown_and_not_obeyed():
    hostile = '<img src=x onerror="alert(1)"> & <script>alert(2)</script>'
    frame = pd.DataFrame({hostile: [hostile]})
    html = pages.page(hostile, [pages.Section(hostile, [pages.table(frame, hostile), pages.paragraph(hostile)])])
    found = read(html)
    assert "<script" not in html
    assert named(found, "img") == []
    assert found.text.count(hostile) == 8


def test_numbers_in_tables():
    frame = pd.DataFrame(
        {
            "name": ["a", None],
            "number": [0.12345, np.nan],
            "small": [0.0004, -0.5],
            "tiny": [0.000123, -0.00001],
            "count": [1648, -2],
            "interval": ["[0.1, 0.2]", ""],
            "yes": [True, False],
            "known": pd.array([True, None], dtype="boolean"),
            "endless": [np.inf, 1.0],
        }
    )
    found = read(pages.table(frame))
    cells = [text for text in found.text if text.strip()]
    less = "\N{MINUS SIGN}"
    assert cells == [
        *frame.columns,
        # All rows of a column have the same decimals: more only where every number would round to 0.
        *("a", "0.123", "0.000", "0.00012", "1,648", "[0.1, 0.2]", "yes", "yes", "inf"),
        *(pages.NOTHING, pages.NOTHING, f"{less}0.500", f"{less}0.00001", f"{less}2", "no", pages.NOTHING, "1.000"),
    ]
    heads = named(found, "th")
    assert [cell["scope"] for cell in heads] == ["col"] * 9 + ["row"] * 2
    assert [cell.get("class") for cell in heads[:9]] == [None, *["number"] * 5, None, None, "number"]
    assert pages.shown(2.0, decimals=1) == "2.0"
    assert pages.shown(0.0) == pages.shown(-2.2e-15) == "0.000"


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_numbers_of_a_column_have_the_same_decimals(values):
    found = read(pages.table(pd.DataFrame({"row": ["x"] * len(values), "value": values})))
    cells = [text for text in found.text if text.strip()][2:][1::2]
    assert len({len(cell.partition(".")[2]) for cell in cells}) == 1
    read_back = [float(cell.replace(",", "").replace(pages.MINUS, "-")) for cell in cells]
    np.testing.assert_allclose(read_back, values, atol=0.0005000001)


def test_long_texts_break_their_lines_and_short_ones_do_not():
    found = read(pages.table(pd.DataFrame({"short": ["species only"], "long": ["a text of more than 24 letters"]})))
    assert [cell.get("class") for cell in named(found, "td")] == ["words"]
    assert "class" not in named(found, "th")[2]


def test_an_index_is_shown_where_it_has_a_name_and_columns_of_several_levels():
    wide = pd.DataFrame([[1.0]], columns=pd.MultiIndex.from_tuples([("melting_point", "", "r2")]))
    wide.index = pd.Index(["ESM2"], name="model")
    assert [text for text in read(pages.table(wide)).text if text.strip()] == [
        "model",
        "melting_point r2",
        "ESM2",
        "1.000",
    ]


def test_long_tables_are_folded_up():
    frame = pd.DataFrame({"x": range(16)})
    assert "<details>" not in pages.table(frame.head(15), "Numbers")
    found = read(pages.table(frame, "Numbers"))
    assert found.text[0] == "Numbers (16 rows)"
    assert len(named(found, "tr")) == 17


def test_a_figure_holds_its_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    image = named(read(pages.figure(path, 'R2 < 1 & "more"')), "img")[0]
    assert image["alt"] == 'R2 < 1 & "more"'
    kind, _, data = image["src"].partition(";base64,")
    assert kind == "data:image/png"
    assert base64.b64decode(data) == PNG
    assert "width" not in image  # nothing says how large it is
    assert named(read(pages.figure(path)), "img")[0]["alt"] == "a"
    assert named(read(pages.figure(path, "caption", alt="other")), "img")[0]["alt"] == "other"


def test_a_figure_has_the_size_it_was_drawn_for(tmp_path):
    from matplotlib.figure import Figure

    picture = io.BytesIO()
    Figure(figsize=(5, 2.5)).savefig(picture, dpi=150)
    path = tmp_path / "a.png"
    path.write_bytes(picture.getvalue())
    image = named(read(pages.figure(path)), "img")[0]
    assert (image["width"], image["height"]) == ("480", "240")  # 96 to the inch


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.gif", b"GIF", r"a picture of kind \.png, \.svg, \.jpg, \.jpeg is wanted"),
        ("a.png", b"<html>not found</html>", "does not hold a picture of kind image/png"),
        ("missing.png", None, "missing.png: the picture cannot be read: No such file"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, name, data, message):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        pages.figure(tmp_path / name)
