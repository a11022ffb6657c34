"""What every probe is: a scikit-learn estimator over samples of a store."""

from __future__ import annotations

import json
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from embedstore.errors import CheckpointError, InputError
from embedstore.outputs import write_atomically
from embedstore.tasks.records import TaskRecord
from probes.evaluation import evaluate
from probes.metrics import mean_defined, per_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    from numpy.typing import NDArray

    from probes.dataset import Part, ProbeData
    from probes.scores import Scores


_MODEL = ("architecture", "checkpoint", "tokenizer", "layer", "window", "strands", "rules")
# Fields of a fingerprint that say which vectors these are, and not how they are stored.


class Probe(BaseEstimator):  # type: ignore[misc]
    """Parent of all probes: parameters as scikit-learn has them, predictions, scores, one file.

    Attributes
    ----------
    record_ : embedstore.tasks.TaskRecord
        Record of the task it was trained on.
    names_ : tuple of str
        Names of its outputs.
    data_description_ : dict
        What decided the numbers of the training data.
    history_ : pandas.DataFrame
        One row per epoch, or per penalty that was tried.
    best_epoch_ : int
        The row of `history_` that was kept, from 1.
    seed_ : int
        The seed that was used.
    """

    probabilities: ClassVar[bool] = True
    """Whether softmax or sigmoid makes probabilities of the outputs."""

    record_: TaskRecord
    names_: tuple[str, ...]
    data_description_: dict[str, Any]
    history_: pd.DataFrame
    best_epoch_: int
    seed_: int

    @abstractmethod
    def outputs(self, data: ProbeData) -> Iterator[tuple[Part, torch.Tensor]]:
        """Apply to samples in their order.

        Parameters
        ----------
        data
            Samples with embeddings of the model that the probe was trained on.

        Yields
        ------
        Part, torch.Tensor
            Some samples and the outputs for their positions, shape (position, output), before softmax or sigmoid.
        """

    @abstractmethod
    def weights(self) -> dict[str, torch.Tensor]:
        """Return what was learned, as named tensors.

        Returns
        -------
        dict
        """

    @abstractmethod
    def take_weights(self, weights: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
        """Become the fitted probe that had these weights.

        Parameters
        ----------
        weights
            From `weights`.
        about
            The rest of what `save` wrote, from `about`.
        """

    def check_fits(self, record: TaskRecord, outputs: int, width: int, lengths: NDArray[np.int64]) -> None:
        """Refuse a task or rows that the probe is not for, or parameters out of range, before any row is read.

        Parameters
        ----------
        record
            The task's record.
        outputs
            Classes or targets.
        width
            Channels of the rows.
        lengths
            Nucleotides of the samples.

        Raises
        ------
        InputError
            They do not fit.
        """

    def about(self) -> dict[str, Any]:
        """Return what `take_weights` needs besides the weights, as data that JSON can hold.

        Returns
        -------
        dict
        """
        return {}

    def columns(self) -> dict[str, Any]:
        """Return what the row of a result says of this kind of probe besides what it says of all.

        Returns
        -------
        dict
        """
        return {}

    def recipe(self) -> dict[str, Any]:
        """Return the parameters that decide the numbers: all but device and progress.

        Returns
        -------
        dict
        """
        return {key: value for key, value in self.get_params().items() if key not in ("device", "progress")}

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
        parts = [output.float().cpu().numpy() for _, output in self.outputs(data)]
        if self.record_.type == "class":
            return np.concatenate([part.argmax(axis=1) for part in parts])
        output = np.concatenate(parts)
        half = 0 if self.probabilities else 0.5
        return (output > half).astype(np.uint8) if self.record_.type == "multilabel" else output

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
            The task is one of values, or the probe has no probabilities.
        """
        check_is_fitted(self, "record_")
        if self.record_.type == "value":
            raise InputError(f"{self.record_.name} is a task of values: it has no probabilities; use predict")
        if not self.probabilities:
            raise InputError(
                f"{type(self).__name__} estimates labels by least squares: it has no probabilities. Use predict, or a "
                "logistic probe."
            )
        outputs = (output.float().cpu() for _, output in self.outputs(data))
        if self.record_.type == "class":
            return np.concatenate([output.softmax(dim=1).numpy() for output in outputs])
        return np.concatenate([output.sigmoid().numpy() for output in outputs])

    def evaluate(self, data: ProbeData) -> Scores:
        """Apply to samples and compare with their labels.

        Parameters
        ----------
        data
            Samples with embeddings of the model that the probe was trained on.

        Returns
        -------
        probes.scores.Scores
            All that metrics, intervals and tables per class need.
        """
        weight = self.get_params().get("positive_weight")
        return evaluate(self.outputs(data), data, positive_weight=weight, probabilities=self.probabilities)

    def score(self, data: ProbeData, y: None = None) -> float:  # noqa: ARG002 - scikit-learn passes y
        """Return the task's metric, mean over targets.

        Parameters
        ----------
        data
            Samples with embeddings of the model that the probe was trained on.
        y
            Ignored: the data carry their labels.

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
        from safetensors.torch import save

        check_is_fitted(self, "record_")
        about = {
            "probe": type(self).__name__,
            "recipe": self.recipe(),
            "record": self.record_.to_dict(),
            "names": list(self.names_),
            "data": self.data_description_,
            "seed": self.seed_,
            "best_epoch": self.best_epoch_,
            "history": self.history_.to_dict("records"),
            "about": self.about(),
        }
        tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in self.weights().items()}
        write_atomically(Path(path), save(tensors, {"embedstore": json.dumps(about)}))

    @classmethod
    def load(cls, path: str | Path, *, device: str | None = None) -> Self:
        """Read a trained probe.

        Parameters
        ----------
        path
            A file that `save` wrote.
        device
            As for a new probe; ignored by probes that know no device.

        Returns
        -------
        Probe

        Raises
        ------
        CheckpointError
            The file is damaged, is no probe, or holds one of another kind.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["embedstore"])
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{path}: is not a whole file of a probe: {error!r}. Train the probe again."
            ) from error
        if about["probe"] != cls.__name__:
            raise CheckpointError(f"{path}: holds a {about['probe']}, not a {cls.__name__}.")
        known = cls().get_params()
        recipe = {key: tuple(value) if isinstance(value, list) else value for key, value in about["recipe"].items()}
        probe = cls(**recipe, **({"device": device} if "device" in known else {}))
        probe.record_, probe.names_ = TaskRecord.from_dict(about["record"]), tuple(about["names"])
        probe.data_description_, probe.history_ = about["data"], pd.DataFrame(about["history"])
        probe.seed_, probe.best_epoch_ = about["seed"], about["best_epoch"]
        probe.take_weights(weights, about["about"])
        return probe

    def _remember(self, data: ProbeData, seed: int) -> None:
        """Note what the probe is trained on; every `fit` begins with it."""
        self.record_, self.names_, self.data_description_ = data.record, data.targets.names, data.description
        self.seed_, self.history_, self.best_epoch_ = seed, pd.DataFrame(), 0

    def _check_input(self, data: ProbeData) -> None:
        """Refuse samples of another model or of another task than the probe was trained on."""
        check_is_fitted(self, "record_")
        mine, theirs = self.data_description_.get("embedding"), data.description.get("embedding")
        fields = [] if mine is None or theirs is None else [key for key in _MODEL if mine.get(key) != theirs.get(key)]
        if mine is not None and theirs is not None and fields:
            rows = "; ".join(f"{key}: {mine.get(key)!r}, here {theirs.get(key)!r}" for key in fields)
            raise InputError(
                f"the probe was trained on {self.data_description_['task']}/{self.data_description_['model']}; "
                f"{data!r} has embeddings made differently ({rows}). Use the samples of that model, or train anew."
            )
        kind = [(one.level, one.type, one.bin_size) for one in (self.record_, data.record)]
        if kind[0] != kind[1] or self.names_ != data.targets.names:
            raise InputError(
                f"the probe was trained for task {self.record_.name!r} ({', '.join(map(str, kind[0]))}; outputs "
                f"{', '.join(self.names_[:9])}); {data!r} has {', '.join(map(str, kind[1]))} and outputs "
                f"{', '.join(data.targets.names[:9])}."
            )
