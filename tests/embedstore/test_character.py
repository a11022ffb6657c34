from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import codes_of, residues

from embedstore.errors import CheckpointError
from embedstore.tokenizers import CharacterTokenizer

GOLDEN = Path(__file__).parents[1] / "golden"
FOLDER = GOLDEN / "resnet_lm"
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


def ids_of(tokenizer, text):
    tokens = tokenizer.encode(codes_of(text))
    assert tokens.span.tolist() == [1] * len(text)
    assert tokens.ids.dtype == np.int64
    assert tokens.span.dtype == np.int32
    return [*tokenizer.prefix, *tokens.ids.tolist(), *tokenizer.suffix]


@settings(deadline=None)  # the first import takes long
@given(text=st.text("ACGTNRYK*", max_size=40))
def test_ids_of_transformers(text):
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_file=str(FOLDER / "tokenizer.json"))
    assert ids_of(CharacterTokenizer.from_folder(FOLDER), text) == theirs(text)["input_ids"]


def test_properties():
    tokenizer = CharacterTokenizer.from_folder(FOLDER)
    assert (tokenizer.size, tokenizer.unknown_id, tokenizer.mask_id) == (7, 2, 1)
    assert (tokenizer.prefix, tokenizer.suffix) == ((), ())
    assert (tokenizer.description, tokenizer.alphabet) == ("single letters", "dna")


def write(folder, source=FOLDER, **changes):
    spec = json.loads((source / "tokenizer.json").read_text())
    for key, value in changes.items():
        place = spec["model"] if key in ("vocab", "merges", "unk_token") else spec
        place[key] = value
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    return folder


def test_upper_case_vocabulary_without_a_mask(tmp_path):
    vocabulary = {"[PAD]": 0, "[UNK]": 2, "A": 3, "C": 4, "G": 5, "T": 6, "N": 7}
    tokenizer = CharacterTokenizer.from_folder(write(tmp_path, normalizer=None, vocab=vocabulary))
    assert ids_of(tokenizer, "TNa") == [6, 7, 2]
    assert (tokenizer.mask_id, tokenizer.size, tokenizer.alphabet) == (None, 8, "dna")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab": {"[UNK]": 0, "[MASK]": 1, "ac": 2}}, "several letters"),
        ({"merges": ["a c"]}, "merges"),
        ({"vocab": {"a": 1}}, r"cannot read the tokenizer: KeyError: '\[UNK\]'"),
        ({"vocab": {"[UNK]": 0, "[MASK]": 1, "ä": 2}}, "outside ASCII"),
        ({"normalizer": {"type": "NFC"}}, "NFC"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "it has a pre_tokenizer"),
        ({"post_processor": {"type": "BertProcessing"}}, "post_processor 'BertProcessing' is not known"),
        ({"vocab": None}, "cannot read the tokenizer"),
    ],
)
def test_other_tokenizers_are_refused(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=f"tokenizer.json: .*{message}"):
        CharacterTokenizer.from_folder(write(tmp_path, **changes))


def test_unreadable_file(tmp_path):
    with pytest.raises(CheckpointError, match="cannot read the tokenizer: FileNotFoundError"):
        CharacterTokenizer.from_folder(tmp_path)


@settings(deadline=None)
@given(text=residues())
def test_esmc_ids_of_transformers(text):
    from transformers import EsmcTokenizer

    theirs = EsmcTokenizer.from_pretrained(GOLDEN / "esmc")
    assert ids_of(CharacterTokenizer.from_folder(GOLDEN / "esmc"), text) == theirs(text)["input_ids"]


def test_esmc_properties():
    tokenizer = CharacterTokenizer.from_folder(GOLDEN / "esmc")
    assert (tokenizer.prefix, tokenizer.suffix, tokenizer.unknown_id, tokenizer.mask_id) == ((0,), (2,), 3, 32)
    assert (tokenizer.size, tokenizer.alphabet) == (33, "protein")


@pytest.mark.parametrize("family", ["hyenadna", "caduceus_ph"])
@given(text=st.text("ACGTNRYK", max_size=40))
def test_listed_characters(family, text):
    tokenizer = CharacterTokenizer.from_characters(GOLDEN / family)
    assert ids_of(tokenizer, text) == [7 + "ACGTN".index(c) if c in "ACGTN" else 6 for c in text]


