"""Counts of operations against the closed forms of the architectures, and the rate of products by a clock of ours."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from encoders import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from embedstore.errors import InputError
from embedstore.models import flops as counting
from embedstore.models import load
from embedstore.models.flops import flops, matmul_rate

MIX = [16, 9, 9, 1, 30]


@cache
def model(family, **options):
    return load(GOLDEN / family, **options)


def of_encoder(spec, lengths, layers):
    """Linear maps: a multiplication and an addition for each weight and token. Attention: scores, and their mix."""
    maps = 4 * spec.width**2 + (3 if spec.gated else 2) * spec.width * spec.inner
    return layers * (2 * maps * sum(lengths) + 4 * spec.width * sum(length**2 for length in lengths))


@pytest.mark.parametrize("family", ["esm2", "esm1b", "nt_v1", "nt_v2", "dnabert", "dnabert2", "calm", "gena_bigbird"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_encoders(family, precision):
    ours = model(family, precision=precision)
    spec = ours._network.spec
    assert flops(ours, MIX) == of_encoder(spec, MIX, spec.layers)
    assert flops(ours, [7, 7]) == 2 * flops(ours, [7])


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_any_lengths_in_any_order(lengths):
    spec = model("nt_v2")._network.spec
    expected = of_encoder(spec, lengths, spec.layers)
    assert flops(model("nt_v2"), lengths) == flops(model("nt_v2"), lengths[::-1]) == expected


def test_only_the_blocks_that_are_run():
    ours = model("nt_v2", layer=1)
    assert flops(ours, MIX) == of_encoder(ours._network.spec, MIX, 1)
    assert flops(model("nt_v2", layer=0), MIX) == 0


def test_sparse_attention_takes_less_than_full():
    spec = model("gena_bigbird")._network.spec
    assert flops(model("gena_bigbird"), [704]) == of_encoder(spec, [704], spec.layers)
    assert 0 < flops(model("gena_bigbird"), [2048]) < of_encoder(spec, [2048], spec.layers) / 2


def test_a_convnet():
    network = model("resnet_lm")._network
    maps = sum(weight.numel() for name, weight in network.named_parameters() if weight.ndim > 1 and "head" not in name)
    assert not model("resnet_lm").packs
    # Every product of a padded convolution counts, as if all of its places were inside.
    assert flops(model("resnet_lm"), MIX) == 2 * maps * sum(MIX)


def test_an_lstm():
    network = model("awd_lstm")._network
    maps = sum(
        weight.numel()
        for name, weight in network.named_parameters()
        if weight.ndim > 1 and "head" not in name and "embedding" not in name
    )
    assert flops(model("awd_lstm"), MIX) == 2 * maps * sum(MIX) > 0


@pytest.mark.parametrize("family", ["esmc", "prott5", "modernbert", "caduceus_ph"])
def test_other_networks_have_a_count(family):
    assert flops(model(family), [8, 8]) == 2 * flops(model(family), [8]) > 0


def test_what_hyena_keeps_for_the_next_pass():
    network = load(GOLDEN / "hyenadna")
    first, second = flops(network, [8]), flops(network, [8])
    assert first > second
    assert flops(network, [8, 8]) == 2 * second > 0


@pytest.mark.parametrize(("lengths", "message"), [([], "There are no lengths"), ([3, 0], "Sequence 1 .+ length of 0")])
def test_lengths_that_are_refused(lengths, message):
    with pytest.raises(InputError, match=message):
        flops(model("nt_v2"), lengths)


class Products(TorchDispatchMode):
    """Notes shape and format of the factors of each product of matrices, and counts conversions."""

    def __init__(self):
        super().__init__()
        self.seen, self.conversions = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.mm.default:
            self.seen += [(factor.shape, factor.dtype) for factor in args]
        self.conversions += func.name() in ("aten::to.dtype", "aten::_to_copy")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
@pytest.mark.parametrize(("steps", "products"), [([1.0] * 7, 1), ([9.0, 0.01, 0.5, 0.1, 0.2, 4.0, 0.3], 4)])
def test_rate_by_the_clock(monkeypatch, precision, dtype, steps, products):
    """The clock moves by the given steps: to warm up, to see how long a product takes, and for the five parts."""
    times = iter([time for i, step in enumerate(steps) for time in (100.0 * i, 100.0 * i + step)])
    monkeypatch.setattr(counting.time, "perf_counter", lambda: next(times))
    monkeypatch.setattr(counting, "_SMALL_MATRIX", 16)
    with Products() as noted:
        rate = matmul_rate("cpu", precision, seconds=0.2)
    assert rate == pytest.approx(products * 2 * 16**3 / (1.0 if products == 1 else 0.3))
    assert noted.seen == [(torch.Size([16, 16]), dtype)] * 2 * (2 + 5 * products)
    assert noted.conversions == 2  # of the factors, once


def test_rate_of_this_machine():
    assert 1e7 < matmul_rate("cpu", "float32", seconds=0.01) < 1e15


@pytest.mark.parametrize(
    ("precision", "seconds", "message"),
    [
        ("float64", 0.2, "precision is 'float64'"),
        ("tf32", 0.2, "'tf32' is a mode of CUDA devices"),
        ("float32", 0, "seconds is 0: a rate is measured over a time above 0"),
        ("float32", float("nan"), "seconds is nan"),
    ],
)
def test_rates_that_are_refused(precision, seconds, message):
    with pytest.raises(InputError, match=message):
        matmul_rate("cpu", precision, seconds)
