"""Tables of genotypes of one parent, as coding sequences: avGFP and TEM-1 beta-lactamase."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.coding import clean_cds, read_codons, translate
from embedstore.errors import InputError
from embedstore.sequences import decode
from embedstore.tasks.coding import make_coding
from embedstore.tasks.coding_rows import Fault, refuse, rejects_table
from embedstore.tasks.degenerate import split_by_differences, unique_and_complete
from embedstore.tasks.mutations import Mutation, change_nucleotides, change_residues, parse_genotype
from embedstore.tasks.tables import typed_columns
from embedstore.text import file_digest, read_bytes, read_tabbed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal, TypeVar

    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.tasks.coding import CodingData

    _Genotype = TypeVar("_Genotype")


def read_gfp(
    path: str | Path,
    parent: str | Path,
    *,
    level: Literal["residue", "nucleotide"] = "residue",
    first: int = 0,
    faults: Literal["refuse", "reject"] = "refuse",
    valid: float = 0.2,
    seed: int = 0,
) -> CodingData:
    """Read the genotypes and brightness of avGFP (Sarkisyan et al. 2016) as the fluorescence task.

    Parameters
    ----------
    path
        Tab-separated: ``aaMutations`` (or ``nMutations``, for genotypes of nucleotides) and ``medianBrightness``; all
        other columns are kept.
    parent
        FASTA file with the parent's coding sequence.
    level
        What the positions count; ``"residue"`` by default.
    first
        Position of the parent's first letter; 0 by default, as in the published tables.
    faults, seed
        As for :func:`embedstore.tasks.make_coding`.
    valid
        Share of the variants of at most 3 residues that is for validation; 0.2 by default.

    Returns
    -------
    CodingData
        One coding sequence per protein, split as in TAPE: 4 changed residues or more are for testing. Variants with a
        stop codon inside are among them.

    Raises
    ------
    InputError
        With file and line, if a reference letter is not the parent's, or a row is otherwise faulty.
    """
    table = read_tabbed(path)
    columns = {"residue": "aaMutations", "nucleotide": "nMutations"}
    if level not in columns:
        raise InputError(f"level is {level!r}; it must be 'residue' or 'nucleotide'.")
    _need(path, table.frame, (columns[level], "medianBrightness"))
    cds = read_parent(parent)
    change = change_residues if level == "residue" else change_nucleotides
    genotypes = table.frame[columns[level]].to_list()
    frame = typed_columns(table, [columns[level], "medianBrightness"])
    frame = frame.drop(columns=columns[level]).rename(columns={"medianBrightness": "label"})
    frame.insert(0, "id", [text.strip() or "parent" for text in genotypes])
    data = _make(
        frame,
        genotypes,
        lambda text: change(cds, parse_genotype(text, first=first)),
        "fluorescence",
        faults,
        table.where,
        _source(path, parent, level=level, first=first),
    )
    return split_by_differences(data, translate(cds, stop=True), valid=valid, seed=seed)


def read_tem1(
    path: str | Path,
    parent: str | Path,
    numbering: str | Path,
    *,
    faults: Literal["refuse", "reject"] = "refuse",
    test: float = 0.2,
    valid: float = 0.2,
    seed: int = 0,
) -> CodingData:
    """Read the fitness of TEM-1 variants (Firnberg et al. 2014), one coding sequence per protein.

    Parameters
    ----------
    path
        CSV with the columns ``Ambler Position``, ``WT AA``, ``Mutant AA`` and ``Fitness``; a second line of header is
        passed over, and so are the columns of counts.
    parent
        FASTA file with the parent's coding sequence.
    numbering
        CSV of two columns, the place in the sequence (from 1) and its Ambler number, which leaves out 239 and 253.
    faults, seed
        As for :func:`embedstore.tasks.make_coding`.
    test, valid
        Shares, as for :func:`embedstore.tasks.degenerate.unique_and_complete`.

    Returns
    -------
    CodingData
        The task ``beta_lactamase_unique``, as far as its variants are in the table.

    Raises
    ------
    InputError
        With file and line, if a number is none of Ambler's, the wild type is not the parent's residue, or a row is
        otherwise faulty.
    """
    import pandas as pd

    place_of = read_numbering(numbering)
    cds = read_parent(parent)
    wanted = ("Ambler Position", "WT AA", "Mutant AA", "Fitness")
    rows = _read_rows(path, wanted)

    def where(row: int) -> str:
        return f"{path}:{rows[row][0]}"

    def variant(cells: Mapping[str, str]) -> NDArray[np.uint8]:
        number = cells["Ambler Position"].strip()
        if number not in place_of:
            raise InputError(
                f"Ambler number {number!r} is not in {numbering}. Correct the number, or the table of numbers."
            )
        mutation = Mutation(place_of[number], cells["WT AA"].strip().upper(), cells["Mutant AA"].strip().upper())
        return change_residues(cds, [mutation])

    frame = pd.DataFrame(
        {
            "id": [f"{cells['WT AA']}{cells['Ambler Position']}{cells['Mutant AA']}" for _, cells in rows],
            "label": [cells["Fitness"] for _, cells in rows],
            "ambler_position": [cells["Ambler Position"] for _, cells in rows],
        }
    )
    about = _source(path, parent, numbering=Path(numbering).name, numbering_sha256=file_digest(numbering))
    variants = [cells for _, cells in rows]
    data = _make(frame, variants, variant, "beta_lactamase_unique", faults, where, about)
    return unique_and_complete(data, seed=seed, test=test, valid=valid).unique


def read_parent(path: str | Path) -> NDArray[np.uint8]:
    """Read the coding sequence of a parent.

    Parameters
    ----------
    path
        FASTA file with one sequence.

    Returns
    -------
    numpy.ndarray
        (nucleotide,) uint8, whole codons.

    Raises
    ------
    InputError
        If there is another number of sequences, or the length is no multiple of 3.
    """
    lines = read_bytes(path).decode().split("\n")
    heads = [line for line in lines if line.startswith(">")]
    if len(heads) != 1 or not lines[0].startswith(">"):
        raise InputError(f"{path}: {len(heads)} sequences; a FASTA file with the parent alone is wanted.")
    codes = clean_cds("".join(lines[1:]))
    read_codons([codes], [heads[0][1:].strip()])
    return codes


def read_numbering(path: str | Path) -> dict[str, int]:
    """Read a table of the numbers by which the residues of a protein family are known.

    Parameters
    ----------
    path
        CSV of two columns: the place in the sequence, from 1, and the number. A first line that begins with ``#`` is a
        header.

    Returns
    -------
    dict of str to int
        Place in the sequence, from 0, by the number.

    Raises
    ------
    InputError
        With file and line, if a line is something else, or a number is there twice.
    """
    found: dict[str, int] = {}
    for line, text in enumerate(read_bytes(path).decode().split("\n"), 1):
        if text.startswith("#") or not text.strip():
            continue
        cells = [cell.strip() for cell in text.split(",")]
        if len(cells) != 2 or not cells[0].isdigit() or not cells[1] or cells[1] in found or int(cells[0]) < 1:
            raise InputError(
                f"{path}:{line}: {text!r}; the place in the sequence, a comma and a number used once are wanted."
            )
        found[cells[1]] = int(cells[0]) - 1
    return found


def _read_rows(path: str | Path, wanted: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read the wanted columns of a CSV file with a header of two lines; return them with their line."""
    lines = read_bytes(path).decode().split("\n")
    reader = csv.reader(lines)
    header = [cell.strip() for cell in next(reader)]
    _need(path, header, wanted)
    places = {name: header.index(name) for name in wanted}
    rows = []
    for cells in reader:
        if len(cells) != len(header):
            raise InputError(
                f"{path}:{reader.line_num}: {len(cells)} cells, {len(header)} are wanted as in the header."
            )
        # The second line of the header has nothing in the wanted columns.
        if reader.line_num == 2 and not any(cells[place].strip() for place in places.values()):
            continue
        rows.append((reader.line_num, {name: cells[place] for name, place in places.items()}))
    return rows


