"""Scores of single-nucleotide variants without training: how far a variant moves the embedding of its nucleotide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from embedstore.genome import Genome
    from embedstore.rows import Embedding
    from embedstore.store import Store
    from embedstore.tasks import Task

_NEEDED = ("chromosome", "position", "ref", "alt")
_OURS = ("id", "start", "end", "strand", "length", "variant", "allele", "offset")
_LISTED = 5


def cosine_distance(u: ArrayLike, v: ArrayLike) -> NDArray[np.float64]:
    """Return 1 - cosine of the angle between vectors.

    Computed in float64 as half the squared distance of the unit vectors, which keeps its digits where the vectors are
    nearly parallel; ``1 - u.v / |u||v|`` loses them there.

    Parameters
    ----------
    u, v
        (..., channel), numbers of any precision.

    Returns
    -------
    numpy.ndarray
        (...) float64 from 0 to 2; NaN where a vector is zero or not finite.

    Examples
    --------
    >>> cosine_distance([[1, 0], [1, 1], [0, 0]], [[3, 0], [-1, 1], [1, 0]])
    array([ 0.,  1., nan])
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        one, other = (
            vector / np.linalg.norm(vector, axis=-1, keepdims=True)
            for vector in (np.asarray(u, np.float64), np.asarray(v, np.float64))
        )
        return np.asarray(np.minimum(np.square(one - other).sum(axis=-1) / 2, 2))


def variant_task(variants: pd.DataFrame, genome: Genome, *, name: str = "variants", context: int = 256) -> Task:
    """Make a task of two samples per variant: the window around it with the reference and with the alternate letter.

    The window is ``[position - context, position + context)``, as in BEND. Where it would leave the chromosome it is
    moved inside, and the variant is no longer in its middle; a chromosome shorter than a window is taken whole.

    Parameters
    ----------
    variants
        One row per variant: ``chromosome``, ``position`` (0-based), ``ref``, ``alt`` (one of A, C, G, T each, on the
        forward strand). Other columns are kept; ``split``, where there is one, is the split.
    genome
        The genome.
    name
        Name of the task in a store.
    context
        Nucleotides before the variant, and after it including itself. Default 256.

    Returns
    -------
    embedstore.tasks.Task
        Samples ``chromosome:position:ref>alt:ref`` and ``...:alt``, one after the other, in the order of the variants.
        Columns: ``variant`` (row of `variants`, from 0), ``allele`` (``ref`` or ``alt``), ``offset`` (place of the
        variant in the window), and those of `variants`. Sequences are read when they are asked for.

    Raises
    ------
    InputError
        If a column is missing, an allele is not a single letter, a position is outside of its chromosome, a variant is
        given twice, or a reference letter is not that of the genome. Every variant is checked, and the first few
        faults are listed.
    """
    import pandas as pd

    from embedstore.regions import sample_table
    from embedstore.tasks import Task, TaskRecord

    if context < 1:
        raise InputError(f"context is {context}; it must be 1 nucleotide or more.")
    variants = variants.reset_index(drop=True)
    _check_columns(variants)
    _check_alleles(variants, genome)
    length = variants["chromosome"].map(genome.contigs).to_numpy(np.int64)
    position = variants["position"].to_numpy(np.int64)
    start = np.clip(position - context, 0, np.maximum(length - 2 * context, 0))
    end = np.minimum(start + 2 * context, length)
    place = variants["chromosome"] + ":" + variants["position"].astype(str)
    ids = place + ":" + variants["ref"] + ">" + variants["alt"]

    two = np.repeat(np.arange(len(variants)), 2)
    allele = np.tile(np.array(["ref", "alt"], dtype=object), len(variants))
    where = pd.DataFrame(
        {
            "chromosome": variants["chromosome"],
            "start": start,
            "end": end,
            "strand": "+",
            "split": variants.get("split", ""),
            "length": end - start,
        }
    )
    others = variants.drop(columns=["chromosome", "split"], errors="ignore").iloc[two].reset_index(drop=True)
    samples = sample_table(
        ids.iloc[two].reset_index(drop=True) + ":" + allele,
        where.iloc[two].reset_index(drop=True),
        others.assign(variant=two, allele=allele, offset=(position - start)[two]),
        lambda row: f"variant {row // 2}",
    )
    chromosome = variants["chromosome"].tolist()
    letters = _letters(variants["alt"])

    def sequences(first: int, last: int) -> list[NDArray[np.uint8]]:
        found = []
        for row in range(first, last):
            number = row // 2
            codes = genome.fetch(chromosome[number], int(start[number]), int(end[number]))
            if row % 2:
                codes[position[number] - start[number]] = letters[number]
            found.append(codes)
        return found

    record = TaskRecord(
        name=name, title="Windows around variants, reference and alternate", level="sequence", type="value", metric="r2"
    )
    source: dict[str, object] = {
        "kind": "variants",
        "fasta": genome.path.name,
        "genome_digest": genome.digest,
        "context": context,
    }
    return Task(name, record, samples, None, sequences, source)


