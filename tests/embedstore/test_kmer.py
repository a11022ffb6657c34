from __future__ import annotations

import itertools
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from letters import codes_of, nucleotides

from embedstore.errors import CheckpointError
from embedstore.tokenizers import KmerTokenizer

GOLDEN = Path(__file__).parents[1] / "golden"
WORDS3 = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", *map("".join, itertools.product("ATCG", repeat=3)), *"ATCGN"]


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
@given(text=nucleotides())
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
    @given(text=nucleotides(shortest=1))
    def check(text):
        tokens = ours.encode(codes_of(text))
        assert [*ours.prefix, *tokens.ids.tolist(), *ours.suffix] == theirs(text)["input_ids"]
        assert tokens.span.sum() == len(text)

    check()


@pytest.mark.parametrize("end", ["<eos>", {"__type": "AddedToken", "content": "<eos>", "special": True}])
def test_a_checkpoint_with_a_token_at_the_end(tmp_path, end):
    from transformers import EsmTokenizer

    shutil.copy(GOLDEN / "nt_v2" / "vocab.txt", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": end}))
    ours = KmerTokenizer.from_folder(tmp_path)
    theirs = EsmTokenizer(str(tmp_path / "vocab.txt"))("ACGTACGTN")["input_ids"]
    assert [*ours.prefix, *ours.encode(codes_of("ACGTACGTN")).ids, *ours.suffix] == theirs
    assert ours.suffix == (4,)


@pytest.mark.parametrize("config", [None, {}, {"eos_token": None}, {"eos_token": "</s>"}])
def test_no_token_at_the_end(tmp_path, config):
    shutil.copy(GOLDEN / "nt_v2" / "vocab.txt", tmp_path)
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = KmerTokenizer.from_folder(tmp_path)
    assert (tokenizer.prefix, tokenizer.suffix) == ((3,), ())


@pytest.mark.parametrize("end", [["<eos>"], 4, {"content": ["<eos>"]}])
def test_an_end_that_is_no_token_is_refused(tmp_path, end):
    shutil.copy(GOLDEN / "nt_v2" / "vocab.txt", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": end}))
    with pytest.raises(CheckpointError, match="tokenizer_config.json: eos_token is .*; wanted: a token, or null"):
        KmerTokenizer.from_folder(tmp_path)


def test_k_comes_from_the_vocabulary(family, kmer3):
    assert (KmerTokenizer.from_folder(family).k, kmer3.k) == (6, 3)
    assert kmer3.size == len(WORDS3)
    assert kmer3.description == "3-mers, greedy from the left; N alone; a run of other letters is one <unk>"
    assert kmer3.alphabet == "dna"


def test_vocabulary_longer_than_the_embedding():
    # <eos> and <bos> at the end of the file have no row in the embedding and are never given.
    lines = (GOLDEN / "nt_v1" / "vocab.txt").read_text().split("\n")
    assert len(lines) == 4107
    assert KmerTokenizer.from_folder(GOLDEN / "nt_v1").size == 4105
    assert KmerTokenizer.from_words(lines, end="<eos>").size == 4106


def test_blanks_at_the_ends_of_lines(tmp_path, kmer3):
    (tmp_path / "vocab.txt").write_bytes(" \r\n".join(WORDS3).encode())
    assert KmerTokenizer.from_folder(tmp_path).word_ids.tolist() == kmer3.word_ids.tolist()


def test_empty(kmer3):
    tokens = kmer3.encode(codes_of(""))
    assert len(tokens.ids) == len(tokens.span) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([w for w in WORDS3 if w != "ACG"], "of words of 3 nucleotides: it lacks .'ACG'"),
        ([w for w in WORDS3 if w != "<cls>"], "<cls>"),
        (["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO"], "its longest word of A, C, G, T is one"),
        ([*WORDS3, "ACG"], "'ACG'. are there more than once"),
        # 4 ** 40 words are wanted here: they must not be listed before the first missing one is found.
        ([*WORDS3, "ACGT" * 10], "of words of 40 nucleotides"),
    ],
)
def test_other_vocabularies_are_refused(words, message):
    with pytest.raises(CheckpointError, match=message):
        KmerTokenizer.from_words(words)


def test_unreadable_files(tmp_path):
    with pytest.raises(CheckpointError, match="vocab.txt: cannot read the vocabulary"):
        KmerTokenizer.from_folder(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="cannot read the vocabulary"):
        KmerTokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_bytes(b"[]")
    with pytest.raises(CheckpointError, match="tokenizer_config.json: .* list seen, an object wanted"):
        KmerTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("text", ["ACGGTTCAGCAT", "ACGGTTCAGCATN", "ACGGTTCAGCATNRRY"])
def test_no_loop_over_words(text):
    """Calls do not grow in number with the sequence; how fast it is, benchmarks/tokenizing.py shows."""
    tokenizer = KmerTokenizer.from_folder(GOLDEN / "nt_v1")
    short, long = (_calls(tokenizer, codes_of(text * times)) for times in (10, 2_000))
    assert long <= short + 5


def _calls(tokenizer, codes):
    seen = []
    sys.setprofile(lambda _, event, __: seen.append(event) if event in ("call", "c_call") else None)
    try:
        tokenizer.encode(codes)
    finally:
        sys.setprofile(None)
    return len(seen)
