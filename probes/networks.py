"""Every network that can be a probe, one record each, and the small ones that read means or pool by attention."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from embedstore.errors import InputError, did_you_mean
from probes.baselines import Basset, ResNet
from probes.cnn import CNN
from probes.spans import Gather, gather_sum, output_gather, selection, window_rows
from probes.targets import window_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from embedstore.tasks import TaskRecord
    from probes.spans import Window


class Linear(nn.Module):
    """A linear layer on the mean over the nucleotides of an output.

    Parameters
    ----------
    input_size
        Channels of the embedding.
    output_size
        Classes or targets.
    window
        What an output stands for; see `probes.cnn.CNN`.

    Attributes
    ----------
    receptive_field : int
        1: before averaging, every nucleotide is read for itself.
    """

    receptive_field = 1

    def __init__(self, input_size: int, output_size: int, window: Window = None) -> None:
        super().__init__()
        self.window = window
        self.linear = nn.Linear(input_size, output_size)

    def layout(self, span: ArrayLike, first_row: ArrayLike) -> Gather:
        """Plan `forward_tokens`; see `probes.spans.output_gather`."""
        return output_gather(span, first_row, self.window)

    def forward_tokens(self, vector: torch.Tensor, layout: Gather) -> torch.Tensor:
        """Apply the network to rows (row, channel); returns (output position, output)."""
        # Multiplying and averaging commute, and the first leaves fewer channels to average.
        return gather_sum(self.linear(vector.to(self.linear.weight.dtype)), layout)


class MLP(nn.Module):
    """A multilayer perceptron on the mean over the nucleotides of an output.

    Parameters
    ----------
    input_size
        Channels of the embedding.
    output_size
        Classes or targets.
    hidden
        Hidden channels, default 256.
    layers
        Hidden layers, each with GELU and dropout, default 1.
    dropout
        Default 0.
    window
        What an output stands for; see `probes.cnn.CNN`.

    Attributes
    ----------
    receptive_field : int
        1: before averaging, every nucleotide is read for itself.
    """

    receptive_field = 1

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden: int = 256,
        layers: int = 1,
        dropout: float = 0.0,
        window: Window = None,
    ) -> None:
        super().__init__()
        if layers < 1 or not 0 <= dropout < 1:
            raise InputError(f"layers is {layers} and dropout {dropout}; wanted are 1 or more, and 0 to below 1")
        self.window = window
        sizes = [input_size, *[hidden] * layers]
        stages: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            stages += [nn.Linear(before, after), nn.GELU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*stages, nn.Linear(hidden, output_size))

    def layout(self, span: ArrayLike, first_row: ArrayLike) -> Gather:
        """Plan `forward_tokens`; see `probes.spans.output_gather`."""
        return output_gather(span, first_row, self.window)

    def forward_tokens(self, vector: torch.Tensor, layout: Gather) -> torch.Tensor:
        """Apply the network to rows (row, channel); returns (output position, output)."""
        x = vector.to(next(self.parameters()).dtype)
        if self.window is None:  # every row once, then repeated
            return gather_sum(self.layers(x), layout)
        result: torch.Tensor = self.layers(gather_sum(x, layout))
        return result


class Windows(NamedTuple):
    """The rows of each window: which, how many, and how many nucleotides of each are inside."""

    rows: Gather
    rows_in: torch.Tensor
    nucleotides: torch.Tensor

    def to(self, device: torch.device | str) -> Windows:
        """Copy to a device."""
        return Windows(self.rows.to(device), self.rows_in.to(device), self.nucleotides.to(device))


class Attention(nn.Module):
    """Attention pooling over the nucleotides of an output, then a linear layer.

    Source: Ilse, Tomczak and Welling 2018, ICML, equation 8: the weight of a nucleotide with vector x is the softmax of
    ``w . tanh(V x)``. A row that stands for several nucleotides counts as often as it has nucleotides inside, as if it
    were repeated.

    Parameters
    ----------
    input_size
        Channels of the embedding.
    output_size
        Classes or targets.
    hidden
        Channels of the scores, default 128.
    window
        What an output stands for, a number of nucleotides or ``"all"``.

    Attributes
    ----------
    receptive_field : None
        The whole window.

    Raises
    ------
    InputError
        An output stands for one nucleotide: there is nothing to pool.
    """

    receptive_field = None

    def __init__(self, input_size: int, output_size: int, hidden: int = 128, window: Window = "all") -> None:
        super().__init__()
        if window is None:
            raise InputError("attention pools over the nucleotides of an output; for one output per nucleotide use cnn")
        self.window = window
        self.project = nn.Linear(input_size, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.linear = nn.Linear(input_size, output_size)

    def layout(self, span: ArrayLike, first_row: ArrayLike) -> Windows:
        """Plan `forward_tokens`."""
        assert self.window is not None
        spans, first = np.asarray(span, dtype=np.int64), np.asarray(first_row, dtype=np.int64)
        index, start, nucleotides, _ = window_rows(spans, first, self.window)
        count = torch.from_numpy(np.diff(start).astype(np.int64))
        return Windows(selection(index, len(spans)), count, torch.from_numpy(nucleotides.astype(np.float32)))

    def forward_tokens(self, vector: torch.Tensor, layout: Windows) -> torch.Tensor:
        """Apply the network to rows (row, channel); returns (output position, output)."""
        x = vector.to(self.linear.weight.dtype)
        if not len(layout.nucleotides):  # sequences shorter than a window
            empty: torch.Tensor = self.linear(x[:0])
            return empty
        score = gather_sum(self.score(torch.tanh(self.project(x))), layout.rows)[:, 0]
        highest = _reduce(score.detach(), "max", layout.rows_in)
        weight = torch.exp(score - _spread(highest, layout.rows_in)) * layout.nucleotides.to(score.dtype)
        weight = weight / _spread(_reduce(weight, "sum", layout.rows_in), layout.rows_in)
        # Weighing and the linear layer commute, and the second leaves fewer channels to weigh.
        values = gather_sum(self.linear(x), layout.rows)
        return _reduce(values * weight[:, None], "sum", layout.rows_in)


def _reduce(values: torch.Tensor, how: str, count: torch.Tensor) -> torch.Tensor:
    """Reduce runs of rows."""
    reduced: torch.Tensor = torch.segment_reduce(values, how, lengths=count, axis=0)
    return reduced


def _spread(values: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Repeat one value per run for its rows."""
    return torch.repeat_interleave(values, count)


