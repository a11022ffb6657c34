"""Samples as tokens, in batches, and what the head of a tuned model reads of them."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from encoders import GOLDEN
from tuning import AMINO_ACIDS, value_store

import embedstore
from embedstore import tasks
from embedstore.models import load
from embedstore.tasks import TaskRecord
from probes.token_data import read_tokens
from probes.tuned import Shape, TunedNetwork, slots_of


@cache
def family(name):
    return load(GOLDEN / name)


@pytest.fixture
def shares(tmp_path):
    return value_store(f"memory://{tmp_path}")


def copying(model, **shape):
    """A network whose head gives the first channels of what it reads."""
    network = TunedNetwork(model, Shape(**{"outputs": model.width, "window": "all", **shape}))
    with torch.no_grad():
        network.head.weight.copy_(torch.eye(*network.head.weight.shape))
        network.head.bias.zero_()
    return network


def read_by(network, data, size=5):
    with torch.inference_mode():
        parts = [part for batch in data.batches(size) for part in batch]
        return torch.cat([network.forward_tokens(part.vector, part.plan(network)) for part in parts]).numpy()


# ---- batches of tokens ---------------------------------------------------------------------------


def test_a_seeded_pass_goes_on_where_the_one_before_ended(shares):
    data = read_tokens(shares, "share", family("nt_v2"), ["train"])
    n = len(data)
    assert n == 24
    every = replace(data, every=5)
    assert (data.steps(7), every.steps(7)) == (4, 5)
    seen = [part.samples for epoch in (1, 2, 3) for batch in every.batches(7, (9, epoch)) for part in batch]
    stream = np.concatenate(seen)
    assert len(stream) == 3 * 5 * 7
    for number in range(len(stream) // n):
        assert sorted(stream[number * n : (number + 1) * n]) == data.samples.tolist()
    assert not np.array_equal(stream[:n], stream[n : 2 * n])
    again = [part.samples for batch in every.batches(7, (9, 2)) for part in batch]
    assert np.array_equal(np.concatenate(again), stream[35:70])
    other = np.concatenate([part.samples for batch in every.batches(7, (8, 1)) for part in batch])
    assert not np.array_equal(other, stream[:35])
    in_order = np.concatenate([part.samples for batch in data.batches(7) for part in batch])
    assert np.array_equal(in_order, data.samples)


def test_parts_hold_few_tokens_and_all_of_them(shares):
    data = read_tokens(shares, "share", family("nt_v2"), ["valid", "test"], tokens=20)
    for batch in data.batches(6):
        for part in batch:
            assert len(part.vector) <= 20 or len(part.samples) == 1
            assert part.span.sum() == data.targets.lengths[part.samples].sum()
            assert len(part.vector) == part.first_row[-1] == sum(part.more.tokens)
    whole = replace(data, tokens=10**6)
    assert [len(batch) for batch in whole.batches(6)] == [1, 1]
    network = copying(family("nt_v2"))
    np.testing.assert_allclose(read_by(network, data), read_by(network, whole, 12), rtol=1e-5, atol=1e-6)


def test_copies_of_a_network_share_the_model():
    network = copying(family("nt_v2"))
    twin = copy.deepcopy(network)
    assert twin._base.model is network._base.model is family("nt_v2")
    assert twin.head.weight is not network.head.weight


# ---- what the head reads -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nt_v2", "dnabert2", "dnabert", "calm"])
def test_the_mean_is_what_a_store_keeps_as_pooled(shares, name):
    embedstore.embed(shares, "share", family(name), dtype="float32", progress=False)
    data = read_tokens(shares, "share", family(name), ["train", "valid", "test"])
    wanted = shares.embedding("share", name).pooled(data.samples)
    np.testing.assert_allclose(read_by(copying(family(name)), data), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "tokens", "cls"])
def test_poolings_of_windows(tmp_path, pooling):
    """Sequences longer than the model's context are several pieces."""
    model = family("esm1b")
    texts = ["".join(np.random.default_rng(n).choice(list(AMINO_ACIDS), n)) for n in (2100, 5)]
    record = TaskRecord(name="t", level="sequence", type="value", metric="r2", alphabet="protein")
    store = embedstore.open_store(f"memory://{tmp_path}", mode="a")
    store.add_task(tasks.from_sequences("t", texts, labels=[1.0, 2.0], record=record, splits=["a", "a"]))
    found = read_by(copying(model, pooling=pooling), read_tokens(store, "t", model, ["a"]))
    for own, codes in zip(found, store.sequences("t"), strict=True):
        pieces = model.pieces(codes)
        assert len(pieces) == (3 if len(codes) > 5 else 1)
        rows = [model.hidden(torch.from_numpy(piece.ids)[None])[0].numpy() for piece in pieces]
        kept = [
            row[:1] if pooling == "cls" else row[p.first : p.first + len(p.span)]
            for p, row in zip(pieces, rows, strict=True)
        ]
        np.testing.assert_allclose(own, np.concatenate(kept).mean(axis=0), rtol=1e-4, atol=1e-5)


