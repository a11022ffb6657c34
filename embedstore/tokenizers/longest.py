"""The tokenizer of GROVER as BEND runs it: from left to right, always the longest word of the vocabulary.

GROVER's words come from byte-pair merges, but its published vocabulary has no list of merges; BEND takes the longest
match instead. A letter at which no word begins is one ``[UNK]``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from embedstore.errors import CheckpointError
from embedstore.tokenizers.tokens import Tokens
from embedstore.tokenizers.vocabulary import number_words, read_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedstore.tokenizers.tokens import Alphabet


@dataclass(frozen=True)
class LongestMatchTokenizer:
    """Cut nucleotide sequences into the longest words of a vocabulary, from left to right.

    Parameters
    ----------
    pattern
        Matches the longest word at a place, or else one letter.
    ids
        Id of everything that `pattern` matches.
    unknown_id
        Id of ``[UNK]``.
    prefix, suffix
        Ids of the special tokens before and after a sequence: ``[CLS]`` and ``[SEP]``.

    Examples
    --------
    >>> import numpy as np
    >>> words = ["[UNK]", "[CLS]", "[SEP]", "A", "C", "G", "T", "AC", "ACGT"]
    >>> tokens = LongestMatchTokenizer.from_words(words).encode(np.frombuffer(b"ACGACGTN", np.uint8))
    >>> [words[i] for i in tokens.ids], tokens.span.tolist()
    (['AC', 'G', 'ACGT', '[UNK]'], [2, 1, 4, 1])

    References
    ----------
    Sanabria et al. 2024, Nature Machine Intelligence 6:911. Marin et al. 2024, BEND; ``bend/utils/embedders.py``, class
    GROVEREmbedder.
    """

    alphabet: ClassVar[Alphabet] = "dna"
    regular: ClassVar[bool] = False
    frame: ClassVar[int] = 1

    pattern: re.Pattern[bytes]
    ids: dict[bytes, int]
    unknown_id: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @classmethod
    def from_words(cls, words: Sequence[str], source: str = "the vocabulary") -> LongestMatchTokenizer:
        """Make the tokenizer from the words of a vocabulary, in the order of their ids.

        Parameters
        ----------
        words
            All tokens; those made of the capital letters A to Z are matched.
        source
            Where the words come from, for error messages.

        Returns
        -------
        LongestMatchTokenizer

        Raises
        ------
        CheckpointError
            If no word is made of capital letters, ``[UNK]``, ``[CLS]`` or ``[SEP]`` is missing, or one is there twice.
        """
        ids = number_words(words, ["[UNK]", "[CLS]", "[SEP]"], source)
        matched = [word for word in words if re.fullmatch("[A-Z]+", word)]
        if not matched:
            raise CheckpointError(
                f"{source}: not a vocabulary of nucleotide words: no word is made of capital letters."
            )
        letters = {bytes([code]): ids["[UNK]"] for code in range(256)}
        return cls(
            pattern=re.compile(f"{_tree(matched)}|.".encode(), re.DOTALL),
            ids=letters | {word.encode(): ids[word] for word in matched},
            unknown_id=ids["[UNK]"],
            prefix=(ids["[CLS]"],),
            suffix=(ids["[SEP]"],),
        )

    @classmethod
    def from_folder(cls, folder: Path) -> LongestMatchTokenizer:
        """Make the tokenizer from the ``vocab.txt`` of a checkpoint folder.

        Parameters
        ----------
        folder
            The checkpoint. Its ``vocab.txt`` has one word per line; the line number, from 0, is the id.

        Returns
        -------
        LongestMatchTokenizer

        Raises
        ------
        CheckpointError
            If the file cannot be read or is not a vocabulary of nucleotide words.
        """
        path = folder / "vocab.txt"
        return cls.from_words(read_words(path), str(path))

    @property
    def description(self) -> str:
        """What it does, in words."""
        return "longest words of the vocabulary, from the left; a letter at which none begins is one [UNK]"

    @property
    def size(self) -> int:
        """One more than the largest id that can be given."""
        return 1 + max(*self.ids.values(), *self.prefix, *self.suffix)

    def encode(self, codes: np.ndarray) -> Tokens:
        """Cut a sequence into words.

        Parameters
        ----------
        codes
            Upper-case ASCII letters, shape (nucleotide,), uint8.

        Returns
        -------
        Tokens
            Ids and spans, without special tokens.
        """
        words = self.pattern.findall(codes.tobytes())
        ids = np.fromiter(map(self.ids.__getitem__, words), np.int64, len(words))
        return Tokens(ids, np.fromiter(map(len, words), np.int32, len(words)))


def _tree(words: list[str]) -> str:
    """Return a regular expression for the longest of some words.

    Words are grouped by their first letter, then by the next: no two branches begin alike, so a match takes one step
    per letter however many words there are. What follows the end of a word is optional, and tried first.
    """
    branches: dict[str, list[str]] = {}
    for word in words:
        if word:
            branches.setdefault(word[0], []).append(word[1:])
    if not branches:
        return ""
    tree = "|".join(letter + _tree(tails) for letter, tails in branches.items())
    return f"(?:{tree})" + ("?" if "" in words else "")
