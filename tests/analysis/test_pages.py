"""Pages of HTML: read back by the standard library's parser."""

from __future__ import annotations

import base64

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
    assert "prefers-color-scheme: dark" in html
    assert {"A title", "below it", "one", "a", "b"} <= set(found.text)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1))
def test_any_text_comes_back_as_it_was(text):
    frame = pd.DataFrame({text: [text]}, index=pd.Index([text], name=text + "."))
    blocks = [pages.paragraph(text), pages.paragraph(text, style="said"), pages.bullets([text])]
    found = read(pages.page(text, [pages.Section(text, [*blocks, pages.table(frame, text)])], lead=text))
    # Title twice, lead, contents, heading, two paragraphs, a point, the caption, a head and two cells.
    assert found.text.count(text) == 12


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
            "small": [1e-5, -0.5],
            "count": [1648, 2],
            "yes": [True, False],
            "known": pd.array([True, None], dtype="boolean"),
        }
    )
    found = read(pages.table(frame))
    cells = [text for text in found.text if text.strip()]
    assert cells == [
        *frame.columns,
        *("a", "0.123", "1e-05", "1,648", "yes", "yes"),
        *(pages.NOTHING, pages.NOTHING, "-0.500", "2", "no", pages.NOTHING),
    ]
    assert [cell.get("class") for cell in named(found, "th")] == [None, "number", "number", "number", None, None]
    assert pages.shown(2.0, decimals=1) == "2.0"
    assert pages.shown(0.0) == pages.shown(-2.2e-15) == "0.000"


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
    frame = pd.DataFrame({"x": range(41)})
    assert "<details>" not in pages.table(frame.head(40), "Numbers")
    found = read(pages.table(frame, "Numbers"))
    assert found.text[0] == "Numbers (41 rows)"
    assert len(named(found, "tr")) == 42


def test_a_figure_holds_its_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    image = named(read(pages.figure(path, 'R2 < 1 & "more"')), "img")[0]
    assert image["alt"] == 'R2 < 1 & "more"'
    kind, _, data = image["src"].partition(";base64,")
    assert kind == "data:image/png"
    assert base64.b64decode(data) == PNG
    assert named(read(pages.figure(path)), "img")[0]["alt"] == "a"


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