def _check_columns(variants: pd.DataFrame) -> None:
    """Refuse a table that lacks a column, has one of ours, or no rows."""
    missing = [column for column in _NEEDED if column not in variants]
    if missing:
        raise InputError(f"variants have no column {', '.join(missing)}; {', '.join(_NEEDED)} are needed.")
    taken = [column for column in _OURS if column in variants]
    if taken:
        raise InputError(f"variants have the columns {', '.join(taken)}, which the samples get; rename or drop them.")
    if not len(variants):
        raise InputError("there are no variants.")
    if variants["position"].dtype.kind not in "iu":
        raise InputError(f"position is of type {variants['position'].dtype}; whole numbers, 0-based, are wanted.")


def _check_alleles(variants: pd.DataFrame, genome: Genome) -> None:
    """Refuse variants that do not fit the genome, all of them read."""
    for column in ("ref", "alt"):
        _refuse(variants, ~variants[column].isin(list("ACGT")), f"whose {column} is not one letter of A, C, G, T")
    _refuse(variants, variants["ref"] == variants["alt"], "whose ref and alt are the same")
    size = variants["chromosome"].map(genome.contigs)
    _refuse(variants, size.isna(), f"on chromosomes that {genome.path.name} does not have")
    _refuse(variants, (variants["position"] < 0) | (variants["position"] >= size), "outside of their chromosomes")
    _refuse(variants, variants.duplicated(list(_NEEDED)), "that are given twice")
    found = np.empty(len(variants), np.uint8)
    for chromosome, rows in variants.groupby("chromosome", sort=False).indices.items():
        position = variants["position"].to_numpy()[rows]
        first = int(position.min())
        found[rows] = genome.fetch(str(chromosome), first, int(position.max()) + 1)[position - first]
    wrong = f"whose ref is not the letter of {genome.path.name} (positions are 0-based; another build?)"
    _refuse(variants, found != _letters(variants["ref"]), wrong, [f" (genome: {chr(letter)})" for letter in found])


def _letters(alleles: pd.Series[str]) -> NDArray[np.uint8]:
    """Return the codes of single letters, (variant,)."""
    return np.frombuffer("".join(alleles).encode("ascii"), np.uint8)


def _refuse(variants: pd.DataFrame, bad: Any, what: str, extra: list[str] | None = None) -> None:
    """Raise where there is a fault, and list the first few."""
    rows = np.flatnonzero(np.asarray(bad, bool))
    if not len(rows):
        return
    listed = []
    for row in rows[:_LISTED].tolist():
        chromosome, position, ref, alt = variants.loc[row, list(_NEEDED)].tolist()
        listed.append(f"row {row}: {chromosome}:{position} {ref}>{alt}{extra[row] if extra else ''}")
    more = ", ..." if len(rows) > _LISTED else ""
    raise InputError(f"{len(rows):,} of {len(variants):,} variants {what}: {', '.join(listed)}{more}.")


