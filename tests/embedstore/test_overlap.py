"""Overlapping windows: who keeps which row, by hand, by property, and against a network that sees all at once."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import embedstore
from embedstore.cli import main
from embedstore.errors import InputError
from embedstore.models import load
from embedstore.models.convnet import ConvNet, ConvNetSpec
from embedstore.models.model import Model
from embedstore.models.windows import WindowRule, by_letters, by_tokens, in_order, overlapping, single
from embedstore.tokenizers import CharacterTokenizer, KmerTokenizer, Tokens

GOLDEN = Path(__file__).parents[1] / "golden"
LONGEST = 5
SPECIAL = 9000


@dataclass(frozen=True)
class Counted:
    """Letters are their own positions; a word's length depends on its first letter; its id tells both: 42 is [4, 6)."""

    sizes: tuple[int, ...]
    prefix: tuple[int, ...] = (SPECIAL,)
    suffix: tuple[int, ...] = (SPECIAL, SPECIAL)
    regular = False
    frame = 1

    def encode(self, codes):
        ids, span, place = [], [], 0
        while place < len(codes):
            span.append(min(self.sizes[codes[place]], len(codes) - place))
            ids.append(10 * int(codes[place]) + span[-1])
            place += span[-1]
        return Tokens(np.array(ids, np.int64), np.array(span, np.int32))


def letters(length):
    return np.arange(length, dtype=np.uint8)


def show(pieces):
    return [(piece.ids.tolist(), piece.first, piece.span.tolist()) for piece in pieces]


def test_windows_of_letters_share_what_they_see():
    rule = by_letters(Counted((2,) * 99, (), ()), 6, overlap=3)
    # [0, 6), [3, 9) and [6, 10). The ends in the left window that are nearest to 4.5 and 7.5 are 4 and 7. The word
    # [3, 5) of the second window lies across the first border.
    assert show(rule.cut(letters(10))) == [([2, 22, 42], 0, [2, 2]), ([32, 52, 72], 0, [1, 2]), ([62, 82], 0, [1, 2])]
    assert rule.description == "windows of 6 letters overlapping by 3 letters, centres kept"
    # The end of the sequence is in the first window: there is no second one.
    assert show(rule.cut(letters(6))) == [([2, 22, 42], 0, [2, 2, 2])]
    assert [len(rule.cut(letters(length))) for length in (1, 6, 7, 9, 10, 12, 13)] == [1, 1, 2, 2, 3, 3, 4]


def test_windows_of_tokens_share_the_tokens_that_cover_the_overlap():
    rule = by_tokens(Counted((2,) * 99, (1,), (3,)), 4, overlap=3)
    # Three letters are covered by two words of two; the border is at the end of the word that is nearer to 6.
    assert show(rule.cut(letters(12))) == [
        ([1, 2, 22, 42, 62, 3], 1, [2, 2, 2]),
        ([1, 42, 62, 82, 102, 3], 2, [2, 2, 2]),
    ]
    assert rule.description == "windows of 4 tokens overlapping by 3 letters, centres kept"


def test_parts_of_a_list_of_ids():
    rule = by_letters(Counted((1,) * 99, (1000,), (2000,)), None, 5, overlap=2)
    # No special token but before the first letter and after the last.
    assert show(rule.cut(letters(9))) == [
        ([1000, 1, 11, 21, 31], 1, [1, 1, 1]),
        ([21, 31, 41, 51, 61], 1, [1, 1, 1]),
        ([51, 61, 71, 81, 2000], 1, [1, 1, 1]),
    ]
    assert rule.description == "whole sequences, cut after every 5 ids overlapping by 2 letters, centres kept"


def test_a_word_longer_than_the_overlap():
    # The second window begins within the word [4, 9), after which nothing is left of its left part.
    rule = by_letters(Counted((4, *(1,) * 3, 5, *(1,) * 90), (), ()), 9, overlap=3)
    assert show(rule.cut(letters(12))) == [([4, 45], 0, [4, 5]), ([61, 71, 81, 91, 101, 111], 3, [1, 1, 1])]


