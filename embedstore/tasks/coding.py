"""Protein tasks as coding sequences: read, checked and translated; stored as coding sequences and as proteins.

Every row is checked before anything is embedded: the letters, the reading frame, the translation against the protein
where one is given, the label. Nothing is dropped unless asked for, and then listed with its reason.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.coding.genetic_code import genetic_code
from embedstore.errors import InputError, check_seed
from embedstore.tasks.coding_columns import checked_table, divided_splits, species_digest, species_table, with_species
from embedstore.tasks.coding_differences import differences
from embedstore.tasks.coding_rows import (
    COLUMNS,
    FIND,
    Reading,
    check_rows,
    named_columns,
    refuse,
    rejects_table,
)
from embedstore.tasks.labels import UNLABELLED
from embedstore.tasks.published import CodingFacts, publication
from embedstore.tasks.records import TaskRecord, names
from embedstore.tasks.records import record as find_record
from embedstore.tasks.task import Task, from_sequences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Literal

    import pandas as pd

    from embedstore.tasks.published import Publication

__all__ = ["COLUMNS", "CodingData", "coding_task", "make_coding", "protein_task", "read_coding", "species_table"]

logger = logging.getLogger(__name__)


class CodingData(NamedTuple):
    """Coding sequences with their proteins and labels, checked.

    Attributes
    ----------
    record : TaskRecord
        What is predicted.
    table : pandas.DataFrame
        One row per sample, in the order of the input: id, split, cds (upper case, T for U, without gaps, with its stop
        codon where it has one), protein (without it; a stop codon inside is ``*``), label (float, or a tuple of class
        indices, one per residue, -100: not labelled), species (``unknown`` where not said), group (samples that belong
        together, by default those of one protein), transl_table, has_start (the first codon is a start, read M),
        has_stop, flags (``other_letters``: letters were changed or gaps left out; ``ambiguous_codons``;
        ``stop_inside``; joined by commas), then any other columns.
    differences : pandas.DataFrame
        Columns what, seen, wanted: where counts, lengths or checks differ from what was published.
    source : dict
        Files, digests and options, as data that JSON can hold.
    rejects : pandas.DataFrame
        Columns row, where, id, reason, detail: rows that were left out, where that was asked for.
    """

    record: TaskRecord
    table: pd.DataFrame
    differences: pd.DataFrame
    source: dict[str, Any]
    rejects: pd.DataFrame


def read_coding(
    path: str | Path,
    task: TaskRecord | str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    ids: Literal["given", "row"] = "given",
    faults: Literal["refuse", "reject"] = "refuse",
    species: str | Path | pd.DataFrame | None = None,
    table: int | Literal["find"] = 1,
    val: Literal["given", "grouped"] = "given",
    seed: int = 0,
    label_order: str | None = None,
    genes: bool | None = None,
    stops: bool | None = None,
) -> CodingData:
    """Read coding sequences with labels from a folder of FASTA files or a table, and check every row.

    Parameters
    ----------
    path
        A folder with ``train.fna``, ``val.fna`` and ``test.fna`` (for ``secondary_structure``: ``train``, ``CASP12``,
        ``CB513`` and ``TS115``) or the folder above it; one FASTA file; or a CSV, TSV, Parquet or JSON lines table. The
        label of a FASTA sequence is the last field of its header; fields are separated by ``|``, a tab, a space or
        ``,``.
    task
        A record, the name of a published task, or the path of a TOML file.
    ids
        ``"given"`` (default): those of the input, which must not repeat. ``"row"``: the rows are numbered from 0, and
        what the input has as ``id`` becomes ``input_id``.
    columns, split, faults, species, table, val, seed, label_order, genes, stops
        As for :func:`make_coding`.

    Returns
    -------
    CodingData
        Rows in the order of the files.

    Raises
    ------
    InputError
        With file and line, for every row that is not as it must be.
    """
    from embedstore.tasks.coding_files import read_file

    record = _record(task)
    file = read_file(path, record, _known(record), _order(label_order, record))
    about = {"kind": "coding", "files": file.digests, "ids": ids}
    if ids not in ("given", "row"):
        raise InputError(f"ids is {ids!r}; it must be 'given' or 'row'.")
    numbered = file.frame.rename(columns={"id": "input_id"})
    return make_coding(
        file.frame if ids == "given" else numbered.assign(id=[str(row) for row in range(len(numbered))]),
        record,
        columns=columns,
        split=split,
        faults=faults,
        species=species,
        table=table,
        val=val,
        seed=seed,
        label_order=label_order,
        genes=genes,
        stops=stops,
        where=file.where,
        source=about,
    )


def make_coding(
    frame: pd.DataFrame,
    task: TaskRecord | str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    faults: Literal["refuse", "reject"] = "refuse",
    species: str | Path | pd.DataFrame | None = None,
    table: int | Literal["find"] = 1,
    val: Literal["given", "grouped"] = "given",
    seed: int = 0,
    label_order: str | None = None,
    genes: bool | None = None,
    stops: bool | None = None,
    where: Callable[[int], str] | None = None,
    source: Mapping[str, Any] | None = None,
) -> CodingData:
    """Check coding sequences in memory, and translate them.

    Parameters
    ----------
    frame
        One row per sample. Columns by the names in :data:`embedstore.tasks.coding_rows.NAMES_OF_COLUMNS`: a coding
        sequence and a label are needed; id, split, protein, mask (of residues, 1: labelled), species, group,
        transl_table, has_start and validation mean what they say. All others are kept.
    task
        A record, the name of a published task, or the path of a TOML file.
    columns
        Names of columns in ``frame`` by what they are, where they have other names: ``{"label": "median_Tm"}``.
    split
        Split of all rows, for a table without a column for it.
    faults
        ``"refuse"`` (default): any faulty row is an error, which names every one of them. ``"reject"``: faulty rows are
        left out and listed in ``rejects``.
    species
        Where species are not in the table: a table, or a tab-separated file, with the columns ``protein_sha256``,
        ``label`` (rounded to 4 decimals) and ``species``, as :func:`species_table` writes it.
    table
        Genetic code (NCBI number) of rows without ``transl_table``; 1 by default. ``"find"``: for each such row the one
        of 1, 11, 2, 3 and 5 that gives exactly its protein (:func:`embedstore.coding.find_table`), which must be there.
    val
        ``"given"`` (default): validation samples are those of the input. A published task whose release has none
        (``secondary_structure``) gets a fifth of the training samples, by ``seed``. ``"grouped"``: training and
        validation samples are divided anew, so that no group is in both.
    seed
        Of the division.
    label_order
        Classes of residues, one letter each, in the order of their numbers in the input. None (default): as in the
        record, which for ``secondary_structure`` is NetSurfP's order, GHIBESTC.
    genes
        Whether each sequence is a whole gene, so that its first codon reads M wherever its table allows it to start.
        None (default): as known of the task, else False; a column ``has_start`` says it for each row.
    stops
        Whether stop codons inside a sequence are part of the data. None (default): as known of the task, else False.
    where
        Names the place of a row, for messages; ``row 0`` ... by default.
    source
        Added to what is stored about where the data came from.

    Returns
    -------
    CodingData
        Checked rows, in the order given.

    Raises
    ------
    InputError
        If a column is missing or ambiguous, rows are faulty, or an option is not one of the choices.
    """
    record = _record(task)
    _check_options(faults, val)
    check_seed(seed)
    how = _reading(record, table, label_order, genes, stops)
    frame = named_columns(frame, columns, split)
    rows, rejects = _kept(frame, how, faults, where or (lambda row: f"row {row}"))
    made = with_species(checked_table(frame, rows), species)
    known = _known(record)
    made["split"] = divided_splits(made, val, seed, known)
    about: dict[str, Any] = {
        "kind": "coding",
        **(source or {}),
        **({} if columns is None else {"columns": dict(columns)}),
        **({} if species is None else {"species_sha256": species_digest(species)}),
        "transl_table": table,
        "genes": how.genes,
        "stops": how.stops,
        "validation": val,
        "seed": seed,
        "rejected": len(rejects),
        **({"label_order": list(how.order)} if record.level == "nucleotide" else {}),
    }
    found = CodingData(record, made, differences(made, record, known), about, rejects)
    for one in found.differences.itertuples():
        logger.info("%s: %s: seen %s, wanted %s", record.name, one.what, one.seen, one.wanted)
    return found


def _reading(
    record: TaskRecord,
    table: int | Literal["find"],
    label_order: str | None,
    genes: bool | None,
    stops: bool | None,
) -> Reading:
    """Return how rows are to be read: as is said, else as is known of the task."""
    if table != FIND:
        genetic_code(table)
    known = _known(record)
    facts = CodingFacts() if known is None else known.coding
    return Reading(
        record=record,
        table=table,
        genes=facts.genes if genes is None else genes,
        stops=facts.stops if stops is None else stops,
        order=_order(label_order, record),
    )


def _kept(
    frame: pd.DataFrame, how: Reading, faults: str, where: Callable[[int], str]
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Return the rows that are as they must be, and a table of the others, where those may be left out."""
    rows, wrong = check_rows(frame, how)
    if faults == "refuse" or not rows:
        refuse(wrong, len(frame), where)
    if not rows:
        raise InputError("there are no rows; at least one coding sequence with a label is wanted.")
    rejects = rejects_table(wrong, frame, where)
    if len(rejects):
        counts = rejects["reason"].value_counts().to_dict()
        logger.warning("%d of %d rows are left out: %s", len(rejects), len(frame), counts)
    return rows, rejects


