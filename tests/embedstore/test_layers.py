"""Names of layers, and what a network returns for them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embedstore.errors import InputError
from embedstore.models.layers import parse_layer
from embedstore.models.network import Network


class Counting(Network):
    """Adds 10 ** k to one channel after block k and remembers how far it was run."""

    width, layers = 1, 4

    def states(self, ids, lengths=None):
        x = torch.zeros(*ids.shape, 1, dtype=torch.float64)
        for k in range(5):
            self.run = k
            x = x + 10**k
            yield x

    def last(self, state):
        return -state


# The states are 1, 11, 111, 1111, 11111.
@pytest.mark.parametrize(
    ("wanted", "value", "run"),
    [
        (-1, -11111, 4),
        ("-1", -11111, 4),
        (0, 1, 0),
        ("0", 1, 0),
        (1, 11, 1),
        ("3", 1111, 3),
        (4, 11111, 4),  # not the last hidden state: that is after the final norm
        ("mean", (11 + 111 + 1111 + 11111) / 4, 4),
        ("1-4", (11 + 111 + 1111 + 11111) / 4, 4),
        ("2-3", (111 + 1111) / 2, 3),
        ("0-1", (1 + 11) / 2, 1),
        ("3-3", 1111, 3),
        (" 2 ", 111, 2),
    ],
)
def test_states(wanted, value, run):
    network = Counting()
    out = network(torch.zeros(2, 3, dtype=torch.long), parse_layer(wanted, 4, "toy"))
    assert out.shape == (2, 3, 1)
    assert (out == value).all()
    assert network.run == run  # blocks after the last that is needed are not computed


def test_the_last_state_is_wanted_unless_said_otherwise():
    ids = torch.zeros(1, 1, dtype=torch.long)
    assert Counting()(ids) == -11111


def test_a_network_of_which_nothing_is_said():
    network, state = Network(), torch.randn(2, 3)
    network.width = 3
    assert not network.pads
    assert network.state_width(0) == network.state_width(5) == 3
    assert torch.equal(network.last(state), state)
    with pytest.raises(NotImplementedError):
        network(torch.zeros(1, 1, dtype=torch.long), 0)
    with pytest.raises(NotImplementedError, match="no language-model head"):
        network.logits(state)


@given(layers=st.integers(1, 60), data=st.data())
def test_all_states_have_names(layers, data):
    first = data.draw(st.integers(0, layers))
    last = data.draw(st.integers(first, layers))
    assert parse_layer(first, layers, "m") == parse_layer(str(first), layers, "m") == first
    assert parse_layer(f"{first}-{last}", layers, "m") == (first, last)
    assert parse_layer("mean", layers, "m") == (1, layers)
    assert parse_layer(-1, layers, "m") == parse_layer("-1", layers, "m") == -1


@pytest.mark.parametrize(
    "wanted",
    [7, "7", -2, "-2", "", "last", "Mean", "1-", "-", "--1", "3-2", "2-7", "1-2-3", "1.0", 1.0, True, None, "²"],
)
def test_other_names_are_refused(wanted):
    with pytest.raises(InputError) as error:
        parse_layer(wanted, 6, "a model")
    assert str(error.value) == (
        f"Model 'a model' has no layer {wanted!r}: wanted -1 (last hidden state), 0 (embeddings), 1 to 6 (after that "
        "block), 'mean' (of all blocks) or a range such as '1-3' (mean of those)."
    )


@given(st.text(alphabet="-0123456789mean .", max_size=8) | st.integers())
def test_any_text_is_read_or_refused(wanted):
    try:
        layer = parse_layer(wanted, 12, "m")
    except InputError:
        return
    first, last = layer if isinstance(layer, tuple) else (layer, layer)
    assert layer == -1 or 0 <= first <= last <= 12