def disjoint(tokenizer, codes, window, most):
    """Cut as before there was an overlap."""
    pieces = []
    for start in range(0, len(codes), window or len(codes)):
        tokens = tokenizer.encode(codes[start : start + (window or len(codes))])
        ids = [*tokenizer.prefix, *tokens.ids.tolist(), *tokenizer.suffix]
        span = [0] * len(tokenizer.prefix) + tokens.span.tolist() + [0] * len(tokenizer.suffix)
        for place in range(0, len(ids), most or len(ids)):
            part = slice(place, place + (most or len(ids)))
            kept = [letters for letters in span[part] if letters]
            if kept:
                pieces.append((ids[part], max(len(tokenizer.prefix) - place, 0), kept))
    return pieces


WORLD = {
    "sizes": st.lists(st.integers(1, LONGEST), min_size=120, max_size=120).map(tuple),
    "length": st.integers(1, 120),
    "special": st.tuples(st.integers(0, 3), st.integers(0, 3)),
}


@settings(deadline=None)
@given(**WORLD, window=st.one_of(st.none(), st.integers(1, 30)), most=st.one_of(st.none(), st.integers(1, 9)))
def test_without_overlap_nothing_changed(sizes, length, special, window, most):
    tokenizer = Counted(sizes, (SPECIAL,) * special[0], (SPECIAL,) * special[1])
    codes = letters(length)
    rule = by_letters(tokenizer, window, most)
    assert overlapping(rule, 0) is rule
    pieces = rule.cut(codes)
    assert show(pieces) == disjoint(tokenizer, codes, window, most)
    assert {(piece.ids.dtype, piece.span.dtype) for piece in pieces} == {(np.dtype(np.int64), np.dtype(np.int32))}
    whole = tokenizer.encode(codes)
    size = most or 3
    parts = [(whole.ids[i : i + size], whole.span[i : i + size]) for i in range(0, len(whole.ids), size)]
    assert show(by_tokens(tokenizer, size).cut(codes)) == [
        ([*tokenizer.prefix, *ids.tolist(), *tokenizer.suffix], special[0], span.tolist()) for ids, span in parts
    ]


@settings(deadline=None, max_examples=300)
@given(data=st.data(), **WORLD, kind=st.sampled_from(["letters", "letters and ids", "ids", "tokens"]))
def test_rows_tile_and_keep_away_from_inner_edges(data, sizes, length, special, kind):
    tokenizer = Counted(sizes, (SPECIAL,) * special[0], (SPECIAL,) * special[1])
    window, most = data.draw(st.integers(2, 40), "window"), data.draw(st.integers(special[0] + 2, 20), "most")
    rule, largest = {
        "letters": (by_letters(tokenizer, window), window - 1),
        "letters and ids": (by_letters(tokenizer, window, most), window - 1),
        "ids": (by_letters(tokenizer, None, most), most - special[0] - 1),
        "tokens": (by_tokens(tokenizer, most), most - 1),
    }[kind]
    overlap = data.draw(st.integers(1, largest), "overlap")
    wanted = min(overlap, (most - special[0]) // 2) if kind == "letters and ids" else overlap
    place = 0
    for ids, first, span in show(overlapping(rule, overlap).cut(letters(length))):
        words = {row: divmod(i, 10) for row, i in enumerate(ids) if i != SPECIAL}
        begin, end = min(words.values())[0], sum(max(words.values()))
        for row, stands_for in enumerate(span, first):
            assert words[row][0] <= place < place + stands_for <= sum(words[row])
            assert begin == 0 or place - begin >= wanted / 2 - LONGEST
            assert end == length or end - (place + stands_for) >= wanted / 2 - LONGEST
            place += stands_for
    assert place == length


def test_kmers_stay_in_frame():
    words = ["<unk>", "<cls>", *map("".join, itertools.product("ACGT", repeat=3)), *"ACGTN"]
    tokenizer = KmerTokenizer.from_words(words)
    codes = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), 100)
    rule = overlapping(by_letters(tokenizer, 30), 7)
    assert rule.description == "windows of 30 letters overlapping by 9 letters, centres kept"
    pieces = rule.cut(codes)
    assert len(pieces) == 5
    kept = np.concatenate([piece.ids[piece.first :][: len(piece.span)] for piece in pieces])
    assert kept.tolist() == tokenizer.encode(codes).ids.tolist()
    # A window that is no whole number of words.
    rule = overlapping(by_letters(tokenizer, 31), 7)
    assert rule.description == "windows of 31 letters overlapping by 7 letters, centres kept"
    assert rule.cut(codes)[1].ids[1] == tokenizer.encode(codes).ids[8]


# ---- against a network that sees the whole sequence ----------------------------------------------


