"""HyenaDNA: golden file, padding, causality, long filters against their formula, what is kept of them, and configs."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import REMOVED, arrays, cases, change_config, change_weights, compute, copy_of, rename_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from embedstore.errors import CheckpointError, InputError
from embedstore.models import causal
from embedstore.models.causal import CausalConvolution, LongFilter, fast_length
from embedstore.models.checkpoints import Checkpoint, read_checkpoint
from embedstore.models.hyenadna import build_hyenadna

GOLDEN = Path(__file__).parents[1] / "golden" / "hyenadna"
FILTER = "hyena.backbone.layers.1.mixer.filter_fn."
EMBEDDING = "hyena.backbone.embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def network():
    return build_hyenadna(read_checkpoint(GOLDEN)).eval()


def ids_of(length, batch=1, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(7, 12, (batch, length)))


def small_filter(channels=3, tokens=50, seed=0):
    torch.manual_seed(seed)
    long = LongFilter(channels, tokens, features=5, width=8, layers=2).requires_grad_(False)
    for tensor in (long.frequency, long.decay, long.bias, long.positions):
        tensor.normal_()
    long.times.copy_(torch.linspace(0, 1, tokens)[None, :, None])
    return long


@pytest.mark.parametrize("case", [case["id"] for case in cases("hyenadna")["cases"]])
@pytest.mark.parametrize("layout", ["", "bend/"])
def test_golden(network, case, layout):
    ids = arrays("hyenadna")[f"{case}/{layout}ids"].astype(np.int64)[None]
    expected = arrays("hyenadna")[f"{case}/{layout}hidden"]
    tolerance = cases("hyenadna")["tolerance_abs"]
    np.testing.assert_allclose(compute(network, ids)[0], expected, rtol=0, atol=tolerance)


def published(weights, ids):
    """Compute states and scores from the tensors of the file, in float64 and with a convolution that is a sum."""
    w = {name.removeprefix("hyena.backbone."): tensor.double().numpy() for name, tensor in weights.items()}

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    x = w["embeddings.word_embeddings.weight"][ids]
    states, length = [x], len(ids)
    for i in range(2):
        mixer, filter_ = f"layers.{i}.mixer", f"layers.{i}.mixer.filter_fn"
        u = np.pad(linear(norm(x, f"layers.{i}.norm1"), f"{mixer}.in_proj"), ((2, 0), (0, 0)))
        kernel = w[f"{mixer}.short_filter.weight"][:, 0]
        u = sum(u[k : k + length] * kernel[:, k] for k in range(3)) + w[f"{mixer}.short_filter.bias"]
        x0, x1, v = np.split(u, 3, axis=1)
        k = w[f"{filter_}.pos_emb.z"][0, :length]
        for j in (0, 2, 4):
            k = np.sin(w[f"{filter_}.implicit_filter.1.freq"] * linear(k, f"{filter_}.implicit_filter.{j}"))
        decay = np.exp(-w[f"{filter_}.pos_emb.t"][0, :length] * np.abs(w[f"{filter_}.modulation.deltas"][0]))
        k = linear(k, f"{filter_}.implicit_filter.6") * (decay + 0.05)
        v = v * x1
        long = np.stack([sum(k[s] * v[t - s] for s in range(t + 1)) for t in range(length)])
        x = x + linear((long + v * w[f"{filter_}.bias"]) * x0, f"{mixer}.out_proj")
        h = linear(norm(x, f"layers.{i}.norm2"), f"layers.{i}.mlp.fc1")
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        x = x + linear(h, f"layers.{i}.mlp.fc2")
        states.append(x)
    last = norm(x, "ln_f")
    return states, last, last @ w["lm_head.weight"].T


def test_states_and_scores_from_the_formulas(network):
    ids = ids_of(40, seed=1)
    double = copy.deepcopy(network).double()
    states, last, scores = published(read_checkpoint(GOLDEN).weights, ids[0].numpy())
    assert (double.width, double.layers, double.pads) == (24, 2, True)
    with torch.no_grad():
        ours = list(double.states(ids))
        assert len(ours) == len(states) == 3
        for state, expected in zip(ours, states, strict=True):
            np.testing.assert_allclose(state[0], expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(double(ids)[0], last, rtol=0, atol=1e-9)
        np.testing.assert_allclose(double.logits(double(ids))[0], scores, rtol=0, atol=1e-9)


def test_padding_and_batches_change_nothing(network):
    ids, lengths = ids_of(200, batch=4, seed=2), [200, 57, 1, 130]
    for used, exactness in ((network, 2e-5), (copy.deepcopy(network).double(), 1e-12)):
        together = compute(used, ids, lengths=lengths)
        for row, length in enumerate(lengths):
            alone = compute(used, ids[row : row + 1, :length])[0]
            torch.testing.assert_close(together[row, :length], alone, rtol=0, atol=exactness * float(alone.abs().max()))
    same = compute(network, ids[:1].repeat(3, 1))
    torch.testing.assert_close(same, same[:1].expand_as(same), rtol=0, atol=0)


def test_a_later_letter_changes_no_earlier_row(network):
    double = copy.deepcopy(network).double()
    ids = ids_of(120, seed=3)
    changed = ids.clone()
    changed[0, 70] = 7 + (ids[0, 70] - 6) % 4
    moved = (compute(double, ids) - compute(double, changed)).abs().amax(-1)[0]
    assert moved[:70].max() < 1e-10
    assert moved[70:].min() > 1e-6


def test_too_long(network):
    assert compute(network, ids_of(1026)).shape == (1, 1026, 24)
    with pytest.raises(InputError, match="1,027 tokens.*at most 1,026"):
        compute(network, ids_of(1027))


@given(st.integers(1, 30), st.integers(1, 6), st.booleans(), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_short_convolution_is_the_one_dimensional_one(length, kernel, bias, seed):
    torch.manual_seed(seed)
    ours = CausalConvolution(4, kernel, bias=bias)
    theirs = nn.Conv1d(4, 4, kernel, groups=4, padding=kernel - 1, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, length, 4)
    expected = theirs(x.transpose(1, 2))[..., :length].transpose(1, 2)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-6)


@given(st.integers(1, 50), st.integers(0, 40), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_long_convolution_is_a_sum(length, plain, seed):
    long = small_filter(seed=seed).double()
    x = torch.randn(2, length, 3, dtype=torch.float64)
    filter_ = long.response(length)
    expected = (
        torch.stack([(filter_[: t + 1].flip(0) * x[:, : t + 1]).sum(1) for t in range(length)], 1) + long.bias * x
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(causal, "PLAIN_TOKENS", plain)  # shorter ones are transformed at twice their length
        torch.testing.assert_close(long(x), expected, rtol=0, atol=1e-10)


def test_the_filter_for_fewer_positions_begins_the_one_for_more():
    long = small_filter()
    for length in (1, 2, 17, 49):
        torch.testing.assert_close(long.response(length), long.response(50)[:length], rtol=0, atol=1e-5)


def test_one_token_gets_the_first_number_of_the_filter(network):
    # To the last digit, however few rows are multiplied: or a token alone would differ from one with padding.
    long = network.blocks[0].filter
    with torch.no_grad():
        first = long.response(1026)[0]
        torch.testing.assert_close(long(torch.ones(1, 1, 24))[0, 0] - long.bias, first, rtol=0, atol=1e-6)


@pytest.fixture
def computed(monkeypatch):
    """Lengths for which a filter was computed."""
    lengths = []
    response = LongFilter.response
    monkeypatch.setattr(LongFilter, "response", lambda self, n: lengths.append(n) or response(self, n))
    return lengths


def test_a_filter_is_computed_once(network, computed):
    fresh = copy.deepcopy(network).requires_grad_(False).to("cpu")
    first = [compute(fresh, ids_of(n, seed=n)) for n in (30, 64, 30, 64)]
    again = [compute(fresh, ids_of(n, seed=n)) for n in (30, 64)]
    assert computed == [30, 30, 64, 64]  # by two layers
    for one, other in zip(first, [*again, *again], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_long_sequences_share_spectra_of_fast_sizes(computed, monkeypatch):
    monkeypatch.setattr(causal, "PLAIN_TOKENS", 20)
    long = small_filter()
    for length in (20, 21, 22, 23, 24, 25):
        x = torch.randn(1, length, 3)
        expected = torch.stack([(long.response(t + 1).flip(0) * x[:, : t + 1]).sum(1) for t in range(length)], 1)
        computed.clear()
        torch.testing.assert_close(long(x), expected + long.bias * x, rtol=0, atol=1e-4)
        assert computed == {20: [20], 21: [22], 23: [24], 25: [25]}.get(length, [])


def test_spectra_are_bounded(computed, monkeypatch):
    long = small_filter()
    size = 3 * 8 * (20 + 1)  # of the spectrum for 20 tokens: 21 frequencies
    monkeypatch.setattr(causal, "SPECTRA_BYTES", 2 * size)
    for length in (20, 19, 20, 18, 20, 19):  # 18 takes the place of 19, which was not used for longest
        long(torch.randn(1, length, 3))
    assert computed == [20, 19, 18, 19]
    assert sum(s.nbytes for s in long._spectra.values()) <= 2 * size
    monkeypatch.setattr(causal, "SPECTRA_BYTES", 0)
    computed.clear()
    for length in (17, 17, 20, 20):
        long(torch.randn(1, length, 3))
    assert computed == [17, 20]
    assert len(long._spectra) == 1


def test_spectra_follow_the_parameters():
    long, other, x = small_filter(), small_filter(seed=1), torch.randn(1, 20, 3)
    expected = other(x)
    assert not torch.allclose(long(x), expected, atol=0.1)
    long.load_state_dict(other.state_dict())
    torch.testing.assert_close(long(x), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(long.double()(x.double()), small_filter(seed=1).double()(x.double()), rtol=0, atol=1e-12)
    assert long(x).dtype == torch.float64


def test_gradients(computed):
    long, x = small_filter(), torch.randn(1, 20, 3)
    with torch.inference_mode():
        kept = long(x)
    # Of the sequence: through the spectrum that was kept.
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(long(x)[0, :, 0].sum(), x)
    torch.testing.assert_close(gradient[0, :, 0], long.response(20)[:, 0].cumsum(0).flip(0) + long.bias[0])
    # Of the filter: it is computed afresh, and what was kept is forgotten, because the weights are about to change.
    long.requires_grad_()
    torch.testing.assert_close(long(x), kept.clone(), rtol=0, atol=1e-6)
    assert not long._spectra
    long(x).square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in long.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_convolutions_and_residuals_stay_in_float32(network, dtype):
    fresh = copy.deepcopy(network).requires_grad_(False)
    ids = ids_of(100, seed=4)
    with torch.autocast("cpu", dtype):
        states = list(fresh.states(ids))
        long = fresh.blocks[0].filter
        exact = long(states[0])
    assert {state.dtype for state in states} == {torch.float32}
    torch.testing.assert_close(exact, network.blocks[0].filter(states[0]), rtol=0, atol=1e-5)
    difference = (fresh.last(states[-1]) - compute(network, ids)).abs().mean()
    assert 1e-5 < difference < 0.1


@pytest.mark.parametrize("training", [False, True])
def test_autocast_does_not_reach_a_long_filter(training):
    x = torch.randn(1, 20, 3).bfloat16()
    expected = small_filter()(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(small_filter().requires_grad_(training)(x), expected, rtol=0, atol=1e-6)


def test_a_filter_is_computed_in_full_float32(monkeypatch):
    # What precision "tf32" sets; it counts on CUDA devices only.
    switch, seen, response = torch.backends.cuda.matmul, [], LongFilter.response
    monkeypatch.setattr(LongFilter, "response", lambda *a: seen.append(switch.fp32_precision) or response(*a))
    before = switch.fp32_precision
    try:
        switch.fp32_precision = "tf32"
        small_filter()(torch.randn(1, 20, 3))
        assert (seen, switch.fp32_precision) == (["ieee"], "tf32")
    finally:
        switch.fp32_precision = before


def test_fast_lengths():
    smooth = sorted(2**a * 3**b * 5**c for a in range(14) for b in range(9) for c in range(6))
    for least in [*range(1, 400), 4095, 4097, 8100, 8101]:
        assert fast_length(least) == next(n for n in smooth if n >= least)


@pytest.mark.parametrize("twins", [1, 2])
def test_repeated_frequencies(tmp_path, network, twins):
    frequency = read_checkpoint(GOLDEN).weights[f"{FILTER}implicit_filter.1.freq"]
    folder = copy_of("hyenadna", tmp_path)
    change_weights(folder, {f"{FILTER}implicit_filter.{2 * i + 3}.freq": frequency.clone() for i in range(twins)})
    ids = ids_of(20)
    torch.testing.assert_close(compute(build_hyenadna(read_checkpoint(folder)), ids), compute(network, ids))
    change_weights(folder, {f"{FILTER}implicit_filter.3.freq": frequency + 1})
    with pytest.raises(CheckpointError, match=r"1.freq and .*3.freq are one tensor"):
        build_hyenadna(read_checkpoint(folder))


def test_heads(tmp_path, network):
    folder = copy_of("hyenadna", tmp_path)
    ids = ids_of(20)
    # A head that the config ties to the embedding need not be in the file; if it is, it must be the embedding.
    for fields in ({"tie_word_embeddings": True}, {"tie_word_embeddings": REMOVED}):
        change_config(folder, **fields)
        with pytest.raises(CheckpointError, match="differ"):
            build_hyenadna(read_checkpoint(folder))
    change_weights(folder, {"lm_head.weight": REMOVED})
    tied = build_hyenadna(read_checkpoint(folder))
    expected = compute(network, ids) @ network.embedding.weight.detach().T
    torch.testing.assert_close(tied.logits(compute(tied, ids)).detach(), expected)
    change_config(folder, tie_word_embeddings=False)
    headless = build_hyenadna(read_checkpoint(folder))
    # The bare class has no prefix and no head.
    rename_weights(folder, lambda name: name.removeprefix("hyena."))
    change_config(folder, tie_word_embeddings=True)
    bare = build_hyenadna(read_checkpoint(folder))
    for other in (headless, bare):
        assert other.head is None
        torch.testing.assert_close(compute(other, ids), compute(network, ids))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hyena_order": 3}, "hyena_order is 3; only 2"),
        ({"use_bias": False}, "use_bias is False; only True"),
        ({"train_freq": REMOVED}, "train_freq is None; only True"),
        ({"n_layer": 10**6}, "'n_layer' is 1000000"),
        ({"n_layer": 1}, "unexpected: hyena.backbone.layers.1."),
        ({"n_layer": 3}, "missing: hyena.backbone.layers.2."),
        ({"num_inner_mlps": 1}, r"wrong: .*implicit_filter.4.weight is \[64, 64\].*wanted \[24, 64\]"),
        ({"d_inner": 97}, r"mlp.fc1.weight is \[96, 24\]"),
        ({"d_model": REMOVED}, "'d_model' is None"),
        ({"max_seq_len": 1024}, r"pos_emb.z is \[1, 1026, 5\] .*wanted \[1, 1024, 5\]"),
        ({"emb_dim": 3}, r"wanted \[1, 1026, 3\]"),
        ({"filter_order": 32}, r"wanted \[1, 32\]"),
        ({"short_filter_order": 4}, r"wanted \[72, 1, 4\]"),
        ({"layer_norm_epsilon": 1}, "'layer_norm_epsilon' is 1"),
        ({"vocab_size": 17}, r"word_embeddings.weight is \[16, 24\].*wanted \[24, 24\]"),
        ({"pad_vocab_size_multiple": 0}, "'pad_vocab_size_multiple' is 0"),
    ],
)
def test_other_configs_are_refused(tmp_path, fields, message):
    folder = copy_of("hyenadna", tmp_path)
    change_config(folder, **fields)
    with pytest.raises(CheckpointError, match=message):
        build_hyenadna(read_checkpoint(folder))


def test_other_keys_are_refused(tmp_path):
    folder = copy_of("hyenadna", tmp_path)
    change_weights(folder, {f"{FILTER}bias": REMOVED, "score.weight": torch.zeros(2, 24)})
    with pytest.raises(CheckpointError, match="2 problems") as caught:
        build_hyenadna(read_checkpoint(folder))
    assert f"missing: {FILTER}bias [24]" in str(caught.value)
    assert "unexpected: score.weight [2, 24]" in str(caught.value)


# Name, width, layers, tokens.
PUBLISHED = [
    ("tiny-1k", 128, 2, 1_026),
    ("tiny-1k-d256", 256, 2, 1_026),
    ("small-32k", 256, 4, 32_770),
    ("medium-160k", 256, 8, 160_002),
    ("medium-450k", 256, 8, 450_002),
    ("large-1m", 256, 8, 1_000_002),
]


@pytest.mark.parametrize(("name", "width", "layers", "tokens"), PUBLISHED)
def test_published_sizes(name, width, layers, tokens):
    official = read_checkpoint(GOLDEN)
    sizes = {"d_model": width, "d_inner": 4 * width, "n_layer": layers, "max_seq_len": tokens}
    wider = {24: width, 72: 3 * width, 96: 4 * width, 1026: tokens}
    weights = {}
    for key, tensor in official.weights.items():
        shape = [wider.get(size, size) for size in tensor.shape]
        for i in range(layers) if ".layers.0." in key else [None]:
            weights[key if i is None else key.replace(".0.", f".{i}.", 1)] = torch.empty(shape, device="meta")
    built = build_hyenadna(Checkpoint(official.folder, official.config | sizes, {}, weights, {}))
    assert (built.width, built.layers, built.tokens) == (width, layers, tokens)
    operator = 4 * width**2 + 4 * width + 3 * width * (3 + 1)
    filter_ = 64 * (5 + 1) + 2 * 64 * (64 + 1) + 64 * width + 64 + 2 * width
    feed_forward = 8 * width**2 + 5 * width
    parameters = 2 * 16 * width + 2 * width + layers * (operator + filter_ + feed_forward + 4 * width)
    assert sum(p.numel() for p in built.parameters()) == parameters
    assert round(parameters, -5) == {"tiny-1k": 4e5, "tiny-1k-d256": 1.6e6, "small-32k": 3.3e6}.get(name, 6.6e6)
