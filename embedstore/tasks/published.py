"""What was published of a task: its files and their columns, counts of samples, the recipe, results, known traps.

None of it is part of a task's record, and so of what identifies a task in a store; a store never needs it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.errors import did_you_mean
from embedstore.tasks.records import read_record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from embedstore.tasks.records import RecordFile, TaskRecord

ZERO_SHOT = "zero-shot"
"""Stands for the probe of a task that trains none: the variant tasks."""

FINE_TUNED = "ia3"
"""The probe behind the published numbers of the protein tasks: the encoder itself is adapted."""

PAPER_NAMES: dict[str | tuple[str, str], str] = {
    ("onehot", "cnn"): "CNN",
    ("onehot", "resnet"): "ResNet",
    ("onehot", "basset"): "Basset",
    "resnet_lm": "ResNet-LM",
    "awd_lstm": "AWD-LSTM",
    "nt_500m_human_ref": "NT-H",
    "nt_2b5_multi_species": "NT-MS",
    "nt_2b5_1000g": "NT-H-1000G",
    "dnabert6": "DNABERT",
    "gena_bert_large_t2t": "GENA-LM BERT",
    "gena_bigbird_base_t2t": "GENA-LM BigBird",
    "dnabert2": "DNABERT-2",
    "hyenadna_large_1m": "HyenaDNA large",
    "hyenadna_tiny_1k": "HyenaDNA tiny",
    "nt_v2_500m_multi_species": "NT-v2 500M",
    "esm2_650m": "ESM-2 650M",
    "esm1b_650m": "ESM-1b 650M",
}
"""Row of BEND's Table 3, or of Boshar et al. 2024, Table 2, for a model record's id, or for letters and the network
that is trained on them.

