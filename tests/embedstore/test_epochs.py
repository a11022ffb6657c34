"""Epochs in random order: every sample once, its own rows, an order that depends on the seed alone."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import ToyModel, random_sequences

import embedstore
from embedstore import tasks
from embedstore.epochs import shuffled
from embedstore.errors import CorruptError, IncompleteError, InputError

LENGTHS = np.random.default_rng(0).integers(3, 150, 90)


@pytest.fixture(scope="module")
def embedding(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedstore.layout.SMALLEST_SHARD_BYTES", 4096)
        patch.setattr("embedstore.layout.CHUNK_BYTES", 512)
        store = embedstore.open_store(tmp_path_factory.mktemp("epochs") / "s.zarr", mode="a")
        store.add_task(tasks.from_sequences("t", random_sequences(LENGTHS)))
        embedstore.embed(store, "t", ToyModel(), progress=False)
    return store.embedding("t", "toy")


def order(batches):
    return [sample for batch in batches for sample in batch.samples.tolist()]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 100), st.booleans(), st.data())
def test_every_sample_once_with_its_own_rows(embedding, batch, read, window, nucleotides, data):
    samples = data.draw(st.none() | st.lists(st.integers(0, 89), min_size=1, max_size=30))
    wanted = range(90) if samples is None else sorted(set(samples))
    seen = []
    for part in shuffled(
        embedding, batch=batch, read=read, window=window, nucleotides=nucleotides, samples=samples, seed=3
    ):
        assert len(part.samples) <= batch
        for place, sample in enumerate(part.samples.tolist()):
            seen.append(sample)
            own = slice(part.first_row[place], part.first_row[place + 1])
            expected = embedding.read([sample])
            if nucleotides:
                np.testing.assert_array_equal(part.vector[own].float().numpy(), expected.nucleotides())
                assert (part.span[own] == 1).all()
            else:
                np.testing.assert_array_equal(part.vector[own].numpy(), expected.vector)
                np.testing.assert_array_equal(part.span[own], expected.span)
    assert sorted(seen) == list(wanted)


def test_the_order_depends_on_seed_and_epoch(embedding):
    first = order(shuffled(embedding, read=8, window=24, batch=7))
    assert first == order(shuffled(embedding, read=8, window=24, batch=30))
    others = [order(shuffled(embedding, read=8, window=24, **how)) for how in ({"seed": 1}, {"epoch": 1})]
    assert first not in others
    assert others[0] != others[1]
    assert first != sorted(first)


def test_a_batch_lives_until_the_next_but_one(embedding):
    batches = iter(shuffled(embedding, batch=10, read=8, window=16))
    one = next(batches)
    before = one.vector.clone()
    next(batches)
    assert (one.vector == before).all()


@pytest.mark.parametrize("nucleotides", [False, True])
def test_batches_of_several_windows_live_as_long(embedding, nucleotides):
    """Batches as large as windows: the thread reads ahead, and must not read into what is still in use."""
    options = {"batch": 8, "read": 8, "window": 8, "nucleotides": nucleotides}
    held, copies, seen = [], [], 0
    for batch in shuffled(embedding, **options):
        time.sleep(0.005)  # so that the thread reads as far ahead as it may
        for vector, copy in zip(held[-1:], copies[-1:], strict=True):
            assert (vector == copy).all()
            seen += 1
        held.append(batch.vector)
        copies.append(batch.vector.clone())
    assert seen > 8


def test_pinned_memory_needs_a_device(embedding):
    if torch.cuda.is_available():
        assert next(shuffled(embedding, pin=True)).vector.is_pinned()
    else:
        with pytest.raises(InputError, match="pin needs a CUDA device"):
            next(shuffled(embedding, pin=True))


def test_one_hot_and_means_only(embedding):
    assert sorted(order(shuffled(embedding.store.embedding("t", "onehot"), read=8, window=16))) == list(range(90))
    embedstore.embed(embedding.store, "t", ToyModel(), name="means", keep="pooled", progress=False)
    with pytest.raises(InputError, match="the mean of each sample only"):
        list(shuffled(embedding.store.embedding("t", "means")))


def test_errors_of_the_reading_thread_are_raised(tmp_path, many_blocks):
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", random_sequences(LENGTHS)))
    embedstore.embed(store, "t", ToyModel(), blocks=[0, 1], progress=False)
    with pytest.raises(IncompleteError, match="not embedded yet"):
        list(shuffled(store.embedding("t", "toy")))
    embedstore.embed(store, "t", ToyModel(), progress=False)
    shard = store.local / "t/embedding/toy/vector/c/1/0"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(bytes(content))
    with pytest.raises(CorruptError, match="differ"):
        list(shuffled(store.embedding("t", "toy")))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("embedstore-epoch")]


def test_leaving_early_ends_the_thread(embedding):
    batches = shuffled(embedding, batch=5, read=4, window=8)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("embedstore-epoch")]


def test_wrong_sizes_and_partial_rows(embedding):
    for how in ({"batch": 0}, {"read": 0}, {"window": -1}):
        with pytest.raises(InputError, match="must be at least 1"):
            next(shuffled(embedding, **how))
    store = embedding.store
    import pandas as pd

    some = pd.DataFrame({"id": ["0"], "position": [0]})
    embedstore.embed(store, "t", ToyModel(), name="some", positions=some, progress=False)
    with pytest.raises(InputError, match="some positions only"):
        next(shuffled(store.embedding("t", "some")))
