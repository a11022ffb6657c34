"""GC content in an embedding, and what goes along with it: position, length, unknown letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from analysis.decoding import Decodability, decodability, partial_decodability
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedstore.store import Store

GC = "gc"
CONFOUNDS = ("position", "length", "n_share")
"""What GC content may go along with: the middle of a window, the sample's length, the share of N."""

_AT_ONCE = 512
_STRONG, _WEAK = (np.isin(np.arange(256), list(letters)) for letters in (b"GC", b"AT"))


def gc_decodability(
    store: Store,
    task: str,
    model: str,
    *,
    per: Literal["sample", "window"] = "sample",
    window: int = 128,
    splits: str | Sequence[str] | None = None,
    group: str | None = None,
    draws: int = 1000,
    progress: bool = False,
) -> Decodability:
    """Decode GC content from an embedding, and what may stand behind it: position, length, N.

    Parameters
    ----------
    store
        An open store.
    task, model
        Names; a baseline computed from the letters, such as ``"onehot"``, is a model too.
    per
        ``"sample"`` (default): means of samples. ``"window"``: means over windows of each sample, one after another;
        an incomplete last one is left out.
    window
        Nucleotides of a window, default 128.
    splits
        Use the samples of these splits only, default all.
    group
        Column of the sample table: samples that are alike in it are held out together, as those of one chromosome or
        one cluster of homologs should be. Default: each sample by itself.
    draws
        Bootstrap draws of samples behind the intervals, default 1000.
    progress
        Show progress bars, default False.

    Returns
    -------
    Decodability
        Targets ``gc``, the share of G and C among A, C, G and T; ``position`` (windows only: the middle of the window,
        in nucleotides), ``length`` (of the sample) and ``n_share``, each from the embedding; ``gc_from_confounds``,
        from the other three without the embedding; ``gc_beyond_confounds``, the partial R2 of the embedding beside them
        (`analysis.partial_decodability`). A target that is the same everywhere has an R2 of NaN. Samples and windows
        that have none of the four letters are left out.

    Raises
    ------
    InputError
        The task is one of proteins, windows are shorter than two nucleotides or longer than every sample, or there are
        too few samples or groups for folds.
    NotInStoreError
        There is no such task, model, split or column.
    IncompleteError
        A block is not embedded yet.

    Notes
    -----
    Position, length and the share of N matter because a sequence's GC content goes along with them: promoters are short
    and rich in GC, the ends of windows hold N. An embedding that knew these alone would decode GC content as well as
    ``gc_from_confounds``, and its ``gc_beyond_confounds`` would be 0.
    """
    if store.record(task).alphabet != "dna":
        raise InputError(f"{store.path}: task {task!r} is of proteins, which have no GC content; use the CDS.")
    if per not in ("sample", "window"):
        raise InputError(f"per is {per!r}; it must be 'sample' or 'window'.")
    width = window if per == "window" else None
    values = letter_values(store, task, width)
    unknown = np.isnan(values[GC])
    values = {name: np.where(unknown, np.float32(np.nan), value) for name, value in values.items()}
    given = {name: values[name] for name in CONFOUNDS if name in values}
    options: dict[str, Any] = {"window": width, "splits": splits, "group": group, "draws": draws, "progress": progress}
    found = decodability(store, task, model, {GC: values[GC], **given}, **options)
    partial = partial_decodability(store, task, model, {GC: values[GC]}, given, **options)
    partial["target"] = ["gc_from_confounds", "gc_beyond_confounds"]
    return found._replace(table=pd.concat([found.table, partial], ignore_index=True))


def letter_values(store: Store, task: str, window: int | None = None) -> dict[str, NDArray[np.float32]]:
    """Return GC content and its confounds from the stored letters, reading a few hundred samples at a time.

    Parameters
    ----------
    store
        An open store.
    task
        Name of a task of nucleotides.
    window
        Nucleotides of a window; None (default) for whole samples.

    Returns
    -------
    dict of str to numpy.ndarray
        ``gc`` (NaN without any of A, C, G, T), ``length`` and ``n_share`` (the share of all other letters), and of
        windows ``position``: (sample,) or (sample, window) float32, NaN beyond the last complete window.

    Raises
    ------
    InputError
        Windows are shorter than two nucleotides, or longer than every sample.
    """
    lengths = store.lengths(task)
    most = 1 if window is None else int(lengths.max()) // max(window, 1)
    if window is not None and (window < 2 or not most):
        raise InputError(
            f"{store.path}: task {task!r}: windows of {window} nucleotides; samples have {lengths.min():,} to "
            f"{lengths.max():,}, and a window has two or more."
        )
    names = [GC, *CONFOUNDS]
    found = np.full((len(names), len(lengths), most), np.nan, np.float32)
    for begin in range(0, len(lengths), _AT_ONCE):
        chosen = np.arange(begin, min(begin + _AT_ONCE, len(lengths)))
        for sample, codes in zip(chosen, store.sequences(task, chosen), strict=True):
            width = window or len(codes)
            many = len(codes) // width
            letters = codes[: many * width].reshape(many, width)
            strong, weak = (kind[letters].sum(axis=1, dtype=np.float64) for kind in (_STRONG, _WEAK))
            known = strong + weak
            gc = np.divide(strong, known, out=np.full(many, np.nan), where=known > 0)
            middle = (np.arange(many) + 0.5) * width
            found[:, sample, :many] = (gc, middle, np.full(many, len(codes)), 1 - known / width)
    if window is None:
        return {name: value[:, 0] for name, value in zip(names, found, strict=True) if name != "position"}
    return dict(zip(names, found, strict=True))
