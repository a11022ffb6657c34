"""The AWD-LSTM against BEND's numbers, against its cell written out step by step, and in all layouts of its files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from embedstore.errors import CheckpointError
from embedstore.models.awd_lstm import AwdLstm, AwdLstmSpec, build_awd_lstm
from embedstore.models.checkpoints import Checkpoint, read_checkpoint
from embedstore.models.training_state import save_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden" / "awd_lstm"
CASES = json.loads((GOLDEN / "cases.json").read_text())


@pytest.fixture(scope="module")
def golden():
    return read_checkpoint(GOLDEN)


def run(network, ids, **options):
    with torch.inference_mode():
        return network(torch.as_tensor(ids, dtype=torch.int64), **options).numpy()


def changed(checkpoint, *, drop=(), config=None, **tensors):
    """Return a checkpoint with other fields and tensors; ``__`` in a name stands for a dot."""
    new = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    weights = {name: tensor for name, tensor in checkpoint.weights.items() if name not in drop}
    return dataclasses.replace(checkpoint, config=checkpoint.config | (config or {}), weights=weights | new)


def made(seed, *, vocabulary=7, size=5, hidden=8, layers=2, **config):
    """Return a random checkpoint under BEND's names."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator) * 0.7

    weights = {"encoder.embedding.weight": random(vocabulary, size), "decoder.bias": random(vocabulary)}
    edges = [size, *[hidden] * (layers - 1), size]
    for i in range(layers):
        cell = f"encoder.encoder.lstm.{i}."
        rows = 4 * edges[i + 1]
        weights[f"{cell}weight_raw"] = random(rows, edges[i + 1])
        weights[f"{cell}module.i2h.weight"] = random(rows, edges[i])
        weights |= {f"{cell}module.{part}.bias": random(rows) for part in ("i2h", "h2h")}
    sizes = {"vocab_size": vocabulary, "input_size": size, "hidden_size": hidden, "num_hidden_layers": layers}
    return Checkpoint(Path("made"), {"model_type": "AWDLSTM", **sizes, **config}, {}, weights, {})


