"""Batches: every sequence once, within the budget, with next to no padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstore.batches import MOST_PADDING, plan_batches, split

lists_of_lengths = st.lists(st.integers(1, 3000), max_size=60)


@given(lists_of_lengths, st.integers(1, 20_000), st.sampled_from(["packs", "pads", ""]))
def test_every_sequence_is_in_one_batch_within_the_budget(lengths, budget, how):
    lengths = np.array(lengths, np.int64)
    batches = plan_batches(lengths, budget, **({how: True} if how else {}))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        own = lengths[batch]
        assert (np.diff(own) <= 0).all()
        size = own.sum() if how == "packs" else own.max() * len(own)
        assert size <= budget or len(batch) == 1
        if how == "pads":
            assert size <= MOST_PADDING * own.sum()
        if not how:
            assert len(set(own.tolist())) == 1


def test_genes_are_padded_by_less_than_a_twentieth():
    """Lengths of 1.4 to 14 kb, log-uniform, in 6-mers; windows of one length need no padding at all."""
    rng = np.random.default_rng(0)
    genes = (np.exp(rng.uniform(np.log(1400), np.log(14_000), 2000)) / 6).astype(np.int64)

    def padding(lengths, **how):
        batches = plan_batches(lengths, 16_384, **how)
        return sum(lengths[batch].max() * len(batch) for batch in batches) / lengths.sum()

    assert 1 < padding(genes, pads=True) <= 1.05
    assert padding(genes) == 1
    assert padding(np.full(2000, 88), pads=True) == 1
    # In the order of the file, batches of the same budget would be half padding.
    assert sum(part.max() * len(part) for part in np.array_split(genes, 130)) / genes.sum() > 1.5


def test_equal_sequences_make_even_batches():
    """A full budget and a small rest would leave the device half empty."""
    sizes = [len(batch) for batch in plan_batches(np.full(100, 10), 900)]
    assert sum(sizes) == 100
    assert max(sizes) - min(sizes) <= 2


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 3000))
def test_split_keeps_order_and_budget(lengths, budget):
    lengths = np.sort(np.array(lengths, np.int64))[::-1]
    batch = np.arange(len(lengths))
    parts = split(batch, lengths, budget)
    np.testing.assert_array_equal(np.concatenate(parts), batch)
    for part in parts:
        assert lengths[part].max() * len(part) <= budget or len(part) == 1


def test_no_sequences_no_batches():
    assert plan_batches(np.empty(0, np.int64), 100) == []
    with pytest.raises(IndexError):
        split(np.array([0]), np.empty(0, np.int64), 10)
