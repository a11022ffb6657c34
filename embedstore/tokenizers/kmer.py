"""The k-mer tokenizer of the Nucleotide Transformer as a lookup table.

Greedy from left to right: k letters of A, C, G, T are one token, what is left before the end or before another letter
becomes tokens of one letter each. N is a token of its own and restarts the frame. A run of any other letters is one
``<unk>``, however long. These are the ids of transformers' ``EsmTokenizer`` with the same vocabulary file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from embedstore.errors import CheckpointError
from embedstore.tokenizers.tokens import Tokens
from embedstore.tokenizers.vocabulary import (
    NUCLEOTIDES,
    digit_table,
    number_words,
    pack,
    pack_words,
    read_json,
    read_words,
    word_length,
    word_table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedstore.tokenizers.tokens import Alphabet

_N, _OTHER = 4, 5
_DIGITS = digit_table(NUCLEOTIDES + "N")


@dataclass(frozen=True)
class KmerTokenizer:
    """Cut nucleotide sequences into k-mers.

    Parameters
    ----------
    k
        Letters of a full token.
    word_ids
        Ids of all words of k letters, shape (5 ** k,), int64, as `embedstore.tokenizers.vocabulary.word_table` gives.
    letter_ids
        Ids of the single letters A, C, G, T, N and of any other letter, shape (6,), int64.
    unknown_id
        Id of ``<unk>``.
    prefix, suffix
        Ids of the special tokens before and after a sequence: ``<cls>``, and ``<eos>`` or nothing.

    Examples
    --------
    >>> import numpy as np
    >>> words = ["<unk>", "<cls>", "AA", "AC", "AG", "AT", "CA", "CC", "CG", "CT"]
    >>> words += ["GA", "GC", "GG", "GT", "TA", "TC", "TG", "TT", "A", "C", "G", "T", "N"]
    >>> tokens = KmerTokenizer.from_words(words).encode(np.frombuffer(b"ACGNRYT", np.uint8))
    >>> [words[i] for i in tokens.ids], tokens.span.tolist()
    (['AC', 'G', 'N', '<unk>', 'T'], [2, 1, 1, 2, 1])
    """

    alphabet: ClassVar[Alphabet] = "dna"
    regular: ClassVar[bool] = True

    k: int
    word_ids: np.ndarray
    letter_ids: np.ndarray
    unknown_id: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @classmethod
    def from_words(cls, words: Sequence[str], source: str = "the vocabulary", end: str | None = None) -> KmerTokenizer:
        """Make the tokenizer from the words of a vocabulary, in the order of their ids.

        Parameters
        ----------
        words
            All tokens; k is the length of the longest one made of A, C, G and T.
        source
            Where the words come from, for error messages.
        end
            The special token after a sequence; None (default), or a word that the vocabulary does not have, for none.

        Returns
        -------
        KmerTokenizer

        Raises
        ------
        CheckpointError
            If a k-mer, a letter, ``<unk>`` or ``<cls>`` is missing, or a word is there twice.
        """
        ids = number_words(words, ["<unk>", "<cls>", *NUCLEOTIDES, "N"], source)
        k = word_length(words)
        if k < 2:
            raise CheckpointError(f"{source}: not a k-mer vocabulary: its longest word of A, C, G, T is one letter.")
        unknown = ids["<unk>"]
        return cls(
            k=k,
            word_ids=word_table(ids, k, unknown, source),
            letter_ids=np.array([*(ids[letter] for letter in NUCLEOTIDES + "N"), unknown], np.int64),
            unknown_id=unknown,
            prefix=(ids["<cls>"],),
            suffix=(ids[end],) if end in ids else (),
        )

    @classmethod
    def from_folder(cls, folder: Path) -> KmerTokenizer:
        """Make the tokenizer from the files of a checkpoint folder.

        Parameters
        ----------
        folder
            The checkpoint. Its ``vocab.txt`` has one word per line; the line number, from 0, is the id. The field
            ``eos_token`` of ``tokenizer_config.json`` names the special token after a sequence; the published models
            say null, which means none, as does a missing field or file.

        Returns
        -------
        KmerTokenizer

        Raises
        ------
        CheckpointError
            If a file cannot be read or is not a k-mer vocabulary.
        """
        path, config = folder / "vocab.txt", folder / "tokenizer_config.json"
        end = read_json(config).get("eos_token") if config.exists() else None
        if isinstance(end, dict):  # files of older versions of transformers describe the token
            end = end.get("content")
        if not isinstance(end, str | None):
            raise CheckpointError(f"{config}: eos_token is {end!r}; wanted: a token, or null for none.")
        return cls.from_words(read_words(path), str(path), end)

    @property
    def description(self) -> str:
        """What it does, in words."""
        return f"{self.k}-mers, greedy from the left; N alone; a run of other letters is one <unk>"

    @property
    def frame(self) -> int:
        """Letters of a full token."""
        return self.k

    @property
    def size(self) -> int:
        """One more than the largest id that can be given."""
        return 1 + int(max(self.word_ids.max(), self.letter_ids.max(), *self.prefix, *self.suffix))

    def encode(self, codes: np.ndarray) -> Tokens:
        """Cut a sequence into tokens.

        Parameters
        ----------
        codes
            Upper-case ASCII letters, shape (nucleotide,), uint8; or (sequence, nucleotide), of A, C, G, T alone.

        Returns
        -------
        Tokens
            Ids and spans, without special tokens.
        """
        letters = _DIGITS.take(codes)
        if codes.ndim > 1:
            return self._plain(letters)
        span = self._spans(letters)
        start = span.cumsum() - span
        first = letters[start]
        ids = self.letter_ids.take(first)
        whole = (span > 1).nonzero()[0]
        ids[whole] = self.word_ids.take(pack(letters, self.k)[start[whole]])
        other = first == _OTHER
        if other.any():  # what follows another letter of this kind belongs to the same token
            keep = np.concatenate([[True], ~(other[1:] & other[:-1])])
            return Tokens(ids[keep], np.diff(start[keep], append=len(letters)).astype(np.int32))
        return Tokens(ids, span)

    def _plain(self, letters: np.ndarray) -> Tokens:
        """Return the tokens of sequences of A, C, G, T, shape (sequence, nucleotide)."""
        words, single = divmod(letters.shape[-1], self.k)
        whole, rest = np.split(letters, [words * self.k], axis=-1)
        ids = [self.word_ids.take(pack_words(whole, self.k)), self.letter_ids.take(rest)]
        return Tokens(np.concatenate(ids, axis=-1), np.repeat([self.k, 1], [words, single]).astype(np.int32))

    def _spans(self, letters: np.ndarray) -> np.ndarray:
        """Return the spans of words and of single letters, with each other letter than A, C, G, T by itself."""
        bounds = np.concatenate([[-1], (letters >= _N).nonzero()[0], [len(letters)]])
        stretch = bounds[1:] - bounds[:-1] - 1
        # Between two such letters: whole words, single letters, then the second of the two, which for the last is the
        # end of the sequence.
        span = np.ones((len(stretch), 3), np.int32)
        span[:, 0] = self.k
        count = np.ones((len(stretch), 3), np.intp)
        np.divmod(stretch, self.k, out=(count[:, 0], count[:, 1]))
        return span.ravel().repeat(count.ravel())[:-1]