def step_by_step(checkpoint, ids, reset=None):
    """Compute all states of one sequence from BEND's description: gates in the order input, forget, output, cell."""
    w = {name: tensor.double().numpy() for name, tensor in checkpoint.weights.items()}

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    states = [w["encoder.embedding.weight"][ids]]
    for i in range(checkpoint.config["num_hidden_layers"]):
        cell = f"encoder.encoder.lstm.{i}."
        recurrent = w[f"{cell}weight_raw"]
        size = recurrent.shape[1]
        h, c, outputs = np.zeros(size), np.zeros(size), []
        for t, x in enumerate(states[-1]):
            if t > 1 and ids[t - 1] == reset:
                h, c = np.zeros(size), np.zeros(size)
                outputs[-1] = h  # BEND clears the tensor that it has already put among its outputs
            a = w[f"{cell}module.i2h.weight"] @ x + w[f"{cell}module.i2h.bias"]
            a += recurrent @ h + w[f"{cell}module.h2h.bias"]
            c = sigmoid(a[size : 2 * size]) * c + sigmoid(a[:size]) * np.tanh(a[3 * size :])
            h = sigmoid(a[2 * size : 3 * size]) * np.tanh(c)
            outputs.append(h)
        states.append(np.stack(outputs))
    return states


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["id"])
def test_golden(golden, case):
    arrays = np.load(GOLDEN / "cases.npz")
    ids, hidden = arrays[f"{case['id']}/ids"], arrays[f"{case['id']}/hidden"]
    np.testing.assert_allclose(
        run(build_awd_lstm(golden), ids[None])[0], hidden, rtol=0, atol=CASES["tolerance_abs"] / 10
    )


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("reset", [None, 5])
def test_all_states_are_those_of_the_cell(layers, reset):
    checkpoint = made(layers, layers=layers, reset_token_id=reset)
    network = build_awd_lstm(checkpoint)
    assert (network.layers, network.width) == (layers, 5)
    # Resets at the first position (not seen), twice in a row, and at the last one (nothing follows).
    ids = np.array([[5, 3, 5, 5, 4, 6, 5, 1, 0, 3, 5], [3, 5, 6, 4, 4, 5, 3, 3, 6, 6, 4]])
    with torch.inference_mode():
        states = [state.numpy() for state in network.states(torch.from_numpy(ids))]
    for row in range(2):
        expected = step_by_step(checkpoint, ids[row], reset)
        assert len(states) == len(expected)
        for ours, theirs in zip(states, expected, strict=True):
            np.testing.assert_allclose(ours[row], theirs, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(run(network, ids), states[-1])
    if reset is not None:
        zero = (states[-1] == 0).all(-1)
        assert zero[0].tolist() == [False, False, True, True, False, False, True, False, False, False, False]


def test_logits_are_products_with_the_embeddings():
    checkpoint = made(0)
    network = build_awd_lstm(checkpoint)
    hidden = torch.randn(2, 3, 5)
    with torch.inference_mode():
        scores = network.logits(hidden)
    expected = hidden @ checkpoint.weights["encoder.embedding.weight"].T + checkpoint.weights["decoder.bias"]
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("reset", [None, 5])
def test_padding_changes_nothing(reset):
    network = build_awd_lstm(made(0, reset_token_id=reset))
    assert network.pads
    random = np.random.default_rng(0)
    lengths = [1, 7, 30]
    ids = random.integers(0, 7, (3, 30))
    ids[1, 6] = 5  # a reset with nothing but padding after it
    padded = run(network, ids, lengths=torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone = run(network, ids[row : row + 1, :length])
        np.testing.assert_allclose(padded[row, :length], alone[0], rtol=0, atol=1e-6)


def renamed(weights, *pairs):
    for old, new in pairs:
        weights = {name.replace(old, new): tensor for name, tensor in weights.items()}
    return weights


def test_all_layouts_give_the_same(golden):
    ids = np.load(GOLDEN / "cases.npz")["n_middle/ids"][None]
    expected = run(build_awd_lstm(golden), ids)
    raw = [name for name in golden.weights if name.endswith("weight_raw")]
    copies = [name for name in golden.weights if name.endswith("module.h2h.weight")]
    body = {name: tensor for name, tensor in golden.weights.items() if not name.startswith("decoder.")}
    layouts = {
        "weight_raw alone": {name: tensor for name, tensor in golden.weights.items() if name not in copies},
        "h2h alone": {name: tensor for name, tensor in golden.weights.items() if name not in raw},
        "no wrapper": renamed({n: t for n, t in golden.weights.items() if n not in raw}, (".module.", ".")),
        "for inference": body,
        "bare": {name.removeprefix("encoder."): tensor for name, tensor in body.items()},
        "decoder too": golden.weights | {"decoder.weight": golden.weights["encoder.embedding.weight"].clone()},
    }
    for name, weights in layouts.items():
        network = build_awd_lstm(dataclasses.replace(golden, weights=weights))
        np.testing.assert_array_equal(run(network, ids), expected, err_msg=name)
        assert (network.head is None) == (name in ("for inference", "bare"))
    with pytest.raises(NotImplementedError, match="no language-model head"):
        network = build_awd_lstm(dataclasses.replace(golden, weights=layouts["bare"]))
        network.logits(torch.zeros(1, 16))


def test_a_copy_that_weight_dropout_left_is_not_used():
    checkpoint = made(0, layers=1, weight_dropout_prob=0.25)
    name = "encoder.encoder.lstm.0.weight_raw"
    torch.manual_seed(0)
    left = torch.nn.functional.dropout(checkpoint.weights[name], 0.25)
    ids = [[3, 4, 5, 6]]
    copy = {"encoder__encoder__lstm__0__module__h2h__weight": left}
    np.testing.assert_array_equal(
        run(build_awd_lstm(changed(checkpoint, **copy)), ids), run(build_awd_lstm(checkpoint), ids)
    )
    # With another rate, or another factor, it is no such copy.
    for config, factor in (({"weight_dropout_prob": 0.5}, 1), ({"weight_dropout_prob": "0.25"}, 1), ({}, 1.01)):
        other = {name: tensor * factor for name, tensor in copy.items()}
        with pytest.raises(CheckpointError, match=r"weight_raw and .*module.h2h.weight are one tensor.*but differ"):
            build_awd_lstm(changed(checkpoint, config=config, **other))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"bidirectional": True}}, "bidirectional is True.*from left to right"),
        ({"config": {"reset_token_id": "4"}}, "reset_token_id is '4'; wanted an id or null"),
        ({"config": {"input_size": None}}, "the field 'input_size' is None"),
        ({"config": {"num_hidden_layers": 10**6}}, "'num_hidden_layers' is 1000000"),
        ({"config": {"hidden_size": 9}}, r"wrong: encoder.encoder.lstm.0.module.i2h.weight is \[32, 5\]"),
        ({"drop": ["encoder.encoder.lstm.1.module.h2h.bias"]}, "missing: encoder.encoder.lstm.1.module.h2h.bias"),
        ({"drop": ["decoder.bias"], "decoder__weight": torch.zeros(7, 5)}, "decoder.weight are one tensor"),
        ({"decoder__weight": torch.zeros(7, 5).half()}, "decoder.weight are one tensor"),
        ({"encoder__encoder__lstm__2__weight_raw": torch.zeros(20, 5)}, "unexpected: encoder.encoder.lstm.2"),
        ({"encoder__encoder__lstm__0__module__i2h__bias": torch.zeros(())}, r"wrong: .*i2h.bias is \[\]"),
        ({"encoder__encoder__lstm__1__module__i2h__bias": torch.zeros(21)}, r"wrong: .*i2h.bias is \[21\]"),
    ],
)
def test_refused(change, message):
    with pytest.raises(CheckpointError, match=message):
        build_awd_lstm(changed(made(0), **change))


