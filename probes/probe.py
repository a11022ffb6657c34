"""The convolutional probe as a scikit-learn estimator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from embedstore.errors import InputError
from embedstore.tasks.records import TaskRecord
from probes.cnn import CNN
from probes.metrics import mean_defined, per_target
from probes.results import digest, write_atomically
from probes.targets import window_of
from probes.training import Settings, evaluate, predict, train

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from probes.dataset import ProbeData
    from probes.metrics import Scores


class CNNProbe(BaseEstimator):  # type: ignore[misc]
    """BEND's two-layer convolutional probe.

    Whether an output stands for a nucleotide, a bin or a sample, and which loss and metric are used, is said by the
    task's record, which the data carry. The first convolution is computed on tokens (`probes.spans`).

    Parameters
    ----------
    hidden
        Channels of both convolutions, default 64.
    kernel
        Width of both convolutions in nucleotides, odd, default 3.
    learning_rate
        Of AdamW, default 3e-3.
    weight_decay
        Of AdamW, default 0.01.
    batch_size
        Samples per step, default 64.
    epochs
        Times that all samples are used, default 100.
    patience
        Stop when the validation metric has not risen for this many epochs; None (default) never stops early.
    positive_weight
        Factor for the loss of positive labels of a multilabel task; None (default) is 1.
    seed
        Decides the first weights and the order of the samples. None (default): derived from the settings and the
        training data, so that equal experiments give equal numbers.
    device
        ``"cpu"``, ``"cuda"``, ...; None (default): a GPU where there is one.
    progress
        Show a progress bar, default True.

    Attributes
    ----------
    network_ : probes.cnn.CNN
        The trained network.
    record_ : embedstore.tasks.TaskRecord
        Record of the task it was trained on.
    history_ : pandas.DataFrame
        One row per epoch: epoch, train_loss, [valid_loss, valid,] seconds.
    best_epoch_ : int
        The epoch whose weights are kept.
    seed_ : int
        The seed that was used.
    """

    def __init__(
        self,
        hidden: int = 64,
        kernel: int = 3,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        batch_size: int = 64,
        epochs: int = 100,
        patience: int | None = None,
        positive_weight: float | None = None,
        seed: int | None = None,
        device: str | None = None,
        progress: bool = True,
    ) -> None:
        self.hidden = hidden
        self.kernel = kernel
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.positive_weight = positive_weight
        self.seed = seed
        self.device = device
        self.progress = progress

    def recipe(self) -> dict[str, Any]:
        """Return the settings that decide the numbers: all but device and progress.

        Returns
        -------
        dict
        """
        return {key: value for key, value in self.get_params().items() if key not in ("device", "progress")}

    def fit(
        self,
        data: ProbeData,
        valid: ProbeData | None = None,
        *,
        on_epoch: Callable[[CNNProbe], None] | None = None,
    ) -> CNNProbe:
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

        Returns
        -------
        CNNProbe
            Itself.

        Raises
        ------
        NonFiniteError
            The loss is not finite.
        InputError
            A setting is out of range, or the metric does not fit the task or is not defined on `valid`.
        """
        self._check()
        described = {"probe": self.recipe(), "data": data.description}
        self.seed_ = int(digest(described)[:8], 16) if self.seed is None else self.seed
        self.record_ = data.record
        self.history_, self.best_epoch_ = pd.DataFrame(), 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_)
            network = CNN(data.width, len(data.targets.names), self.hidden, self.kernel, data.targets.window)
        settings = self._settings()
        self.network_ = network.to(settings.device)

        def take(history: list[dict[str, float]], best_epoch: int) -> None:
            self.history_, self.best_epoch_ = pd.DataFrame(history), best_epoch
            if on_epoch is not None:
                on_epoch(self)

        train(self.network_, data, valid, settings, take, progress=self.progress)
        return self

    def predict(self, data: ProbeData) -> NDArray[Any]:
        """Predict.

        Parameters
        ----------
        data
            Samples with embeddings of the model that the probe was trained on.

        Returns
        -------
        numpy.ndarray
            Positions (nucleotides, bins or samples) of all samples one after another: (position,) int64 classes,
            (position, target) uint8 0 or 1 at probability one half, or (position, target) float32 values.
        """
        parts = self._outputs(data)
        if self.record_.type == "class":
            return torch.cat([part.argmax(dim=1) for part in parts]).numpy()
        output = torch.cat(parts).numpy()
        return (output > 0).astype(np.uint8) if self.record_.type == "multilabel" else output

    def predict_proba(self, data: ProbeData) -> NDArray[np.float32]:
        """Predict probabilities.

        Parameters
        ----------
        data
            Samples with embeddings of the model that the probe was trained on.

        Returns
        -------
        numpy.ndarray
            (position, class), rows adding up to 1, or (position, target), float32.

        Raises
        ------
        InputError
            The task is one of values.
        """
        check_is_fitted(self)
        if self.record_.type == "value":
            raise InputError(f"{self.record_.name} is a task of values: it has no probabilities; use predict")
        if self.record_.type == "class":
            return torch.cat([output.softmax(dim=1) for output in self._outputs(data)]).numpy()
        return torch.cat([output.sigmoid() for output in self._outputs(data)]).numpy()

    def evaluate(self, data: ProbeData) -> Scores:
        """Apply to samples and compare with their labels.

        Parameters
        ----------
        data
            Samples with embeddings of the model that the probe was trained on.

        Returns
        -------
        probes.metrics.Scores
            All that metrics, intervals and tables per class need.
        """
        self._check_input(data)
        return evaluate(self.network_, data, self._settings())

    def score(self, data: ProbeData) -> float:
        """Return the task's metric, mean over targets.

        Parameters
        ----------
        data
            Samples with embeddings of the model that the probe was trained on.

        Returns
        -------
        float
            NaN where it is not defined.
        """
        return mean_defined(per_target(data.record.metric, self.evaluate(data)))

    def save(self, path: str | Path) -> None:
        """Write weights and all that is needed to use them to one safetensors file.

        Parameters
        ----------
        path
            The file; one of that name is replaced.
        """
        check_is_fitted(self)
        about = {
            "recipe": self.recipe(),
            "record": self.record_.to_dict(),
            "seed": self.seed_,
            "best_epoch": self.best_epoch_,
            "history": self.history_.to_dict("records"),
        }
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network_.state_dict().items()}
        write_atomically(Path(path), save(weights, {"embedstore": json.dumps(about)}))

    @classmethod
    def load(cls, path: str | Path, *, device: str | None = None) -> CNNProbe:
        """Read a trained probe.

        Parameters
        ----------
        path
            A file that `save` wrote.
        device
            As for a new probe.

        Returns
        -------
        CNNProbe
        """
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["embedstore"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        probe = cls(**about["recipe"], device=device)
        probe.seed_, probe.best_epoch_ = about["seed"], about["best_epoch"]
        probe.record_, probe.history_ = TaskRecord.from_dict(about["record"]), pd.DataFrame(about["history"])
        channels, outputs = weights["conv1.1.weight"].shape[1], weights["linear.0.weight"].shape[0]
        probe.network_ = CNN(channels, outputs, probe.hidden, probe.kernel, window_of(probe.record_))
        probe.network_.load_state_dict(weights)
        probe.network_.to(probe._settings().device)
        return probe

    def _check(self) -> None:
        """Refuse settings out of range, as late as scikit-learn wants it: at fit."""
        for name in ("hidden", "batch_size", "epochs", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be 1 or more; got {value}")
        for name in ("learning_rate", "positive_weight"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{name} must be a finite number above 0; got {value}")

    def _settings(self) -> Settings:
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        return Settings(**{**self.recipe(), "seed": self.seed_}, device=device)

    def _check_input(self, data: ProbeData) -> None:
        check_is_fitted(self)
        channels = self.network_.state_dict()["conv1.1.weight"].shape[1]
        if data.width != channels:
            raise InputError(f"the probe was trained on {channels} channels; {data!r} has {data.width}")

    def _outputs(self, data: ProbeData) -> list[torch.Tensor]:
        self._check_input(data)
        return [output.cpu() for _, output in predict(self.network_, data, self._settings())]
