"""Attention against the definitions, written out in float64 with loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore.models import attention
from embedstore.models.attention import (
    alibi_attention,
    alibi_biases,
    alibi_slopes,
    rotate,
    rotation,
    sparse_attention,
)
from embedstore.models.transformer import rotary_frequencies


def draw(*shape, count=3, seed=0):
    """Return queries, keys and values that make attention far from flat."""
    random = np.random.default_rng(seed)
    return [torch.from_numpy(random.normal(0, 1.5, shape).astype(np.float32)) for _ in range(count)]


def softmax(scores):
    power = np.exp(scores - scores.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)


def attend(query, keys, values):
    """One query of float64 and the keys and values it sees, one row each."""
    return softmax(keys @ query / np.sqrt(len(query))) @ values


def test_rotation_is_multiplication_by_complex_numbers():
    (x,) = draw(2, 3, 50, 8, count=1)
    frequency = torch.tensor([1.0, 0.3, 0.05, 0.0002])
    turned = rotate(x, *rotation(frequency, 50))
    complex_x = x[..., :4].double().numpy() + 1j * x[..., 4:].double().numpy()
    angle = np.arange(50)[:, None] * frequency.double().numpy()
    expected = complex_x * np.exp(1j * angle)
    np.testing.assert_allclose(turned.numpy(), np.concatenate([expected.real, expected.imag], -1), rtol=0, atol=2e-5)


def test_rotation_is_computed_in_float32():
    cosine, sine = rotation(torch.tensor([1.0, 0.1], dtype=torch.float64), 300)
    assert cosine.dtype == sine.dtype == torch.float32
    (x,) = draw(1, 1, 300, 4, count=1)
    half = rotate(x.bfloat16(), cosine, sine)
    assert half.dtype == torch.bfloat16
    # Rounded once, at the end: angles of bfloat16 would be off by up to half a turn.
    assert torch.equal(half, rotate(x.bfloat16().float(), cosine, sine).bfloat16())


@pytest.mark.parametrize("channels", [2, 6, 64])
def test_rotary_frequencies(channels):
    expected = [10000 ** (-2 * i / channels) for i in range(channels // 2)]
    np.testing.assert_allclose(rotary_frequencies(channels).numpy(), expected, rtol=1e-6)
    with torch.device("meta"):
        assert not rotary_frequencies(channels).is_meta
        assert not alibi_slopes(channels).is_meta


@pytest.mark.parametrize("heads", [1, 2, 8, 16])
def test_alibi_slopes_of_powers_of_two(heads):
    np.testing.assert_allclose(alibi_slopes(heads), [2 ** (-8 * i / heads) for i in range(1, heads + 1)], rtol=1e-7)


def test_alibi_slopes_of_other_numbers():
    # The paper's code: eight heads' slopes, then the first, third, ... of sixteen heads'.
    half = [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]
    np.testing.assert_allclose(alibi_slopes(12), [2.0**-i for i in range(1, 9)] + half, rtol=1e-7)
    np.testing.assert_allclose(alibi_slopes(6), [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3], rtol=1e-7)
    np.testing.assert_allclose(alibi_slopes(3), [2**-4, 2**-8, 2**-2], rtol=1e-7)


@pytest.mark.parametrize("at_a_time", [1024, 7, 1])
@pytest.mark.parametrize("lengths", [None, [20, 1, 13]])
def test_alibi_attention(monkeypatch, at_a_time, lengths):
    monkeypatch.setattr(attention, "_BIASED_QUERIES", at_a_time)
    query, key, value = draw(3, 6, 20, 4)
    slopes = torch.linspace(0.9, 0.01, 6)
    mask = None if lengths is None else (torch.arange(20) < torch.tensor(lengths)[:, None])[:, None, None]
    got = alibi_attention(query, key, value, alibi_biases(slopes, query.shape[2], mask))
    assert got.shape == query.shape
    q, k, v = (x.double().numpy() for x in (query, key, value))
    for sequence, head, i in np.ndindex(3, 6, 20):
        real = 20 if lengths is None else lengths[sequence]
        distance = np.array([abs(i - j) for j in range(real)])
        scores = k[sequence, head, :real] @ q[sequence, head, i] / 2 - float(slopes[head]) * distance
        expected = softmax(scores) @ v[sequence, head, :real]
        np.testing.assert_allclose(got[sequence, head, i], expected, rtol=0, atol=1e-5)


def seen_blocks(number, blocks, copies):
    """Blocks that a block attends to, with repetitions, in evaluation mode."""
    if number in (0, blocks - 1):
        return list(range(blocks))
    neighbours = {number - 1, number, number + 1}
    return [*sorted({0, blocks - 1} | neighbours), *[0] * copies]


@settings(max_examples=25, deadline=None)
@given(
    block=st.integers(1, 5),
    copies=st.integers(0, 4),
    blocks=st.integers(6, 9),
    missing=st.integers(0, 4),
    batch=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_sparse_attention(block, copies, blocks, missing, batch, seed):
    tokens = block * blocks - min(missing, block - 1)
    query, key, value = draw(batch, 2, block * blocks, 4, seed=seed)
    key[:, :, tokens:] = 50.0  # what is padding must not matter, however large it is
    value[:, :, tokens:] = -1000.0
    got = sparse_attention(query, key, value, block, copies, tokens)
    assert got.shape == query.shape
    q, k, v = (x.double().numpy() for x in (query, key, value))
    for number in range(blocks):
        # Block 0 is really written down once more for each copy.
        seen = [b * block + j for b in seen_blocks(number, blocks, copies) for j in range(block)]
        seen = [j for j in seen if j < tokens]
        assert seen.count(0) == (1 if number in (0, blocks - 1) else 1 + copies)
        for sequence, head in np.ndindex(batch, 2):
            for i in range(number * block, min((number + 1) * block, tokens)):
                expected = attend(q[sequence, head, i], k[sequence, head, seen], v[sequence, head, seen])
                np.testing.assert_allclose(got[sequence, head, i], expected, rtol=0, atol=2e-5)


def test_sparse_attention_is_not_full_attention():
    query, key, value = draw(1, 2, 40, 4)
    sparse = sparse_attention(query, key, value, 4, 3, 40)
    full = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(sparse[:, :, [0, 3, 36, 39]], full[:, :, [0, 3, 36, 39]], rtol=0, atol=1e-5)
    assert ((sparse - full)[:, :, 4:36].abs().amax(-1) > 1e-3).all()
