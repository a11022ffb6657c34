from __future__ import annotations

import itertools
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore.errors import CheckpointError
from embedstore.tokenizers import KmerTokenizer

GOLDEN = Path(__file__).parents[1] / "golden"
WORDS3 = ["<unk>", "<pad>", "<mask>", "<cls>", *map("".join, itertools.product("ATCG", repeat=3)), *"ATCGN"]

# Stretches of letters, so that words, runs of N and runs of others all come up.
sequences = st.lists(
    st.tuples(st.sampled_from(["ACGT", "N", "RYSWKMB", "ACGTN"]), st.integers(1, 20)), max_size=8
).flatmap(lambda parts: st.tuples(*(st.text(alphabet=a, min_size=1, max_size=n) for a, n in parts)).map("".join))


def codes_of(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def slow(text: str, k: int) -> list[str]:
    """Cut by a regular expression: a word, a letter, or a run of others."""
    return re.findall(f"[ACGT]{{{k}}}|[ACGTN]|[^ACGTN]+", text)


@pytest.fixture(scope="module", params=["nt_v1", "nt_v2"])
def family(request):
    return GOLDEN / request.param


@pytest.fixture(scope="module")
def kmer3():
    return KmerTokenizer.from_words(WORDS3)


@settings(max_examples=300, deadline=None)
@given(text=sequences)
def test_ids_and_spans_of_the_slow_reference(kmer3, text):
    tokens = kmer3.encode(codes_of(text))
    words = slow(text, 3)
    ids = {word: i for i, word in enumerate(WORDS3)}
    assert tokens.ids.tolist() == [ids.get(word, 0) for word in words]
    assert tokens.span.tolist() == [len(word) for word in words]
    assert tokens.ids.dtype == np.int64
    assert tokens.span.dtype == np.int32


def test_ids_of_transformers(family):
    from transformers import EsmTokenizer

    theirs = EsmTokenizer(str(family / "vocab.txt"), eos_token=None)
    ours = KmerTokenizer.from_folder(family)

    @settings(max_examples=150, deadline=None)
    @given(text=sequences.filter(bool))
    def check(text):
        tokens = ours.encode(codes_of(text))
        assert [ours.cls_id, *tokens.ids.tolist()] == theirs(text)["input_ids"]
        assert tokens.span.sum() == len(text)

    check()


def test_k_comes_from_the_vocabulary(family, kmer3):
    assert (KmerTokenizer.from_folder(family).k, kmer3.k) == (6, 3)
    assert kmer3.size == len(WORDS3)


def test_vocabulary_longer_than_the_embedding():
    # <eos> and <bos> at the end of the file have no row in the embedding and are never given.
    lines = (GOLDEN / "nt_v1" / "vocab.txt").read_text().split("\n")
    assert len(lines) == 4107
    assert KmerTokenizer.from_folder(GOLDEN / "nt_v1").size == 4105


def test_empty():
    tokens = KmerTokenizer.from_words(WORDS3).encode(codes_of(""))
    assert len(tokens.ids) == len(tokens.span) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([w for w in WORDS3 if w != "ACG"], "lacks 1 words, such as .'ACG'"),
        ([w for w in WORDS3 if w != "<cls>"], "<cls>"),
        (["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO"], "not a k-mer vocabulary"),
        ([*WORDS3, "ACG"], "more than once"),
    ],
)
def test_other_vocabularies_are_refused(words, message):
    with pytest.raises(CheckpointError, match=message):
        KmerTokenizer.from_words(words)


def test_unreadable_vocabulary(tmp_path):
    with pytest.raises(CheckpointError, match="cannot read the vocabulary"):
        KmerTokenizer.from_folder(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="cannot read the vocabulary"):
        KmerTokenizer.from_folder(tmp_path)


def test_speed():
    # Measured: over 200 Mbp/s alone on a core. The bound holds on a busy machine and fails for a loop over words.
    tokenizer = KmerTokenizer.from_folder(GOLDEN / "nt_v1")
    codes = codes_of("ACGGTTCAGCAT" * 200_000 + "N")
    best = min(_seconds(tokenizer, codes) for _ in range(3))
    assert len(codes) / best > 20e6


def _seconds(tokenizer, codes):
    start = time.perf_counter()
    tokenizer.encode(codes)
    return time.perf_counter() - start