def test_listed_characters_in_their_order(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"characters": ["T", "A"]}))
    tokenizer = CharacterTokenizer.from_characters(tmp_path, prefix=["[CLS]"], suffix=["[SEP]"])
    assert ids_of(tokenizer, "ATC") == [0, 8, 7, 6, 1]
    assert (tokenizer.size, tokenizer.unknown_id, tokenizer.mask_id, tokenizer.alphabet) == (9, 6, 3, "dna")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "characters is None"),
        ({"characters": "ACGT"}, "characters is 'ACGT'; wanted: a list"),
        ({"characters": ["A", "CG"]}, "wanted: a list of ASCII letters"),
        ({"characters": ["A", "ä"]}, "wanted: a list of ASCII letters"),
        ({"characters": ["A", 1]}, "wanted: a list of ASCII letters"),
        ({"characters": ["A", "C", "A"]}, "'A'. are there more than once"),
    ],
)
def test_other_lists_are_refused(tmp_path, config, message):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"tokenizer_config.json: .*{message}"):
        CharacterTokenizer.from_characters(tmp_path)


def fused(ids, unknown):
    """Make one of a run of unknown tokens: the one difference between our tables and the published tokenizers."""
    return [i for n, i in enumerate(ids) if not (n and i == ids[n - 1] == unknown)]


@pytest.mark.parametrize("family", ["esm1b", "esm2"])
def test_esm_ids_of_transformers(family):
    from transformers import EsmTokenizer

    theirs = EsmTokenizer(str(GOLDEN / family / "vocab.txt"))
    ours = CharacterTokenizer.from_vocabulary(GOLDEN / family)

    @settings(deadline=None)
    @given(text=residues())
    def check(text):
        ids = ids_of(ours, text)
        assert fused(ids, ours.unknown_id) == theirs(text)["input_ids"]

    check()
    assert (ours.size, ours.unknown_id, ours.mask_id, ours.alphabet) == (33, 3, 32, "protein")


def test_every_unknown_residue_is_a_row():
    assert ids_of(CharacterTokenizer.from_vocabulary(GOLDEN / "esm2"), "MJ*JM") == [0, 20, 3, 3, 3, 20, 2]
    assert ids_of(CharacterTokenizer.from_sentencepiece(GOLDEN / "prott5"), "AJ*JA") == [3, 2, 2, 2, 3, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda words: [w for w in words if w != "W"], "lacks the words .'W'"),
        (lambda words: [w for w in words if w != "<eos>"], "lacks the words .'<eos>'"),
        (lambda words: [*words, "AA"], "not a vocabulary of single residues: it has the words .'AA'"),
        (lambda words: [*words, "A"], "more than once"),
    ],
)
def test_other_residue_vocabularies_are_refused(tmp_path, change, message):
    words = (GOLDEN / "esm2" / "vocab.txt").read_text().split("\n")
    (tmp_path / "vocab.txt").write_text("\n".join(change(words)))
    with pytest.raises(CheckpointError, match=f"vocab.txt: .*{message}"):
        CharacterTokenizer.from_vocabulary(tmp_path)


def test_prott5_ids_of_sentencepiece():
    from sentencepiece import SentencePieceProcessor

    theirs = SentencePieceProcessor(model_file=str(GOLDEN / "prott5" / "spiece.model"))
    ours = CharacterTokenizer.from_sentencepiece(GOLDEN / "prott5")
    rare = str.maketrans("UZOB", "XXXX")

    @settings(deadline=None)
    @given(text=residues())
    def check(text):
        ids = fused(ids_of(ours, text), ours.unknown_id)
        assert ids == [*theirs.encode(" ".join(text.translate(rare))), 1]

    check()
    assert (ours.size, ours.unknown_id, ours.mask_id, ours.prefix, ours.alphabet) == (24, 2, None, (), "protein")
    assert ours.description == "single letters; U, Z, O and B are read as X"


def test_unreadable_pieces(tmp_path):
    with pytest.raises(CheckpointError, match="spiece.model: cannot read the tokenizer"):
        CharacterTokenizer.from_sentencepiece(tmp_path)
    (tmp_path / "spiece.model").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="spiece.model: cannot read the tokenizer"):
        CharacterTokenizer.from_sentencepiece(tmp_path)


@pytest.mark.parametrize(
    ("letters", "eos", "message"),
    [(RESIDUES, 1, "'X'"), (RESIDUES[1:] + "X", 1, "'A'"), (RESIDUES + "X", -1, "'</s>'")],
)
def test_other_pieces_are_refused(tmp_path, letters, eos, message):
    from sentencepiece import SentencePieceTrainer

    text = [" ".join(letters)] * 20
    SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_prefix=str(tmp_path / "spiece"),
        model_type="word",
        vocab_size=2 + (eos > 0) + len(letters),
        pad_id=0,
        eos_id=eos,
        unk_id=2 if eos > 0 else 1,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
        character_coverage=1.0,
    )
    with pytest.raises(CheckpointError, match=f"spiece.model: not a tokenizer of single residues: .*{message}"):
        CharacterTokenizer.from_sentencepiece(tmp_path)