def model_of(tokenizer, rule):
    """A network whose outputs depend on three tokens on either side, and no more."""
    torch.manual_seed(0)
    spec = ConvNetSpec(tokenizer.size, max(8, tokenizer.size), 2, kernel_size=3)
    assert spec.dilations() == [1, 2]
    network = ConvNet(spec, head=False)
    record = {"architecture": "convnet", "tokenizer": "mine", "rules": "authors"}
    return Model(
        "tiny", network, rule, alphabet="dna", layer=-1, precision="float32", device="cpu", record=record, digest=""
    )


def rows_of(model, codes):
    rows = []
    for piece in model.pieces(codes):
        hidden = model.hidden(torch.from_numpy(piece.ids)[None])[0].numpy()
        rows.append(np.repeat(hidden[piece.first :][: len(piece.span)], piece.span, axis=0))
    return np.concatenate(rows)


TABLE = np.full(256, 2)
TABLE[list(b"ACGT")] = [3, 4, 5, 6]
LETTERS = CharacterTokenizer(TABLE, unknown_id=2)
PAIRS = KmerTokenizer.from_words(["<unk>", "<cls>", *map("".join, itertools.product("ACGT", repeat=2)), *"ACGTN"])
PAIRS = KmerTokenizer(PAIRS.k, PAIRS.word_ids, PAIRS.letter_ids, PAIRS.unknown_id, (), ())


@pytest.mark.parametrize(
    ("rule", "tokenizer", "enough"),
    [
        (by_letters(LETTERS, 20), LETTERS, 6),
        (by_tokens(LETTERS, 20), LETTERS, 6),
        (by_letters(LETTERS, None, 20), LETTERS, 6),
        (by_letters(PAIRS, 40), PAIRS, 12),
        (by_letters(PAIRS, None, 20), PAIRS, 12),
    ],
)
def test_rows_are_those_of_the_whole_sequence_when_the_overlap_covers_what_they_see(rule, tokenizer, enough):
    codes = np.random.default_rng(1).choice(np.frombuffer(b"ACGT", np.uint8), 171)
    whole = rows_of(model_of(tokenizer, by_letters(tokenizer)), codes)

    def difference(overlap):
        return np.abs(rows_of(model_of(tokenizer, overlapping(rule, overlap)), codes) - whole).max()

    assert difference(enough) < 1e-5
    assert difference(enough - 2 * tokenizer.frame) > 1e-3
    assert difference(0) > 1e-3


# ---- what may overlap ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "overlap", "message"),
    [
        (by_letters(LETTERS, 20), -1, "overlap is -1; wanted: letters that windows share"),
        (by_letters(LETTERS, 20), 2.5, "overlap is 2.5; wanted"),
        (by_letters(LETTERS, 20), 20, "overlap is 20 letters; windows of 20 letters can overlap by at most 19"),
        (by_letters(PAIRS, 20), 19, "windows of 20 letters can overlap by at most 18 letters"),
        (by_letters(PAIRS, 1), 1, "windows of 1 letters can overlap by at most 0 letters"),
        (by_letters(Counted((1,)), None, 9), 8, "parts of 9 ids, .* can overlap by at most 7 letters"),
        (by_tokens(LETTERS, 1000), 1000, "windows of 1,000 tokens, .* can overlap by at most 999 letters"),
        (by_letters(LETTERS), 1, r"overlap is 1, but this model has no windows .* \(whole sequences\); leave it out"),
        (single(by_letters(LETTERS, 20)), 5, "no windows that could overlap"),
        (WindowRule("as it likes", list), 5, r"no windows that could overlap \(as it likes\)"),
        (in_order(by_letters(LETTERS), np.arange, "mine"), 5, "no windows that could overlap"),
    ],
)
def test_what_cannot_overlap(rule, overlap, message):
    with pytest.raises(InputError, match=message):
        overlapping(rule, overlap)


def test_the_largest_overlaps():
    rules = (by_letters(LETTERS, 20), 19, 21), (by_letters(PAIRS, 20), 18, 11), (by_tokens(LETTERS, 20), 19, 21)
    for rule, largest, windows in rules:
        pieces = overlapping(rule, largest).cut(np.frombuffer(b"ACGT" * 10, np.uint8))
        assert len(pieces) == windows  # each begins a letter, or a word of two, after the one before
        assert sum(int(piece.span.sum()) for piece in pieces) == 40


