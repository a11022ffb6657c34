from __future__ import annotations

import math

import numpy as np
import pytest
from Bio.Seq import Seq
from Bio.SeqUtils import gc_fraction as bio_gc_fraction
from hypothesis import given
from hypothesis import strategies as st

from embedstore.errors import InputError
from embedstore.sequences import clean_letters, decode, encode, gc_fraction, one_hot, reverse_complement

IUPAC = "ACGTRYSWKMBDHVN"


@given(st.text(IUPAC + IUPAC.lower()))
def test_encoding_upper_cases_and_decodes_back(text):
    codes = encode(text)
    assert codes.dtype == np.uint8
    assert decode(codes) == text.upper()
    assert np.array_equal(codes, encode(text.encode()))


def test_encoding_gives_an_array_of_its_own():
    codes = encode(b"ACGT")
    codes[0] = ord("N")
    assert decode(codes) == "NCGT"


@pytest.mark.parametrize("text", ["ACÅ", "ACÅ".encode()])
def test_letters_outside_ascii_are_refused_with_their_place(text):
    with pytest.raises(InputError, match="letter 3 is not ASCII"):
        encode(text)


@given(st.text(IUPAC))
def test_reverse_complement_is_that_of_biopython_and_its_own_inverse(text):
    codes = encode(text)
    assert decode(reverse_complement(codes)) == str(Seq(text).reverse_complement())
    assert np.array_equal(reverse_complement(reverse_complement(codes)), codes)


def test_u_pairs_with_a():
    assert decode(reverse_complement(encode("UUA"))) == "TAA"


@given(st.text("ACGTN"))
def test_gc_fraction_is_that_of_biopython(text):
    ours = gc_fraction(encode(text))
    if set(text) <= {"N"}:
        assert math.isnan(ours)
    else:
        assert ours == pytest.approx(bio_gc_fraction(text, ambiguous="remove"))


@given(st.text(IUPAC))
def test_one_hot_has_a_one_only_where_the_letter_is(text):
    rows = one_hot(encode(text))
    assert rows.dtype == np.float32
    assert rows.shape == (len(text), 4)
    assert rows.tolist() == [[float(letter == channel) for channel in "ACGT"] for letter in text]


def test_odd_letters_are_refused_or_become_n():
    codes = encode("ACRTU")
    with pytest.raises(InputError, match="at 2: letter 'R' is none of A, C, G, T, N.*other_letters='N'"):
        clean_letters(codes, "refuse", lambda index: f"at {index}")
    assert decode(clean_letters(codes, "N", str)) == "ACNTN"
    assert decode(codes) == "ACRTU"
    with pytest.raises(InputError, match="write T for U"):
        clean_letters(encode("ACGU"), "refuse", str)
    plain = encode("ACGTN")
    assert clean_letters(plain, "refuse", str) is plain
