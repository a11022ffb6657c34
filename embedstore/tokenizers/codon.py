"""The codon tokenizer of CaLM as a lookup table."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from embedstore.errors import InputError
from embedstore.tokenizers.tokens import Tokens
from embedstore.tokenizers.vocabulary import NUCLEOTIDES, digit_table, number_words, pack_words, read_words, word_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedstore.tokenizers.tokens import Alphabet

_DIGITS = digit_table(NUCLEOTIDES)
_DIGITS[ord("U")] = _DIGITS[ord("T")]

# The published model comes without a vocabulary file: calm/alphabet.py of its repository lists the words.
_PUBLISHED = ("<cls>", "<pad>", "<eos>", "<unk>", *map("".join, itertools.product("AUCG", repeat=3)), "<mask>")


@dataclass(frozen=True)
class CodonTokenizer:
    """Cut coding sequences into codons; T and U are the same letter.

    A codon with any other letter than A, C, G, T, U is one ``<unk>``.

    Parameters
    ----------
    word_ids
        Ids of all words of three letters, shape (125,), int64, as `embedstore.tokenizers.vocabulary.word_table` gives.
    unknown_id
        Id of ``<unk>``.
    prefix, suffix
        Ids of the special tokens before and after a sequence: ``<cls>`` and ``<eos>``.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> tokenizer = CodonTokenizer.from_folder(Path("a folder without vocab.txt"))
    >>> tokenizer.encode(np.frombuffer(b"AAAATGAUGNNN", np.uint8))
    Tokens(ids=array([ 4, 11, 11,  3]), span=array([3, 3, 3, 3], dtype=int32))

    References
    ----------
    Outeiral and Deane 2024, Nature Machine Intelligence 6:170.
    """

    alphabet: ClassVar[Alphabet] = "dna"
    regular: ClassVar[bool] = True
    frame: ClassVar[int] = 3

    word_ids: np.ndarray
    unknown_id: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @classmethod
    def from_words(cls, words: Sequence[str] = _PUBLISHED, source: str = "the vocabulary") -> CodonTokenizer:
        """Make the tokenizer from the words of a vocabulary, in the order of their ids.

        Parameters
        ----------
        words
            All tokens, codons in letters of RNA; default: those of the published model.
        source
            Where the words come from, for error messages.

        Returns
        -------
        CodonTokenizer

        Raises
        ------
        CheckpointError
            If a codon, ``<unk>``, ``<cls>`` or ``<eos>`` is missing, or a word is there twice.
        """
        ids = number_words([word.replace("U", "T") for word in words], ["<unk>", "<cls>", "<eos>"], source)
        table = word_table(ids, 3, ids["<unk>"], source)
        return cls(table, ids["<unk>"], prefix=(ids["<cls>"],), suffix=(ids["<eos>"],))

    @classmethod
    def from_folder(cls, folder: Path) -> CodonTokenizer:
        """Make the tokenizer from the ``vocab.txt`` of a checkpoint folder.

        Parameters
        ----------
        folder
            The checkpoint. ``vocab.txt`` has one word per line; the line number, from 0, is the id. Without that file
            the words are those of the published model, which has none.

        Returns
        -------
        CodonTokenizer

        Raises
        ------
        CheckpointError
            If the file cannot be read or is not a vocabulary of codons.
        """
        path = folder / "vocab.txt"
        return cls.from_words(read_words(path), str(path)) if path.exists() else cls.from_words()

    @property
    def description(self) -> str:
        """What it does, in words."""
        return "codons; one with another letter than A, C, G, T, U is one <unk>"

    @property
    def size(self) -> int:
        """One more than the largest id that can be given."""
        return 1 + int(max(self.word_ids.max(), *self.prefix, *self.suffix))

    def encode(self, codes: np.ndarray) -> Tokens:
        """Give every codon its id.

        Parameters
        ----------
        codes
            Upper-case ASCII letters, shape (nucleotide,) or (sequence, nucleotide), uint8; the reading frame
            starts at the first.

        Returns
        -------
        Tokens
            ``nucleotide / 3`` tokens, without special tokens.

        Raises
        ------
        InputError
            If the length is not a multiple of three.
        """
        length = codes.shape[-1]
        if length % 3:
            raise InputError(
                f"A sequence of {length:,} nucleotides is not made of whole codons: {length % 3} left over, "
                "so its frame may be wrong. This model takes coding sequences, from the first codon to the last."
            )
        return Tokens(self.word_ids.take(pack_words(_DIGITS.take(codes), 3)), np.full(length // 3, 3, np.int32))
