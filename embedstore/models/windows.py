"""How sequences become the pieces that a network sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import InputError
from embedstore.tokenizers.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedstore.tokenizers import Tokenizer


class Piece(NamedTuple):
    """One input of a network and the letters that its outputs stand for.

    Attributes
    ----------
    ids
        All tokens that the network sees, special tokens included, shape (token,), int64.
    first
        Index of the first output row to keep: the rows ``hidden[first : first + len(span)]`` are kept.
    span
        Letters of each kept row, shape (kept row,), int32. Over the pieces of one sequence, in order, spans
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
        Function of a sequence, shape (letter,) uint8, that returns its pieces in order.
    """

    description: str
    cut: Callable[[np.ndarray], list[Piece]]


def by_letters(tokenizer: Tokenizer, letters: int | None = None, most: int | None = None) -> WindowRule:
    """Return a rule that cuts sequences after so many letters, whatever their tokens are.

    Each window is tokenised by itself, with its own special tokens before and after. A window can still have more
    tokens than the network takes, where letters other than A, C, G, T are tokens of their own; the list of its ids,
    special tokens included, is then cut after every `most` ids, and the later parts have no special token in front.

    Parameters
    ----------
    tokenizer
        Gives ids and spans.
    letters
        Length of a window; None (default) for whole sequences.
    most
        The most ids of a piece; None (default) when there is no such limit.

    Returns
    -------
    WindowRule

    References
    ----------
    Marin et al. 2024, BEND; ``bend/utils/embedders.py``: windows of letters for HyenaDNA, DNABERT-2, Caduceus and, with
    `most`, the Nucleotide Transformer; lists of ids for DNABERT.
    """

    def cut(codes: np.ndarray) -> list[Piece]:
        step = letters or len(codes)
        return [
            piece
            for start in range(0, len(codes), step)
            for piece in _pieces(tokenizer, tokenizer.encode(codes[start : start + step]), most)
        ]

    windows = f"disjoint windows of {letters} letters" if letters else "whole sequences"
    return WindowRule(windows + (f", cut after every {most} ids" if most else ""), cut)


def by_tokens(tokenizer: Tokenizer, tokens: int) -> WindowRule:
    """Return a rule that cuts sequences after so many tokens; each piece has its own special tokens.

    The sequence is tokenised as a whole, because a cut between letters would change the words around it.

    Parameters
    ----------
    tokenizer
        Gives ids and spans.
    tokens
        The most tokens of a piece, special tokens not counted.

    Returns
    -------
    WindowRule

    References
    ----------
    Marin et al. 2024, BEND; ``bend/utils/embedders.py``, classes GENALMEmbedder and GROVEREmbedder.
    """

    def cut(codes: np.ndarray) -> list[Piece]:
        ids, span = tokenizer.encode(codes)
        parts = (slice(start, start + tokens) for start in range(0, len(ids), tokens))
        return [piece for part in parts for piece in _pieces(tokenizer, Tokens(ids[part], span[part]), None)]

    return WindowRule(f"disjoint windows of {tokens} tokens", cut)


def single(rule: WindowRule) -> WindowRule:
    """Return a rule that refuses what another one would cut.

    Parameters
    ----------
    rule
        Says what is too long.

    Returns
    -------
    WindowRule
    """

    def cut(codes: np.ndarray) -> list[Piece]:
        pieces = rule.cut(codes)
        if len(pieces) > 1:
            raise InputError(
                f"A sequence of {len(codes):,} letters is longer than the model's context: it would be cut into "
                f"{len(pieces)} pieces ({rule.description}), and windows are off. Allow windows, or shorten it."
            )
        return pieces

    return WindowRule(f"one piece per sequence; more is refused ({rule.description})", cut)


def in_order(rule: WindowRule, order: Callable[[int], np.ndarray], description: str) -> WindowRule:
    """Return a rule whose rows stand in another order than the tokens, some of them more than once.

    A piece is run again for each stretch of rows that does not follow on the one before.

    Parameters
    ----------
    rule
        Cuts sequences into pieces.
    order
        Function of a sequence's length that returns, for each letter, the number of its token, shape (letter,), int64.
    description
        The order in words.

    Returns
    -------
    WindowRule
    """

    def cut(codes: np.ndarray) -> list[Piece]:
        pieces = rule.cut(codes)
        owner = np.repeat(np.arange(len(pieces)), [len(piece.span) for piece in pieces])
        row = np.concatenate([piece.first + np.arange(len(piece.span)) for piece in pieces])
        token = order(len(codes))
        start = np.flatnonzero(np.diff(token, prepend=-1))
        token, span = token[start], np.diff(start, append=len(codes)).astype(np.int32)
        follows = (np.diff(token) == 1) & (np.diff(owner[token]) == 0)
        stretches = np.split(np.arange(len(token)), np.flatnonzero(~follows) + 1)
        return [Piece(pieces[owner[token[s[0]]]].ids, int(row[token[s[0]]]), span[s]) for s in stretches]

    return WindowRule(f"{rule.description}; {description}", cut)


def _pieces(tokenizer: Tokenizer, tokens: Tokens, most: int | None) -> Iterator[Piece]:
    """Put special tokens around the tokens of a window, and cut the list of ids where it is too long."""
    before = len(tokenizer.prefix)
    ids = np.concatenate([np.array(tokenizer.prefix, np.int64), tokens.ids, np.array(tokenizer.suffix, np.int64)])
    step = most or len(ids)
    for start in range(0, len(ids), step):
        first = max(before - start, 0)
        span = tokens.span[max(start - before, 0) : max(start + step - before, 0)]
        if len(span):  # else there are only special tokens in it
            yield Piece(ids[start : start + step], first, span)