Which checkpoint is behind a row of BEND is that of ``conf/embedding/embed.yaml``.
"""

_ALL = "all"
_SOURCES = ("column", "hdf5", "variants", "coding")
_LABELS: dict[str, type] = {"source": str, "layout": str, "bins": int, "empty": bool}
_CODING: dict[str, type] = {"folder": str, "nucleotides": int, "same_length": bool, "genes": bool, "stops": bool}
_RECIPE: dict[str, type] = {
    "optimizer": str,
    "loss": str,
    "window": int,
    "schedule": str,
    "stopping": str,
    "selection": str,
    "precision": str,
    "seeds": str,
    "shuffle": str,
    "score": str,
    "context_bidirectional": int,
    "context_causal": int,
}


class LabelLayout(NamedTuple):
    """How the released files hold the labels.

    Attributes
    ----------
    source : str
        ``"column"``: in the column ``label`` of the BED file; ``"hdf5"``: in a file of their own; ``"variants"``: a
        column ``label`` with one row per variant, to be read by :func:`embedstore.tasks.read_variants`; ``"coding"``:
        beside a coding sequence, to be read by :func:`embedstore.tasks.read_coding`.
    layout : str
        The same in words.
    bins : int
        Labels of each sample, where all have the same number of bins; otherwise 0.
    empty : bool
        Whether some rows have an empty label.
    """

    source: str
    layout: str = ""
    bins: int = 0
    empty: bool = False


class CodingFacts(NamedTuple):
    """What is known of the coding sequences of a protein task.

    Attributes
    ----------
    folder : str
        Name of the task's folder in the release.
    nucleotides : int
        Length of a coding sequence: of each, where they are variants of one parent, else on average; 0 where not known.
    same_length : bool
        Whether all have that length.
    genes : bool
        Whether each is a whole gene, so that its first codon is read as M wherever it can be a start.
    stops : bool
        Whether stop codons inside a sequence are part of the data (nonsense variants), and no fault.
    """

    folder: str = ""
    nucleotides: int = 0
    same_length: bool = False
    genes: bool = False
    stops: bool = False


class Publication(NamedTuple):
    """What was published of a task.

    Attributes
    ----------
    record : TaskRecord
        The task.
    columns : dict of str to str
        Columns of the released BED file, and what each is.
    labels : LabelLayout
        How the labels are laid out.
    coding : CodingFacts
        What is known of the coding sequences of a protein task.
    splits : tuple of str
        Names of the splits in the released file; empty where it has none.
    counts : dict of str to dict
        Samples per split (key ``all`` where only their sum is known) by whose count it is: ``paper``, ``released``, ...
    metric : str
        What the published numbers are.
    source : str
        Where they stand.
    values : dict of str to float
        Published number by the name of the model, baseline or other method in the paper.
    spread : dict of str to float
        Its standard deviation over folds, where one was published.
    recipe : dict of str to (str or int)
        How the numbers were made, beyond the settings in ``record.probe``; ``window`` is the nucleotides that are
        averaged into one output.
    downloads : dict of str to str
        Address of each released file.
    notes : dict of str to str
        Traps, by what they are about.
    """

    record: TaskRecord
    columns: dict[str, str]
    labels: LabelLayout
    coding: CodingFacts
    splits: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    metric: str
    source: str
    values: dict[str, float]
    spread: dict[str, float]
    recipe: dict[str, str | int]
    downloads: dict[str, str]
    notes: dict[str, str]

    @property
    def samples(self) -> int:
        """Samples of the released file, as far as known, or of the paper; 0 where neither is said."""
        known = self.counts.get("released") or next(iter(self.counts.values()), {})
        return sum(known.values())

    def is_this(self, record: TaskRecord, splits: pd.Series[str]) -> bool:
        """Tell whether a task is the published one, so that published numbers may stand beside its own.

        Parameters
        ----------
        record
            Record of the task.
        splits
            Split of each of its samples; of a task of variants, which have none, an empty text for each variant.

        Returns
        -------
        bool
            True if the record is the published one and its samples are as many in each split as in the paper or in the
            released file; where only their sum is known, the splits must have the published names. A task of variants
            (:func:`embedstore.variants.variant_task`) has a record of its own, of which the name must be the published
            one. A protein task is itself as coding sequences and as proteins. False where no count is known.
        """
        seen = self.counted(splits)
        if self.labels.source == "variants":
            if record.name != self.record.name or set(seen) != {""}:
                return False
            return any(seen[""] == sum(counts.values()) for counts in self.counts.values())
        if self.labels.source == "coding":
            record = replace(record, alphabet=self.record.alphabet)
        if record != self.record:
            return False
        return any(
            counts == seen or (set(counts) == {_ALL} and counts[_ALL] == len(splits) and set(seen) == set(self.splits))
            for counts in self.counts.values()
        )

    def counted(self, splits: pd.Series[str]) -> dict[str, int]:
        """Count samples per split, as the publication counts them.

        Parameters
        ----------
        splits
            Split of each sample.

        Returns
        -------
        dict of str to int
            Samples by split. Several test sets (:attr:`splits` beyond ``train`` and ``valid``) are one ``test`` where
            only their sum was published.
        """
        seen = {str(name): int(count) for name, count in splits.value_counts().items()}
        if "test" not in self.splits and any("test" in counts for counts in self.counts.values()):
            tested = [name for name in seen if name in self.splits and name not in ("train", "valid")]
            together = {"test": sum(seen.pop(name) for name in tested)} if tested else {}
            seen = {**seen, **together}
        return seen


def publication(name: str | Path) -> Publication:
    """Read what was published of a task.

    Parameters
    ----------
    name
        A name from :func:`embedstore.tasks.names`, or the path of a ``.toml`` file, in which every table about the
        publication may be left out.

    Returns
    -------
    Publication
        Record, columns, labels, counts, results, recipe, addresses and notes.

    Raises
    ------
    InputError
        With file and line, if the record or one of the tables is not as it must be.

    Examples
    --------
    >>> found = publication("gene_finding")
    >>> found.counts["paper"], found.values["NT-MS"]
    ({'train': 4780, 'valid': 598, 'test': 598}, 0.76)
    """
    file = read_record(name)
    record = file.record()
    labels = _table(file, "labels", _LABELS)
    if labels.get("source", "column") not in _SOURCES:
        raise file.fault(f"labels.source is {labels['source']!r}; it must be one of {', '.join(_SOURCES)}.")
    samples = _table(file, "samples")
    splits = samples.pop("splits", [])
    if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
        raise file.fault(f"samples.splits is {splits!r}; a list of names is wanted.")
    published = _table(file, "published", {"metric": str, "source": str, "values": dict, "spread": dict})
    return Publication(
        record=record,
        columns=_table(file, "columns", every=str),
        labels=LabelLayout(**{"source": "hdf5" if record.level != "sequence" else "column", **labels}),
        coding=CodingFacts(**_table(file, "coding", _CODING)),
        splits=tuple(splits),
        counts={whose: _checked(file, f"samples.{whose}", counts, every=int) for whose, counts in samples.items()},
        metric=published.get("metric", ""),
        source=published.get("source", ""),
        values=_checked(file, "published.values", published.get("values", {}), every=float),
        spread=_checked(file, "published.spread", published.get("spread", {}), every=float),
        recipe=_table(file, "recipe", _RECIPE),
        downloads=_table(file, "download", every=str),
        notes=_table(file, "notes", every=str),
    )


def published_value(publication: Publication, model: str, probe: str = "cnn") -> float | None:
    """Return the published number for a model and a probe.

    Parameters
    ----------
    publication
        The task.
    model
        Id of the model's record (``embedstore models``), not of a local checkpoint or of another layer than the last;
        or ``"onehot"``.
    probe
        Kind of probe: ``"cnn"`` (default), BEND's for every language model; on letters also ``"resnet"`` and
        ``"basset"``. :data:`ZERO_SHOT` for tasks of variants, :data:`FINE_TUNED` for those of proteins.

    Returns
    -------
    float or None
        None where the paper has no such number.

    Examples
    --------
    >>> published_value(publication("gene_finding"), "nt_2b5_multi_species")
    0.76
    >>> published_value(publication("gene_finding"), "onehot", "resnet")
    0.53
    """
    usual = {"variants": ZERO_SHOT, "coding": FINE_TUNED}.get(publication.labels.source, "cnn")
    row = PAPER_NAMES.get((model, probe)) or (PAPER_NAMES.get(model) if probe == usual else None)
    return publication.values.get(row) if row else None


def _table(
    file: RecordFile, name: str, kinds: Mapping[str, type] | None = None, every: type | None = None
) -> dict[str, Any]:
    """Return a table of a file, checked; an empty one where the file has none."""
    return dict(_checked(file, name, file.data.get(name, {}), kinds, every))


def _checked(
    file: RecordFile, name: str, table: object, kinds: Mapping[str, type] | None = None, every: type | None = None
) -> dict[str, Any]:
    """Refuse what is no table, keys that are not known, and values of another type than wanted."""
    if not isinstance(table, dict):
        raise file.fault(f"{name} is {table!r}; a table is wanted.")
    for key, value in table.items():
        if kinds is not None and key not in kinds:
            raise file.fault(f"unknown key {key!r} in {name}.{did_you_mean(key, kinds)}")
        kind = every if kinds is None else kinds[key]
        if kind is None:
            continue
        good = (int, float) if kind is float else (kind,)
        if not isinstance(value, good) or (isinstance(value, bool) and kind is not bool):
            raise file.fault(f"{key!r} in {name} is {value!r}; it must be of type {kind.__name__}.")
        if kind is int and isinstance(value, int) and value < 0:
            raise file.fault(f"{key!r} in {name} is {value!r}; it must not be negative.")
    return table
