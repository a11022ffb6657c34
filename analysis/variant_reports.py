"""What the commands of `embedstore variants` say and write about scores: counts, what is stored, how good they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.variant_files import beside
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    import xarray as xr

    from embedstore.store import Store

MAPS = (".png", ".pdf", ".svg", ".csv", ".nc")
"""Suffixes of maps of scores: pictures, and their numbers alone."""

_FIELD = re.compile(r"\{[^}]*\}")
_LAST_FIELDS = re.compile(r"([:.]? *\{[^}]*\})+\.?$")


# ---- what was read and scored --------------------------------------------------------------------


class Counts(NamedTuple):
    """How many variants there are, as tables of one column ``variants``."""

    kinds: pd.DataFrame
    reasons: pd.DataFrame


def counts(variants: pd.DataFrame) -> Counts:
    """Count variants by kind, and those that are not scored by reason, most frequent first.

    Parameters
    ----------
    variants
        From `embedstore.variants.check_variants` or `analysis.score_variants`.
    """
    kind = variants["kind"].where(variants["kind"] != "", "not known")
    reason = variants.loc[variants["reason"] != "", "reason"].map(in_short)
    return Counts(*(_counted(column, name) for name, column in (("kind", kind), ("not scored because", reason))))


def _counted(column: pd.Series[str], name: str) -> pd.DataFrame:
    return column.value_counts().to_frame("variants").rename_axis(index=None, columns=name)


def in_short(reason: str) -> str:
    """Return a reason without what is of one variant only, so that reasons can be counted.

    Examples
    --------
    >>> in_short("The alternate allele is symbolic: <DEL>.")
    'The alternate allele is symbolic'
    >>> in_short("The position -1 (0-based) is before the start of the chromosome.")
    'The position ... (0-based) is before the start of the chromosome'
    """
    from embedstore.variants.reasons import REASONS

    for template in REASONS.values():
        if reason.startswith(template.partition("{")[0]):
            return _FIELD.sub("...", _LAST_FIELDS.sub("", template)).rstrip(".")
    return reason.partition(": ")[0] if reason.startswith("the window holds") else reason


class NotScored(NamedTuple):
    """Variants that lack a score: how many, why (a column ``variants``), and where they are written."""

    rows: int
    reasons: pd.DataFrame
    path: Path


def not_scored(table: pd.DataFrame, out: Path) -> NotScored:
    """Write the variants that lack a score beside the scores, or remove what a former run left there.

    Parameters
    ----------
    table
        From `analysis.score_variants`.
    out
        File of the scores.
    """
    from embedstore.variants import write_scores

    path, rows = beside(out, ".not_scored.tsv"), table[table["reason"] != ""]
    path.unlink(missing_ok=True)
    if len(rows):
        write_scores(rows, path)
    return NotScored(len(rows), counts(table).reasons, path)


class Stored(NamedTuple):
    """An embedding that scores were read from, its bytes with those of its windows, and what the run did for it."""

    task: str
    embedding: str
    windows: int
    blocks: int
    blocks_before: int
    bytes: int | None
    seconds: float


def stored(store: Store, table: pd.DataFrame) -> list[Stored]:
    """Return what is stored for the scores of a table.

    Parameters
    ----------
    store
        Where they were read from.
    table
        From `analysis.score_variants`.
    """
    from embedstore.objects import stored_bytes

    found = []
    for run in table.attrs["runs"]:
        task, name = run["task"], run["embedding"]
        sizes = [stored_bytes(store, part) for part in (task, f"{task}/embedding", f"{task}/embedding/{name}")]
        # The windows themselves count, other embeddings of them do not.
        size = None if None in sizes else sum(sign * (part or 0) for sign, part in zip((1, -1, 1), sizes, strict=True))
        blocks = store.embedding(task, name).blocks
        found.append(Stored(task, name, len(store.lengths(task)), blocks, run["blocks_before"], size, run["seconds"]))
    return found


# ---- labels --------------------------------------------------------------------------------------


class Labelled(NamedTuple):
    """How well scores tell labels apart, and where that is written; or why there is nothing to say."""

    table: pd.DataFrame | None
    paths: list[Path]
    note: str


def labelled(table: pd.DataFrame, scores: Sequence[str], by: str | None, out: Path) -> Labelled:
    """Evaluate scores against labels, where there are some, and write table and curves beside the scores.

    Parameters
    ----------
    table
        From `analysis.score_variants`.
    scores
        Their columns.
    by
        Column of the groups, or None. One of numbers between 0 and 1 is an allele frequency, and is put into bins.
    out
        File of the scores.
    """
    from analysis.variant_tables import score_table

    picture, numbers = beside(out, ".roc.png"), beside(out, ".auroc.csv")
    for path in (picture, numbers):
        path.unlink(missing_ok=True)
    if "label" not in table or table["label"].isna().all():
        return Labelled(None, [], "There are no labels, so there is no AUROC.")
    label = table["label"]
    ones, zeros = (int(((label == value) & table[list(scores)].notna().all(axis=1)).sum()) for value in (1, 0))
    if not ones or not zeros:
        return Labelled(None, [], f"{ones:,} scored variants have the label 1, {zeros:,} the label 0: no AUROC.")
    table = _grouped(table, by)
    found = score_table(table, scores, by=by)
    found.to_csv(numbers, index=False)
    _draw(table, scores, by, picture)
    return Labelled(found, [numbers, picture], "")


def _draw(table: pd.DataFrame, scores: Sequence[str], by: str | None, path: Path) -> None:
    """Draw the ROC curves of all scores side by side; their numbers are in the table."""
    from matplotlib.figure import Figure

    from analysis.variant_plots import plot_roc

    figure = Figure(figsize=(7 * len(scores), 4.2), layout="constrained")
    for ax, score in zip(figure.subplots(1, len(scores), squeeze=False)[0], scores, strict=True):
        plot_roc(table, ax, column=score, by=by).set_title(score)
    figure.savefig(path, dpi=150)


def evaluated(
    table: pd.DataFrame,
    columns: Sequence[str],
    *,
    by: str | None,
    fasta: str | None = None,
    annotation: str | None = None,
    **drawing: Any,
) -> pd.DataFrame:
    """Evaluate scores, and what needs no model, over all variants, by group and by distance to a splice site.

    Parameters
    ----------
    table
        From `read_scores`.
    columns
        Scores.
    by
        Column of the groups, or None. One of numbers between 0 and 1 is an allele frequency, and is put into bins.
    fasta
        The genome, for the baselines.
    annotation
        GFF3 or GTF file, for distances.
    **drawing
        Told to `analysis.score_table`.

    Returns
    -------
    pandas.DataFrame
        The columns of `analysis.score_table`, with the column ``by`` before them.

    Raises
    ------
    InputError
        If an annotation is given without a genome, or as for `analysis.score_table`.
    """
    import pandas as pd

    from analysis.variant_groups import ALL, SPLICE_DISTANCE, binned
    from analysis.variant_tables import score_table

    if annotation and not fasta:
        raise InputError("--annotation is for baselines, which read letters too: give the genome with --fasta.")
    columns = list(columns)
    if fasta:
        baselines = _baselines(table, fasta, annotation)
        table = pd.concat([table.drop(columns=baselines.columns, errors="ignore"), baselines], axis=1)
        columns += [str(name) for name in baselines]
    table = _grouped(table, by)
    parts = [score_table(table, columns, by=by, **drawing).assign(by=by or "")]
    if annotation:
        near = "distance_to_splice_site"
        bins = table.assign(**{f"bin of {near}": binned(table, near, SPLICE_DISTANCE)})
        found = score_table(bins, columns, by=f"bin of {near}", **drawing).assign(by=near)
        parts.append(found[found["group"] != ALL])
    every = pd.concat(parts, ignore_index=True)
    return every[["by", *every.columns.drop("by")]]


def _grouped(table: pd.DataFrame, by: str | None) -> pd.DataFrame:
    """Put an allele frequency into bins, where that is what the groups are of."""
    from analysis.variant_groups import ALLELE_FREQUENCY, binned

    if by is None or table[by].dtype.kind != "f" or not table[by].dropna().between(0, 1).all():
        return table
    return table.assign(**{by: binned(table, by, ALLELE_FREQUENCY)})


def _baselines(table: pd.DataFrame, fasta: str, annotation: str | None) -> pd.DataFrame:
    """Return what needs no model, of the variants that are scored."""
    from analysis.variant_baselines import baseline_scores
    from embedstore.genome import Genome

    genes = None
    if annotation:
        from embedstore.annotation import read_annotation

        genes = read_annotation(annotation)
    with Genome(fasta) as genome:
        return baseline_scores(table, genome, annotation=genes)


def shown(found: pd.DataFrame) -> pd.DataFrame:
    """Return what is printed of a table of `analysis.score_table`.

    Parameters
    ----------
    found
        The table.

    Returns
    -------
    pandas.DataFrame
        Texts, a row per score and group that has variants with a label.
    """
    import pandas as pd

    found = found[found["positives"] + found["negatives"] > 0]
    columns = {
        "score": found["score"],
        "group": found["group"],
        "AUROC": intervals(found, "auroc", "low", "high"),
        "AUPRC": intervals(found, "auprc", "auprc_low", "auprc_high"),
        "base rate": found["base_rate"].map("{:.3f}".format),
        "positives": found["positives"].map("{:,}".format),
        "negatives": found["negatives"].map("{:,}".format),
        "note": found["note"],
    }
    return pd.DataFrame(columns).set_index(["score", "group"])


def intervals(table: pd.DataFrame, value: str, low: str, high: str) -> list[str]:
    """Return numbers with their intervals, where they have one, as texts; empty where there is no number."""
    rows = zip(table[value], table[low], table[high], strict=True)
    return [
        "" if mid != mid else f"{mid:.3f}" if least != least else f"{mid:.3f} ({least:.3f} to {most:.3f})"
        for mid, least, most in rows
    ]


def shown_difference(found: pd.DataFrame) -> pd.DataFrame:
    """Return what is printed of a table of `analysis.compare_scores`: texts, a row per group and metric."""
    import pandas as pd

    columns = {
        "group": found["group"],
        "metric": found["metric"].str.upper(),
        "first": found["first"].map(_number),
        "second": found["second"].map(_number),
        "difference": intervals(found, "difference", "low", "high"),
        "p": found["p"].map(_number),
        "positives": found["positives"].map("{:,}".format),
        "negatives": found["negatives"].map("{:,}".format),
        "note": found["note"],
    }
    return pd.DataFrame(columns).set_index(["group", "metric"])


def _number(value: float) -> str:
    return "" if value != value else f"{value:.3f}"


def write_map(found: xr.DataArray, out: Path) -> list[Path]:
    """Write a map of scores: as a picture with its numbers beside it, or the numbers alone.

    Parameters
    ----------
    found
        From `analysis.mutagenesis`.
    out
        The file, one of `MAPS`.

    Returns
    -------
    list of pathlib.Path
        What was written.
    """
    from analysis.plots import save_figure
    from analysis.variant_plots import plot_mutagenesis

    if out.suffix == ".nc":
        found.to_netcdf(out)
        return [out]
    table = found.to_pandas().assign(reference=found["reference"].to_numpy()).reset_index()
    if out.suffix == ".csv":
        table.to_csv(out, index=False)
        return [out]
    figure = plot_mutagenesis(found).get_figure(root=True)
    assert figure is not None
    return [save_figure(figure, out, table), out.with_suffix(".csv")]
