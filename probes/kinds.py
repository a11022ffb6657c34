"""Every kind of probe by name: which class it is, and what sets it apart from others of that class."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probes.base import Probe


class ProbeKind(NamedTuple):
    """One kind of probe.

    Attributes
    ----------
    title
        One line for people.
    home
        Module and class.
    parameters
        What is set for it, besides a recipe.
    seeded
        Whether its numbers depend on a seed.
    """

    title: str
    home: str
    parameters: dict[str, Any]
    seeded: bool

    def make(self, settings: Mapping[str, Any]) -> Probe:
        """Make a probe of this kind.

        Parameters
        ----------
        settings
            Its parameters.

        Returns
        -------
        Probe

        Raises
        ------
        InputError
            It has no such parameter.
        """
        cls = self.load()
        known = [name for name in cls().get_params() if name not in self.parameters]
        for name in settings:
            if name not in known:
                raise InputError(f"the probe has no parameter {name!r}.{did_you_mean(name, known)}")
        return cls(**self.parameters, **settings)

    def load(self) -> type[Probe]:
        """Return the class."""
        module, _, name = self.home.partition(":")
        found: type[Probe] = getattr(import_module(module), name)
        return found


_NETWORK = "probes.probe:NetworkProbe"
PROBES = {
    "cnn": ProbeKind("two-layer CNN of BEND", _NETWORK, {"network": "cnn"}, True),
    "linear": ProbeKind("linear layer on means, by gradient descent", _NETWORK, {"network": "linear"}, True),
    "mlp": ProbeKind("multilayer perceptron on means", _NETWORK, {"network": "mlp"}, True),
    "attention": ProbeKind("attention pooling, then a linear layer", _NETWORK, {"network": "attention"}, True),
    "resnet": ProbeKind("supervised dilated ResNet of BEND on one-hot letters", _NETWORK, {"network": "resnet"}, True),
    "basset": ProbeKind("Basset on one-hot letters", _NETWORK, {"network": "basset"}, True),
    "ridge": ProbeKind("ridge regression on means, solved exactly", "probes.linear:RidgeProbe", {}, False),
    "logistic": ProbeKind("logistic regression on means", "probes.linear:LogisticProbe", {}, False),
    "slots": ProbeKind(
        "logistic regression on residues, a head per slot of a token", "probes.slots:SlotProbe", {}, False
    ),
    "slots_ridge": ProbeKind("ridge regression on residues, likewise", "probes.slots:SlotRidgeProbe", {}, False),
    "majority": ProbeKind("the most frequent label", "probes.linear:MajorityProbe", {}, False),
}
"""Every kind of probe by name."""


def probe_kind(name: str) -> ProbeKind:
    """Look a kind of probe up.

    Parameters
    ----------
    name
        One of `PROBES`.

    Returns
    -------
    ProbeKind

    Raises
    ------
    InputError
        There is none of that name.
    """
    if name not in PROBES:
        raise InputError(f"there is no probe {name!r}.{did_you_mean(name, PROBES)}")
    return PROBES[name]
