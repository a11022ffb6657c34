"""How sequences become the pieces that a network sees."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import InputError
from embedstore.tokenizers.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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
    regular
        Whether the tokenizer is (`embedstore.tokenizers.Tokenizer`). Then `cut` takes sequences of plain letters and
        one length together too, shape (sequence, letter); the ids of its pieces have the shape (sequence, token), first
        rows and spans are those of each sequence. Default: no.
    overlap
        Function of a number of letters, above 0, that returns the rule with windows that overlap by it; None (default)
        where sequences are never cut.
    """

    description: str
    cut: Callable[[np.ndarray], list[Piece]]
    regular: bool = False
    overlap: Callable[[int], WindowRule] | None = None


def by_letters(
    tokenizer: Tokenizer, letters: int | None = None, most: int | None = None, overlap: int = 0
) -> WindowRule:
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
    overlap
        Letters that neighbours share (see `overlapping`); 0 (default) for disjoint windows. It is rounded up so that
        windows begin whole words apart, in one frame. The parts of a list of ids share the tokens that cover as many
        letters; in a window no more letters than half the ids of a part, since a token can be a single letter there.

    Returns
    -------
    WindowRule

    Raises
    ------
    InputError
        If the overlap is as large as a window, or as a part may be.

    References
    ----------
    Marin et al. 2024, BEND; ``bend/utils/embedders.py``: windows of letters for HyenaDNA, DNABERT-2, Caduceus and, with
    `most`, the Nucleotide Transformer; lists of ids for DNABERT.
    """
    room = max(0, most - len(tokenizer.prefix)) if most else 0
    if letters:
        _check_overlap(overlap, letters - tokenizer.frame, f"windows of {letters:,} letters")
        words_apart = (letters - overlap) // tokenizer.frame * tokenizer.frame
        shared = letters - words_apart if overlap else 0
        shared_in_window = min(shared, room // 2)
    else:
        _check_overlap(overlap, room - 1, f"parts of {most} ids, each of a letter or more")
        shared, shared_in_window = 0, overlap

    def cut(codes: np.ndarray) -> list[Piece]:
        length = codes.shape[-1]
        size = letters or length
        starts = range(0, max(length - shared, 1), size - shared)
        windows = [
            _stretch(tokenizer, start, min(start + size, length), tokenizer.encode(codes[..., start : start + size]))
            for start in starts
        ]
        return _kept(
            part
            for window, low, high in _shares(windows, 0, length)
            for part in _shares(_parts(window, most or len(window.span), shared_in_window), low, high)
        )

    description = _windows(f"{letters} letters", shared) if letters else "whole sequences"
    if most:
        description += f", cut after every {most} ids{_overlap_words(shared_in_window)}"
    more = (lambda wanted: by_letters(tokenizer, letters, most, wanted)) if letters or most else None
    return WindowRule(description, cut, tokenizer.regular, more)


def by_tokens(tokenizer: Tokenizer, tokens: int, overlap: int = 0) -> WindowRule:
    """Return a rule that cuts sequences after so many tokens; each piece has its own special tokens.

    The sequence is tokenised as a whole, because a cut between letters would change the words around it.

    Parameters
    ----------
    tokenizer
        Gives ids and spans.
    tokens
        The most tokens of a piece, special tokens not counted.
    overlap
        Neighbours share the tokens that cover so many letters (see `overlapping`); 0 (default) for disjoint windows.

    Returns
    -------
    WindowRule

    Raises
    ------
    InputError
        If the overlap is as large as a window may be.

    References
    ----------
    Marin et al. 2024, BEND; ``bend/utils/embedders.py``, classes GENALMEmbedder and GROVEREmbedder.
    """
    _check_overlap(overlap, tokens - 1, f"windows of {tokens:,} tokens, each of a letter or more,")

    def cut(codes: np.ndarray) -> list[Piece]:
        length = codes.shape[-1]
        whole = _Stretch(0, length, *tokenizer.encode(codes))
        windows = [
            _stretch(tokenizer, part.start, part.stop, Tokens(part.ids, part.span))
            for part in _parts(whole, tokens, overlap)
        ]
        return _kept(_shares(windows, 0, length))

    return WindowRule(
        _windows(f"{tokens} tokens", overlap),
        cut,
        tokenizer.regular,
        lambda wanted: by_tokens(tokenizer, tokens, wanted),
    )


def overlapping(rule: WindowRule, overlap: int) -> WindowRule:
    """Return a rule whose windows overlap, and of which the centres are kept.

    Of two windows each stands for its half of the letters that they share: a row comes from the window in which it lies
    farther from the edge. The border is at the end of a token of the left window, the one nearest to the middle. Where
    a token of the right window lies across the border, as after a run of N, its row stands for the letters that are
    left of it.

    Parameters
    ----------
    rule
        Cuts sequences into disjoint windows.
    overlap
        Letters that neighbours share; 0 for none.

    Returns
    -------
    WindowRule
        The rule itself where `overlap` is 0.

    Raises
    ------
    InputError
        If the overlap is negative or as large as a window, or the rule never cuts a sequence.
    """
    if not isinstance(overlap, int) or overlap < 0:
        raise InputError(f"overlap is {overlap!r}; wanted: letters that windows share, or 0 for disjoint windows.")
    if not overlap:
        return rule
    if rule.overlap is None:
        raise InputError(
            f"overlap is {overlap:,}, but this model has no windows that could overlap ({rule.description}); leave it "
            "out."
        )
    return rule.overlap(overlap)


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
                f"A sequence of {codes.shape[-1]:,} letters is longer than the model's context: it would be cut into "
                f"{len(pieces)} pieces ({rule.description}), and windows are off. Allow windows, or shorten it."
            )
        return pieces

    return WindowRule(f"one piece per sequence; more is refused ({rule.description})", cut, rule.regular)


def in_order(rule: WindowRule, order: Callable[[int], np.ndarray], description: str) -> WindowRule:
    """Return a rule whose rows stand in another order than the tokens, some of them more than once.

    A piece is run again for each stretch of rows that does not follow on the one before.

    Parameters
    ----------
    rule
        Cuts sequences into pieces; of a token there is one row.
    order
        Function of a sequence's length that returns, for each letter, the number of its token, shape (letter,), int64.
    description
        The order in words.

    Returns
    -------
    WindowRule
    """

    def cut(codes: np.ndarray) -> list[Piece]:
        length = codes.shape[-1]
        pieces = rule.cut(codes)
        owner = np.repeat(np.arange(len(pieces)), [len(piece.span) for piece in pieces])
        row = np.concatenate([piece.first + np.arange(len(piece.span)) for piece in pieces])
        token = order(length)
        start = np.flatnonzero(np.diff(token, prepend=-1))
        token, span = token[start], np.diff(start, append=length).astype(np.int32)
        follows = (np.diff(token) == 1) & (np.diff(owner[token]) == 0)
        stretches = np.split(np.arange(len(token)), np.flatnonzero(~follows) + 1)
        return [Piece(pieces[owner[token[s[0]]]].ids, int(row[token[s[0]]]), span[s]) for s in stretches]

    overlap = rule.overlap
    more = (lambda wanted: in_order(overlap(wanted), order, description)) if overlap else None
    return WindowRule(f"{rule.description}; {description}", cut, rule.regular, more)


# ---- windows, their parts, and which of them each letter comes from ------------------------------


class _Stretch(NamedTuple):
    """Ids that the network may see together, and the letters [start, stop) of the sequence that they stand for."""

    start: int
    stop: int
    ids: np.ndarray
    span: np.ndarray  # 0 for special tokens


def _stretch(tokenizer: Tokenizer, start: int, stop: int, tokens: Tokens) -> _Stretch:
    """Put special tokens around the tokens of a window."""
    if not tokenizer.prefix and not tokenizer.suffix:
        return _Stretch(start, stop, *tokens)
    first, last = len(tokenizer.prefix), len(tokenizer.prefix) + len(tokens.span)
    size = last + len(tokenizer.suffix)
    ids = np.empty((*tokens.ids.shape[:-1], size), np.int64)
    ids[..., :first], ids[..., first:last], ids[..., last:] = tokenizer.prefix, tokens.ids, tokenizer.suffix
    span = np.zeros(size, np.int32)
    span[first:last] = tokens.span
    return _Stretch(start, stop, ids, span)


def _parts(whole: _Stretch, size: int, overlap: int) -> list[_Stretch]:
    """Cut a list of ids after every so many; each part begins with the tokens that cover so many letters before it."""
    if size >= len(whole.span):
        return [whole]
    begin = np.append(0, whole.span.cumsum()) + whole.start
    parts: list[_Stretch] = []
    start = 0
    while not parts or parts[-1].stop < whole.stop:  # what follows the last letter is special tokens only
        stop = min(start + size, len(whole.span))
        first, last = int(begin[start]), int(begin[stop])
        parts.append(_Stretch(first, last, whole.ids[..., start:stop], whole.span[start:stop]))
        start = int(np.searchsorted(begin, last - overlap, "right")) - 1 if overlap else stop
    return parts


def _shares(stretches: Sequence[_Stretch], low: int, high: int) -> Iterator[tuple[_Stretch, int, int]]:
    """Yield each stretch with the letters that are taken from it, so that all of them tile [low, high)."""
    for this, that in pairwise(stretches):
        border = that.start
        if border < this.stop:
            end = this.start + this.span.cumsum()
            border = int(end[np.abs(2 * end - (that.start + this.stop)).argmin()])
        border = min(max(border, low), high)
        yield this, low, border
        low = border
    yield stretches[-1], low, high


def _kept(shares: Iterable[tuple[_Stretch, int, int]]) -> list[Piece]:
    """Return the pieces with rows that stand for letters within the given bounds."""
    pieces = []
    for (start, stop, ids, whole), low, high in shares:
        span = whole
        if low > start or high < stop:
            end = start + span.cumsum()
            span = (end.clip(low, high) - (end - span).clip(low, high)).astype(np.int32)
        rows = span.nonzero()[0]
        if len(rows):
            first, last = int(rows[0]), int(rows[-1])
            pieces.append(Piece(ids, first, span[first : last + 1]))
    return pieces


def _check_overlap(overlap: int, most: int, what: str) -> None:
    if overlap > max(most, 0):
        raise InputError(f"overlap is {overlap:,} letters; {what} can overlap by at most {max(most, 0):,} letters.")


def _overlap_words(overlap: int) -> str:
    return f" overlapping by {overlap} letters, centres kept" if overlap else ""


def _windows(size: str, overlap: int) -> str:
    return f"{'' if overlap else 'disjoint '}windows of {size}{_overlap_words(overlap)}"
