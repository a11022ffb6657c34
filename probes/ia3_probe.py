"""A language model tuned by IA3, with a linear head, as a probe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from embedstore.errors import InputError
from embedstore.models.ia3 import add_ia3
from embedstore.models.precision import arithmetic
from probes.augmentation import Augmentation, augmentations
from probes.probe import NetworkProbe
from probes.residues import letters_per_residue
from probes.targets import labelled, window_of
from probes.token_data import TokenData
from probes.training import Settings, predict
from probes.tuned import POOLINGS, Shape, TunedNetwork, slots_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from embedstore.models import Model
    from embedstore.models.ia3 import IA3
    from embedstore.models.precision import Precision
    from probes.dataset import Part, ProbeData


class IA3Probe(NetworkProbe):
    """A frozen language model tuned by IA3, with a linear head on its embedding.

    Trained are three vectors a block (`embedstore.models.ia3`) and the head. Values are standardised by the training
    labels, and the loss is their squared error; classes have cross-entropy. Labels of residues on coding sequences have
    a head for each of the two codons of a six-letter token, and one more where training residues lie in neither place,
    as behind an N; codons whose letters are tokens by themselves use the first.

    Source: Boshar et al. 2024: IA3 and a single-layer head, Adam at 3e-3, batches of 8, evaluated at fixed intervals,
    best validation R2 or lowest validation cross-entropy kept. For values both are the lowest loss. Not published, and
    so our choice: the loss of values, the number of steps, the schedule, the pooling and the seeds.

    Parameters
    ----------
    pooling
        For labels of whole sequences: ``"mean"`` (default) over the nucleotides or residues, as a store's ``pooled``;
        ``"tokens"``, over tokens that are not special; ``"cls"``, the special token in front.
    augment
        What the head is given besides, names joined by ``+``: ``gc``, ``gc3``, ``gc_skew``, ``species``. None
        (default): nothing.
    learning_rate
        Of Adam, default 3e-3, for the vectors and the head alike.
    batch_size
        Samples per step, default 8.
    steps
        Default 10,000, rounded up to whole intervals.
    evaluate_every
        Steps between evaluations, default 500. An epoch of the history is one such interval.
    schedule, clip
        As for `NetworkProbe`.
    choose
        What the evaluation is chosen by: the validation ``"loss"`` (default), or the task's ``"metric"``.
    patience
        Stop after so many evaluations without a better one; None (default) never stops early.
    tokens
        Most tokens of which activations are held at a time, default 8192: batches of more are computed in parts.
    seed
        Decides the head's first weights and the order of the samples, default 0. None: derived from the settings and
        the training data.
    progress
        Show a progress bar, default True.

    Attributes
    ----------
    network_ : probes.tuned.TunedNetwork
        Vectors and head, on the model.
    history_ : pandas.DataFrame
        One row per evaluation: epoch, train_loss, [valid_loss, valid,] seconds. Losses are of standardised values.
    best_epoch_ : int
        The evaluation that is kept.
    """

    network_: TunedNetwork

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pooling": POOLINGS,
        "schedule": NetworkProbe.choices["schedule"],
        "choose": ("loss", "metric"),
    }

    def __init__(
        self,
        pooling: str = "mean",
        augment: str | None = None,
        learning_rate: float = 3e-3,
        batch_size: int = 8,
        steps: int = 10_000,
        evaluate_every: int = 500,
        schedule: str = "constant",
        clip: float | None = None,
        choose: str = "loss",
        patience: int | None = None,
        tokens: int = 8192,
        seed: int | None = 0,
        progress: bool = True,
    ) -> None:
        self.pooling = pooling
        self.augment = augment
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.steps = steps
        self.evaluate_every = evaluate_every
        self.schedule = schedule
        self.clip = clip
        self.choose = choose
        self.patience = patience
        self.tokens = tokens
        self.seed = seed
        self.progress = progress

    def fit(
        self,
        data: ProbeData,
        valid: ProbeData | None = None,
        *,
        on_epoch: Callable[[NetworkProbe], None] | None = None,
        state: Path | None = None,
    ) -> IA3Probe:
        """Tune the model; see `NetworkProbe.fit`.

        Parameters
        ----------
        data, valid
            From `probes.token_data.read_tokens`.
        on_epoch, state
            As for `NetworkProbe.fit`.

        Returns
        -------
        IA3Probe
            Itself.
        """
        self._take_model(_tokens(data))
        model = self._model
        # Around the backward passes too: they are outside of what the network does.
        own: Precision = "tf32" if model.precision == "tf32" else "float32"
        with arithmetic(own, model.device, gradients=True):
            super().fit(data, valid, on_epoch=on_epoch, state=state)
        return self

    def outputs(self, data: ProbeData) -> Iterator[tuple[Part, torch.Tensor]]:
        """Apply to samples in their order; values are in the units of the labels. See `probes.base.Probe.outputs`."""
        self._check_input(data)
        tokens = _tokens(data)
        if not hasattr(self, "network_"):
            self._take_model(tokens)
            self._build()
            self.network_.load_state_dict(self._weights)
        mean, deviation = (torch.tensor(self._shape[name]) for name in ("mean", "deviation"))
        for part, output in predict(self.network_, self._featured(tokens), self._settings()):
            values = self.record_.type == "value"
            yield part, output * deviation.to(output.device) + mean.to(output.device) if values else output

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the vectors and the weights of the head, by the names of `network_`."""
        return dict(self.network_.state_dict()) if hasattr(self, "network_") else self._weights

    def take_weights(self, weights: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
        """Become the trained probe that had these weights; its model comes with the first data."""
        self._shape, self._weights = dict(about), dict(weights)

    def columns(self) -> dict[str, Any]:
        """Return steps and counts of parameters; see `probes.base.Probe.columns`."""
        network = self.network_
        # What is published of a task is of the model alone.
        augmented = {"published": False, "augment": self.augment} if self.augment else {}
        return {
            **augmented,
            "steps": len(self.history_) * self.evaluate_every,
            "best_step": self.best_epoch_ * self.evaluate_every,
            "parameters_ia3": network.ia3.count,
            "parameters_head": sum(weight.numel() for weight in network.head.parameters()),
            "parameters_model": sum(weight.numel() for weight in self._model.network.parameters()),
        }

    def vectors_of(self, model: Model) -> IA3:
        """Return the trained vectors, for `embedstore.models.ia3.tuned_model` and `embedstore.models.ia3.save_ia3`.

        Parameters
        ----------
        model
            The model that was tuned.

        Returns
        -------
        IA3

        Raises
        ------
        InputError
            It is another model.
        """
        check_is_fitted(self, "record_")
        mine, theirs = self.data_description_["embedding"], model.fingerprint
        if (mine["checkpoint"], mine["layer"]) != (theirs["checkpoint"], theirs["layer"]):
            raise InputError(
                f"these vectors were trained for {self.data_description_['model']!r}, layer {mine['layer']} of "
                f"checkpoint {mine['checkpoint'][:12]}; model {model.name!r} gives layer {theirs['layer']} of "
                f"{theirs['checkpoint'][:12]}. Load the model that was tuned."
            )
        vectors = add_ia3(model)
        own = {name.removeprefix("ia3."): value for name, value in self.weights().items() if name.startswith("ia3.")}
        vectors.load_state_dict(own)
        return vectors

    def _take_model(self, data: TokenData) -> None:
        """Remember the model, and refuse what it cannot be tuned with."""
        if data.model.precision == "float16":
            raise InputError(
                f"model {data.model.name!r} computes in float16, in which small gradients become 0. Load it with "
                "precision 'bfloat16', 'tf32' or 'float32' to tune it."
            )
        self._model = data.model

    def _shape_of(self, data: ProbeData) -> dict[str, Any]:
        """Return what is learnt of the training data before any step."""
        tokens = _tokens(data)
        wanted = augmentations(self.augment)
        if set(wanted) != set(tokens.columns):
            raise InputError(f"augment is {self.augment!r}, and {data!r} was read with {sorted(tokens.columns)}.")
        if self.pooling != "mean" and data.record.level != "sequence":
            raise InputError(
                f"pooling is {self.pooling!r}; labels of a {data.record.level} (task {data.record.name!r}) need 'mean'."
            )
        if wanted and data.record.level != "sequence":
            raise InputError(
                f"augment is {self.augment!r}: it is one row per sample, and the labels of task {data.record.name!r} "
                f"belong to a {data.record.level}."
            )
        if self.pooling == "cls":
            _check_front(tokens)
        letters = _letters(tokens)
        mean, deviation = _moments(tokens)
        return {
            "mean": mean,
            "deviation": deviation,
            "augmentation": Augmentation.fit(tokens.columns, tokens.samples)._asdict(),
            "letters": letters,
            "slots": _slots(tokens, letters) if letters else 1,
        }

    def _ready(self, data: ProbeData) -> ProbeData:
        """Return samples with standardised values and with what the head is given besides."""
        tokens = self._featured(_tokens(data))
        if self.record_.type != "value":
            return tokens
        return tokens.standardised(np.array(self._shape["mean"]), np.array(self._shape["deviation"]))

    def _featured(self, data: TokenData) -> TokenData:
        """Return samples with what the head is given besides, in intervals of steps."""
        letters = self._shape["letters"]
        if letters and (data.targets.lengths[data.samples] % letters).any():
            raise InputError(
                f"{data!r}: some lengths are no whole codons, and the training samples have a class for each codon. "
                "Give coding sequences from their first codon to their last."
            )
        augmentation = self._augmentation
        features = augmentation.numbers(data.columns) if augmentation.width else None
        return replace(data, features=features, tokens=self.tokens, every=self.evaluate_every)

    @property
    def _augmentation(self) -> Augmentation:
        """What was learnt of the columns of training samples."""
        return Augmentation(**self._shape["augmentation"])

    def _build(self) -> None:
        """Make the network, with new weights."""
        shape = Shape(
            len(self.names_),
            window_of(self.record_),
            self.pooling,  # type: ignore[arg-type]  # checked
            self._shape["letters"],
            self._shape["slots"],
            self._augmentation.width,
        )
        self.network_ = TunedNetwork(self._model, shape).to(self._model.device)

    def _settings(self) -> Settings:
        intervals = -(-self.steps // self.evaluate_every)
        own = {name: getattr(self, name) for name in ("learning_rate", "schedule", "clip", "batch_size", "patience")}
        return Settings(
            **own,
            weight_decay=0.0,
            decay="all",
            precision="float32",
            epochs=intervals,
            positive_weight=None,
            seed=self.seed_,
            device=str(self._model.device),
            choose=self.choose,
        )


def _tokens(data: ProbeData) -> TokenData:
    """Return data after making sure that they are tokens."""
    if isinstance(data, TokenData):
        return data
    raise InputError(f"{data!r} holds stored rows; a model is tuned on tokens, from probes.token_data.read_tokens.")


def _check_front(data: TokenData) -> None:
    """Refuse samples of which a piece has no special token in front."""
    for sample in data.samples.tolist():
        if any(piece.first == 0 for piece in data.pieces[sample]):
            raise InputError(
                f"pooling is 'cls': model {data.model.name!r} puts no special token in front of sample {sample}. Use "
                "'mean'."
            )


def _letters(data: TokenData) -> int:
    """Return the letters of a residue where labels are of residues: whole codons with one class each; else 0."""
    record = data.record
    if (record.level, record.type) != ("nucleotide", "class"):
        return 0
    letters = letters_per_residue(record)
    if (data.targets.lengths[data.samples] % letters).any():
        return 0
    label = data.targets.of(data.samples).reshape(-1, letters)
    return letters if bool((label == label[:, :1]).all()) else 0


def _slots(data: TokenData, letters: int) -> int:
    """Return how many heads the residues of training samples need."""
    spans = (np.concatenate([piece.span for piece in data.pieces[sample]]) for sample in data.samples.tolist())
    return 1 + max(int(slots_of(span.astype(np.int64), letters).max()) for span in spans)


def _moments(data: TokenData) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each target of training samples; 0 and 1 where labels are no values."""
    if data.record.type != "value":
        return [0.0], [1.0]
    target = data.targets.of(data.samples).double()
    known = labelled(target)
    columns = [column[mask] for column, mask in zip(target.T, known.T, strict=True)]
    mean = [float(column.mean()) if len(column) else 0.0 for column in columns]
    # Labels that are all alike cannot be divided by their deviation; they say nothing.
    return mean, [float(column.std(correction=0)) or 1.0 if len(column) else 1.0 for column in columns]
