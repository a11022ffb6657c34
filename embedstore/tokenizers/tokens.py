"""What every tokenizer gives and what a model may ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np

Alphabet = Literal["dna", "protein"]


class Tokens(NamedTuple):
    """The tokens of one sequence, without special tokens.

    Attributes
    ----------
    ids
        Token ids, shape (token,), int64.
    span
        Letters that each token stands for, shape (token,), int32, all positive. Tokens tile the sequence: the spans add
        up to its length.
    """

    ids: np.ndarray
    span: np.ndarray


class Tokenizer(Protocol):
    """A tokenizer, as the models use it."""

    @property
    def description(self) -> str:
        """What it does, in words; part of the fingerprint of an embedding."""

    @property
    def alphabet(self) -> Alphabet:
        """What its letters are: nucleotides or amino acids."""

    @property
    def regular(self) -> bool:
        """Whether the spans of plain letters depend on their number alone.

        Plain letters are A, C, G, T, or the twenty amino acids. If so, `encode` takes sequences of plain letters and
        one length together too, shape (sequence, letter): ids then have the shape (sequence, token), and the spans,
        shape (token,), are those of each.
        """

    @property
    def frame(self) -> int:
        """Letters of a word where words follow each other at one distance; else 1. Windows keep to it."""

    @property
    def unknown_id(self) -> int:
        """Id of the token for letters outside the vocabulary."""

    @property
    def size(self) -> int:
        """One more than the largest id that can be given: the rows that a model's embedding needs."""

    @property
    def prefix(self) -> tuple[int, ...]:
        """Ids of the special tokens before a sequence."""

    @property
    def suffix(self) -> tuple[int, ...]:
        """Ids of the special tokens after a sequence."""

    def encode(self, codes: np.ndarray) -> Tokens:
        """Cut a sequence, shape (letter,) uint8, upper-case ASCII, into tokens."""
