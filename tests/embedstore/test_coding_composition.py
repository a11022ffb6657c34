"""Composition of coding sequences and proteins against counting in plain Python, biopython and SciPy."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from Bio.Seq import Seq
from Bio.SeqUtils import GC123, gc_fraction
from hypothesis import given
from hypothesis import strategies as st

from embedstore.coding import CODONS, composition, read_codons
from embedstore.sequences import AMINO_ACIDS, encode

CODON = st.one_of(st.sampled_from(CODONS), st.text("ACGTN", min_size=3, max_size=3))
TEXTS = st.lists(st.lists(CODON, max_size=25).map("".join), max_size=4)
PROTEINS = st.lists(st.text(AMINO_ACIDS + "X*", max_size=30), max_size=4)


def codons_of(text):
    return [text[i : i + 3] for i in range(0, len(text), 3)]


def shares(counts, names):
    total = sum(counts[name] for name in names)
    return [counts[name] / total if total else np.nan for name in names]


def same(found, wanted, width):
    assert found.dtype == np.float64
    assert found.shape == (len(wanted), width)
    np.testing.assert_allclose(found, np.array(wanted, float).reshape(-1, width), rtol=1e-12)


@given(TEXTS)
def test_gc_is_that_of_biopython(texts):
    codes = [encode(text) for text in texts]
    wanted = [[gc_fraction(text, "remove") if set(text) & set("ACGT") else np.nan] for text in texts]
    same(composition.gc(codes), wanted, 1)
    same(composition.gc(read_codons(codes)), wanted, 1)


@given(TEXTS)
def test_gc3_and_skew(texts):
    codes = [encode(text) for text in texts]
    third = [Counter(text[2::3]) for text in texts]
    same(composition.gc3(codes), [[sum(shares(one, "ACGT")[1:3])] for one in third], 1)
    counts = [Counter(text) for text in texts]
    skew = [[(one["G"] - one["C"]) / (one["G"] + one["C"]) if one["G"] + one["C"] else np.nan] for one in counts]
    same(composition.gc_skew(codes), skew, 1)


def test_gc3_is_that_of_biopython():
    text = "ATGGCCAAATTTGGGCCTTAA"
    assert composition.gc3([encode(text)])[0, 0] == pytest.approx(GC123(text)[3] / 100)


@given(TEXTS)
def test_codon_frequencies_and_pairs(texts):
    codes = [encode(text) for text in texts]
    counts = [Counter(codons_of(text)) for text in texts]
    assert composition.codon_counts(codes).tolist() == [[one[codon] for codon in CODONS] for one in counts]
    same(composition.codon_frequencies(codes), [shares(one, CODONS) for one in counts], 64)
    both = [a + b for a in CODONS for b in CODONS]
    pairs = [Counter(a + b for a, b in pairwise(codons_of(text))) for text in texts]
    same(composition.codon_pairs(codes), [shares(one, both) for one in pairs], 4096)


@given(TEXTS, st.sampled_from([1, 2, 3]))
def test_rscu(texts, table):
    found = composition.rscu([encode(text) for text in texts], table)
    columns = composition.rscu_codons(table)
    amino_acid = {codon: str(Seq(codon).translate(table)) for codon in CODONS}
    assert [CODONS[i] for i in columns] == [
        codon for codon in CODONS if amino_acid[codon] != "*" and list(amino_acid.values()).count(amino_acid[codon]) > 1
    ]
    for text, row in zip(texts, found, strict=True):
        counts = Counter(codons_of(text))
        for value, column in zip(row, columns, strict=True):
            family = [codon for codon in CODONS if amino_acid[codon] == amino_acid[CODONS[column]]]
            mean = sum(counts[codon] for codon in family) / len(family)
            assert value == pytest.approx(counts[CODONS[column]] / mean if mean else 1.0)


def test_rscu_has_59_columns_in_the_standard_code():
    assert composition.rscu([encode("AAA")]).shape == (1, 59)


@given(PROTEINS)
def test_amino_acids(proteins):
    counts = [Counter(one) for one in proteins]
    same(composition.amino_acid_frequencies(proteins), [shares(one, AMINO_ACIDS) for one in counts], 20)
    both = [a + b for a in AMINO_ACIDS for b in AMINO_ACIDS]
    pairs = [Counter(a + b for a, b in pairwise(one)) for one in proteins]
    same(composition.amino_acid_pairs(proteins), [shares(one, both) for one in pairs], 400)
    same(composition.length(proteins), [[len(one)] for one in proteins], 1)


def test_columns_of_pairs():
    pairs = composition.codon_pairs([encode("AAATTT"), encode("TTTAAA")])
    assert np.argwhere(pairs).tolist() == [[0, 63], [1, 63 * 64]]
    assert composition.length([encode("AAATTT")]).tolist() == [[6.0]]


@given(TEXTS)
def test_a_row_is_of_its_own_sample(texts):
    codes = [encode(text) for text in texts]
    for function in (composition.gc, composition.codon_frequencies, composition.codon_pairs, composition.rscu):
        alone = [function([one])[0] for one in codes]
        np.testing.assert_array_equal(
            function(codes), np.array(alone).reshape(len(codes), -1) if alone else function([])
        )