def score_variants(store: Store, task: str, model: str) -> pd.DataFrame:
    """Score variants by the cosine distance between the rows of their nucleotide, reference against alternate.

    The row is the one whose span covers the variant: of a nucleotide for character models, of a token for others.

    Parameters
    ----------
    store
        An open store.
    task
        A task that `variant_task` made.
    model
        Name of an embedding of it, stored as float32; ``positions="offset", keep="rows"`` keeps only what is needed.

    Returns
    -------
    pandas.DataFrame
        One row per variant, in their order: chromosome, position, ref, alt, the columns that came with them, and
        ``score`` (float64, 0 to 2; NaN where a row is zero).

    Raises
    ------
    InputError
        If the task is not one of variants, or the embedding was not computed and stored in float32.
    IncompleteError
        If a block is not embedded yet.

    References
    ----------
    Marin et al. 2024, BEND, section 3.2; ``scripts/predict_variant_effects.py``.
    """
    samples = store.samples(task)
    if not {"variant", "allele", "offset"} <= set(samples):
        raise InputError(f"{store.path}: task {task!r} is not one of variants; make it with variant_task.")
    embedding = store.embedding(task, model)
    if embedding.dtype != np.float32:
        raise InputError(
            f"{store.path}: {task}/{model} is stored as {embedding.dtype}; the small differences of variants need "
            'float32: embed the task with dtype="float32".'
        )
    precision = embedding.fingerprint.get("precision", "float32")
    if precision != "float32":
        raise InputError(
            f"{store.path}: {task}/{model} was computed in {precision}, whose errors are as large as what variants "
            'change: embed the task with a model loaded with precision="float32".'
        )
    rows = _rows_at(embedding, samples["offset"].to_numpy())
    # Two samples per variant, one after the other.
    table = samples.iloc[::2].reset_index(drop=True)
    kept = [column for column in table if column not in (*_OURS, "split")]
    return table[kept].assign(score=cosine_distance(rows[::2], rows[1::2]))


def _rows_at(embedding: Embedding, offset: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the row that covers a nucleotide of each sample, (sample, channel)."""
    out = np.empty((len(offset), embedding.width), np.float32)
    for block in range(embedding.blocks):
        rows = embedding.read_block(block)
        if rows.start is None:
            ends = np.cumsum(rows.span)
            first = ends[rows.first_row[:-1]] - rows.span[rows.first_row[:-1]]
            place = np.searchsorted(ends, first + offset[rows.samples], side="right")
        else:
            wanted = np.repeat(offset[rows.samples], np.diff(rows.first_row))
            place = np.flatnonzero((rows.start <= wanted) & (wanted < rows.start + rows.span))
            if len(place) != len(rows.samples):
                raise InputError(
                    f"{embedding.store.path}: {embedding.task}/{embedding.name} holds the rows of other positions than "
                    'those of the variants: embed the task with positions="offset".'
                )
        out[rows.samples] = rows.vector[place]
    return out


def auroc_table(scores: pd.DataFrame, *, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Compare the variants labelled 1 with those labelled 0: with all, and with each consequence among them.

    Parameters
    ----------
    scores
        From `score_variants`, with the columns ``score``, ``label`` (0 or 1) and ``consequence``.
    draws
        Bootstrap draws of variants behind the interval, default 1000.
    seed
        Of the draws.

    Returns
    -------
    pandas.DataFrame
        controls (``all`` or a consequence), auroc, low, high (95 % percentile interval), positives, negatives, draws,
        seed.

    Raises
    ------
    InputError
        If a column is missing, a score is NaN, or all labels are alike.
    """
    import pandas as pd

    from probes.intervals import bootstrap, interval
    from probes.metrics import Scores, mean_defined, per_target

    missing = [column for column in ("score", "label", "consequence") if column not in scores]
    if missing:
        raise InputError(f"scores have no column {', '.join(missing)}.")
    if scores["score"].isna().any():
        raise InputError(f"{int(scores['score'].isna().sum()):,} scores are NaN: rows of the embedding are zero there.")
    positive = scores["label"] == 1
    if positive.all() or not positive.any():
        raise InputError("all variants have the same label; an AUROC needs both.")
    controls = sorted(scores.loc[~positive, "consequence"].unique())
    rows = []
    for control in ["all", *controls]:
        kept = scores[positive | (~positive & ((scores["consequence"] == control) | (control == "all")))]
        label, score = (kept[column].to_numpy(np.float64)[:, None] for column in ("label", "score"))
        compared = Scores(loss=float("nan"), sample=np.arange(len(kept)), target=label, score=score)
        low, high = interval(bootstrap("auroc", compared, draws=draws, seed=seed))
        rows.append(
            {
                "controls": control,
                "auroc": mean_defined(per_target("auroc", compared)),
                "low": low,
                "high": high,
                "positives": int((kept["label"] == 1).sum()),
                "negatives": int((kept["label"] != 1).sum()),
                "draws": draws,
                "seed": seed,
            }
        )
    return pd.DataFrame(rows)
