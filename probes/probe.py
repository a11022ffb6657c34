"""Probes that are networks, trained by gradient descent, as scikit-learn estimators."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch

from embedstore.errors import InputError, did_you_mean
from probes.base import Probe
from probes.networks import build_network
from probes.results import digest
from probes.training import Settings, predict, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from embedstore.tasks import TaskRecord
    from probes.dataset import Part, ProbeData

_WHOLE = {"hidden", "batch_size", "epochs", "patience", "steps", "evaluate_every", "tokens"}
_ABOVE_0 = {"learning_rate", "positive_weight", "clip"}
_MAY_BE_NONE = ("hidden", "patience", "positive_weight", "clip")


class NetworkProbe(Probe):
    """A small network on embeddings; by default BEND's two-layer convolutional probe.

    Whether an output stands for a nucleotide, a bin or a sample, and which loss and metric are used, is said by the
    task's record, which the data carry.

    Parameters
    ----------
    network
        Which network, default ``"cnn"``; see `probes.networks.NETWORKS`.
    hidden
        Hidden channels of the network; None (default): its own default, 64 for ``"cnn"``.
    kernel
        Width of convolutions in nucleotides, odd; None (default): the network's own, 3 for ``"cnn"``.
    options
        Further settings that the network knows, by name; None (default): none.
    learning_rate
        Of AdamW, default 3e-3.
    weight_decay
        Of AdamW, default 0.01.
    decay
        ``"all"`` (default): all parameters decay, as AdamW has it; ``"weights"``: biases and scales do not.
    schedule
        ``"constant"`` (default) rate, or ``"cosine"``: a short rise, then down to 0.
    clip
        Largest norm of the gradient of a step; None (default): any.
    precision
        ``"float32"`` (default), or ``"bfloat16"`` for products.
    batch_size
        Samples per step, default 64.
    epochs
        Times that all samples are used, default 100.
    patience
        Stop when the validation metric has not risen for this many epochs; None (default) never stops early.
    positive_weight
        Factor for the loss of positive labels of a multilabel task; None (default) is 1.
    seed
        Decides the first weights, the order of the samples and dropout. None (default): derived from the settings and
        the training data, so that equal experiments give equal numbers.
    device
        ``"cpu"``, ``"cuda"``, ...; None (default): a GPU where there is one.
    progress
        Show a progress bar, default True.

    Attributes
    ----------
    network_ : torch.nn.Module
        The trained network.
    history_ : pandas.DataFrame
        One row per epoch: epoch, train_loss, [valid_loss, valid,] seconds.
    best_epoch_ : int
        The epoch whose weights are kept.
    """

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "schedule": ("constant", "cosine"),
        "decay": ("all", "weights"),
        "precision": ("float32", "bfloat16"),
    }
    """Parameters that are one of a few words."""

    def __init__(
        self,
        network: str = "cnn",
        hidden: int | None = None,
        kernel: int | None = None,
        options: Mapping[str, Any] | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        decay: str = "all",
        schedule: str = "constant",
        clip: float | None = None,
        precision: str = "float32",
        batch_size: int = 64,
        epochs: int = 100,
        patience: int | None = None,
        positive_weight: float | None = None,
        seed: int | None = None,
        device: str | None = None,
        progress: bool = True,
    ) -> None:
        self.network = network
        self.hidden = hidden
        self.kernel = kernel
        self.options = options
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.decay = decay
        self.schedule = schedule
        self.clip = clip
        self.precision = precision
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.positive_weight = positive_weight
        self.seed = seed
        self.device = device
        self.progress = progress

    def fit(
        self,
        data: ProbeData,
        valid: ProbeData | None = None,
        *,
        on_epoch: Callable[[NetworkProbe], None] | None = None,
        state: Path | None = None,
    ) -> NetworkProbe:
        """Train.

        Interrupted (Ctrl-C), the probe keeps the best weights so far and the interrupt goes on.

        Parameters
        ----------
        data
            To train on.
        valid
            To choose the epoch with, by the task's metric; without it the last epoch is kept.
        on_epoch
            Called after every epoch with the probe, which then has that epoch's weights.
        state
            File in which the state of training is kept: a run that was killed goes on from there. None (default): none.

        Returns
        -------
        NetworkProbe
            Itself.

        Raises
        ------
        NonFiniteError
            The loss is not finite.
        InputError
            A setting is out of range, the network does not fit the task, training and validation share samples, or the
            metric does not fit the task or is not defined on `valid`.
        CheckpointError
            `state` is damaged or of another run.
        """
        self.check_settings()
        data.check_apart(valid)
        described = {"probe": self.recipe(), "data": data.description}
        self._remember(data, int(digest(described)[:8], 16) if self.seed is None else self.seed)
        self._shape = self._shape_of(data)
        settings = self._settings()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_)
            self._build()

        def take(history: list[dict[str, float]], best_epoch: int) -> None:
            self.history_, self.best_epoch_ = pd.DataFrame(history), best_epoch
            if on_epoch is not None:
                on_epoch(self)

        about = {"described": digest({**described, "seed": self.seed_})}
        there = self._ready(data), None if valid is None else self._ready(valid)
        train(self.network_, there[0], there[1], settings, take, state=state, about=about, progress=self.progress)
        return self

    def check_fits(self, record: TaskRecord, outputs: int, width: int, lengths: NDArray[np.int64]) -> None:
        """Refuse what the network is not for; see `probes.base.Probe.check_fits`."""
        self.check_settings()
        with torch.device("meta"):  # sizes without memory
            build_network(self.network, width, outputs, record, self._network_settings(), lengths)

    def outputs(self, data: ProbeData) -> Iterator[tuple[Part, torch.Tensor]]:
        """Apply to samples in their order; see `probes.base.Probe.outputs`."""
        self._check_input(data)
        if data.width != self._shape["width"]:
            raise InputError(f"the probe was trained on {self._shape['width']} channels; {data!r} has {data.width}")
        yield from predict(self.network_, data, self._settings())

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights of the network, by the names of its module.

        Those of ``"cnn"`` and ``"basset"`` are BEND's; the encoder of ``"resnet"`` has names of its own
        (`probes.baselines.ResNet.load_bend` takes BEND's).
        """
        return dict(self.network_.state_dict())

    def about(self) -> dict[str, Any]:
        """Return the sizes of what it was trained on."""
        return dict(self._shape)

    def take_weights(self, weights: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
        """Become the trained probe that had these weights."""
        self._shape = dict(about)
        self._build()
        self.network_.load_state_dict(weights)

    def _shape_of(self, data: ProbeData) -> dict[str, Any]:
        """Return what the network must know of the training data, as data that JSON can hold."""
        lengths = data.targets.lengths[data.samples]
        return {"width": data.width, "lengths": np.unique(lengths)[:2].tolist()}

    def _ready(self, data: ProbeData) -> ProbeData:
        """Return data as the network is trained on them."""
        return data.to(self._settings().device)

    def _build(self) -> None:
        """Make the network, with new weights."""
        width, lengths = self._shape["width"], np.array(self._shape["lengths"])
        settings = self._network_settings()
        network = build_network(self.network, width, len(self.names_), self.record_, settings, lengths)
        self.network_ = network.to(self._settings().device)

    def _network_settings(self) -> dict[str, Any]:
        """Return the settings of the network that are not its defaults."""
        given = {"hidden": self.hidden, "kernel": self.kernel}
        return {name: value for name, value in given.items() if value is not None} | dict(self.options or {})

    def check_settings(self) -> None:
        """Refuse settings out of range, as late as scikit-learn wants it: at fit."""
        given = self.get_params()
        for name in sorted(_WHOLE & given.keys()):
            value = given[name]
            if not (value is None and name in _MAY_BE_NONE) and not (_is(value, Integral) and value >= 1):
                raise InputError(f"{name} must be 1 or more, a whole number; got {value!r}")
        for name in sorted(_ABOVE_0 & given.keys()):
            value = given[name]
            good = _is(value, Real) and 0 < value < float("inf")
            if not good and not (value is None and name in _MAY_BE_NONE):
                raise InputError(f"{name} must be a finite number above 0; got {value!r}")
        decay = given.get("weight_decay", 0)
        if not (_is(decay, Real) and 0 <= decay < float("inf")):
            raise InputError(f"weight_decay must be a finite number, 0 or more; got {decay!r}")
        if self.seed is not None and not (_is(self.seed, Integral) and 0 <= self.seed < 2**63):
            raise InputError(f"seed must be a whole number, 0 to 2^63 - 1; got {self.seed!r}")
        if not (given.get("options") is None or isinstance(given["options"], dict)):
            raise InputError(f"options must be a dictionary of settings by name; got {given['options']!r}")
        for name, choices in self.choices.items():
            if given[name] not in choices:
                hint = did_you_mean(str(given[name]), choices)
                raise InputError(f"{name} is {given[name]!r}; it must be one of {', '.join(choices)}.{hint}")

    def _settings(self) -> Settings:
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        own = {name: getattr(self, name) for name in Settings._fields if name not in ("seed", "device", "choose")}
        return Settings(**own, seed=self.seed_, device=device)


def _is(value: object, kind: type) -> bool:
    """Return whether a value is a number of a kind; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


CNNProbe = NetworkProbe
"""The name of the probe whose network is the default, BEND's two-layer CNN."""
