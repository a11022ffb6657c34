"""What is kept of each sample: rows, means or both; of all positions or some; of one strand or the mean of two."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import InputError, did_you_mean
from embedstore.indices import offsets
from embedstore.placing import Placed, place
from embedstore.progress import progress_bar
from embedstore.sequences import reverse_complement

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.layout import Keep, Resolution, Strands
    from embedstore.models import Model, Piece
    from embedstore.store import Store

_READ_LETTERS, _READ_SAMPLES = 2**20, 4096


class Positions(NamedTuple):
    """The positions that are kept of each sample.

    Attributes
    ----------
    position
        0-based nucleotides, those of one sample after another, ascending and each once, shape (position,).
    first
        Where those of each sample begin, shape (sample + 1,).
    """

    position: NDArray[np.int64]
    first: NDArray[np.int64]

    def of(self, sample: int) -> NDArray[np.int64]:
        """Return the positions of a sample."""
        return self.position[self.first[sample] : self.first[sample + 1]]

    def digest(self) -> str:
        """Return the sha256 of all positions, for the fingerprint."""
        return hashlib.sha256(self.first.tobytes() + self.position.tobytes()).hexdigest()


class Selection(NamedTuple):
    """What is kept of each sample.

    Attributes
    ----------
    keep
        ``"rows"``, ``"pooled"`` or ``"both"``.
    resolution
        What a row stands for: ``"token"`` or ``"nucleotide"``.
    strands
        ``"forward"``, or ``"both"`` for the mean of the sequence and its reverse complement.
    positions
        Whose rows are kept; None for all.
    """

    keep: Keep = "both"
    resolution: Resolution = "token"
    strands: Strands = "forward"
    positions: Positions | None = None

    @property
    def plain(self) -> bool:
        """Whether every row of the forward strand is kept."""
        return self.strands == "forward" and self.positions is None

    def fingerprint(self) -> dict[str, str]:
        """Return what is not the default, so that embeddings made before there was a choice can be completed."""
        fields: dict[str, str] = {} if self.keep == "both" else {"keep": self.keep}
        if self.strands == "both":
            fields["strands"] = self.strands
        if self.positions is not None:
            fields["positions"] = self.positions.digest()
        return fields

    def place(self, store: Store, task: str, model: Model, samples: NDArray[np.int64]) -> list[Placed]:
        """Read and tokenise samples and lay their rows out.

        Parameters
        ----------
        store, task
            Where the sequences are.
        model
            Cuts them into pieces.
        samples
            Indices, shape (sample,).

        Returns
        -------
        list of Placed

        Raises
        ------
        InputError
            If the model refuses a sequence; the sample is named.
        """
        sequences = store.sequences(task, samples)
        forward = sample_pieces(store, task, model, samples, sequences)
        if self.plain:
            return [place(pieces, resolution=self.resolution) for pieces in forward]
        reverse: list[list[Piece] | None] = [None] * len(forward)
        if self.strands == "both":
            turned = [reverse_complement(codes) for codes in sequences]
            reverse = list(sample_pieces(store, task, model, samples, turned))
        return [
            place(
                pieces,
                reverse=other,
                resolution=self.resolution,
                positions=None if self.positions is None else self.positions.of(sample),
            )
            for pieces, other, sample in zip(forward, reverse, samples.tolist(), strict=True)
        ]

    def row_counts(self, store: Store, task: str, model: Model, *, progress: bool = False) -> NDArray[np.int64]:
        """Tokenise a whole task and return how many rows each sample will have, shape (sample,)."""
        lengths = store.lengths(task)
        if self.resolution == "nucleotide":
            return lengths if self.positions is None else np.diff(self.positions.first)
        counts = np.empty(len(lengths), np.int64)
        parts = runs(np.arange(len(lengths)), lengths, _READ_LETTERS, _READ_SAMPLES)
        for samples in progress_bar(parts, f"tokenise {task}", show=progress and len(parts) > 1, unit="part"):
            if self.plain:
                sequences = store.sequences(task, samples)
                try:
                    counts[samples] = model.row_counts(np.concatenate(sequences), lengths[samples])
                except InputError as error:
                    raise _refused(store, task, samples, error) from error
            else:
                counts[samples] = [len(each.span) for each in self.place(store, task, model, samples)]
        return counts


def select(
    store: Store,
    task: str,
    *,
    keep: Keep = "both",
    resolution: Resolution = "token",
    strands: Strands = "forward",
    positions: str | Path | pd.DataFrame | None = None,
) -> Selection:
    """Check what is to be kept of each sample of a task.

    Parameters
    ----------
    store, task
        Where the samples are.
    keep
        ``"rows"``, ``"pooled"`` or ``"both"`` (default).
    resolution
        ``"token"`` (default) or ``"nucleotide"``.
    strands
        ``"forward"`` (default) or ``"both"``.
    positions
        Nucleotides whose rows are kept, 0-based within each sample: a table with columns ``id`` and ``position``, the
        path of such a file (tab-separated), or the name of a whole-number column of the sample table; or
        ``"variants"``: those that scores of a task of variants need, ``"variants+k"`` with k nucleotides on either side
        (`embedstore.variants.variant_positions`). None (default) for all.

    Returns
    -------
    Selection

    Raises
    ------
    InputError
        If a choice is none, choices do not go together, or a position or sample does not exist.
    """
    for what, value, choices in (
        ("keep", keep, ("rows", "pooled", "both")),
        ("resolution", resolution, ("token", "nucleotide")),
        ("strands", strands, ("forward", "both")),
    ):
        if value not in choices:
            raise InputError(f"{what} is {value!r}: it must be one of {', '.join(choices)}.")
    if strands == "both" and store.record(task).alphabet != "dna":
        raise InputError(f"{store.path}: strands='both': the proteins of task {task!r} have no reverse complement.")
    if positions is None:
        return Selection(keep, resolution, strands)
    if keep == "pooled":
        raise InputError("keep='pooled' keeps no rows, so there is nothing for positions to choose: give one of them.")
    return Selection(keep, resolution, strands, _positions(store, task, positions))


def runs(samples: NDArray[np.int64], lengths: NDArray[np.int64], letters: int, most: int) -> list[NDArray[np.int64]]:
    """Split samples into runs of at most so many letters and samples, each of at least one sample.

    Examples
    --------
    >>> [run.tolist() for run in runs(np.arange(4), np.array([5, 5, 20, 1]), 10, 64)]
    [[0, 1], [2], [3]]
    """
    found, start = [], 0
    while start < len(samples):
        total = np.cumsum(lengths[samples[start : start + most]])
        stop = start + max(1, int(np.searchsorted(total, letters, side="right")))
        found.append(samples[start:stop])
        start = stop
    return found


def sample_pieces(
    store: Store, task: str, model: Model, samples: NDArray[np.int64], sequences: list[NDArray[np.uint8]]
) -> list[list[Piece]]:
    """Cut the sequences of samples into the pieces that a model sees.

    Parameters
    ----------
    store, task, model
        What is cut by what.
    samples
        Indices of the samples.
    sequences
        Their letters, in the same order.

    Returns
    -------
    list of list of Piece
        See `embedstore.models.Model.pieces_of`.

    Raises
    ------
    InputError
        The model refuses a sample; the message names it.
    """
    lengths = np.array([len(codes) for codes in sequences], np.int64)
    try:
        return model.pieces_of(np.concatenate(sequences), lengths)
    except InputError as error:
        raise _refused(store, task, samples, error) from error


def _refused(store: Store, task: str, samples: NDArray[np.int64], error: InputError) -> InputError:
    """Say which sample a model refused."""
    sample = store.sample_id(task, int(samples[getattr(error, "sequence", 0)]))
    return InputError(f"{store.path}: task {task!r}, sample {sample!r}: {error}")


def _read_positions(path: Path) -> pd.DataFrame:
    """Read a tab-separated file of positions."""
    import pandas as pd

    try:
        return pd.read_csv(path, sep="\t", dtype={"id": str})
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read: {error}. A tab-separated file with id and position (0-based) is wanted."
        ) from error


def _positions(store: Store, task: str, positions: str | Path | pd.DataFrame) -> Positions:
    """Read positions from a table, a file, or a column of the sample table."""
    import pandas as pd

    lengths = store.lengths(task)
    of_variants = re.fullmatch(r"variants(?:\+(\d+))?", positions, re.ASCII) if isinstance(positions, str) else None
    if isinstance(positions, pd.DataFrame):
        where, table = "positions", positions
    elif of_variants:
        from embedstore.variants.aligned import variant_positions

        where = f"{store.path}: the variants of task {task!r}"
        table = variant_positions(store, task, around=int(of_variants[1] or 0))
    elif Path(positions).is_file():
        where, table = str(positions), _read_positions(Path(positions))
    else:
        samples = store.samples(task)
        if positions not in samples:
            raise InputError(
                f"positions {str(positions)!r} is neither a file nor a column of the sample table of {task!r}."
                f"{did_you_mean(str(positions), samples.columns)}"
            )
        where = f"{store.path}: column {positions!r} of task {task!r}"
        table = pd.DataFrame({"id": samples["id"], "position": samples[str(positions)]})
    lacking = [column for column in ("id", "position") if column not in table]
    if lacking:
        raise InputError(f"{where} has no column {', '.join(lacking)}: id and position (0-based) are needed.")
    if not len(table):
        raise InputError(f"{where} names no position.")
    if table["position"].dtype.kind not in "iu":
        raise InputError(f"{where}: position is of type {table['position'].dtype}; whole numbers, 0-based, are wanted.")
    sample = store.indices(task, [str(name) for name in table["id"]])
    position = table["position"].to_numpy(np.int64)
    bad = np.flatnonzero((position < 0) | (position >= lengths[sample]))
    if len(bad):
        line = int(bad[0])
        raise InputError(
            f"{where}, row {line + 1}: position {position[line]} of sample {table['id'].iloc[line]!r}: its positions "
            f"are 0 to {lengths[sample[line]] - 1}. {len(bad):,} rows are out of range."
        )
    pairs = np.unique(np.stack([sample, position], axis=1), axis=0)
    return Positions(pairs[:, 1].copy(), offsets(np.bincount(pairs[:, 0], minlength=len(lengths))))
