from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import codes_of, nucleotides

from embedstore.errors import CheckpointError
from embedstore.tokenizers import LongestMatchTokenizer

FOLDER = Path(__file__).parents[1] / "golden" / "grover"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def slow(text, words):
    """Try the words at each place, from the longest to one letter."""
    found, at = [], 0
    while at < len(text):
        length = next((n for n in range(len(text) - at, 0, -1) if text[at : at + n] in words), 1)
        found.append(text[at : at + length])
        at += length
    return found


def check(tokenizer, words, text):
    tokens = tokenizer.encode(codes_of(text))
    wanted = slow(text, set(words))
    assert tokens.ids.tolist() == [words.index(word if word in words else "[UNK]") for word in wanted]
    assert tokens.span.tolist() == [len(word) for word in wanted]
    assert tokens.ids.dtype == np.int64
    assert tokens.span.dtype == np.int32


@settings(deadline=None)
@given(text=nucleotides())
def test_the_published_kind_of_vocabulary(text):
    check(LongestMatchTokenizer.from_folder(FOLDER), (FOLDER / "vocab.txt").read_text().split(), text)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ACN", min_size=1, max_size=6), min_size=1, max_size=12, unique=True), st.text("ACGN\n"))
def test_any_vocabulary(words, text):
    # Words whose beginnings are no words make a match fail late: then it must fall back to the last word that ended.
    check(LongestMatchTokenizer.from_words([*SPECIAL, *words]), [*SPECIAL, *words], text)


def test_falls_back_to_the_last_word_that_ended():
    words = [*SPECIAL, "A", "AC", "ACGTT"]
    tokens = LongestMatchTokenizer.from_words(words).encode(codes_of("ACGTA"))
    assert [words[i] for i in tokens.ids] == ["AC", "[UNK]", "[UNK]", "A"]


def test_properties():
    words = (FOLDER / "vocab.txt").read_text().split()
    tokenizer = LongestMatchTokenizer.from_folder(FOLDER)
    assert (tokenizer.prefix, tokenizer.suffix, tokenizer.unknown_id, tokenizer.size) == ((2,), (3,), 1, len(words))
    assert tokenizer.alphabet == "dna"
    assert tokenizer.description.startswith("longest words of the vocabulary")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (SPECIAL, "no word is made of capital letters"),
        (["A", "C"], r"\[UNK\]"),
        ([*SPECIAL, "A", "A"], "more than once"),
    ],
)
def test_other_vocabularies_are_refused(words, message):
    with pytest.raises(CheckpointError, match=message):
        LongestMatchTokenizer.from_words(words)
