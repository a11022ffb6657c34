"""Many sequences at once: the same pieces and rows as one by one, for every kind of tokenizer and rule."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import codes_of, nucleotides, residues

from embedstore.errors import CheckpointError, InputError
from embedstore.models import load
from embedstore.models.convnet import ConvNet, ConvNetSpec
from embedstore.models.function import function_model
from embedstore.models.grouping import alike
from embedstore.models.model import Model
from embedstore.models.windows import by_letters, by_tokens, in_order, overlapping, single
from embedstore.tokenizers import (
    BpeTokenizer,
    CharacterTokenizer,
    CodonTokenizer,
    KmerTokenizer,
    LongestMatchTokenizer,
    OverlappingKmerTokenizer,
    bend_order,
)

GOLDEN = Path(__file__).parents[1] / "golden"
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
PAIRS = ["<unk>", "<cls>", *map("".join, itertools.product("ACGT", repeat=2)), *"ACGTN"]
TOKENIZERS = {
    "k-mers": lambda: KmerTokenizer.from_words(PAIRS),
    "6-mers": lambda: KmerTokenizer.from_folder(GOLDEN / "nt_v2"),
    "overlapping": lambda: OverlappingKmerTokenizer.from_folder(GOLDEN / "dnabert"),
    "letters": lambda: CharacterTokenizer.from_characters(GOLDEN / "hyenadna", suffix=("[SEP]",)),
    "codons": lambda: CodonTokenizer.from_words(),
    "residues": lambda: CharacterTokenizer.from_vocabulary(GOLDEN / "esm2"),
    "longest": lambda: LongestMatchTokenizer.from_folder(GOLDEN / "grover"),
    "merges": lambda: BpeTokenizer.from_folder(GOLDEN / "gena_bigbird"),
}
REGULAR = {"k-mers", "6-mers", "overlapping", "letters", "codons", "residues"}


@cache
def tokenizer_of(kind):
    return TOKENIZERS[kind]()


def model_of(tokenizer, rule):
    network = ConvNet(ConvNetSpec(2, 2, 1), head=False)  # never run
    record = {"architecture": "convnet", "tokenizer": "mine", "rules": "authors"}
    return Model(
        "tiny",
        network,
        rule,
        alphabet=tokenizer.alphabet,
        layer=0,
        precision="float32",
        device="cpu",
        record=record,
        digest="",
    )


def joined(texts):
    return codes_of("".join(texts)), np.array([len(text) for text in texts], np.int64)


def one_by_one(model, texts):
    """The pieces of each, up to the first that is refused; and which one, and why."""
    found = []
    for number, text in enumerate(texts):
        try:
            found.append(model.pieces(codes_of(text)))
        except InputError as error:
            return found, (number, str(error))
    return found, None


def exactly(pieces):
    return [[(p.ids.tolist(), p.ids.dtype, p.first, p.span.tolist(), p.span.dtype) for p in own] for own in pieces]


def agree(model, texts):
    expected, refused = one_by_one(model, texts)
    if refused:
        for ask in (model.pieces_of, model.row_counts):
            with pytest.raises(InputError) as caught:
                ask(*joined(texts))
            assert (caught.value.sequence, str(caught.value)) == refused
        return
    assert exactly(model.pieces_of(*joined(texts))) == exactly(expected)
    counts = model.row_counts(*joined(texts))
    assert counts.tolist() == [sum(len(piece.span) for piece in own) for own in expected]
    assert counts.dtype == np.int64


def texts_of(kind):
    """Sequences of which many have one length and plain letters, and some have neither."""
    plain = AMINO_ACIDS if kind == "residues" else "ACGT"
    step = 3 if kind == "codons" else 1
    same = st.integers(4, 16).flatmap(lambda n: st.text(plain, min_size=step * n, max_size=step * n))
    other = residues() if kind == "residues" else nucleotides()
    return st.lists(st.one_of(same, same, same, other), max_size=9)


@settings(deadline=None, max_examples=400)
@given(data=st.data(), kind=st.sampled_from(sorted(TOKENIZERS)))
def test_pieces_and_counts_are_those_of_each_sequence(data, kind):
    tokenizer = tokenizer_of(kind)
    cut = data.draw(st.sampled_from(["whole", "letters", "ids", "letters and ids", "tokens"]), "rule")
    window = data.draw(st.integers(8, 30), "window") * (3 if kind == "codons" else 1)
    most = data.draw(st.integers(4, 20), "most")
    rule = {
        "whole": by_letters(tokenizer),
        "letters": by_letters(tokenizer, window),
        "ids": by_letters(tokenizer, None, most),
        "letters and ids": by_letters(tokenizer, window, most),
        "tokens": by_tokens(tokenizer, most),
    }[cut]
    if cut != "whole":
        rule = overlapping(rule, data.draw(st.integers(0, 2), "overlap"))
    if data.draw(st.integers(0, 5), "single") == 0:
        rule = single(rule)
    agree(model_of(tokenizer, rule), data.draw(texts_of(kind), "texts"))


@settings(deadline=None)
@given(
    texts=st.lists(st.one_of(st.sampled_from(["ACGTACGTTAGC", "GGGGGGGGGGGG", "ACGTAC"]), nucleotides(6)), max_size=8)
)
def test_rows_in_the_order_of_bend(texts):
    tokenizer = tokenizer_of("overlapping")
    rule = in_order(by_letters(tokenizer, None, 9), lambda length: bend_order(length, 6), "BEND's")
    agree(model_of(tokenizer, rule), texts)
    agree(model_of(tokenizer, overlapping(rule, 3)), texts)


@settings(deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(REGULAR)), count=st.integers(1, 4), length=st.integers(6, 40))
def test_several_sequences_are_tokenised_at_once(data, kind, count, length):
    tokenizer = tokenizer_of(kind)
    length -= length % 3 if kind == "codons" else 0
    plain = AMINO_ACIDS if kind == "residues" else "ACGT"
    texts = [data.draw(st.text(plain, min_size=length, max_size=length)) for _ in range(count)]
    ids, span = tokenizer.encode(np.stack([codes_of(text) for text in texts]))
    assert ids.shape == (count, len(span))
    for row, text in zip(ids, texts, strict=True):
        alone = tokenizer.encode(codes_of(text))
        assert row.tolist() == alone.ids.tolist()
        assert span.tolist() == alone.span.tolist()
    assert (ids.dtype, span.dtype) == (alone.ids.dtype, alone.span.dtype)


def test_which_tokenizers_are_regular():
    assert {kind for kind in TOKENIZERS if tokenizer_of(kind).regular} == REGULAR
    for kind in ("longest", "merges"):  # their spans do depend on the letters
        spans = {
            tuple(tokenizer_of(kind).encode(codes_of(text)).span.tolist()) for text in ("AAAAAA", "ACGTTG", "GCGCTA")
        }
        assert len(spans) > 1
    frames = {kind: tokenizer_of(kind).frame for kind in TOKENIZERS}
    assert frames == dict.fromkeys(TOKENIZERS, 1) | {"k-mers": 2, "6-mers": 6, "codons": 3}


@pytest.mark.parametrize("kind", ["6-mers", "letters"])
def test_one_length_is_tokenised_once(kind, monkeypatch):
    tokenizer = tokenizer_of(kind)
    model = model_of(tokenizer, by_letters(tokenizer, 30))
    rng = np.random.default_rng(0)
    letters = rng.choice(np.frombuffer(b"ACGT", np.uint8), 64 * 70)
    letters[70 * 5 + 3] = ord("N")
    lengths = np.full(64, 70)
    shapes = []
    encode = type(tokenizer).encode
    monkeypatch.setattr(
        type(tokenizer), "encode", lambda self, codes: shapes.append(codes.shape) or encode(self, codes)
    )
    found = model.pieces_of(letters, lengths)
    # Three windows; the sequence with N is by itself.
    assert sorted(shapes) == [(10,), (30,), (30,), (63, 10), (63, 30), (63, 30)]
    for one, other in zip(found[0], found[63], strict=True):
        assert one.span is other.span
        assert one.ids.base is other.ids.base
    shapes.clear()
    model.row_counts(letters, lengths)
    assert sorted(shapes) == [(10,), (10,), (30,), (30,), (30,), (30,)]


def test_groups():
    letters, lengths = joined(["ACGT", "ACG", "", "TTTT", "ACNT", "CCC", "ACNT"])
    assert [group.tolist() for group in alike(letters, lengths, "dna", True)] == [[0, 3], [1, 5], [2], [4], [6]]
    assert [group.tolist() for group in alike(letters, lengths, "dna", False)] == [[i] for i in range(7)]
    # M is no nucleotide, and X no known residue.
    letters, lengths = joined(["ACGN", "MCGT", "ACGM", "XCGM", "TTTN", "", ""])
    assert [group.tolist() for group in alike(letters, lengths, "protein", True)] == [[0], [1, 2], [3], [4], [5], [6]]
    for count in (0, 1, 3):
        nothing = alike(np.zeros(0, np.uint8), np.zeros(count, np.int64), "dna", True)
        assert [group.tolist() for group in nothing] == [[i] for i in range(count)]


@pytest.mark.parametrize(
    ("name", "texts", "number", "message"),
    [
        ("nt_v1", ["ACGT", "ACGT", "", "ACGT"], 2, "An empty sequence has no embedding"),
        ("nt_v1", ["ACGTT", "ACGTT", "AC*GT"], 2, "takes nucleotides .* letter 3 of the sequence is '\\*'"),
        ("esm2", ["MKTA", "ACGT" * 10, "ACGT" * 10], 1, "looks like DNA. Translate it first"),
        ("dnabert", ["ACGTACGT", "TTT", "ACG"], 1, "A sequence of 3 nucleotides has no 6-mer"),
        ("calm", ["ACG", "ACGT", "ACGA"], 1, "4 nucleotides is not made of whole codons: 1 left over"),
        ("calm", ["NNNN", "ACGT", "ACGA"], 0, "not made of whole codons"),
    ],
)
def test_the_first_sequence_that_is_refused(name, texts, number, message):
    model = load(GOLDEN / name)
    for ask in (model.pieces_of, model.row_counts):
        with pytest.raises(InputError, match=message) as caught:
            ask(*joined(texts))
        assert caught.value.sequence == number


def test_a_tokenizer_file_that_does_not_tile(monkeypatch):
    model = load(GOLDEN / "gena_bigbird")
    cut = model._windows.cut

    def failing(codes):
        if len(codes) == 5:
            raise CheckpointError("does not tile")
        return cut(codes)

    model._windows = model._windows._replace(cut=failing)
    with pytest.raises(CheckpointError, match="does not tile") as caught:
        model.row_counts(*joined(["ACGT", "ACGT", "ACGTA"]))
    assert caught.value.sequence == 2


def test_lengths_of_other_sequences():
    model = load(GOLDEN / "nt_v1")
    for ask in (model.pieces_of, model.row_counts):
        with pytest.raises(InputError, match="lengths of 2 sequences add up to 9; there are 8 letters"):
            ask(codes_of("ACGTACGT"), np.array([4, 5]))


def test_no_sequences():
    model = load(GOLDEN / "nt_v1")
    nothing = np.zeros(0, np.uint8), np.zeros(0, np.int64)
    assert model.pieces_of(*nothing) == []
    assert model.row_counts(*nothing).shape == (0,)


@settings(deadline=None, max_examples=30)
@given(texts=st.lists(st.one_of(st.just("ACGTAC"), st.just("GGGGGG"), nucleotides()), max_size=6))
def test_functions(texts):
    def spans(text):
        return np.array([3] * (len(text) // 3) + [len(text) % 3] * (len(text) % 3 > 0))

    def encode(sequences):
        return [(np.ones((len(spans(text)), 2), np.float32), spans(text)) for text in sequences]

    agree(function_model("threes", encode, version="1"), texts)