def _need(path: str | Path, columns: Any, wanted: Sequence[str]) -> None:
    """Refuse a table without the columns that are read."""
    lacking = [name for name in wanted if name not in columns]
    if lacking:
        raise InputError(f"{path}:1: no column {lacking[0]!r}; {', '.join(wanted)} are wanted.")


def _make(
    frame: pd.DataFrame,
    genotypes: Sequence[_Genotype],
    variant: Callable[[_Genotype], NDArray[np.uint8]],
    task: str,
    faults: Literal["refuse", "reject"],
    where: Callable[[int], str],
    source: dict[str, object],
) -> CodingData:
    """Make the coding sequence of every genotype, and check them; a genotype that is not of the parent is a fault."""
    import pandas as pd

    made, wrong = [], []
    for row, genotype in enumerate(genotypes):
        try:
            made.append(decode(variant(genotype)))
        except InputError as error:
            wrong.append(Fault(row, "not_of_this_parent", str(error)))
    if faults == "refuse" or not made:
        refuse(wrong, len(frame), where)
    odd = [one.row for one in wrong]
    kept = np.delete(np.arange(len(frame)), odd)
    data = make_coding(
        frame.iloc[kept].assign(cds=made),
        task,
        split="",
        faults=faults,
        where=lambda row: where(int(kept[row])),
        source=source,
    )
    rejects = data.rejects.assign(row=kept[data.rejects["row"].to_numpy(np.int64)])
    rejects = pd.concat([rejects_table(wrong, frame, where), rejects]).sort_values("row", ignore_index=True)
    return data._replace(rejects=rejects, source={**data.source, "rejected": len(rejects)})


def _source(path: str | Path, parent: str | Path, **more: object) -> dict[str, object]:
    files = {Path(one).name: file_digest(one) for one in (path, parent)}
    return {"kind": "coding", "files": files, "codons": "nearest", **more}
