"""Networks that compute some rows only: those rows are what they are among all rows, and less is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from toys import ToyModel, random_sequences

import embedstore
from embedstore import tasks
from embedstore.computing import Runner, _few
from embedstore.errors import InputError
from embedstore.models import load
from embedstore.models.convnet import ConvNet, ConvNetSpec
from embedstore.models.letters import letter_model
from embedstore.placing import Job

GOLDEN = Path(__file__).parents[1] / "golden"
FAMILIES = ("nt_v1", "nt_v2", "dnabert", "dnabert2", "gena_bigbird", "resnet_lm", "hyenadna", "awd_lstm", "caduceus_ps")


def ids_of(model, count=3, length=61):
    texts = [np.frombuffer(text.encode(), np.uint8) for text in random_sequences([length] * count, seed=3)]
    found = [model.pieces(text)[0].ids for text in texts]
    shortest = min(map(len, found))
    return torch.from_numpy(np.stack([ids[:shortest] for ids in found]))


@pytest.mark.parametrize("layer", [-1, 0, 1, "1-2"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_those_among_all(family, layer):
    model = load(GOLDEN / family, layer=layer)
    ids = ids_of(model)
    last = ids.shape[1] - 1
    for rows in ([[0], [last], [last // 2]], [[3, 1], [2, 2], [last, 0]]):
        wanted = torch.tensor(rows)
        with torch.inference_mode():
            every, some = model.hidden(ids), model.hidden(ids, rows=wanted)
        torch.testing.assert_close(some, every[torch.arange(3)[:, None], wanted], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [-1, 0, 1, "mean"])
@pytest.mark.parametrize("family", ["nt_v2", "dnabert2"])
def test_rows_of_a_stream_are_those_among_all(family, layer):
    model = load(GOLDEN / family, layer=layer)
    ids = ids_of(model)
    stream = torch.cat([ids[0], ids[1, :5], ids[2, :7]])
    lengths, rows = [ids.shape[1], 5, 7], torch.tensor([2, ids.shape[1], len(stream) - 1])
    with torch.inference_mode():
        every, some = model.hidden_packed(stream, lengths), model.hidden_packed(stream, lengths, rows)
    torch.testing.assert_close(some, every[rows], rtol=1e-5, atol=1e-5)


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_rows_of_convolutions_are_those_among_all(data):
    """Of any sizes: what lies outside of a sequence is zero to every block, whether it is cut or not."""
    spec = ConvNetSpec(7, 8, data.draw(st.integers(1, 6)), kernel_size=data.draw(st.sampled_from([1, 3, 5])))
    torch.manual_seed(0)
    network = ConvNet(spec, head=False).eval()
    tokens = data.draw(st.integers(1, 90))
    ids = torch.randint(0, 7, (3, tokens))
    lengths = torch.tensor(data.draw(st.lists(st.integers(1, tokens), min_size=3, max_size=3)))
    padded = data.draw(st.booleans())
    rows = torch.stack([torch.randint(0, int(n) if padded else tokens, (2,)) for n in lengths])
    with torch.inference_mode():
        given_lengths = lengths if padded else None
        every, some = network(ids, -1, given_lengths), network.kept(ids, rows, -1, given_lengths)
    torch.testing.assert_close(some, every.gather(1, rows[..., None].expand(-1, -1, 8)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("family", "kind"), [("nt_v1", "letters"), ("resnet_lm", "letters"), ("hyenadna", "letters")])
def test_log_probabilities_of_rows_are_those_among_all(family, kind):
    view = letter_model(load(GOLDEN / family), kind)
    text = np.frombuffer(b"ACGTNCGTTTGACCAGGATCCATGCATTAG", np.uint8)
    ids = torch.from_numpy(view.pieces(text)[0].ids)[None]
    for row in range(ids.shape[1]):
        with torch.inference_mode():
            torch.testing.assert_close(
                view.hidden(ids, rows=torch.tensor([[row]]))[:, 0], view.hidden(ids)[:, row], rtol=1e-5, atol=1e-5
            )


def flops(run):
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run()
    return counter.get_total_flops()


def test_less_is_computed_for_one_row():
    """Of the last block of an encoder little; of convolutions what the row sees: here 9, 5 and 3 of 512 tokens."""
    encoder = load(GOLDEN / "nt_v2")
    ids = ids_of(encoder, length=360)
    some, every = (flops(lambda rows=rows: encoder.hidden(ids, rows=rows)) for rows in (torch.full((3, 1), 9), None))
    assert some < every * (1 - 0.4 / encoder.record["layers"])
    network = ConvNet(ConvNetSpec(7, 8, 3, kernel_size=3, dilation_cycle=1), head=False).eval()
    ids = torch.randint(0, 7, (2, 512))
    some = flops(lambda: network.kept(ids, torch.tensor([[100], [511]])))
    assert some == pytest.approx(flops(lambda: network(ids)) * (5 + 3 + 1) / (3 * 512))


# ---- in the embedding stage ----------------------------------------------------------------------


def job(tokens, take, first=0):
    span = np.ones(tokens - first, np.int32)
    return Job(np.arange(tokens), first, span, None if take is None else np.array(take, int), None, 0, 1)


def test_which_rows_are_few():
    assert _few([job(8, [2]), job(8, [7])]).tolist() == [[2], [7]]
    assert _few([job(90, [2, 5]), job(80, [7])]).tolist() == [[2, 5], [7, 7]]
    assert _few([job(90, [2]), job(80, [], first=1)]).tolist() == [[2], [1]]
    assert _few([job(8, [2]), job(8, None)]) is None
    assert _few([job(7, [1, 2])]) is None
    assert _few([job(9, []), job(9, [])]) is None


@pytest.mark.parametrize("budget", [1, 40, 10_000])
@pytest.mark.parametrize("family", ["nt_v1", "gena_bigbird", "resnet_lm", "awd_lstm"])
def test_stored_rows_and_means_are_the_same_with_and_without_the_rest(family, budget):
    """Sequences of several lengths in one batch: packed, padded, or apart; one, two or no rows of each."""
    model = load(GOLDEN / family)
    store = embedstore.open_store("memory://", mode="a")
    texts = random_sequences([60, 61, 61, 75, 60, 33], seed=1)
    store.add_task(tasks.from_sequences("t", texts))
    ids = store.samples("t")["id"].to_numpy()
    table = pd.DataFrame({"id": ids[[0, 1, 2, 2, 3, 5]], "position": [3, 60, 0, 44, 74, 11]})
    options = {"positions": table, "dtype": "float32", "batch_tokens": budget, "progress": False}
    for name, keep in (("some", "rows"), ("with_means", "both")):
        embedstore.embed(store, "t", model, name=name, keep=keep, **options)
    some, other = (store.array(f"t/embedding/{name}/vector")[:] for name in ("some", "with_means"))
    np.testing.assert_allclose(some, other, rtol=1e-5, atol=1e-5)
    assert np.isfinite(some).all()


def test_a_runner_gives_no_sums_where_means_are_not_kept():
    jobs = [job(9, [4]), job(9, [8])]
    with_sums, without = (
        next(iter(Runner(ToyModel(), 100, "float32", means=means).run(jobs, np.arange(2)))).wait()[0]
        for means in (True, False)
    )
    assert with_sums.sums.shape == (2, 8)
    assert without.sums is None
    np.testing.assert_array_equal(with_sums.rows, without.rows)
    np.testing.assert_array_equal(with_sums.largest, without.largest)


# ---- told by name --------------------------------------------------------------------------------


def test_log_probabilities_can_be_loaded():
    loaded, made = load(GOLDEN / "nt_v1", log_probabilities="letters"), letter_model(load(GOLDEN / "nt_v1"))
    assert (loaded.name, loaded.width, loaded.record) == (made.name, made.width, made.record)
    assert loaded.fingerprint == made.fingerprint
    with pytest.raises(InputError, match="kind is 'words'; it must be one of letters, sequence"):
        load(GOLDEN / "nt_v1", log_probabilities="words")
    with pytest.raises(InputError, match="kind='sequence' is for hyenadna"):
        load(GOLDEN / "nt_v1", log_probabilities="sequence")
