"""How sequences become the pieces that a network sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstore.tokenizers import KmerTokenizer, Tokenizer


class Piece(NamedTuple):
    """One input of a network and the nucleotides that its outputs stand for.

    Attributes
    ----------
    ids
        All tokens that the network sees, special tokens included, shape (token,), int64.
    first
        Index of the first output row to keep: the rows ``hidden[first : first + len(span)]`` are kept.
    span
        Nucleotides of each kept row, shape (kept row,), int32. Over the pieces of one sequence, in order, spans
        tile it.
    """

    ids: np.ndarray
    first: int
    span: np.ndarray


class WindowRule(NamedTuple):
    """A way to cut sequences, with the words that describe it in a fingerprint.

    Attributes
    ----------
    description
        The rule in words.
    cut
        Function of a sequence, shape (nucleotide,) uint8, that returns its pieces in order.
    """

    description: str
    cut: Callable[[np.ndarray], list[Piece]]


def whole(tokenizer: Tokenizer) -> WindowRule:
    """Return the rule of models without a limit and without special tokens: one piece per sequence.

    Parameters
    ----------
    tokenizer
        Gives ids and spans.

    Returns
    -------
    WindowRule
    """

    def cut(codes: np.ndarray) -> list[Piece]:
        ids, span = tokenizer.encode(codes)
        return [Piece(ids, 0, span)]

    return WindowRule("whole sequences", cut)


def nucleotide_transformer(tokenizer: KmerTokenizer, max_tokens: int) -> WindowRule:
    """Return BEND's rule for the Nucleotide Transformer.

    A sequence is cut after every ``(max_tokens - 1) * k`` nucleotides. Each piece is tokenised anew and begins with
    ``<cls>``. A piece with N in it can have more than `max_tokens` tokens; it is cut again after every `max_tokens`
    tokens, and the later parts have no ``<cls>``.

    Parameters
    ----------
    tokenizer
        Gives ids and spans.
    max_tokens
        The most tokens that the network takes, ``<cls>`` included.

    Returns
    -------
    WindowRule

    References
    ----------
    Marin et al. 2024, BEND; ``bend/utils/embedders.py``, class NucleotideTransformerEmbedder.
    """
    step = (max_tokens - 1) * tokenizer.k

    def cut(codes: np.ndarray) -> list[Piece]:
        pieces = []
        for start in range(0, len(codes), step):
            tokens = tokenizer.encode(codes[start : start + step])
            ids = np.concatenate([[tokenizer.cls_id], tokens.ids])
            for part in range(0, len(ids), max_tokens):
                first = int(part == 0)
                span = tokens.span[part + first - 1 : part + max_tokens - 1]
                pieces.append(Piece(ids[part : part + max_tokens], first, span))
        return pieces

    return WindowRule(f"disjoint pieces of {step} nt, {max_tokens} tokens", cut)
