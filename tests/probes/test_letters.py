from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import stretches
from toys import ToyModel

import embedstore
from embedstore import blocks, tasks
from embedstore.errors import InputError
from embedstore.tasks import TaskRecord
from probes import letters
from probes.letters import CONTEXT, NAMES, Letters, open_letters


def record(level: str, bin_size: int = 1) -> TaskRecord:
    return TaskRecord(name="t", level=level, type="class", names=("a", "b"), metric="mcc", bin_size=bin_size)  # type: ignore[arg-type]


def store_of(sequences: list[str], level: str = "sequence", bin_size: int = 1) -> embedstore.Store:
    store = embedstore.open_store("memory://", mode="a")
    store.add_task(tasks.from_sequences("t", sequences, record=record(level, bin_size)))
    return store


def expected(text: str, name: str) -> list[float]:
    """Frequencies of the words that begin in a text, one by one."""
    if name == "gc":
        plain = [letter for letter in text if letter in "ACGT"]
        return [sum(letter in "GC" for letter in plain) / len(plain) if plain else 0.5]
    k = int(name[-1])
    found = [text[i : i + k] for i in range(len(text) - k + 1)]
    found = [word for word in found if set(word) <= set("ACGT")]
    return [found.count("".join(word)) / max(len(found), 1) for word in itertools.product("ACGT", repeat=k)]


SEQUENCES = ["ACGTACGGTN", "A", "NNNNNNN", "ACNGTNNACGTACGTTTGA" * 9, "CCCCCCCC", "GATTACA" * 30]


@pytest.mark.parametrize("name", NAMES)
def test_a_row_per_sample(name) -> None:
    emb = open_letters(store_of(SEQUENCES), "t", name)
    rows = emb.read([3, 0, 1, 2, 5])
    assert rows.samples.tolist() == [3, 0, 1, 2, 5]
    assert rows.first_row.tolist() == [0, 1, 2, 3, 4, 5]
    assert rows.span.tolist() == [len(SEQUENCES[i]) for i in rows.samples]
    assert rows.vector.shape == (5, emb.width)
    wanted = [expected(SEQUENCES[i], name) for i in rows.samples]
    np.testing.assert_allclose(rows.vector, wanted, rtol=1e-6)
    np.testing.assert_array_equal(emb.pooled([3, 0, 1, 2, 5]), rows.vector)


@pytest.mark.parametrize("name", ["kmer1", "kmer3", "gc"])
def test_a_row_per_bin_with_the_words_that_begin_there(name) -> None:
    size = 7
    emb = open_letters(store_of(SEQUENCES, "bin", size), "t", name)
    extra = 0 if name == "gc" else int(name[-1]) - 1
    for i, text in enumerate(SEQUENCES):
        rows = emb.read([i])
        begins = range(0, len(text), size)
        assert rows.span.tolist() == [len(text[begin : begin + size]) for begin in begins]
        wanted = [expected(text[begin : begin + size + extra], name) for begin in begins]
        np.testing.assert_allclose(rows.vector, wanted, rtol=1e-6)
        mean = np.average(np.array(wanted), axis=0, weights=rows.span)
        np.testing.assert_allclose(emb.pooled([i])[0], mean, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["kmer1", "kmer2", "gc"])
def test_a_row_per_nucleotide_from_its_surroundings(name) -> None:
    assert CONTEXT == 101
    emb = open_letters(store_of(SEQUENCES, "nucleotide"), "t", name)
    rows = emb.read(np.arange(len(SEQUENCES)))
    assert rows.span.tolist() == [1] * sum(map(len, SEQUENCES))
    wanted = [expected(text[max(0, i - 50) : i + 51], name) for text in SEQUENCES for i in range(len(text))]
    np.testing.assert_allclose(rows.vector, wanted, rtol=1e-6)


