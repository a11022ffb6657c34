"""The overlapping k-mers of DNABERT as a lookup table.

Every k-mer of a sequence, at step 1, is a token; one with a letter other than A, C, G, T is ``[UNK]``. Tokens overlap,
but rows of an embedding must tile the sequence, so each nucleotide gets the k-mer with the nucleotide in its centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from embedstore.errors import InputError
from embedstore.tokenizers.tokens import Tokens
from embedstore.tokenizers.vocabulary import (
    NUCLEOTIDES,
    digit_table,
    number_words,
    pack,
    read_words,
    word_length,
    word_table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedstore.tokenizers.tokens import Alphabet

_DIGITS = digit_table(NUCLEOTIDES)


@dataclass(frozen=True)
class OverlappingKmerTokenizer:
    """Give every k-mer of a sequence its id, and share the nucleotides out among them.

    Nucleotide p gets k-mer ``clip(p - (k - 1) // 2, 0, length - k)``: the one that has it in its centre (left of the
    centre where k is even), and near the ends the first or the last one. So the first k-mer stands for
    ``(k - 1) // 2 + 1`` nucleotides, the last one for ``k - (k - 1) // 2``, all others for one; a single k-mer stands
    for all k.

    Parameters
    ----------
    k
        Letters of a word.
    word_ids
        Ids of all words of k letters, shape (5 ** k,), int64, as `embedstore.tokenizers.vocabulary.word_table` gives.
    unknown_id
        Id of ``[UNK]``.
    prefix, suffix
        Ids of the special tokens before and after a sequence: ``[CLS]`` and ``[SEP]``.

    Examples
    --------
    >>> import numpy as np
    >>> words = ["[UNK]", "[CLS]", "[SEP]", "AA", "AC", "AG", "AT", "CA", "CC", "CG", "CT"]
    >>> words += ["GA", "GC", "GG", "GT", "TA", "TC", "TG", "TT"]
    >>> tokens = OverlappingKmerTokenizer.from_words(words).encode(np.frombuffer(b"ACGNT", np.uint8))
    >>> [words[i] for i in tokens.ids], tokens.span.tolist()
    (['AC', 'CG', '[UNK]', '[UNK]'], [1, 1, 1, 2])

    References
    ----------
    Ji et al. 2021, Bioinformatics 37:2112. Marin et al. 2024, BEND, README: the nucleotide of a k-mer.
    """

    alphabet: ClassVar[Alphabet] = "dna"
    regular: ClassVar[bool] = True
    frame: ClassVar[int] = 1

    k: int
    word_ids: np.ndarray
    unknown_id: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @classmethod
    def from_words(cls, words: Sequence[str], source: str = "the vocabulary") -> OverlappingKmerTokenizer:
        """Make the tokenizer from the words of a vocabulary, in the order of their ids.

        Parameters
        ----------
        words
            All tokens; k is the length of the longest one made of A, C, G and T.
        source
            Where the words come from, for error messages.

        Returns
        -------
        OverlappingKmerTokenizer

        Raises
        ------
        CheckpointError
            If a k-mer, ``[UNK]``, ``[CLS]`` or ``[SEP]`` is missing, or a word is there twice.
        """
        ids = number_words(words, ["[UNK]", "[CLS]", "[SEP]"], source)
        k = word_length(words)
        table = word_table(ids, k, ids["[UNK]"], source)
        return cls(k, table, ids["[UNK]"], prefix=(ids["[CLS]"],), suffix=(ids["[SEP]"],))

    @classmethod
    def from_folder(cls, folder: Path) -> OverlappingKmerTokenizer:
        """Make the tokenizer from the ``vocab.txt`` of a checkpoint folder.

        The field ``do_lower_case`` of ``tokenizer_config.json`` is not read. The published files say true although all
        words are in upper case; a tokenizer that obeys makes every k-mer ``[UNK]``.

        Parameters
        ----------
        folder
            The checkpoint. Its ``vocab.txt`` has one word per line; the line number, from 0, is the id.

        Returns
        -------
        OverlappingKmerTokenizer

        Raises
        ------
        CheckpointError
            If the file cannot be read or is not a k-mer vocabulary.
        """
        path = folder / "vocab.txt"
        return cls.from_words(read_words(path), str(path))

    @property
    def description(self) -> str:
        """What it does, in words."""
        return f"overlapping {self.k}-mers; nucleotide p gets k-mer clip(p - {(self.k - 1) // 2}, 0, length - {self.k})"

    @property
    def size(self) -> int:
        """One more than the largest id that can be given."""
        return 1 + int(max(self.word_ids.max(), *self.prefix, *self.suffix))

    def encode(self, codes: np.ndarray) -> Tokens:
        """Give every k-mer its id.

        Parameters
        ----------
        codes
            Upper-case ASCII letters, shape (nucleotide,) or (sequence, nucleotide), uint8.

        Returns
        -------
        Tokens
            ``nucleotide - k + 1`` tokens, without special tokens.

        Raises
        ------
        InputError
            If the sequence is shorter than k.
        """
        _check_length(codes.shape[-1], self.k)
        ids = self.word_ids.take(pack(_DIGITS.take(codes), self.k))
        span = np.ones(ids.shape[-1], np.int32)
        before = (self.k - 1) // 2
        span[0] += before
        span[-1] += self.k - 1 - before
        return Tokens(ids, span)


def bend_order(length: int, k: int) -> np.ndarray:
    """Return which k-mer BEND's published code puts at each nucleotide.

    For k = 3 and 4 it is the k-mer of `OverlappingKmerTokenizer`. For k = 5 and 6 the code has a defect: the first
    k-mer is repeated once before the k-mers instead of twice, and its other copy follows the last one. So all rows but
    those at the edges are one nucleotide too early, and among the last rows stands the first k-mer.

    Parameters
    ----------
    length
        Nucleotides of the sequence.
    k
        Letters of a k-mer, 3 to 6.

    Returns
    -------
    ndarray
        Numbers of k-mers, shape (nucleotide,), int64.

    Raises
    ------
    InputError
        If `k` is not 3 to 6, or the sequence is shorter than `k`.

    Examples
    --------
    >>> bend_order(12, 6).tolist()
    [0, 0, 1, 2, 3, 4, 5, 6, 0, 6, 6, 6]

    References
    ----------
    Marin et al. 2024, BEND, commit ac6e80c; ``bend/utils/embedders.py``, ``DNABertEmbedder._repeat_embedding_vectors``.
    """
    if not 3 <= k <= 6:
        raise InputError(f"BEND's code places k-mers of 3 to 6 nucleotides; k = {k} seen.")
    _check_length(length, k)
    before, kmers = (k - 1) // 2, length - k + 1
    copies_of_last = np.full(k - 1 - before, kmers - 1)
    return np.concatenate([[0], np.arange(kmers), np.zeros(before - 1, np.int64), copies_of_last])


def _check_length(length: int, k: int) -> None:
    if length < k:
        raise InputError(
            f"A sequence of {length} nucleotides has no {k}-mer: wanted are at least {k}. Leave it out, or extend it "
            "by its flanks."
        )
