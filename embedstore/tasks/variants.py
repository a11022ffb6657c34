"""BED files of single-nucleotide variants, as BEND releases them: every row becomes a variant or is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedstore.errors import InputError, did_you_mean
from embedstore.regions import integers
from embedstore.tasks.published import publication
from embedstore.text import read_tabbed, typed

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

_LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
_FIRST = ("chromosome", "start", "end")


def read_variants(path: str | Path, name: str | Path) -> pd.DataFrame:
    """Read the BED file of a published variant task, for :func:`analysis.variants.variant_task`.

    Parameters
    ----------
    path
        Tab-separated, plain or gzip, with a header: ``chromosome``, ``start``, ``end`` first, then ``ref``, ``alt``,
        ``label`` and any others by name. ``start`` is the variant's nucleotide, 0-based. BEND's rows have no length
        (``end == start``); rows of one nucleotide (``end == start + 1``) name the same one and are read too.
    name
        The task: ``"variant_effects_expression"``, ``"variant_effects_disease"``, or a ``.toml`` file of one's own
        whose labels are of source ``"variants"``.

    Returns
    -------
    pandas.DataFrame
        One row per variant, in the order of the file: chromosome, position (int64, 0-based), ref, alt, label (int64,
        0 or 1), then the other columns.

    Raises
    ------
    InputError
        With file and line, if a row is longer, an allele is not one of A, C, G, T, a label is neither 0 nor 1, or a
        variant is there twice. Reference letters are compared with the genome by ``variant_task``.
    """
    task = publication(name)
    if task.labels.source != "variants":
        raise InputError(
            f"task {task.record.name!r} is not one of variants; its regions are read by embedstore.tasks.from_bed."
        )
    table = read_tabbed(path, first=_FIRST)
    frame = table.frame
    for column in ("ref", "alt", "label"):
        if column not in frame:
            raise InputError(
                f"{path}:1: no column {column!r}, which {task.record.name} has.{did_you_mean(column, frame.columns)}"
            )
    start, end = integers(table, "start"), integers(table, "end")
    table.refuse(start < 0, lambda row: f"start is {start[row]}; it must be 0 or more")
    table.refuse(
        (end != start) & (end != start + 1),
        lambda row: f"start is {start[row]} and end is {end[row]}; a variant is one nucleotide",
        "start is its position, 0-based, and end is start (as BEND has it) or start + 1.",
    )
    ref, alt, label = frame["ref"], frame["alt"], frame["label"]
    table.refuse(
        ~(ref.isin(list("ACGT")) & alt.isin(list("ACGT"))),
        lambda row: f"ref is {ref[row]!r} and alt is {alt[row]!r}; each must be one of A, C, G, T",
    )
    table.refuse(ref == alt, lambda row: f"ref and alt are both {ref[row]!r}")
    table.refuse(~label.isin(list(_LABELS)), lambda row: f"label is {label[row]!r}; 0 or 1 is wanted")
    variants = frame[["chromosome", "ref", "alt"]].copy()
    variants.insert(1, "position", start)
    again = variants.duplicated().to_numpy(bool)
    table.refuse(again, lambda row: _twice(variants, row), "Remove the copies.")
    variants["label"] = label.map(_LABELS).to_numpy(np.int64)
    others = typed(frame.drop(columns=[*_FIRST, "ref", "alt", "label"]))
    return variants.join(others)


def _twice(variants: pd.DataFrame, row: int) -> str:
    """Say which variant is there again."""
    chromosome, position, ref, alt = variants.iloc[row].tolist()[:4]
    return f"{chromosome}:{position} {ref}>{alt} is there already"