@settings(deadline=None, max_examples=50)
@given(text=stretches("ACGT", "N", "AC", "ACGTN", shortest=1), k=st.integers(1, 4), size=st.integers(1, 40))
def test_words_are_counted_as_by_hand(text, k, size) -> None:
    words, begins = letters._words(np.frombuffer(text.encode(), np.uint8), k)
    plain = [i for i in range(len(text) - k + 1) if set(text[i : i + k]) <= set("ACGT")]
    assert begins.tolist() == plain
    assert words.tolist() == [
        sum("ACGT".index(c) * 4 ** (k - 1 - j) for j, c in enumerate(text[i : i + k])) for i in plain
    ]
    rows = -(-len(text) // size)
    counts = letters._counts(words, begins // size, begins // size + 1, rows, 4**k)
    loop = np.zeros((rows, 4**k), int)
    for word, begin in zip(words, begins, strict=True):
        loop[begin // size, word] += 1
    np.testing.assert_array_equal(counts, loop)


def test_it_reads_like_a_stored_embedding() -> None:
    store = store_of(SEQUENCES, "bin", 7)
    emb = open_letters(store, "t", "kmer2")
    assert isinstance(emb, Letters)
    assert (emb.missing(), emb.keeps_rows, emb.keeps_some, emb.has_spans) == ([], True, False, True)
    assert emb.row_count.tolist() == [-(-len(text) // 7) for text in SEQUENCES]
    block = emb.read_block(0)
    out = np.empty((len(block.vector) + 3, 16), np.float32)
    again = emb.read(block.samples, out=out)
    assert np.shares_memory(again.vector, out)
    np.testing.assert_array_equal(again.vector, block.vector)
    assert len(emb.pooled()) == len(SEQUENCES)
    with pytest.raises(InputError, match="out has shape"):
        emb.read([0], out=np.empty((1, 16)))
    assert not open_letters(store_of(["ACGT"], "nucleotide"), "t", "gc").has_spans


def test_the_fingerprint_tells_rules_and_sequences_apart() -> None:
    one = store_of(["ACGT"])
    kinds = [(one, "gc"), (one, "kmer1"), (store_of(["ACGA"]), "gc"), (store_of(["ACGT"], "bin", 2), "gc")]
    prints = [tuple(open_letters(store, "t", name).fingerprint.values()) for store, name in kinds]
    assert len(set(prints)) == len(kinds)
    assert open_letters(store_of(["ACGT"]), "t", "gc").fingerprint == open_letters(one, "t", "gc").fingerprint


@pytest.mark.parametrize("name", ["kmer9", "kmer0", "kmers6", "k-mer3", "6mer", "GC", "gc_content", "KMER3"])
def test_nearly_a_baseline(name) -> None:
    with pytest.raises(InputError, match=f"no baseline '{name}'; .* kmer1, kmer2, .*, kmer6, gc"):
        open_letters(store_of(["ACGT"]), "t", name)


def test_other_names_are_left_to_the_store(monkeypatch) -> None:
    store = store_of(["ACGTACGT"])
    assert open_letters(store, "t", "onehot") is None
    assert open_letters(store, "t", "nt_v2") is None
    embedstore.embed(store, "t", ToyModel(), name="kmers6", progress=False)  # type: ignore[arg-type]
    assert open_letters(store, "t", "kmers6") is None
    with pytest.raises(InputError, match="'kmer6' is the name of a baseline .* give an embedding another name"):
        embedstore.embed(store, "t", ToyModel(), name="kmer6", progress=False)  # type: ignore[arg-type]
    monkeypatch.setattr(blocks, "LETTER_BASELINES", ())  # as in older versions
    embedstore.embed(store, "t", ToyModel(), name="kmer6", progress=False)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has an embedding named 'kmer6', which is also .* another name"):
        open_letters(store, "t", "kmer6")


def test_proteins_have_no_letters_to_count() -> None:
    store = embedstore.open_store("memory://", mode="a")
    protein = dataclasses.replace(record("sequence"), name="p", alphabet="protein")
    store.add_task(tasks.from_sequences("p", ["MKV"], record=protein))
    with pytest.raises(InputError, match="task 'p' is of proteins; gc counts A, C, G and T"):
        open_letters(store, "p", "gc")
