"""Tasks: named sets of samples with sequences, labels and splits, from regions of a genome, a FASTA file or memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedstore.errors import InputError, did_you_mean
from embedstore.genome import Genome
from embedstore.regions import read_regions
from embedstore.tasks.labels import Labels, array_labels, column_labels, hdf5_labels
from embedstore.tasks.published import publication
from embedstore.tasks.records import TaskRecord, names
from embedstore.tasks.records import record as find_record
from embedstore.tasks.samples import LETTER, encode_all, loose_samples
from embedstore.text import file_digest, read_tabbed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from embedstore.tokenizers.tokens import Alphabet

    Sequences = Callable[[int, int], list[NDArray[np.uint8]]]
    OtherLetters = Literal["refuse", "N"]

__all__ = ["Labels", "Task", "from_bed", "from_fasta", "from_sequences"]


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """A named set of samples with their sequences, labels and splits.

    Parameters
    ----------
    name
        What the task is called in a store.
    record
        What is predicted, and how.
    samples
        One row per sample: ``id``, ``chromosome``, ``start``, ``end``, ``strand``, ``split``, ``length`` (nucleotides),
        then any other columns of the input. ``strand`` is that of the input; whether it was applied to the sequence
        is ``record.strand``. A sequence that was not cut from a genome has chromosome ``""``, start 0 and strand
        ``"."``.
    labels
        The labels, or None.
    sequences
        ``sequences(start, stop)`` reads the sequences of samples ``start`` to ``stop - 1``, on demand.
    source
        Where all this came from: file names, sha256 digests and options, as data that JSON can hold.
    variants
        A table of variants whose columns ``reference`` and ``alternate`` name samples, for tasks of windows around
        variants (`embedstore.variants.variant_task`); else None.
    """

    name: str
    record: TaskRecord
    samples: pd.DataFrame
    labels: Labels | None
    sequences: Sequences
    source: dict[str, object]
    variants: pd.DataFrame | None = None

    def __repr__(self) -> str:
        splits = ", ".join(f"{count:,} {name}" for name, count in self.samples["split"].value_counts().items() if name)
        labels = "no labels" if self.labels is None else f"labels per {', '.join(self.labels.dims)}"
        return (
            f"Task({self.name!r}: {len(self.samples):,} samples{f' ({splits})' if splits else ''}, "
            f"{self.samples['length'].sum():,} {LETTER[self.record.alphabet]}s, {labels})"
        )


def from_bed(
    bed: str | Path,
    fasta: str | Path,
    *,
    record: TaskRecord | str | Path,
    name: str | None = None,
    labels: str | Path | Literal[False] | None = None,
    split: str | None = None,
    empty_labels: Literal["refuse", "zero"] = "refuse",
    other_letters: OtherLetters = "refuse",
) -> Task:
    """Make a task from a BED file in BEND's format and a genome.

    All coordinates and labels are checked here; sequences are read, and their letters checked, when they are asked
    for.

    Parameters
    ----------
    bed
        Tab-separated, plain or gzip, with a header: ``chromosome``, ``start``, ``end`` first (0-based, half-open);
        ``strand``, ``label`` and ``split`` by name, anywhere. See :func:`embedstore.regions.read_regions` for ids.
    fasta
        The genome; see :class:`embedstore.genome.Genome`.
    record
        A task record, the name of a published task, or the path of a TOML file; not one of proteins.
    name
        Name of the task in a store; that of the record by default.
    labels
        None (default): the column ``label`` (level ``sequence`` only). A path: an hdf5 file whose dataset ``labels``
        has a row for each row of the BED, in the same order; along a sequence they are in the order of the genome,
        whatever the strand. False: the task has no labels. A column ``label`` that is not used is kept as any other.
    split
        Split of all samples, for a file without a column ``split``; may be ``""``. By default such a file is refused.
    empty_labels
        ``"refuse"`` (default), or ``"zero"``: an empty label of type ``multilabel`` sets all targets to 0.
    other_letters
        ``"refuse"`` (default), or ``"N"``: letters other than A, C, G, T, N are read as N.

    Returns
    -------
    Task
        Samples in the order of the file.

    Raises
    ------
    InputError
        With file and line, if any row, label or file is not as it must be. Nothing is dropped.
    """
    record = _of_regions(record, bed)
    table = read_tabbed(bed, first=("chromosome", "start", "end"))
    column = table.frame.get("label") if labels is None else None
    if column is not None:
        table = table._replace(frame=table.frame.drop(columns="label"))
    elif labels is None:
        raise InputError(
            f"{bed}:1: no column 'label'.{did_you_mean('label', table.frame.columns)} Pass labels= with an hdf5 file, "
            "or labels=False for a task without labels."
        )
    genome = Genome(fasta, other_letters=other_letters)
    samples = read_regions(table, genome.contigs, strand=record.strand, split=split)
    turned = (samples["strand"] == "-").to_numpy(bool) & (record.strand == "given")
    source: dict[str, object] = {
        "kind": "bed",
        "bed": table.path.name,
        "bed_sha256": file_digest(bed),
        "fasta": genome.path.name,
        "genome_digest": genome.digest,
        "split": split,
        "empty_labels": empty_labels,
        "other_letters": other_letters,
    }
    found = None
    if column is not None:
        found = column_labels(column, record, table.where, empty_labels)
    elif labels is not None and labels is not False:
        found = hdf5_labels(labels, record, samples["length"].to_numpy(), table.where, turned)
        source.update(labels=Path(labels).name, labels_sha256=file_digest(labels))

    def sequences(start: int, stop: int) -> list[NDArray[np.uint8]]:
        part = samples.iloc[start:stop]
        places = zip(part["chromosome"], part["start"], part["end"], turned[start:stop], strict=True)
        return [genome.fetch(chromosome, first, end, "-" if turn else "+") for chromosome, first, end, turn in places]

    return Task(name or record.name, record, samples, found, sequences, source)


def _of_regions(record: TaskRecord | str | Path, bed: str | Path) -> TaskRecord:
    """Return the record that was meant; it must be one of regions of a genome."""
    record = record if isinstance(record, TaskRecord) else find_record(record)
    kind = publication(record.name).labels.source if record.name in names() else None
    if kind == "variants":
        raise InputError(
            f"{bed}: task {record.name!r} is of variants, places without a length. Read them with "
            "embedstore.tasks.read_variants, and score them with analysis.score_variants."
        )
    if kind == "coding":
        raise InputError(
            f"{bed}: task {record.name!r} is of coding sequences, and a BED file names regions of a genome. Read the "
            "sequences themselves with embedstore.tasks.read_coding."
        )
    if record.alphabet != "dna":
        raise InputError(
            f"record {record.name!r} is of proteins, and a BED file names regions of a genome: pass the proteins "
            "themselves, as a table or FASTA file."
        )
    return record


def from_fasta(
    path: str | Path,
    *,
    record: TaskRecord | str | Path | None = None,
    name: str | None = None,
    splits: Sequence[str] | None = None,
    labels: ArrayLike | Labels | None = None,
    other_letters: OtherLetters = "refuse",
    alphabet: Alphabet | None = None,
) -> Task:
    """Make a task from a FASTA file in which every sequence is a sample.

    Parameters
    ----------
    path
        FASTA file, plain or gzip; the id of a sample is the first word of its header. Sequences are read on demand.
    record
        What the labels are; needed where there are labels.
    name
        Name of the task in a store; that of the record, or else of the file, by default.
    splits
        One split per sequence, in the order of the file; ``""`` for all by default.
    labels
        As for :func:`from_sequences`, in the order of the file.
    other_letters
        ``"refuse"`` (default), or ``"N"``: letters other than A, C, G, T, N are read as N. Not for proteins.
    alphabet
        ``"dna"`` or ``"protein"``: what the letters are. By default what the record says, and without one DNA.

    Returns
    -------
    Task
        Samples in the order of the file.

    Raises
    ------
    InputError
        If the file is not FASTA, or labels or splits do not fit.
    """
    record = resolve(
        record, name or Path(path).name.split(".")[0], alphabet, other_letters, labelled=labels is not None
    )
    genome = Genome(path, other_letters=other_letters, alphabet=record.alphabet)
    names = list(genome.contigs)
    lengths = np.array(list(genome.contigs.values()), np.int64)

    def where(row: int) -> str:
        return f"{genome.path}: sequence {names[row]!r}"

    def sequences(start: int, stop: int) -> list[NDArray[np.uint8]]:
        return [genome.fetch(contig, 0, genome.contigs[contig]) for contig in names[start:stop]]

    source: dict[str, object] = {
        "kind": "fasta",
        "fasta": genome.path.name,
        "genome_digest": genome.digest,
        "other_letters": other_letters,
    }
    samples = loose_samples(names, lengths, splits, None, where, record.alphabet)
    found = _given_labels(labels, record, lengths, where)
    return Task(name or record.name, record, samples, found, sequences, source)


def from_sequences(
    name: str,
    sequences: Sequence[str | NDArray[np.uint8]],
    *,
    ids: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    labels: ArrayLike | Sequence[ArrayLike] | Labels | None = None,
    record: TaskRecord | str | Path | None = None,
    columns: pd.DataFrame | None = None,
    other_letters: OtherLetters = "refuse",
    alphabet: Alphabet | None = None,
) -> Task:
    """Make a task from sequences in memory, for notebooks and tests.

    Parameters
    ----------
    name
        Name of the task in a store.
    sequences
        Texts or uint8 arrays of ASCII letters, one per sample; lower case becomes upper case.
    ids
        One id per sample; ``"0"``, ``"1"`` ... by default.
    splits
        One split per sample; ``""`` for all by default.
    labels
        :class:`Labels`, or one row per sample: (sample,) or (sample, target) for level ``sequence``, a row of bins or
        nucleotides otherwise; see :func:`embedstore.tasks.labels.array_labels`.
    record
        What the labels are; needed where there are labels.
    columns
        More columns of the sample table. ``chromosome``, ``start``, ``end`` and ``strand`` say where a sequence came
        from; they change nothing about it. A protein is never on strand ``-``.
    other_letters
        ``"refuse"`` (default), or ``"N"``: letters other than A, C, G, T, N are read as N. Not for proteins.
    alphabet
        ``"dna"`` or ``"protein"``: what the letters are. By default what the record says, and without one DNA.

    Returns
    -------
    Task
        Samples in the order given.

    Raises
    ------
    InputError
        If a letter is refused, a sequence is empty, or labels, ids, splits or columns do not fit.

    Examples
    --------
    >>> from_sequences("toy", ["ACGT", "GGNCC"], splits=["train", "test"])
    Task('toy': 2 samples (1 train, 1 test), 9 nucleotides, no labels)
    """

    def where(row: int) -> str:
        return f"task {name!r}: sample {row}"

    record = resolve(record, name, alphabet, other_letters, labelled=labels is not None)
    codes = encode_all(sequences, other_letters, where, record.alphabet)
    if not codes:
        raise InputError(f"task {name!r} has no sequences.")
    lengths = np.array([len(one) for one in codes], np.int64)
    ids = [str(row) for row in range(len(codes))] if ids is None else ids
    samples = loose_samples(ids, lengths, splits, columns, where, record.alphabet)
    found = _given_labels(labels, record, lengths, where)
    return Task(name, record, samples, found, lambda start, stop: codes[start:stop], {"kind": "memory"})


def resolve(
    record: TaskRecord | str | Path | None,
    name: str,
    alphabet: Alphabet | None,
    other_letters: OtherLetters,
    *,
    labelled: bool = False,
) -> TaskRecord:
    """Return the record that was meant; None stands for one that says nothing.

    Parameters
    ----------
    record
        A record, the name of a published task, the path of a TOML file, or None.
    name
        Name for a record that says nothing.
    alphabet
        Takes the place of what the record says, unless None.
    other_letters
        Must be ``"refuse"`` for proteins.
    labelled
        Whether there are labels, of which a record must say what they are.

    Returns
    -------
    TaskRecord
        The record.

    Raises
    ------
    InputError
        If there are labels but no record, the record cannot be found or read, or the alphabet does not fit.
    """
    if record is None and labelled:
        raise InputError(f"task {name!r} has labels; pass record= to say what they are.")
    if record is None:
        record = TaskRecord(name=name, title="Sequences without labels", level="sequence", type="value", metric="r2")
    elif not isinstance(record, TaskRecord):
        record = find_record(record)
    if alphabet is not None:
        record = replace(record, alphabet=alphabet)
    if record.alphabet == "protein" and other_letters != "refuse":
        raise InputError(
            f"task {name!r} is of proteins, in which N is asparagine: leave out other_letters={other_letters!r}."
        )
    return record


def _given_labels(
    labels: ArrayLike | Sequence[ArrayLike] | Labels | None,
    record: TaskRecord,
    lengths: NDArray[np.int64],
    where: Callable[[int], str],
) -> Labels | None:
    """Check labels that were passed as values."""
    if labels is None:
        return None
    found = array_labels(labels.values if isinstance(labels, Labels) else labels, record, lengths, where)
    if isinstance(labels, Labels) and labels.dims != found.dims:
        raise InputError(f"labels have the dimensions {labels.dims}; record {record.name!r} wants {found.dims}.")
    return found
