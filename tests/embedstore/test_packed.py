"""Sequences in one stream: each gets the rows that it gets alone, and those of the golden files."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from functools import cache
from itertools import groupby

import numpy as np
import pytest
import torch
from encoders import BUILDERS, GOLDEN, arrays, cases, compute, encoder, random_ids
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from embedstore.errors import InputError
from embedstore.models import attention, load, packing
from embedstore.models.network import Network
from embedstore.models.packing import packed_attention, stream_kernel, varlen_function

MASK = 32  # of the proteins' vocabulary
# Of one token, of one length side by side and apart, and in no order.
MIXES = [[1], [1, 1, 1], [7, 7, 7, 7], [30, 1, 30, 5, 5, 1, 60], [2, 3, 4, 5, 6, 7], [64, 1]]


@cache
def model(family, **options):
    return load(GOLDEN / family, **options)


@torch.no_grad()
def pack(network, ids, lengths, layer=-1):
    return network.forward_packed(ids, layer, lengths)


def draw(family, lengths, seed=0):
    """Return the ids of a stream; in those of models with token dropout some tokens are masked, but not all."""
    ids = random_ids(family, sum(lengths), seed=seed)
    if family.startswith("esm"):
        ids[np.random.default_rng(seed).random(len(ids)) < 0.2] = MASK
        ids[np.cumsum(lengths) - lengths] = 5
    return ids


def alone(network, ids, lengths, layer=-1):
    return [compute(network, part[None], layer)[0] for part in ids.split(lengths)]


def check(got, expected, share=1e-5):
    assert got.shape == (sum(map(len, expected)), expected[0].shape[1])
    for one, other in zip(got.split([len(rows) for rows in expected]), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=share * max(1.0, float(other.abs().max())))


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("lengths", MIXES, ids=str)
def test_rows_are_those_of_each_sequence_alone(family, lengths):
    network = encoder(family)
    assert network.packs
    ids = draw(family, lengths)
    for layer in (-1, 0, 1, (1, network.layers)):
        check(pack(network, ids, lengths, layer), alone(network, ids, lengths, layer))


@pytest.mark.parametrize("family", BUILDERS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_lengths_and_order_change_nothing(family, data):
    network = encoder(family)
    lengths = data.draw(st.lists(st.integers(1, 70) | st.sampled_from([1, 9]), min_size=1, max_size=7))
    ids = draw(family, lengths, data.draw(st.integers(0, 99)))
    layer = data.draw(st.sampled_from([-1, 1, (0, network.layers)]))
    check(pack(network, ids, lengths, layer), alone(network, ids, lengths, layer))
    order = data.draw(st.permutations(range(len(lengths))))
    parts = ids.split(lengths)
    shuffled = pack(network, torch.cat([parts[i] for i in order]), [lengths[i] for i in order], layer)
    check(shuffled, [pack(network, ids, lengths, layer).split(lengths)[i] for i in order])


@pytest.mark.parametrize("family", BUILDERS)
def test_golden_cases_in_one_stream(family):
    stored = arrays(family)
    names = [case["id"] for case in cases(family)["cases"]]
    ids = [torch.from_numpy(stored[f"{name}/ids"].astype(np.int64)) for name in names]
    rows = pack(encoder(family), torch.cat(ids), [len(one) for one in ids])
    assert len({len(one) for one in ids}) > 3
    for name, got in zip(names, rows.split([len(one) for one in ids]), strict=True):
        tolerance = cases(family)["tolerance_abs"]
        np.testing.assert_allclose(got, stored[f"{name}/hidden"], rtol=0, atol=tolerance, err_msg=name)


def test_a_stream_is_not_one_sequence():
    for family in BUILDERS:
        ids = draw(family, [20, 20])
        whole = compute(encoder(family), ids[None])[0]
        assert (pack(encoder(family), ids, [20, 20]) - whole).abs().max() > 1e-2, family


def test_attention_is_sparse_or_full_by_the_length_of_each_sequence():
    network, lengths = encoder("gena_bigbird"), [705, 50, 704, 768, 768, 705, 1]
    ids = draw("gena_bigbird", lengths)
    expected = alone(network, ids, lengths)
    check(pack(network, ids, lengths), expected)
    full = copy.copy(network)
    full.spec = replace(network.spec, sparse_block=0)
    assert (pack(full, ids[:705], [705]) - expected[0]).abs().max() > 1e-2


@pytest.mark.parametrize("queries", [1, 4, 16, 40])
def test_distance_biases_in_parts_and_whole(monkeypatch, queries):
    lengths = [3, 40, 16, 16, 17, 1]
    ids = draw("dnabert2", lengths)
    expected = alone(encoder("dnabert2"), ids, lengths)
    monkeypatch.setattr(attention, "_BIASED_QUERIES", queries)
    check(pack(encoder("dnabert2"), ids, lengths), expected)


def test_biases_of_short_sequences_share_their_memory():
    slopes = attention.alibi_slopes(4)
    biases = attention.alibi_biases_of_lengths(slopes, {3, 100, 60})
    ((asking, bias),) = biases[60]()
    ((_, largest),) = biases[100]()
    assert asking == slice(0, 60)
    assert bias.shape == (1, 4, 60, 60)
    assert bias.untyped_storage().data_ptr() == largest.untyped_storage().data_ptr()


def test_a_run_of_sequences_of_one_length_is_one_call(monkeypatch):
    shapes = []
    usual = functional.scaled_dot_product_attention

    def attend(query, key, value, attn_mask=None):
        assert attn_mask is None
        shapes.append(query.shape[:1] + query.shape[2:3])
        return usual(query, key, value)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", attend)
    network, lengths = encoder("esm2"), [5, 5, 5, 2, 2, 5]
    pack(network, draw("esm2", lengths), lengths)
    assert shapes == [(3, 5), (2, 2), (1, 5)] * network.layers


def test_nothing_is_run_after_the_block_that_is_asked_for():
    ran = []
    network = encoder("esm2")
    hooks = [block.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, block in enumerate(network.blocks, 1)]
    try:
        pack(network, draw("esm2", [3, 4]), [3, 4], 1)
    finally:
        for hook in hooks:
            hook.remove()
    assert ran == [1]


# Through a model


@pytest.mark.parametrize("layer", [-1, 0, 1, "mean", "0-1"])
def test_layers_of_a_model(layer):
    ours = model("nt_v2", layer=layer)
    lengths = [4, 9, 9, 1]
    ids = draw("nt_v2", lengths)
    rows = ours.hidden_packed(ids, lengths)
    assert ours.packs
    assert rows.dtype == torch.float32
    check(rows, [ours.hidden(part[None])[0] for part in ids.split(lengths)])


@pytest.mark.parametrize("family", ["esm2", "nt_v1", "dnabert2", "gena_bigbird"])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_precisions(family, precision):
    reduced, exact = model(family, precision=precision), model(family)
    lengths = [5, 31, 31, 1, 12, 40]
    ids = draw(family, lengths)
    rows = reduced.hidden_packed(ids, lengths)
    assert rows.dtype == torch.float32
    assert not torch.equal(rows, exact.hidden_packed(ids, lengths))
    check(rows, [reduced.hidden(part[None])[0] for part in ids.split(lengths)], share=3e-2)


def test_a_sequence_of_masks_alone_does_not_spoil_its_neighbours():
    lengths = [6, 3, 6]
    ids = draw("esm2", lengths)
    ids[6:9] = MASK  # all masked: 0 / 0, alone as in a stream
    rows = pack(encoder("esm2"), ids, lengths)
    assert rows[6:9].isnan().all()
    check(
        torch.cat([rows[:6], rows[9:]]), [one for one in alone(encoder("esm2"), ids, lengths) if one.isfinite().all()]
    )


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([], "There are no lengths"),
        ([4, 0, 6], "Sequence 1 of the stream has a length of 0; wanted at least 1 token"),
        ([12, -2], "Sequence 1 of the stream has a length of -2"),
        ([4, 5], r"The 2 lengths add up to 9 tokens, but the stream has 10 ids"),
        ([4, 7], r"add up to 11 tokens, but the stream has 10 ids\. Give the tokens of every sequence"),
    ],
)
def test_lengths_that_do_not_make_up_the_stream(lengths, message):
    with pytest.raises(InputError, match=message):
        model("esm2").hidden_packed(random_ids("esm2", 10), lengths)


@pytest.mark.parametrize("family", ["hyenadna", "awd_lstm", "resnet_lm"])
def test_models_that_take_no_stream(family):
    ours = model(family)
    assert not ours.packs
    with pytest.raises(InputError, match=rf"Model '{ours.name}' \(.+\) cannot take sequences one after the other"):
        ours.hidden_packed(torch.full((5,), 7), [5])
    with pytest.raises(NotImplementedError, match="takes no stream"):
        ours._network.forward_packed(torch.full((5,), 7), -1, [5])
    assert Network.packs is False


# The kernel for many lengths


def reference(query, key, value, borders, same_borders, longest, same_longest, /):
    """Attend as `torch.nn.attention.varlen.varlen_attn` does, sequence by sequence, in float64."""
    assert borders is same_borders
    assert borders.dtype == torch.int32
    assert longest == same_longest == int(borders.diff().max())
    out = torch.empty_like(query)
    for start, stop in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        q, k, v = (x[start:stop].double().transpose(0, 1) for x in (query, key, value))
        weight = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1)
        out[start:stop] = (weight @ v).transpose(0, 1).to(out.dtype)
    return out


@pytest.fixture
def kernel(monkeypatch):
    """Let streams on the CPU use the kernel, as those on a CUDA device do; return its calls."""
    calls = []

    def counted(*arguments):
        calls.append(arguments[0].shape)
        return reference(*arguments)

    monkeypatch.setattr(packing, "varlen_function", lambda: counted)
    monkeypatch.setattr(packing, "_KERNEL_DEVICE", "cpu")
    monkeypatch.setattr(packing, "_KERNEL_CHANNELS", (1, 256))  # heads of the tiny checkpoints have 6 channels
    return calls


@pytest.mark.parametrize("family", ["esm2", "nt_v1", "dnabert", "calm"])
def test_kernel_in_half_precision(kernel, family):
    lengths = [5, 31, 31, 1, 12, 40]
    ours, ids = model(family, precision="bfloat16"), draw(family, lengths)
    rows = ours.hidden_packed(ids, lengths)
    spec = ours._network.spec
    assert kernel == [(sum(lengths), spec.heads, spec.width // spec.heads)] * spec.layers
    check(rows, [ours.hidden(part[None])[0] for part in ids.split(lengths)], share=3e-2)
    check(rows, [model(family).hidden(part[None])[0] for part in ids.split(lengths)], share=5e-2)


@pytest.mark.parametrize(
    ("family", "precision", "lengths"),
    [
        ("esm2", "float32", [1, 2, 3, 4, 5]),
        ("esm2", "bfloat16", [2, 2, 3, 3, 4]),
        ("dnabert2", "bfloat16", [1, 2, 3, 4, 5]),
        ("gena_bigbird", "bfloat16", [1, 2, 3, 4, 5]),
    ],
    ids=["exact", "few runs", "biases", "sparse"],
)
def test_where_the_kernel_is_not_used(kernel, family, precision, lengths):
    ours, ids = model(family, precision=precision), draw(family, lengths)
    rows = ours.hidden_packed(ids, lengths)
    assert not kernel
    check(rows, [ours.hidden(part[None])[0] for part in ids.split(lengths)], share=3e-2)


def test_where_there_is_no_kernel(monkeypatch):
    many, cuda = [1, 2, 3, 4], torch.device("cuda")
    assert stream_kernel(many, torch.device("cpu"), 64) is None
    assert stream_kernel(many, cuda, 12) is None
    assert stream_kernel(many, cuda, 264) is None
    assert varlen_function().__name__ == "varlen_attn"
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", None)
    assert varlen_function() is None
    assert stream_kernel(many, cuda, 64) is None


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_attention_within_each_sequence(lengths, seed):
    torch.manual_seed(seed)
    query, key, value = torch.randn(3, 1, 2, sum(lengths), 8)
    attend = functional.scaled_dot_product_attention
    parts = [packing.Run(len(list(same)), length, attend) for length, same in groupby(lengths)]
    got = packed_attention(query, key, value, parts)
    borders = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    streams = [x[0].transpose(0, 1) for x in (query, key, value)]
    expected = reference(*streams, borders, borders, max(lengths), max(lengths))
    torch.testing.assert_close(got[0].transpose(0, 1), expected, rtol=1e-5, atol=1e-5)
    used = packing.kernel_attention(query, key, value, packing.Kernel(reference, borders, max(lengths)))
    torch.testing.assert_close(used[0].transpose(0, 1), expected)
