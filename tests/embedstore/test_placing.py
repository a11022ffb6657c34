"""Where rows go: checked against rows made at every single nucleotide and read off there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToyPiece

from embedstore.errors import InputError
from embedstore.placing import place

tilings = st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=6), min_size=1, max_size=4)


def pieces_of(tiling, first):
    return [ToyPiece(np.zeros(len(spans) + first + 1, np.int64), first, np.array(spans, np.int32)) for spans in tiling]


def fit(tiling, length):
    """Cut or fill a tiling so that it has a length."""
    out, left = [], length
    for spans in tiling:
        kept = []
        for span in spans:
            if left:
                kept.append(min(span, left))
                left -= kept[-1]
        if kept:
            out.append(kept)
    return [*out, [left]] if left else out


def outputs(pieces, seed):
    """An output of one channel per piece, and what it says at each nucleotide."""
    rng = np.random.default_rng(seed)
    values = [rng.normal(size=len(piece.ids)) for piece in pieces]
    kept = [v[p.first : p.first + len(p.span)] for v, p in zip(values, pieces, strict=True)]
    return values, np.concatenate([np.repeat(v, p.span) for v, p in zip(kept, pieces, strict=True)])


def stored(placed, values, weight):
    rows = np.zeros(len(placed.span))
    for job, value in zip(placed.jobs, values, strict=True):
        taken = value[job.first : job.first + len(job.span)] if job.take is None else value[job.take]
        taken = taken if job.repeat is None else np.repeat(taken, job.repeat)
        assert len(taken) == job.rows
        rows[job.row : job.row + job.rows] += weight * taken
    return rows


@given(tilings, st.integers(0, 2), st.sampled_from(["token", "nucleotide"]), st.data())
def test_one_strand(tiling, first, resolution, data):
    pieces = pieces_of(tiling, first)
    values, truth = outputs(pieces, 1)
    length = len(truth)
    placed = place(pieces, resolution=resolution)
    assert placed.start is None
    np.testing.assert_array_equal(np.repeat(stored(placed, values, 1), placed.span), truth)
    if resolution == "token":
        assert placed.span.tolist() == [span for spans in tiling for span in spans]
    wanted = np.array(data.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=8)))
    some = place(pieces, resolution=resolution, positions=wanted)
    rows = stored(some, values, 1)
    covered = np.zeros(length, bool)
    for row, start, span in zip(rows, some.start, some.span, strict=True):
        np.testing.assert_array_equal(truth[start : start + span], row)
        covered[start : start + span] = True
        assert np.isin(np.arange(start, start + span), wanted).any()  # no row that nobody asked for
    assert covered[wanted].all()
    assert (np.diff(some.start) > 0).all()


@given(tilings, tilings, st.sampled_from(["token", "nucleotide"]), st.data())
def test_the_mean_of_both_strands_is_exact_at_every_nucleotide(tiling, other, resolution, data):
    length = sum(map(sum, tiling))
    forward, reverse = pieces_of(tiling, 1), pieces_of(fit(other, length), 0)
    values, truth = outputs(forward, 1)
    opposite, turned = outputs(reverse, 2)
    mean = (truth + turned[::-1]) / 2
    placed = place(forward, reverse=reverse, resolution=resolution)
    assert placed.span.sum() == length
    rows = stored(placed, [*values, *opposite], 0.5)
    np.testing.assert_allclose(np.repeat(rows, placed.span), mean, rtol=1e-12)
    wanted = np.array(data.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=5)))
    some = place(forward, reverse=reverse, resolution=resolution, positions=wanted)
    for row, start, span in zip(stored(some, [*values, *opposite], 0.5), some.start, some.span, strict=True):
        np.testing.assert_allclose(mean[start : start + span], row, rtol=1e-12)
    assert all(((some.start <= p) & (p < some.start + some.span)).sum() == 1 for p in wanted)


def test_positions_outside_are_refused():
    pieces = pieces_of([[3, 3]], 1)
    with pytest.raises(InputError, match="there is no position 6: they are numbered 0 to 5"):
        place(pieces, positions=np.array([0, 6]))
    with pytest.raises(InputError, match="no position -1"):
        place(pieces, positions=np.array([-1]))
