from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import codes_of, nucleotides

from embedstore.errors import CheckpointError, InputError
from embedstore.tokenizers import OverlappingKmerTokenizer, bend_order

FOLDER = Path(__file__).parents[1] / "golden" / "dnabert"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def vocabulary(k):
    return [*SPECIAL, *map("".join, itertools.product("ATCG", repeat=k))]


@pytest.fixture(scope="module", params=[3, 4, 5, 6])
def tokenizer(request):
    return OverlappingKmerTokenizer.from_words(vocabulary(request.param))


@settings(max_examples=150, deadline=None)
@given(text=nucleotides(shortest=6))
def test_each_nucleotide_gets_the_kmer_around_it(tokenizer, text):
    k, words = tokenizer.k, vocabulary(tokenizer.k)
    tokens = tokenizer.encode(codes_of(text))
    rows = np.repeat(tokens.ids, tokens.span)
    assert len(rows) == len(text)
    for p, row in enumerate(rows):
        kmer = min(max(p - (k - 1) // 2, 0), len(text) - k)
        word = text[kmer : kmer + k]
        assert words[row] == (word if set(word) <= set("ACGT") else "[UNK]")
    assert len(tokens.ids) == len(text) - k + 1
    assert tokens.ids.dtype == np.int64
    assert tokens.span.dtype == np.int32


def test_ids_of_transformers():
    from transformers import BertTokenizer

    theirs = BertTokenizer(str(FOLDER / "vocab.txt"), do_lower_case=False)
    ours = OverlappingKmerTokenizer.from_folder(FOLDER)

    @settings(max_examples=100, deadline=None)
    @given(text=nucleotides(shortest=6))
    def check(text):
        words = " ".join(text[i : i + 6] for i in range(len(text) - 5))
        assert [*ours.prefix, *ours.encode(codes_of(text)).ids.tolist(), *ours.suffix] == theirs(words)["input_ids"]

    check()


def test_spans_in_closed_form(tokenizer):
    first = (tokenizer.k - 1) // 2 + 1
    last = tokenizer.k - (tokenizer.k - 1) // 2
    length = {3: (2, 2), 4: (2, 3), 5: (3, 3), 6: (3, 4)}
    assert (first, last) == length[tokenizer.k]
    assert tokenizer.encode(codes_of("ACGTACGTAC"[: tokenizer.k + 2])).span.tolist() == [first, 1, last]
    assert tokenizer.encode(codes_of("ACGTAC"[: tokenizer.k])).span.tolist() == [tokenizer.k]


def test_properties(tokenizer):
    assert (tokenizer.prefix, tokenizer.suffix, tokenizer.unknown_id) == ((2,), (3,), 1)
    assert tokenizer.size == 5 + 4**tokenizer.k
    assert tokenizer.alphabet == "dna"
    assert f"overlapping {tokenizer.k}-mers" in tokenizer.description


def test_upper_case_whatever_the_configuration_says():
    # The published file says that letters are lowered, which would make every word unknown.
    assert '"do_lower_case": true' in (FOLDER / "tokenizer_config.json").read_text()
    tokenizer = OverlappingKmerTokenizer.from_folder(FOLDER)
    assert (tokenizer.encode(codes_of("ACGTTGCAACGT")).ids != tokenizer.unknown_id).all()


@pytest.mark.parametrize("length", [0, 1, 2])
def test_shorter_than_a_word(length):
    tokenizer = OverlappingKmerTokenizer.from_words(vocabulary(3))
    with pytest.raises(InputError, match=f"A sequence of {length} nucleotides has no 3-mer.*extend it by its flanks"):
        tokenizer.encode(codes_of("ACG"[:length]))
    with pytest.raises(InputError, match="has no 3-mer"):
        bend_order(length, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (vocabulary(3)[:-1], "lacks .'GGG'"),
        (SPECIAL, "words of 0 nucleotides"),
        (["", *SPECIAL], "words of 0 nucleotides"),
        (["UNK", *vocabulary(3)[2:]], r"\[UNK\]"),
        ([*vocabulary(3), *"ACGT", "ACGTACGT"], "words of 8 nucleotides"),
    ],
)
def test_other_vocabularies_are_refused(words, message):
    with pytest.raises(CheckpointError, match=message):
        OverlappingKmerTokenizer.from_words(words)


@pytest.mark.parametrize("k", [3, 4])
@given(length=st.integers(4, 40))
def test_the_order_of_bend_is_ours_for_short_words(k, length):
    span = OverlappingKmerTokenizer.from_words(vocabulary(k)).encode(codes_of("A" * length)).span
    assert bend_order(length, k).tolist() == np.repeat(np.arange(len(span)), span).tolist()


def bend(embedding, k):
    """Repeat the first and last vectors as BEND's code does (bend/utils/embedders.py, commit ac6e80c)."""
    first, last = embedding[:1], embedding[-1:]
    tail = {3: [last], 4: [last] * 2, 5: [first, last, last], 6: [first, last, last, last]}
    return np.concatenate([first, embedding, *tail[k]])


@pytest.mark.parametrize("k", [3, 4, 5, 6])
@pytest.mark.parametrize("extra", [0, 1, 7])
def test_the_order_of_bend(k, extra):
    order = bend_order(k + extra, k)
    assert order.tolist() == bend(np.arange(extra + 1), k).tolist()
    assert order.dtype == np.int64
    assert len(order) == k + extra


@pytest.mark.parametrize("k", [2, 7])
def test_bend_places_no_other_words(k):
    with pytest.raises(InputError, match="3 to 6"):
        bend_order(20, k)