def test_windows_that_are_refused_or_reordered():
    rule = overlapping(by_letters(LETTERS, 8), 4)
    codes = np.frombuffer(b"ACGT" * 3, np.uint8)
    with pytest.raises(InputError, match="12 letters .* 2 pieces .windows of 8 letters overlapping by 4 letters"):
        single(rule).cut(codes)
    # Backwards; every letter is a row of its own.
    backwards = overlapping(in_order(by_letters(LETTERS, 8), lambda n: np.arange(n)[::-1], "backwards"), 4)
    pieces = backwards.cut(codes)
    assert [int(piece.ids[piece.first]) for piece in pieces] == TABLE[codes[::-1]].tolist()
    assert [len(piece.ids) for piece in pieces] == [8] * 12
    assert backwards.description == "windows of 8 letters overlapping by 4 letters, centres kept; backwards"


@pytest.mark.parametrize(("name", "rules"), [("dnabert", "authors"), ("dnabert", "bend"), ("nt_v1", "authors")])
def test_models_with_overlap(name, rules):
    model = load(GOLDEN / name, rules=rules, overlap=200)
    codes = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), 17_900)
    pieces = model.pieces(codes)
    assert sum(int(piece.span.sum()) for piece in pieces) == len(codes)
    known = load(GOLDEN / name, rules=rules).pieces(codes)
    if rules == "authors":  # the same tokens, each in a piece of more context
        kept = [np.concatenate([p.ids[p.first :][: len(p.span)] for p in found]).tolist() for found in (pieces, known)]
        assert kept[0] == kept[1]
    assert len(pieces) > len(known)
    assert "overlapping by 20" in model.fingerprint["window"]


def test_parts_of_a_window_overlap_by_half_at_most():
    model = load(GOLDEN / "nt_v1", overlap=3000)
    assert model.fingerprint["window"] == (
        "windows of 5994 letters overlapping by 3000 letters, centres kept, "
        "cut after every 1000 ids overlapping by 499 letters, centres kept"
    )
    pieces = model.pieces(np.frombuffer(b"N" * 3000 + b"ACGT" * 1000, np.uint8))
    assert sum(int(piece.span.sum()) for piece in pieces) == 7000


def test_options_of_load():
    for name, options, message in (
        ("resnet_lm", {"overlap": 100}, "no windows that could overlap"),
        ("nt_v1", {"overlap": 5994}, "at most 5,988"),
        ("nt_v1", {"overlap": 6, "windows": False}, "overlap is 6, and windows are off"),
    ):
        with pytest.raises(InputError, match=message):
            load(GOLDEN / name, **options)
    assert load(GOLDEN / "nt_v1", overlap=0).fingerprint == load(GOLDEN / "nt_v1").fingerprint


# ---- the command line ----------------------------------------------------------------------------


def test_plan_and_embed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(GOLDEN / "caduceus_ph", "tiny")
    config = json.loads(Path("tiny/tokenizer_config.json").read_text())
    Path("tiny/tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 30}))
    rng = np.random.default_rng(0)
    rows = [f"s{i},{''.join(rng.choice(list('ACGT'), 70 + i))},all" for i in range(3)]
    Path("t.csv").write_text("\n".join(["id,sequence,split", *rows]) + "\n")

    def run(command, *words):
        code = main([command, "t", "--model", "tiny", "--store", "s.zarr", "--dtype", "float32", *words])
        return code, "".join(capsys.readouterr())

    assert run("embed", "--overlap", "30", "--table", "t.csv")[1].count("can overlap by at most 29") == 1
    assert run("embed", "--overlap", "10", "--table", "t.csv")[0] == 0
    embedding = embedstore.open_store("s.zarr").embedding("t", "tiny")
    assert embedding.record["window"] == "windows of 30 letters overlapping by 10 letters, centres kept"
    model = load("tiny", overlap=10)
    codes = embedstore.open_store("s.zarr").sequences("t", [1])[0]
    assert [len(piece.span) for piece in model.pieces(codes)] == [25, 20, 20, 6]
    np.testing.assert_allclose(embedding.read([1]).vector, rows_of(model, codes), rtol=0, atol=1e-5)
    assert run("plan", "--overlap", "10")[0] == 0
    code, text = run("embed", "--overlap", "12")
    assert code == 1
    assert "overlapping by 10 letters" in text
    assert "overlapping by 12 letters" in text
