from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstore.errors import CheckpointError
from embedstore.tokenizers import CharacterTokenizer

FOLDER = Path(__file__).parents[1] / "golden" / "resnet_lm"


@given(text=st.text("ACGTNRYK*", max_size=40))
def test_ids_of_transformers(text):
    from transformers import PreTrainedTokenizerFast

    ours = CharacterTokenizer.from_folder(FOLDER)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(FOLDER / "tokenizer.json"))
    tokens = ours.encode(np.frombuffer(text.encode(), np.uint8))
    assert tokens.ids.tolist() == theirs(text)["input_ids"]
    assert tokens.span.tolist() == [1] * len(text)


def test_properties():
    tokenizer = CharacterTokenizer.from_folder(FOLDER)
    assert (tokenizer.size, tokenizer.unknown_id, tokenizer.mask_id) == (7, 2, 1)
    assert tokenizer.description == "single letters"


def write(folder, **changes):
    spec = json.loads((FOLDER / "tokenizer.json").read_text())
    for key, value in changes.items():
        place = spec["model"] if key in ("vocab", "merges") else spec
        place[key] = value
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    return folder


def test_upper_case_vocabulary(tmp_path):
    vocabulary = {"[PAD]": 0, "[MASK]": 1, "[UNK]": 2, "A": 3, "C": 4, "G": 5, "T": 6, "N": 7}
    tokenizer = CharacterTokenizer.from_folder(write(tmp_path, normalizer=None, vocab=vocabulary))
    assert tokenizer.encode(np.frombuffer(b"TNa", np.uint8)).ids.tolist() == [6, 7, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab": {"[UNK]": 0, "[MASK]": 1, "ac": 2}}, "several letters"),
        ({"merges": ["a c"]}, "merges"),
        ({"vocab": {"[UNK]": 0, "a": 1}}, r"lacks \[MASK\]"),
        ({"vocab": {"[UNK]": 0, "[MASK]": 1, "ä": 2}}, "outside ASCII"),
        ({"normalizer": {"type": "NFC"}}, "NFC"),
        ({"post_processor": {"type": "BertProcessing"}}, "post_processor"),
        ({"vocab": None}, "cannot read the tokenizer"),
    ],
)
def test_other_tokenizers_are_refused(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=message):
        CharacterTokenizer.from_folder(write(tmp_path, **changes))


def test_unreadable_file(tmp_path):
    with pytest.raises(CheckpointError, match="cannot read the tokenizer"):
        CharacterTokenizer.from_folder(tmp_path)
