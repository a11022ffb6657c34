"""Encoders that are a function: found by their entry point, checked at every answer, stored like any other model."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch

import embedstore
from embedstore import tasks
from embedstore.cli import main
from embedstore.errors import FingerprintError, InputError
from embedstore.models import load, record
from embedstore.models.function import function_model
from embedstore.models.records import installed

WIDTH = 3


def spans_of(text):
    """Rows of 4 letters; the last one may be shorter."""
    return np.array([4] * (len(text) // 4) + [len(text) % 4] * (len(text) % 4 > 0))


def rows_of(text):
    """What a row holds: its number, its first letter, the length of the sequence."""
    starts = np.cumsum(spans_of(text)) - spans_of(text)
    return np.array([(i, ord(text[start]), len(text)) for i, start in enumerate(starts)], np.float32)


def encode(texts):
    return [(rows_of(text), spans_of(text)) for text in texts]


# The same in the words of a package that knows nothing of this file.
PACKAGE = """
import numpy as np

calls = []

def spans(texts):
    return [np.array([4] * (len(t) // 4) + [len(t) % 4] * (len(t) % 4 > 0)) for t in texts]

def encode(texts):
    calls.append(len(texts))
    answer = []
    for text, span in zip(texts, spans(texts)):
        starts = np.cumsum(span) - span
        rows = [(i, ord(text[start]), len(text)) for i, start in enumerate(starts)]
        answer.append((np.array(rows, np.float32), span))
    return answer

number = 3
"""


def distribution(folder, *, version="1.0", name="tiny", points=("tiny_encoder = tiny_package:encode",), code=PACKAGE):
    """Lay out an installed distribution, as an installer would."""
    (folder / f"{name}_package.py").write_text(code)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[embedstore.models]\n" + "\n".join(points) + "\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that packages are imported from."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("tiny_package", None)


@pytest.mark.parametrize("announces", [True, False])
def test_an_installed_encoder_from_its_entry_point_to_the_store(site, tmp_path, many_blocks, announces):
    distribution(site, code=PACKAGE + ("encode.spans = spans\n" if announces else ""))
    assert installed()["tiny_encoder"].value == "tiny_package:encode"
    assert "tiny_package" not in sys.modules
    model = load("tiny_encoder")
    calls = sys.modules["tiny_package"].calls
    calls.clear()
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACGTN"), n)) for n in [100, 130, 61, 7, 1, 200, 59, 60, 60, 60] * 4]
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", texts))
    assert embedstore.embed(store, "t", model, progress=False, dtype="float32").blocks > 2
    expected = np.concatenate([np.repeat(rows_of(text), spans_of(text), axis=0) for text in texts])
    dataset = store.open("t", "tiny_encoder")
    np.testing.assert_array_equal(dataset["embedding"].to_numpy(), expected)
    assert (sum(calls) == len(texts)) is announces
    assert sum(calls) in (len(texts), 3 * len(texts))
    assert max(calls) > 1
    assert store.embedding("t", "tiny_encoder").has_spans


def test_another_version_is_refused(site, tmp_path):
    distribution(site)
    first = load("tiny_encoder")
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", ["ACGTAC"]))
    embedstore.embed(store, "t", first, progress=False)
    (site / "tiny-1.0.dist-info").rename(site / "tiny-1.1.dist-info")
    metadata = site / "tiny-1.1.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    second = load("tiny_encoder")
    assert (first.digest, first.fingerprint) != (second.digest, second.fingerprint)
    with pytest.raises(
        FingerprintError, match=r"stored 'tiny_package:encode of tiny 1.0', now 'tiny_package:encode of tiny 1.1'"
    ):
        embedstore.embed(store, "t", second, progress=False)


def test_the_record_and_the_table(site, capsys):
    distribution(site)
    known = record("tiny_encoder")
    assert (known.architecture, known.title) == ("function", "tiny_package:encode of tiny 1.0")
    assert main(["models"]) == 0
    assert re.search(r"^tiny_encoder +function( +-)+$", capsys.readouterr().out, re.MULTILINE)
    assert main(["models", "tiny_encoder"]) == 0
    assert "tiny_package:encode of tiny 1.0" in capsys.readouterr().out
    assert main(["models", "tiny_encode"]) == 1
    assert "Did you mean 'tiny_encoder'?" in capsys.readouterr().err
    assert "tiny_package" not in sys.modules


@pytest.mark.parametrize(
    ("points", "wanted"),
    [
        (["esm2_8m = tiny_package:encode"], "'esm2_8m', tiny_package:encode of tiny 1.0, has the name of a published"),
        (["twice = tiny_package:encode"], "'twice', .* has the name of .*:encode of .* 1.0; uninstall one of them"),
    ],
)
def test_names_that_are_taken(site, points, wanted):
    distribution(site, points=points)
    distribution(site, points=["twice = other_package:encode"], name="other")
    with pytest.raises(InputError, match=wanted):
        installed()


@pytest.mark.parametrize(
    ("points", "options", "wanted"),
    [
        ("tiny_encoders = tiny_package:encode", {}, r"'tiny_encoder' is neither .*Did you mean 'tiny_encoders'"),
        ("tiny_encoder = tiny_package:nothing", {}, r"tiny_package:nothing of tiny 1.0, cannot be imported: Attribute"),
        ("tiny_encoder = no_package:encode", {}, r"cannot be imported: ModuleNotFoundError: No module named"),
        ("tiny_encoder = tiny_package:number", {}, r"is a int; wanted a function"),
        ("tiny_encoder = tiny_package:encode", {"layer": 3}, r"a function, without checkpoint.* layer"),
        ("tiny_encoder = tiny_package:encode", {"checkpoint": "."}, r"a function, without checkpoint"),
        ("tiny_encoder = tiny_package:encode", {"device": "nowhere"}, r"Cannot use the device 'nowhere'"),
    ],
)
def test_what_cannot_be_loaded(site, points, options, wanted):
    distribution(site, points=[points])
    with pytest.raises(InputError, match=wanted):
        load("tiny_encoder", **options)


def model_of(function):
    return function_model("mine", function, version="mine 1.0")


def changed(**answers):
    """The encoder with something else as rows or spans of every sequence."""

    def function(texts):
        kinds = {"rows": rows_of, "spans": spans_of} | answers
        return [(kinds["rows"](text), kinds["spans"](text)) for text in texts]

    return function


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda texts: None, "gave a NoneType for 2 sequences; wanted a list with one entry for each"),
        (lambda texts: encode(texts)[:1], "gave a list of 1 for 2 sequences"),
        (lambda texts: iter(encode(texts)), "gave a list_iterator for 2 sequences"),
        (lambda texts: [rows_of(text) for text in texts], r"gave an array \[6, 3\] of float32 .* wanted a pair"),
        (lambda texts: [(*pair, 1) for pair in encode(texts)], "gave a tuple of 3"),
        (changed(rows=lambda text: torch.from_numpy(rows_of(text))), "gave a Tensor as rows .*'ATGG.*; wanted a numpy"),
        (changed(rows=lambda text: rows_of(text)[:, 0]), r"an array \[6\] of float32 as rows"),
        (changed(rows=lambda text: rows_of(text)[:, :0]), r"an array \[6, 0\] of float32 as rows"),
        (changed(rows=lambda text: rows_of(text).astype(int)), r"an array \[6, 3\] of int64 as rows"),
        (changed(rows=lambda text: rows_of(text).astype(object)), r"an array \[6, 3\] of object as rows"),
        (changed(rows=lambda text: rows_of(text)[1:]), "5 rows and 6 spans .*; wanted one span for each row"),
        (changed(spans=lambda text: spans_of(text).tolist()), "a list of 6 as spans"),
        (changed(spans=lambda text: spans_of(text)[:, None]), r"an array \[6, 1\] of int64 as spans"),
        (changed(spans=lambda text: spans_of(text) * 1.0), "of float64 as spans .* whole numbers above 0 .* to 24"),
        (changed(spans=lambda text: spans_of(text)[1:]), r"the spans \[4 4 4 4 4\] \(sum 20\)"),
        (changed(spans=lambda text: spans_of(text)[:0]), r"the spans \[\] \(sum 0\)"),
        (changed(spans=lambda text: np.append(spans_of(text)[:-1], [0, 4])), r"the spans \[4 4 4 4 4 0 4\]"),
        (changed(spans=lambda text: np.append(spans_of(text)[:-1], [-1, 5])), r"the spans \[ ?4 .* -1 +5\]"),
        (
            changed(rows=lambda text: rows_of(text)[:, : 3 - (len(text) == 12)]),
            "gave 2 channels .*; wanted 3, as in its",
        ),
        (lambda texts: 1 / 0, "failed on 2 sequences, the first 'ATGG.*: ZeroDivisionError: division by zero"),
    ],
)
def test_a_wrong_answer_is_named(function, wanted):
    with pytest.raises(InputError, match=wanted) as caught:
        model_of(function)
    assert str(caught.value).startswith("The encoder 'mine', mine 1.0")


@pytest.mark.parametrize(
    ("announced", "wanted"),
    [
        (lambda texts: [spans_of(text)[::-1].copy() for text in texts], None),
        (
            lambda texts: [np.ones(len(text), int) for text in texts],
            r"the spans \[4 4 4 4 4 4\] .* announced before: \[1",
        ),
        (lambda texts: [spans_of(text)[1:] for text in texts], r"attribute spans, gave the spans \[4 4 4 4 4\]"),
        (lambda texts: spans_of(texts[0]), r"attribute spans, gave an array \[6\] of int64 for 1 sequences"),
        (lambda texts: 1 / 0, "attribute spans, failed on 1 sequences"),
    ],
)
def test_spans_that_are_announced_otherwise(announced, wanted):
    def function(texts):
        return encode(texts)

    function.spans = announced
    if wanted:
        with pytest.raises(InputError, match=wanted):
            model_of(function)
        return
    model = model_of(function)  # every row of the trial has 4 letters, so the order does not show there
    (piece,) = model.pieces(np.frombuffer(b"ACGTA", np.uint8))
    with pytest.raises(
        InputError, match=r"gave the spans \[4 1\] for the sequence 'ACGTA'; .* announced before: \[1 4\]"
    ):
        model.hidden(torch.from_numpy(piece.ids)[None])


def test_a_width_that_changes_after_the_trial():
    late = changed(rows=lambda text: np.ones((len(spans_of(text)), 3 + (text[0] == "C")), np.float32))
    model = model_of(late)
    (piece,) = model.pieces(np.frombuffer(b"C" * 50, np.uint8))
    with pytest.raises(InputError, match=r"4 channels .*'C{40}'\.\.\. \(50 letters\); wanted 3, as in its trial"):
        model.hidden(torch.from_numpy(piece.ids)[None])


def test_pieces_and_rows_of_a_batch():
    model = model_of(encode)
    assert (model.width, model.pads, model.device.type) == (WIDTH, False, "cpu")
    texts = ["ACGTNACGTA", "NNNNACGTAC"]
    pieces = [model.pieces(np.frombuffer(text.encode(), np.uint8)) for text in texts]
    assert [(len(parts), parts[0].first, parts[0].span.tolist()) for parts in pieces] == [(1, 0, [4, 4, 2])] * 2
    assert pieces[0][0].span.dtype == np.int32
    hidden = model.hidden(torch.from_numpy(np.stack([parts[0].ids for parts in pieces])))
    assert hidden.dtype == torch.float32
    np.testing.assert_array_equal(hidden.numpy(), [rows_of(text) for text in texts])
    with pytest.raises(InputError, match="cannot take padded sequences"):
        model.hidden(torch.from_numpy(pieces[0][0].ids)[None], torch.tensor([3]))
    with pytest.raises(InputError, match="empty sequence"):
        model.pieces(np.zeros(0, np.uint8))


def test_rows_of_other_floats_become_float32():
    model = model_of(
        changed(rows=lambda text: rows_of(text).astype(np.float64), spans=lambda t: spans_of(t).astype("u1"))
    )
    (piece,) = model.pieces(np.frombuffer(b"ACGTA", np.uint8))
    assert model.hidden(torch.from_numpy(piece.ids)[None]).dtype == torch.float32


def test_the_alphabet_of_a_function(site):
    def function(texts):
        return encode(texts)

    assert model_of(function).alphabet == "dna"
    function.alphabet = "protein"
    assert model_of(function).alphabet == "protein"
    function.alphabet = "rna"
    with pytest.raises(InputError, match="alphabet = 'rna'; wanted 'dna' or 'protein'"):
        model_of(function)


def split_at_n(texts):
    """A row for each stretch of plain letters and one for each N: sequences of one length have different numbers."""
    answer = []
    for text in texts:
        span = np.array([len(part) for part in re.findall("N|[^N]+", text)])
        starts = np.cumsum(span) - span
        answer.append((np.array([[ord(text[start]), start] for start in starts], np.float32), span))
    return answer


def test_one_length_and_different_numbers_of_rows(tmp_path):
    """They go through one batch, and each sequence has the rows that it has alone."""
    texts = ["ACGTACGT", "ACNTACGT", "NNNNNNNN", "TCGTNCGT"]
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("toy", texts))
    embedstore.embed(store, "toy", function_model("parts", split_at_n, version="1"), dtype="float32", batch_tokens=64)
    rows = store.embedding("toy", "parts").read(np.arange(4))
    whole = split_at_n(texts)
    np.testing.assert_array_equal(rows.vector, np.concatenate([values for values, _ in whole]))
    np.testing.assert_array_equal(rows.span, np.concatenate([span for _, span in whole]))
    means = [np.average(values, axis=0, weights=span) for values, span in whole]
    np.testing.assert_allclose(store.embedding("toy", "parts").pooled(), means, rtol=1e-6)


def test_a_long_task_is_tried_without_counting_arithmetic(tmp_path, monkeypatch):
    """A trial counts a network's operations on made-up ids, which a function would refuse."""
    monkeypatch.setattr("embedstore.embedding.TRIAL_LETTERS", {"cpu": 0})
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("toy", ["ACGTACGT"] * 40))
    report = embedstore.embed(store, "toy", function_model("parts", encode, version="1"))
    assert report.samples == 40
    assert np.isnan(report.flops)
