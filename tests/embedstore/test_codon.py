from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from letters import codes_of, stretches

from embedstore.errors import CheckpointError, InputError
from embedstore.tokenizers import CodonTokenizer

FOLDER = Path(__file__).parents[1] / "golden" / "calm"
WORDS = (FOLDER / "vocab.txt").read_text().split()


@given(text=stretches("ACGT", "ACGU", "N", "RYS").map(lambda text: text[: len(text) // 3 * 3]))
def test_ids_of_a_dictionary(text):
    tokens = CodonTokenizer.from_folder(FOLDER).encode(codes_of(text))
    codons = [text[i : i + 3].replace("T", "U") for i in range(0, len(text), 3)]
    assert tokens.ids.tolist() == [WORDS.index(codon if codon in WORDS else "<unk>") for codon in codons]
    assert tokens.span.tolist() == [3] * len(codons)


def test_without_a_vocabulary_file(tmp_path):
    # The published model has none; its order is that of the file that goes with the golden numbers.
    ours, theirs = CodonTokenizer.from_folder(tmp_path), CodonTokenizer.from_folder(FOLDER)
    assert ours.word_ids.tolist() == theirs.word_ids.tolist()
    assert (ours.prefix, ours.suffix, ours.unknown_id) == (theirs.prefix, theirs.suffix, theirs.unknown_id)
    assert (ours.prefix, ours.suffix, ours.unknown_id, ours.size) == ((0,), (2,), 3, 68)
    assert ours.alphabet == "dna"
    assert ours.description == "codons; one with another letter than A, C, G, T, U is one <unk>"


@pytest.mark.parametrize(("text", "left"), [("A", 1), ("ATGAA", 2)])
def test_broken_frame(text, left):
    with pytest.raises(InputError, match=f"{len(text)} nucleotides .* {left} left over, so its frame may be wrong"):
        CodonTokenizer.from_words().encode(codes_of(text))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([w for w in WORDS if w != "GCU"], "lacks .'GCT'"),
        ([w for w in WORDS if w != "<eos>"], "<eos>"),
        ([*WORDS, "ATG"], "'ATG'. are there more than once"),
    ],
)
def test_other_vocabularies_are_refused(tmp_path, words, message):
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(CheckpointError, match=f"vocab.txt.*{message}"):
        CodonTokenizer.from_folder(tmp_path)
