"""What every tokenizer gives and what a model may ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np


class Tokens(NamedTuple):
    """The tokens of one sequence, without special tokens.

    Attributes
    ----------
    ids
        Token ids, shape (token,), int64.
    span
        Nucleotides that each token stands for, shape (token,), int32, all positive. Tokens tile the sequence: the
        spans add up to its length.
    """

    ids: np.ndarray
    span: np.ndarray


class Tokenizer(Protocol):
    """A tokenizer, as the models use it.

    Attributes
    ----------
    description
        What it does, in words; part of the fingerprint of an embedding.
    unknown_id
        Id of the token for letters outside the vocabulary.
    size
        One more than the largest id that can be given: the rows that a model's embedding needs.
    """

    @property
    def description(self) -> str:
        """What it does, in words."""

    @property
    def unknown_id(self) -> int:
        """Id of the token for letters outside the vocabulary."""

    @property
    def size(self) -> int:
        """One more than the largest id that can be given."""

    def encode(self, codes: np.ndarray) -> Tokens:
        """Cut a sequence, shape (nucleotide,) uint8, into tokens."""
