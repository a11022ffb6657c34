"""The k-mer tokenizer of the Nucleotide Transformer as a lookup table.

Greedy from left to right: k letters of A, C, G, T are one token, what is left before the end or before another letter
becomes tokens of one letter each. N is a token of its own and restarts the frame. A run of any other letters is one
``<unk>``, however long. These are the ids of transformers' ``EsmTokenizer`` with the same vocabulary file.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedstore.errors import CheckpointError
from embedstore.tokenizers.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NUCLEOTIDES = "ACGT"
_N, _OTHER = 4, 5

# Letter -> its two bits (A, C, G, T), or the class of N, or of any other letter.
_CLASS = np.full(256, _OTHER, np.uint8)
for _i, _letter in enumerate(_NUCLEOTIDES + "N"):
    _CLASS[ord(_letter)] = _i


@dataclass(frozen=True)
class KmerTokenizer:
    """Cut nucleotide sequences into k-mers.

    Parameters
    ----------
    k
        Letters of a full token.
    word_ids
        Ids of the 4 ** k words in the order of A, C, G, T, the first letter most significant, int64.
    letter_ids
        Ids of the single letters A, C, G, T, N, int64.
    unknown_id, cls_id
        Ids of ``<unk>`` and of ``<cls>``.

    Examples
    --------
    >>> import numpy as np
    >>> words = ["<unk>", "<cls>", "AA", "AC", "AG", "AT", "CA", "CC", "CG", "CT"]
    >>> words += ["GA", "GC", "GG", "GT", "TA", "TC", "TG", "TT", "A", "C", "G", "T", "N"]
    >>> tokens = KmerTokenizer.from_words(words).encode(np.frombuffer(b"ACGNRYT", np.uint8))
    >>> [words[i] for i in tokens.ids], tokens.span.tolist()
    (['AC', 'G', 'N', '<unk>', 'T'], [2, 1, 1, 2, 1])
    """

    k: int
    word_ids: np.ndarray
    letter_ids: np.ndarray
    unknown_id: int
    cls_id: int

    @classmethod
    def from_words(cls, words: Sequence[str], source: str = "the vocabulary") -> KmerTokenizer:
        """Make the tokenizer from the words of a vocabulary, in the order of their ids.

        Parameters
        ----------
        words
            All tokens; k is the length of the longest one made of A, C, G and T.
        source
            Where the words come from, for error messages.

        Returns
        -------
        KmerTokenizer

        Raises
        ------
        CheckpointError
            If a k-mer, a letter, ``<unk>`` or ``<cls>`` is missing, or a word is there twice.
        """
        ids = {word: i for i, word in enumerate(words)}
        if len(ids) < len(words):
            twice = sorted(word for word in ids if words.count(word) > 1)
            raise CheckpointError(f"{source}: the words {twice[:5]} are there more than once.")
        k = max((len(word) for word in ids if word and set(word) <= set(_NUCLEOTIDES)), default=0)
        kmers = ["".join(letters) for letters in itertools.product(_NUCLEOTIDES, repeat=k)] if k > 1 else []
        wanted = ["<unk>", "<cls>", *_NUCLEOTIDES, "N", *kmers]
        missing = [word for word in wanted if word not in ids]
        if missing or k < 2:
            raise CheckpointError(
                f"{source}: not a k-mer vocabulary: it lacks {len(missing)} words, such as {missing[:5]}; wanted: "
                "<unk>, <cls>, A, C, G, T, N and every word of k letters A, C, G, T, with k of at least 2."
            )
        return cls(
            k=k,
            word_ids=np.array([ids[word] for word in kmers], np.int64),
            letter_ids=np.array([ids[letter] for letter in _NUCLEOTIDES + "N"], np.int64),
            unknown_id=ids["<unk>"],
            cls_id=ids["<cls>"],
        )

    @classmethod
    def from_folder(cls, folder: Path) -> KmerTokenizer:
        """Make the tokenizer from the ``vocab.txt`` of a checkpoint folder.

        Parameters
        ----------
        folder
            The checkpoint. Its ``vocab.txt`` has one word per line; the line number, from 0, is the id.

        Returns
        -------
        KmerTokenizer

        Raises
        ------
        CheckpointError
            If the file cannot be read as text or is not a k-mer vocabulary.
        """
        path = folder / "vocab.txt"
        try:
            words = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path}: cannot read the vocabulary: {error}") from error
        return cls.from_words([word.strip() for word in words], str(path))

    @property
    def description(self) -> str:
        """What it does, in words."""
        return f"{self.k}-mers, greedy from the left; N alone; a run of other letters is one <unk>"

    @property
    def size(self) -> int:
        """One more than the largest id that can be given."""
        return 1 + max(int(self.word_ids.max()), int(self.letter_ids.max()), self.unknown_id, self.cls_id)

    def encode(self, codes: np.ndarray) -> Tokens:
        """Cut a sequence into tokens.

        Parameters
        ----------
        codes
            Upper-case ASCII letters, shape (nucleotide,), uint8.

        Returns
        -------
        Tokens
            Ids and spans, without ``<cls>``.
        """
        letters = _CLASS[codes]
        if not len(letters) or letters.max() < _N:
            return self._encode_plain(letters)
        start, span = self._cut(letters)
        first = letters[start]
        ids = np.full(len(start), self.unknown_id, np.int64)
        single = (span == 1) & (first < _OTHER)
        ids[single] = self.letter_ids[first[single]]
        whole = (span == self.k) & (first < _N)
        ids[whole] = self.word_ids[_pack([letters[start[whole] + j] for j in range(self.k)])]
        return Tokens(ids, span)

    def _encode_plain(self, letters: np.ndarray) -> Tokens:
        """Cut a sequence of A, C, G, T only: whole words, then single letters."""
        words, rest = divmod(len(letters), self.k)
        body = letters[: words * self.k]
        ids = np.empty(words + rest, np.int64)
        ids[:words] = self.word_ids[_pack([body[j :: self.k] for j in range(self.k)])]
        ids[words:] = self.letter_ids[letters[words * self.k :]]
        span = np.full(words + rest, self.k, np.int32)
        span[words:] = 1
        return Tokens(ids, span)

    def _cut(self, letters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return start and span of every token of a sequence with other letters than A, C, G, T."""
        kind = np.maximum(letters, _N - 1)  # A, C, G, T are one kind here
        new = np.flatnonzero((kind[1:] != kind[:-1]) | (kind[1:] == _N)) + 1
        run_start = np.concatenate([[0], new])
        run_length = np.diff(run_start, append=len(letters))
        words = np.where(kind[run_start] < _N, run_length // self.k, 0)
        single = np.where(kind[run_start] < _N, run_length % self.k, 0)
        # Whole words of a run come first, then its letters; a run of N (always 1 long) or of others is one token.
        tokens = np.where(kind[run_start] < _N, words + single, 1)
        run = np.repeat(np.arange(len(run_start)), tokens)
        rank = np.arange(len(run)) - (np.cumsum(tokens) - tokens)[run]
        span = np.where(rank < words[run], self.k, 1)
        other = kind[run_start] == _OTHER
        span[other[run]] = run_length[other]
        return np.cumsum(span) - span, span.astype(np.int32)


def _pack(digits: Sequence[np.ndarray]) -> np.ndarray:
    """Join base-4 digits, the first most significant."""
    packed = np.zeros(len(digits[0]), np.intp)
    for digit in digits:
        packed <<= 2
        packed |= digit
    return packed
