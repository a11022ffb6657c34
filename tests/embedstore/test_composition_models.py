"""Encoders without weights: their means against counts in plain Python, and the way from the command into a store."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import embedstore
from embedstore import tasks
from embedstore.cli import main
from embedstore.coding import CODONS
from embedstore.errors import InputError
from embedstore.models import composition_models as module
from embedstore.models import load
from embedstore.models.composition_models import amino_acid, codon_composition, codon_pair, codon_place

ENCODERS = {
    "codon_composition": (codon_composition, 80),
    "codon_pair": (codon_pair, 512),
    "codon_place": (codon_place, 160),
    "amino_acid": (amino_acid, 20),
}
CODING = [name for name in ENCODERS if name != "amino_acid"]
GENES = st.lists(
    st.lists(st.sampled_from([*CODONS, "NAA", "ACN"]), min_size=1, max_size=30).map("".join), min_size=1, max_size=4
)


def codons(gene):
    return [gene[i : i + 3] for i in range(0, len(gene), 3)]


def known(*words):
    return set("".join(words)) <= set("ACGT")


@given(GENES)
def test_codon_composition_is_what_a_loop_counts(genes):
    for gene, (rows, spans) in zip(genes, codon_composition(genes), strict=True):
        found, words = rows.sum(0), codons(gene)
        assert (rows.shape, rows.dtype) == ((len(words), 80), np.float32)
        assert spans.tolist() == [3] * len(words)
        counts = Counter(words)
        assert found[:64].tolist() == [counts[codon] for codon in CODONS]
        pairs = Counter(a[2] + b[2] for a, b in pairwise(words) if known(a, b))
        assert found[64:].tolist() == [pairs[a + b] for a in "ACGT" for b in "ACGT"]
        assert not rows[0, 64:].any()


@given(GENES)
def test_codon_pairs_are_counted_with_a_sign(genes):
    channel, sign = module._pair_hash()
    for gene, (rows, spans) in zip(genes, codon_pair(genes), strict=True):
        expected, words = np.zeros(512), codons(gene)
        for a, b in pairwise(words):
            if known(a, b):
                pair = 64 * CODONS.index(a) + CODONS.index(b)
                expected[channel[pair]] += sign[pair]
        np.testing.assert_array_equal(rows.sum(0), expected)
        assert spans.tolist() == [3] * len(words)
        assert not rows[0].any()


def test_hashing_keeps_lengths_and_angles():
    channel, sign = module._pair_hash()
    table = np.zeros((4096, 512))
    table[np.arange(4096), channel] = sign
    few = np.random.default_rng(0).random((2, 4096)) * (np.random.default_rng(1).random((2, 4096)) < 0.02)
    exact, hashed = few @ few.T, (few @ table) @ (few @ table).T
    assert abs(hashed - exact).max() < 4 * np.sqrt(exact.max() ** 2 / 512)
    assert set(channel) == set(range(512))
    assert abs(sign.mean()) < 0.1


@given(GENES)
def test_a_codon_at_a_place_has_a_direction_whatever_is_around_it(genes):
    for gene, (rows, _) in zip(genes, codon_place(genes), strict=True):
        for place, codon in enumerate(codons(gene)):
            alone = codon_place(["ATG" * place + codon])[0][0][-1]
            np.testing.assert_array_equal(rows[place], alone)
            assert known(codon) == bool(rows[place].any())


def test_directions_are_normal_and_the_same_for_longer_sequences():
    (rows, _), (longer, _) = codon_place(["ACG" * 60])[0], codon_place(["ACG" * 300])[0]
    np.testing.assert_array_equal(rows, longer[:60])
    assert longer.std() == pytest.approx(1, abs=0.02)
    assert abs(np.corrcoef(longer) - np.eye(300)).max() < 6 / np.sqrt(160)
    assert abs(np.corrcoef(codon_place(["ACG" * 9 + "ACT" * 9])[0][0])[0, 9]) < 0.3


@given(st.lists(st.text("ACDEFGHIKLMNPQRSTVWYXU", min_size=1, max_size=30), min_size=1, max_size=4))
def test_amino_acids_are_counted(proteins):
    for protein, (rows, spans) in zip(proteins, amino_acid(proteins), strict=True):
        assert rows.sum(0).tolist() == [protein.count(letter) for letter in "ACDEFGHIKLMNPQRSTVWY"]
        assert rows.shape == (len(protein), 20)
        assert spans.tolist() == [1] * len(protein)


@pytest.mark.parametrize("name", CODING)
def test_spans_alone_are_those_of_the_rows(name):
    encode = ENCODERS[name][0]
    genes = ["ATGGCC", "ATG" * 70]
    assert [span.tolist() for span in encode.spans(genes)] == [span.tolist() for _, span in encode(genes)]


@pytest.mark.parametrize("name", CODING)
def test_what_is_no_whole_codons_is_refused(name):
    with pytest.raises(InputError, match=f"encoder '{name}'.*not_multiple_of_3: it has 7 nucleotides"):
        load(name).pieces(np.frombuffer(b"ATGGCCA", np.uint8))


@pytest.mark.parametrize("name", ENCODERS)
def test_load_finds_them(name):
    model = load(name)
    assert (model.name, model.width) == (name, ENCODERS[name][1])
    assert model.alphabet == ("protein" if name == "amino_acid" else "dna")


@pytest.mark.parametrize("name", ENCODERS)
def test_from_the_command_into_a_store(tmp_path, name):
    encode, _ = ENCODERS[name]
    protein = name == "amino_acid"
    sequences = ["MKTAYI", "GGW"] if protein else ["ATGGCCATTGTC", "ATGNNNTAA", "TTT"]
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", sequences, alphabet="protein" if protein else "dna"))
    assert main(["embed", "t", "--store", str(tmp_path / "s.zarr"), "--model", name, "--keep", "both"]) == 0
    embedding = embedstore.open_store(tmp_path / "s.zarr").embedding("t", name)
    expected = [rows.mean(0) for rows, _ in encode(sequences)]
    np.testing.assert_allclose(embedding.pooled(), expected, atol=1e-6)
    assert embedding.row_count.tolist() == [len(text) // (1 if protein else 3) for text in sequences]