class NetworkKind(NamedTuple):
    """A network that can be a probe.

    Attributes
    ----------
    name, title
        Its name, and one line for people.
    build
        ``build(width, outputs, window, settings, lengths)`` makes one; `lengths` are those of the samples, each once.
    levels
        Levels of the tasks it can do.
    needs
        ``"rows"`` of a model, ``"pooled or rows"`` where means are enough, or ``"onehot"`` letters.
    defaults
        Its settings.
    """

    name: str
    title: str
    build: Callable[[int, int, Window, dict[str, Any], NDArray[np.int64]], nn.Module]
    levels: tuple[str, ...]
    needs: str
    defaults: dict[str, Any]


def _basset(
    _width: int, outputs: int, _window: Window, settings: dict[str, Any], lengths: NDArray[np.int64]
) -> nn.Module:
    if len(lengths) > 1:
        raise InputError(
            "Basset needs samples of one length, on which its size depends; among these are some of "
            f"{' and some of '.join(map(str, lengths[:2].tolist()))} nucleotides. Cut them to one length, or use resnet"
        )
    return Basset(outputs, int(lengths[0]), **settings)


_ALL = ("nucleotide", "bin", "sequence")
NETWORKS = {
    kind.name: kind
    for kind in (
        NetworkKind(
            "cnn",
            "two convolutions (BEND)",
            lambda width, outputs, window, settings, _: CNN(width, outputs, **settings, window=window),
            _ALL,
            "rows",
            {"hidden": 64, "kernel": 3},
        ),
        NetworkKind(
            "linear",
            "linear layer on means",
            lambda width, outputs, window, _, __: Linear(width, outputs, window),
            _ALL,
            "pooled or rows",
            {},
        ),
        NetworkKind(
            "mlp",
            "multilayer perceptron on means",
            lambda width, outputs, window, settings, _: MLP(width, outputs, **settings, window=window),
            _ALL,
            "pooled or rows",
            {"hidden": 256, "layers": 1, "dropout": 0.0},
        ),
        NetworkKind(
            "attention",
            "attention pooling",
            lambda width, outputs, window, settings, _: Attention(width, outputs, **settings, window=window),
            ("bin", "sequence"),
            "rows",
            {"hidden": 128},
        ),
        NetworkKind(
            "resnet",
            "supervised dilated ResNet on letters (BEND)",
            lambda _, outputs, window, settings, __: ResNet(outputs, **settings, window=window),
            _ALL,
            "onehot",
            {"hidden": 64, "kernel": 3, "encoder_hidden": 256, "encoder_layers": 30, "encoder_kernel": 3},
        ),
        NetworkKind("basset", "Basset on letters", _basset, ("sequence",), "onehot", {"hidden": 1000, "dropout": 0.3}),
    )
}
"""Every network by name. To add one: a module with `layout`, `forward_tokens` and `receptive_field`, and a record."""


def build_network(
    name: str,
    width: int,
    outputs: int,
    record: TaskRecord,
    settings: Mapping[str, Any],
    lengths: NDArray[np.int64],
) -> nn.Module:
    """Make a network for a task, with new weights from torch's random numbers.

    Parameters
    ----------
    name
        One of `NETWORKS`.
    width
        Channels of the rows.
    outputs
        Classes or targets.
    record
        The task's record.
    settings
        Settings of the network that are not to be its defaults.
    lengths
        Nucleotides of the samples.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    InputError
        There is no such network or setting, or it does not fit the task or the rows.
    """
    if name not in NETWORKS:
        raise InputError(f"there is no network {name!r}.{did_you_mean(name, NETWORKS)}")
    kind = NETWORKS[name]
    for key in settings:
        if key not in kind.defaults:
            hint = did_you_mean(key, kind.defaults) if kind.defaults else " It has none."
            raise InputError(f"network {name!r} has no setting {key!r}.{hint}")
    for key, value in settings.items():
        _check_setting(name, key, value, kind.defaults[key])
    if record.level not in kind.levels:
        raise InputError(
            f"network {name!r} is for labels of a {' or a '.join(kind.levels)}; those of task {record.name!r} belong "
            f"to a {record.level}."
        )
    if kind.needs == "onehot" and width != 4:
        raise InputError(f"network {name!r} reads letters, the rows of model 'onehot'; these have {width} channels.")
    return kind.build(width, outputs, window_of(record), {**kind.defaults, **settings}, np.unique(lengths))


def _check_setting(network: str, key: str, value: object, default: object) -> None:
    """Refuse a setting of another type than its default, or out of range."""
    if isinstance(default, float):
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1
        wanted = "a number from 0 to below 1"
    else:
        good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        good = good and ("kernel" not in key or value % 2 == 1)  # type: ignore[operator]
        wanted = "an odd number, 1 or more" if "kernel" in key else "a whole number, 1 or more"
    if not good:
        raise InputError(f"network {network!r}: {key} is {value!r}; {wanted} is wanted.")