def test_weights_without_values():
    checkpoint = made(0, size=64, layers=1, hidden=512, weight_dropout_prob=0.5)
    raw = checkpoint.weights["encoder.encoder.lstm.0.weight_raw"]
    whole = changed(checkpoint, encoder__encoder__lstm__0__module__h2h__weight=raw)
    meta = {name: tensor.to("meta") for name, tensor in whole.weights.items()}
    network = build_awd_lstm(
        dataclasses.replace(whole, weights=meta | {"decoder.weight": torch.empty(7, 64, device="meta")})
    )
    # BEND's default: one layer, whose size is input_size. The decoder's weight is the embedding's.
    assert sum(p.numel() for p in network.parameters()) == 7 * 64 + 2 * 4 * 64 * 64 + 2 * 4 * 64 + 7 == 33_735


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_what_is_written_is_read_back(tmp_path, dropout):
    torch.manual_seed(0)
    spec = AwdLstmSpec(7, input_size=6, hidden_size=9, num_hidden_layers=2, weight_dropout_prob=dropout)
    network = AwdLstm(spec)
    assert network.head.weight is network.embedding.weight
    save_checkpoint(tmp_path, network, spec)
    again = read_checkpoint(tmp_path)
    ids = [[3, 4, 5, 6, 2, 3]]
    read = build_awd_lstm(again)
    np.testing.assert_array_equal(run(read, ids), run(network, ids))
    hidden = torch.randn(4, 6)
    assert torch.equal(read.logits(hidden), network.logits(hidden))
    # BEND's class has a wrapper, with weight_raw, only where there is weight dropout.
    assert any(name.endswith("weight_raw") for name in again.weights) == (dropout > 0)
    golden = json.loads((GOLDEN / "config.json").read_text())
    assert set(golden) - set(again.config) == {"initializer_range", "transformers_version"}
    assert set(again.config) <= set(golden)
    if dropout:
        names = set(read_checkpoint(GOLDEN).weights)
        assert set(again.weights) == {n for n in names if ".lstm.2." not in n and not n.endswith("h2h.weight")}
