from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from embedstore.errors import CheckpointError, InputError
from embedstore.models import load
from embedstore.models.checkpoints import read_checkpoint
from embedstore.models.convnet import ConvNet, ConvNetSpec, DilatedConvolution, build_convnet

GOLDEN = Path(__file__).parents[1] / "golden" / "resnet_lm"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dilation", [1, 2, 32])
def test_convolution_is_the_one_dimensional_one(dilation, training):
    torch.manual_seed(0)
    ours = DilatedConvolution(8, 12, 9, dilation=dilation).train(training)
    theirs = nn.Conv1d(8, 12, 9, padding="same", dilation=dilation)
    theirs.load_state_dict(ours.state_dict())
    for length in (1, 5, 70):
        x = torch.randn(3, length, 8, requires_grad=True)
        y, expected = ours(x), theirs(x.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-5)
        gradient, wanted = (torch.autograd.grad((out**2).sum(), x)[0] for out in (y, expected))
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-4)


def test_reach_of_the_dilations():
    # Seven blocks of kernel 9 and dilations 1 to 32, 1 reach 4 * (63 + 1) nucleotides to either side, and no further.
    spec = ConvNetSpec(7, 8, 7)
    assert spec.dilations() == [1, 2, 4, 8, 16, 32, 1]
    assert ConvNetSpec(7, 8, 5, dilation_double_every=2, dilation_max=2).dilations() == [1, 1, 2, 2, 2]
    torch.manual_seed(0)
    network = ConvNet(spec).double()
    ids = torch.randint(3, 7, (1, 700))
    changed = ids.clone()
    changed[0, 350] = 3 + (ids[0, 350] - 2) % 4
    network.to(torch.float32)
    with torch.inference_mode():
        moved = (network(ids) - network(changed)).abs().sum(-1)[0]
    reached = torch.nonzero(moved > 0).flatten()
    assert 350 - 256 <= int(reached.min()) < 350 - 200
    assert 350 + 200 < int(reached.max()) <= 350 + 256


def test_states_and_padding():
    network = build_convnet(read_checkpoint(GOLDEN))
    assert network.pads
    random = np.random.default_rng(0)
    lengths = [1, 5, 40, 150]
    ids = torch.from_numpy(random.integers(0, 7, (4, 150)))
    with torch.inference_mode():
        states = list(network.states(ids))
        assert len(states) == network.layers + 1
        torch.testing.assert_close(states[0], torch.nn.functional.one_hot(ids, 24).float())
        for k in (0, 3, network.layers):
            assert torch.equal(network(ids, k), states[k])
        assert torch.equal(network(ids), states[-1])
        torch.testing.assert_close(network(ids, (2, 4)), (states[2] + states[3] + states[4]) / 3)
        padded = network(ids, lengths=torch.tensor(lengths))
        for row, length in enumerate(lengths):
            alone = network(ids[row : row + 1, :length])[0]
            assert (padded[row, :length] - alone).abs().max() <= 1e-5 * alone.abs().max()
        # Without the lengths, what is meant as padding is taken for sequence.
        assert (network(ids)[2, :40] - padded[2, :40]).abs().max() > 1


def test_bare_model(tmp_path):
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(GOLDEN / name, tmp_path)
    weights = load_file(GOLDEN / "model.safetensors")
    bare = {k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")}
    save_file(bare, tmp_path / "model.safetensors")
    model = load(tmp_path)
    arrays = np.load(GOLDEN / "cases.npz")
    hidden = model.hidden(torch.from_numpy(arrays["iupac/ids"]).long()[None])[0].numpy()
    np.testing.assert_allclose(hidden, arrays["iupac/hidden"], rtol=0, atol=2e-5)
    with pytest.raises(InputError, match="no .*head"):
        model.logits(torch.tensor([[3]]))
    with pytest.raises(NotImplementedError):
        model._network.logits(torch.zeros(1, 24))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 6}, "at least vocab_size"),
        ({"kernel_size": 8}, "odd kernel_size"),
        ({"dilation_max": 0}, "'dilation_max' is 0"),
    ],
)
def test_other_configs_are_refused(tmp_path, fields, message):
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        shutil.copy(GOLDEN / name, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(json.loads((GOLDEN / "config.json").read_text()) | fields))
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)
