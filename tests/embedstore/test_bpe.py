from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from letters import codes_of, stretches

from embedstore.errors import CheckpointError
from embedstore.tokenizers import BpeTokenizer

GOLDEN = Path(__file__).parents[1] / "golden"
FAMILIES = ["dnabert2", "gena_bert_last_ln", "gena_bert_no_last_ln", "gena_bigbird", "modernbert"]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return GOLDEN / request.param


def test_ids_of_transformers_and_spans_of_the_words(family):
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_file=str(family / "tokenizer.json"))
    ours = BpeTokenizer.from_folder(family)
    runs = stretches("ACGT", "N", "RYK", "ACGTN")

    @settings(max_examples=100, deadline=None)
    @given(text=runs)
    def check(text):
        tokens = ours.encode(codes_of(text))
        assert [*ours.prefix, *tokens.ids.tolist(), *ours.suffix] == theirs(text)["input_ids"]
        assert tokens.span.sum() == len(text)
        end = np.cumsum(tokens.span)
        for word, start, stop in zip(theirs.convert_ids_to_tokens(tokens.ids), end - tokens.span, end, strict=True):
            letters = text[start:stop]
            if word == "-":
                assert set(letters) == {"N"}
                assert len(letters) >= 10
            elif word == "[UNK]":
                assert len(letters) == 1
            else:
                assert letters == word

    check()


def test_a_long_run_of_n_is_one_token():
    tokenizer = BpeTokenizer.from_folder(GOLDEN / "gena_bert_last_ln")
    dash = tokenizer.backend.token_to_id("-")
    for run in (10, 11, 500):
        ids, span = tokenizer.encode(codes_of("N" * run + "ACGT" + "N" * run))
        assert (ids[0], span[0], ids[-1], span[-1]) == (dash, run, dash, run)
    assert dash not in tokenizer.encode(codes_of("ACGT" + "N" * 9)).ids


def test_letters_that_the_file_drops_belong_to_their_neighbours():
    # GENA-LM's file strips blanks from both ends of a text.
    tokenizer = BpeTokenizer.from_folder(GOLDEN / "gena_bert_last_ln")
    bare, wide = (tokenizer.encode(codes_of(text)) for text in ("ACGTTTGA", "  ACGTTTGA "))
    assert wide.ids.tolist() == bare.ids.tolist()
    assert (wide.span - bare.span).tolist() == [2, *[0] * (len(bare.span) - 2), 1]


def test_properties(family):
    tokenizer = BpeTokenizer.from_folder(family)
    vocabulary = json.loads((family / "tokenizer.json").read_text())["model"]["vocab"]
    assert (tokenizer.prefix, tokenizer.suffix, tokenizer.unknown_id) == ((1,), (2,), 0)
    assert tokenizer.size == 1 + max(vocabulary.values())
    assert tokenizer.alphabet == "dna"
    assert tokenizer.description.startswith("words of tokenizer.json")


def test_a_long_sequence_as_one_string():
    # A file for training cuts and pads; an embedding must not.
    codes = np.random.default_rng(0).choice(codes_of("ACGTN"), 100_000)
    tokens = BpeTokenizer.from_folder(GOLDEN / "gena_bigbird").encode(codes)
    assert tokens.span.sum() == 100_000
    assert tokens.span.min() == 1


def write(folder, source=GOLDEN / "dnabert2", **changes):
    spec = json.loads((source / "tokenizer.json").read_text())
    for key, value in changes.items():
        (spec["model"] if key in spec["model"] else spec)[key] = value
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    return folder


def test_truncation_and_padding_of_the_file_are_off(tmp_path):
    plain = BpeTokenizer.from_folder(GOLDEN / "dnabert2").encode(codes_of("ACGT" * 30))
    truncation = {"max_length": 8, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    padding = {"strategy": {"Fixed": 200}, "direction": "Right", "pad_id": 3, "pad_type_id": 0, "pad_token": "[PAD]"}
    padding["pad_to_multiple_of"] = None
    tokenizer = BpeTokenizer.from_folder(write(tmp_path, truncation=truncation, padding=padding))
    assert tokenizer.encode(codes_of("ACGT" * 30)).ids.tolist() == plain.ids.tolist()
    assert (tokenizer.prefix, tokenizer.suffix) == ((1,), (2,))


def test_special_tokens_that_the_file_does_not_add(tmp_path):
    tokenizer = BpeTokenizer.from_folder(write(tmp_path, post_processor=None))
    assert (tokenizer.prefix, tokenizer.suffix) == ((), ())


def test_special_tokens_only_at_one_side(tmp_path):
    template = {"type": "TemplateProcessing", "pair": []}
    template["single"] = [
        {"Sequence": {"id": "A", "type_id": 0}},
        *({"SpecialToken": {"id": "[SEP]", "type_id": 0}},) * 2,
    ]
    template["special_tokens"] = {"[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}
    tokenizer = BpeTokenizer.from_folder(write(tmp_path, post_processor=template))
    assert (tokenizer.prefix, tokenizer.suffix) == ((), (2, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unk_token": None}, "the unknown token is None"),
        ({"unk_token": "[OTHER]"}, r"the unknown token is '\[OTHER\]'"),
        ({"vocab": None}, "cannot read the tokenizer"),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": "[A-Z]"}, "content": ""}}, "the tokens of ACGT are"),
    ],
)
def test_other_tokenizers_are_refused(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=f"tokenizer.json: {message}"):
        BpeTokenizer.from_folder(write(tmp_path, **changes))


def test_unreadable_file(tmp_path):
    with pytest.raises(CheckpointError, match="tokenizer.json: cannot read the tokenizer"):
        BpeTokenizer.from_folder(tmp_path)


def test_tokens_that_stand_for_no_letter(tmp_path):
    # The mark of a word's beginning is a token that has no letter of its own: it takes that of the first word.
    vocabulary = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "\u2581": 3, "A": 4}
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    tokenizer = BpeTokenizer.from_folder(write(tmp_path, vocab=vocabulary, merges=[], pre_tokenizer=metaspace))
    with pytest.raises(CheckpointError, match=r"do not tile a sequence of 3 letters: 'A' stands for no letter"):
        tokenizer.encode(codes_of("AAA"))


def test_letters_without_any_token():
    tokenizer = BpeTokenizer.from_folder(GOLDEN / "dnabert2")
    with pytest.raises(CheckpointError, match="do not tile a sequence of 2 letters: there are none"):
        tokenizer.encode(codes_of("  "))
    assert len(tokenizer.encode(codes_of("")).ids) == 0