def coding_task(data: CodingData, name: str | None = None) -> Task:
    """Make the task of the coding sequences.

    Parameters
    ----------
    data
        From :func:`read_coding` or :func:`make_coding`.
    name
        Name of the task in a store; that of the record by default.

    Returns
    -------
    Task
        Samples in the order of ``data``, with all columns but the sequences and labels. The label of a residue stands
        at its three nucleotides, and a stop codon has none (-100). Letters other than A, C, G, T become N.
    """
    labels = data.table["label"]
    if data.record.level == "nucleotide":
        stop = [UNLABELLED] * 3
        rows = [
            np.concatenate([np.repeat(residues, 3), stop if ends else []]).astype(np.int16)
            for residues, ends in zip(labels, data.table["has_stop"], strict=True)
        ]
        return _task(data, name or data.record.name, "cds", data.record, rows)
    return _task(data, name or data.record.name, "cds", data.record, labels.to_numpy(np.float64))


def protein_task(data: CodingData, name: str | None = None, *, stops: Literal["refuse", "X"] = "refuse") -> Task:
    """Make the task of the proteins, with the ids, splits and labels of the coding sequences.

    Parameters
    ----------
    data
        From :func:`read_coding` or :func:`make_coding`.
    name
        Name of the task in a store; ``{name of the record}.protein`` by default.
    stops
        What to do with a stop codon inside: ``"refuse"`` (default), or ``"X"``: write it as an unknown residue, since
        protein models have no letter for it. It is never cut there: different variants would become one protein.

    Returns
    -------
    Task
        Samples in the order of ``data``. Its record is that of the coding sequences, with the alphabet of proteins.

    Raises
    ------
    InputError
        If a protein has a stop codon inside and they are refused.
    """
    inside = data.table["protein"].str.contains("*", regex=False)
    if stops not in ("refuse", "X"):
        raise InputError(f"stops is {stops!r}; it must be 'refuse' or 'X'.")
    if inside.any() and stops == "refuse":
        first = data.table[inside].iloc[0]
        raise InputError(
            f"{int(inside.sum()):,} of {len(inside):,} proteins have a stop codon inside, and protein models have no "
            f"letter for it; the first is {first['id']!r}, residue {first['protein'].index('*') + 1}. Pass stops='X' "
            "(--stops X) to write it as an unknown residue, or leave these rows out."
        )
    record = replace(data.record, alphabet="protein")
    labels = data.table["label"]
    rows = [np.array(one, np.int16) for one in labels] if record.level == "nucleotide" else labels.to_numpy(np.float64)
    task = _task(data, name or f"{data.record.name}.protein", "protein", record, rows)
    return replace(task, source={**task.source, "stops_inside": stops})