def test_tokens_count_alike_whatever_they_stand_for(shares):
    model = family("nt_v2")
    data = read_tokens(shares, "share", model, ["test"])
    found = read_by(copying(model, pooling="tokens"), data)
    for own, codes in zip(found, shares.sequences("share", data.samples), strict=True):
        rows = model.hidden(torch.from_numpy(model.pieces(codes)[0].ids)[None])[0, 1:].numpy()
        np.testing.assert_allclose(own, rows.mean(axis=0), rtol=1e-4, atol=1e-5)


def test_residues_are_read_through_the_slot_that_their_codon_has(tmp_path):
    """An odd tail, an N that shifts the frame, and whole tokens, against loops over codons."""
    model, width = family("nt_v2"), 24
    texts = ["ACGTTTGGA", "ACGTTANCCGGTTACCGATAC", "TTTCCCAAAGGG"]
    record = TaskRecord(name="t", level="nucleotide", type="class", names=("a", "b"), metric="mcc")
    labels = [np.repeat(np.arange(len(text) // 3) % 2, 3) for text in texts]
    store = embedstore.open_store(f"memory://{tmp_path}", mode="a")
    store.add_task(tasks.from_sequences("t", texts, labels=labels, record=record, splits=["a"] * 3))
    data = read_tokens(store, "t", model, ["a"])
    network = TunedNetwork(model, Shape(outputs=2, window=None, letters=3, slots=3))
    found = read_by(network, data).reshape(-1, 3, 2)
    assert (found == found[:, :1]).all()
    weight, bias = (tensor.detach().numpy() for tensor in network.head.parameters())
    assert weight.shape == (6, width)
    wanted, slots = [], []
    for text, codes in zip(texts, store.sequences("t"), strict=True):
        piece = model.pieces(codes)[0]
        rows = model.hidden(torch.from_numpy(piece.ids)[None])[0, 1:].numpy()
        token = np.repeat(np.arange(len(piece.span)), piece.span)
        start = np.cumsum(piece.span) - piece.span
        for first in range(0, len(text), 3):
            own = token[first : first + 3]
            within = first - start[own[0]]
            slot = within // 3 if own[0] == own[2] and within % 3 == 0 else 2
            slot = 0 if piece.span[own].max() == 1 else slot
            slots.append(slot)
            wanted.append(weight[2 * slot : 2 * slot + 2] @ rows[own].mean(axis=0) + bias[2 * slot : 2 * slot + 2])
    assert slots == [0, 1, 0, 0, 1, 2, 2, 2, 2, 2, 0, 1, 0, 1]
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-4, atol=1e-5)
    fewer = TunedNetwork(model, Shape(outputs=2, window=None, letters=3, slots=2))
    assert set(
        np.unique(fewer.layout(*[getattr(next(data.batches(3))[0], n) for n in ("span", "first_row", "more")]).slot)
    ) == {0, 1}
    assert slots_of(np.array([3, 3]), 3).tolist() == [0, 0]
