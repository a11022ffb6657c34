"""The rules by which sequences become pieces, on a tokenizer whose tokens can be worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstore.errors import InputError
from embedstore.models.windows import by_letters, by_tokens, in_order, single
from embedstore.tokenizers import Tokens


@dataclass(frozen=True)
class Words:
    """Words of two letters, one letter left over; ids are positions, from 10."""

    regular = False
    frame = 1
    prefix: tuple[int, ...] = (1,)
    suffix: tuple[int, ...] = (2, 3)

    def encode(self, codes):
        span = np.full((len(codes) + 1) // 2, 2, np.int32)
        span[-1:] -= len(codes) % 2
        return Tokens(10 + np.arange(len(span), dtype=np.int64), span)


def letters(length):
    return np.full(length, ord("A"), np.uint8)


def show(pieces):
    return [(piece.ids.tolist(), piece.first, piece.span.tolist()) for piece in pieces]


def test_whole_sequences():
    rule = by_letters(Words())
    assert show(rule.cut(letters(5))) == [([1, 10, 11, 12, 2, 3], 1, [2, 2, 1])]
    assert rule.description == "whole sequences"
    assert show(by_letters(Words((), ())).cut(letters(3))) == [([10, 11], 0, [2, 1])]


def test_windows_of_letters():
    rule = by_letters(Words(), 3)
    assert show(rule.cut(letters(7))) == [
        ([1, 10, 11, 2, 3], 1, [2, 1]),
        ([1, 10, 11, 2, 3], 1, [2, 1]),
        ([1, 10, 2, 3], 1, [1]),
    ]
    assert rule.description == "disjoint windows of 3 letters"


def test_windows_of_tokens():
    rule = by_tokens(Words(), 2)
    assert show(rule.cut(letters(5))) == [([1, 10, 11, 2, 3], 1, [2, 2]), ([1, 12, 2, 3], 1, [1])]
    assert rule.description == "disjoint windows of 2 tokens"


def test_lists_of_ids_are_cut():
    # 1 10 11 | 12 13 2 | 3: the last part holds special tokens only and is not run.
    assert show(by_letters(Words(), None, 3).cut(letters(8))) == [([1, 10, 11], 1, [2, 2]), ([12, 13, 2], 0, [2, 2])]
    # A part of special tokens only can come first too.
    assert show(by_letters(Words((1, 4)), None, 2).cut(letters(2))) == [([10, 2], 0, [2])]


@given(
    length=st.integers(1, 60),
    window=st.one_of(st.none(), st.integers(1, 20)),
    most=st.one_of(st.none(), st.integers(1, 9)),
    special=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_pieces_hold_every_token_once(length, window, most, special):
    tokenizer = Words((1,) * special[0], (2,) * special[1])
    pieces = by_letters(tokenizer, window, most).cut(letters(length))
    assert sum(int(piece.span.sum()) for piece in pieces) == length
    kept = np.concatenate([piece.ids[piece.first :][: len(piece.span)] for piece in pieces])
    starts = range(0, length, window or length)
    wanted = [tokenizer.encode(letters(length)[start : start + (window or length)]).ids for start in starts]
    assert kept.tolist() == np.concatenate(wanted).tolist()
    for piece in pieces:
        assert len(piece.span)
        assert most is None or len(piece.ids) <= most
        rest = np.delete(piece.ids, np.arange(piece.first, piece.first + len(piece.span)))
        assert set(rest.tolist()) <= {1, 2}


def test_single_pieces():
    rule = single(by_letters(Words(), 4))
    assert show(rule.cut(letters(4))) == [([1, 10, 11, 2, 3], 1, [2, 2])]
    with pytest.raises(
        InputError, match="5 letters is longer than the model's context: .* into 2 pieces .* windows are"
    ):
        rule.cut(letters(5))
    assert rule.description == "one piece per sequence; more is refused (disjoint windows of 4 letters)"


@given(order=st.lists(st.integers(0, 5), min_size=11, max_size=11))
def test_rows_in_another_order(order):
    # Eleven letters are six tokens, in three pieces of two.
    rule = in_order(by_tokens(Words(), 2), lambda length: np.array(order[:length]), "mine")
    found = []
    for ids, first, span in show(rule.cut(letters(11))):
        for place, letters_of_row in enumerate(span):
            found += [ids[first + place] - 10] * letters_of_row
    assert found == order
    assert rule.description == "disjoint windows of 2 tokens; mine"


def test_rows_that_follow_each_other_are_run_once():
    rule = in_order(by_letters(Words()), lambda _: np.array([0, 0, 1, 2, 0, 2, 2]), "mine")
    ids = [1, 10, 11, 12, 13, 2, 3]
    assert show(rule.cut(letters(7))) == [(ids, 1, [2, 1, 1]), (ids, 1, [1]), (ids, 3, [2])]
