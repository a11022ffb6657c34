"""The list of proteins to find coding sequences for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.curation.client import Fault
from embedstore.curation.uniprot import ACCESSION
from embedstore.errors import InputError, did_you_mean
from embedstore.sequences import check_letters, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

OWN_COLUMNS = (
    "cds", "transl_table", "has_start", "has_stop", "cds_accession", "cds_source", "cds_organism", "distinct_cds",
    "flags",
)  # fmt: skip
"""Columns that curation adds; the input must not have them."""


class Row(NamedTuple):
    """A protein of the list.

    Attributes
    ----------
    id
        Its name in the dataset.
    protein
        Its sequence, upper case, without a stop.
    accession
        Its accession in UniProt, without an isoform's number; ``""`` where there is none.
    isoform
        Number of the isoform; ``""`` where the accession names none.
    species
        Its organism; ``""`` where the list does not say.
    taxon
        NCBI taxon identifier; None where the list does not say.
    chain
        Chain of a structure (``2uzi-C``); ``""`` where there is none.
    table
        Genetic code; None where the list does not say.
    names
        Identifiers to look for in local files.
    """

    id: str
    protein: str
    accession: str
    isoform: str = ""
    species: str = ""
    taxon: int | None = None
    chain: str = ""
    table: int | None = None
    names: tuple[str, ...] = ()


def prepared(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Check the columns of a list of proteins.

    Parameters
    ----------
    frame
        Columns ``id`` or ``accession`` or both, ``protein`` (or ``sequence``), and any others.
    where
        The file, for messages.

    Returns
    -------
    pandas.DataFrame
        With ``id`` and ``accession`` and ``protein``; empty cells are ``""``.

    Raises
    ------
    InputError
        A column is missing, or named as one that is added; or there are no rows.
    """
    if "protein" not in frame and "sequence" in frame:
        frame = frame.rename(columns={"sequence": "protein"})
    if "id" not in frame and "accession" not in frame:
        raise InputError(f"{where}: no column 'id' or 'accession'.{did_you_mean('accession', map(str, frame))}")
    if "protein" not in frame:
        raise InputError(f"{where}: no column 'protein' (or 'sequence').{did_you_mean('protein', map(str, frame))}")
    taken = [name for name in OWN_COLUMNS if name in frame and name != "transl_table"]
    if taken:
        raise InputError(
            f"{where}: has the column(s) {', '.join(taken)}, which curation writes. Rename or drop them first."
        )
    if not len(frame):
        raise InputError(f"{where}: has no rows.")
    frame = frame.reset_index(drop=True)
    for name, other in (("id", "accession"), ("accession", "id")):
        if name not in frame:
            frame.insert(0, name, frame[other])
    return frame.astype(object).where(frame.notna(), "")


def read_rows(frame: pd.DataFrame, name_columns: Sequence[str] = ()) -> Iterator[tuple[int, Row | Fault]]:
    """Read the proteins of a list.

    Parameters
    ----------
    frame
        What :func:`prepared` gave.
    name_columns
        Further columns that hold identifiers for local files.

    Yields
    ------
    tuple of int and (Row or Fault)
        Number of the row, and the protein. Faults: ``repeated_id``, ``empty``, ``not_a_protein``.
    """
    seen: dict[str, int] = {}
    for number, cells in enumerate(frame.to_dict("records")):
        name = str(cells["id"]).strip()
        protein = str(cells["protein"]).strip().upper().removesuffix("*")
        if not name or name in seen:
            first = f"as that of row {seen[name] + 1}" if name else "and has none"
            yield number, Fault("repeated_id", f"row {number + 1}: every row needs an id of its own, not {first}")
            continue
        seen[name] = number
        if not protein:
            yield number, Fault("empty", f"row {number + 1}: no protein")
            continue
        try:
            check_letters(encode(protein), "protein", f"row {number + 1}:")
        except InputError as error:
            yield number, Fault("not_a_protein", str(error))
            continue
        yield number, _row(cells, name, protein, name_columns)


def _row(cells: Mapping[Any, Any], name: str, protein: str, name_columns: Sequence[str]) -> Row:
    accession = str(cells["accession"]).strip()
    # FLIP's own keys are ACCESSION_RUN.
    found = ACCESSION.fullmatch(accession.upper()) or ACCESSION.fullmatch(accession.upper().partition("_")[0])
    names = [name, accession, *([found[1]] if found else []), *(str(cells[column]).strip() for column in name_columns)]
    return Row(
        name,
        protein,
        found[1] if found else "",
        (found[2] or "") if found else "",
        str(cells.get("species", "")).strip(),
        _whole(cells.get("taxon", "")),
        str(cells.get("chain", "")).strip(),
        _whole(cells.get("transl_table", "")),
        tuple(dict.fromkeys(one for one in names if one)),
    )


def _whole(cell: Any) -> int | None:
    """Read a whole number; None where the cell has none."""
    try:
        return int(float(cell))
    except (TypeError, ValueError, OverflowError):
        return None