def _task(data: CodingData, name: str, part: str, record: TaskRecord, labels: Any) -> Task:
    """Make a task of one of the two sequence columns."""
    sequences = data.table[part]
    if part == "protein":
        sequences = sequences.str.replace("*", "X")
    task = from_sequences(
        name,
        sequences.to_list(),
        ids=data.table["id"].to_list(),
        splits=data.table["split"].to_list(),
        labels=labels,
        record=record,
        columns=data.table.drop(columns=["id", "split", "cds", "protein", "label"]),
        other_letters="refuse" if part == "protein" else "N",
    )
    return replace(task, source={**data.source, "part": part})


def _record(task: TaskRecord | str | Path) -> TaskRecord:
    """Return the record that was meant; it must be one of coding sequences with one label per sample or residue."""
    record = task if isinstance(task, TaskRecord) else find_record(task)
    good = record.alphabet == "dna" and record.strand == "forward"
    good &= (record.level, record.type) in (("sequence", "value"), ("nucleotide", "class")) and len(record.names) != 1
    if not good or (record.type == "value" and record.names):
        raise InputError(
            f"record {record.name!r} is of level {record.level!r}, type {record.type!r}, {len(record.names)} names, "
            f"alphabet {record.alphabet!r}, strand {record.strand!r}; coding sequences have one value each (level "
            "'sequence', type 'value', no names) or a class per residue (level 'nucleotide', type 'class'), alphabet "
            "'dna', strand 'forward'."
        )
    return record


def _known(record: TaskRecord) -> Publication | None:
    """Return what was published of a task, if anything."""
    return publication(record.name) if record.name in names() and find_record(record.name) == record else None


def _check_options(faults: str, val: str) -> None:
    for name, value, choices in (("faults", faults, ("refuse", "reject")), ("val", val, ("given", "grouped"))):
        if value not in choices:
            raise InputError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}.")


def _order(label_order: str | None, record: TaskRecord) -> tuple[str, ...]:
    """Return the classes of residues in the order of their numbers in the input."""
    if label_order is None:
        return record.names
    if sorted(label_order) != sorted(record.names):
        known = ", ".join(record.names) or "which has none"
        raise InputError(
            f"label_order is {label_order!r}; the classes of {record.name!r}, {known}, are wanted, each once, in the "
            "order of their numbers in the input."
        )
    return tuple(label_order)
