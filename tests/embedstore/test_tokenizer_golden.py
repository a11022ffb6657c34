"""Ids, special tokens and spans of every family against those that the published tokenizers give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from embedstore.tokenizers import (
    BpeTokenizer,
    CharacterTokenizer,
    CodonTokenizer,
    KmerTokenizer,
    LongestMatchTokenizer,
    OverlappingKmerTokenizer,
)

GOLDEN = Path(__file__).parents[1] / "golden"


def hyenadna(folder):
    return CharacterTokenizer.from_characters(folder, suffix=["[SEP]"])


READERS = {
    "awd_lstm": CharacterTokenizer.from_folder,
    "caduceus_ph": CharacterTokenizer.from_characters,
    "caduceus_ps": CharacterTokenizer.from_characters,
    "caduceus_ps_unfused": CharacterTokenizer.from_characters,
    "calm": CodonTokenizer.from_folder,
    "dnabert": OverlappingKmerTokenizer.from_folder,
    "dnabert2": BpeTokenizer.from_folder,
    "esm1b": CharacterTokenizer.from_vocabulary,
    "esm2": CharacterTokenizer.from_vocabulary,
    "esmc": CharacterTokenizer.from_folder,
    "gena_bert_last_ln": BpeTokenizer.from_folder,
    "gena_bert_no_last_ln": BpeTokenizer.from_folder,
    "gena_bigbird": BpeTokenizer.from_folder,
    "grover": LongestMatchTokenizer.from_folder,
    "hyenadna": hyenadna,
    "modernbert": BpeTokenizer.from_folder,
    "nt_v1": KmerTokenizer.from_folder,
    "nt_v2": KmerTokenizer.from_folder,
    "prott5": CharacterTokenizer.from_sentencepiece,
    "resnet_lm": CharacterTokenizer.from_folder,
}
PROTEINS = {"esm1b", "esm2", "esmc", "prott5"}


def cases(family):
    """Yield id, codes and arrays of the cases that are not cut."""
    spec = json.loads((GOLDEN / family / "cases.json").read_text())
    with np.load(GOLDEN / family / "cases.npz") as arrays:
        for case in spec["cases"]:
            if "optional" not in case:
                codes = np.frombuffer(case["sequence"].upper().encode(), np.uint8)
                yield (
                    case["id"],
                    codes,
                    {k.removeprefix(case["id"] + "/"): arrays[k] for k in arrays if k.startswith(case["id"] + "/")},
                )


@pytest.mark.parametrize("family", READERS)
def test_ids_special_tokens_and_spans(family):
    tokenizer = READERS[family](GOLDEN / family)
    seen = 0
    for name, codes, wanted in cases(family):
        ids, span = tokenizer.encode(codes)
        assert [*tokenizer.prefix, *ids, *tokenizer.suffix] == wanted["ids"].tolist(), name
        special = np.repeat([True, False, True], [len(tokenizer.prefix), len(ids), len(tokenizer.suffix)])
        np.testing.assert_array_equal(special, wanted["special"], name)
        end = np.cumsum(span)
        spans = np.stack([end - span, end], axis=1)
        if family == "dnabert":  # the k-mers overlap, ours are the part of each that is its own
            assert (spans >= wanted["spans"][:, :1]).all(), name
            assert (spans <= wanted["spans"][:, 1:]).all(), name
            assert end[-1] == len(codes)
        else:
            np.testing.assert_array_equal(spans, wanted["spans"], name)
        seen += 1
    assert seen >= 8
    assert tokenizer.alphabet == ("protein" if family in PROTEINS else "dna")


def test_the_layout_of_the_original_hyenadna():
    folder = GOLDEN / "hyenadna"
    tokenizer = CharacterTokenizer.from_characters(folder, prefix=["[CLS]"], suffix=["[SEP]"])
    assert tokenizer.prefix == (0,)
    for name, codes, wanted in cases("hyenadna"):
        ids = tokenizer.encode(codes).ids
        assert [*tokenizer.prefix, *ids, *tokenizer.suffix] == wanted["bend/ids"].tolist(), name


@pytest.mark.parametrize("family", READERS)
def test_every_id_has_a_row_in_the_embedding(family):
    config = json.loads((GOLDEN / family / "config.json").read_text())
    if "vocab_size" in config:
        assert READERS[family](GOLDEN / family).size <= config["vocab_size"]
