"""The columns of checked rows, species whose input does not name them, and validation samples divided off."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import InputError
from embedstore.tasks.coding_rows import COLUMNS, NAMES_OF_COLUMNS, TRAIN_OR_VALID, UNKNOWN_SPECIES, protein_digest
from embedstore.text import read_tabbed

if TYPE_CHECKING:
    import pandas as pd

    from embedstore.tasks.coding import CodingData
    from embedstore.tasks.published import Publication

logger = logging.getLogger(__name__)

_GROUPED_SHARE = 0.1  # of FLIP's training rows that are for validation
_TAKEN = ("chromosome", "start", "end", "strand", "length")  # columns of every task
_DRAWN_SHARE = 0.2  # of the training rows of the secondary structure task that are for validation


def checked_table(frame: pd.DataFrame, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Put the checked columns before all others of the input.

    Parameters
    ----------
    frame
        The input, with the names of :func:`embedstore.tasks.coding_rows.named_columns`.
    rows
        From :func:`embedstore.tasks.coding_rows.check_rows`.

    Returns
    -------
    pandas.DataFrame
        One row for each of ``rows``; others of the input that have the name of a column here are called ``input_...``.
    """
    import pandas as pd

    made = pd.DataFrame(rows)
    others = frame.drop(columns=[name for name in NAMES_OF_COLUMNS if name in frame]).iloc[made.pop("row")]
    others = others.rename(columns={name: f"input_{name}" for name in (*COLUMNS, *_TAKEN) if name in others})
    return pd.concat([made[list(COLUMNS)], others.reset_index(drop=True)], axis=1)


def species_table(data: CodingData) -> pd.DataFrame:
    """Return what ``species=`` needs, from samples whose species are known.

    Parameters
    ----------
    data
        Samples with species and one number as the label.

    Returns
    -------
    pandas.DataFrame
        Columns protein_sha256, label (text, 4 decimals) and species; each combination once.
    """
    import pandas as pd

    known = data.table[data.table["species"] != UNKNOWN_SPECIES]
    return pd.DataFrame({**_key(known), "species": known["species"]}).drop_duplicates(ignore_index=True)


def _key(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return what a measurement is known by: identical proteins of two species differ in their labels."""
    return {
        "protein_sha256": [protein_digest(protein) for protein in table["protein"]],
        "label": [f"{label:.4f}" for label in table["label"]],
    }


def with_species(made: pd.DataFrame, species: str | Path | pd.DataFrame | None) -> pd.DataFrame:
    """Fill in species from a table of their own; those that are in the input stay.

    Parameters
    ----------
    made
        Checked rows.
    species
        The table or its file, as for :func:`embedstore.tasks.make_coding`; None: there is none.

    Returns
    -------
    pandas.DataFrame
        The same rows.

    Raises
    ------
    InputError
        If the table lacks a column, has several species for one measurement, or contradicts a row.
    """
    import pandas as pd

    if species is None:
        return made
    name = "the table of species" if isinstance(species, pd.DataFrame) else str(species)
    given = species if isinstance(species, pd.DataFrame) else read_tabbed(species).frame
    wanted = ["protein_sha256", "label", "species"]
    if not set(wanted) <= set(given):
        raise InputError(f"{name}: has the columns {', '.join(map(str, given))}; {', '.join(wanted)} are wanted.")
    given = given[wanted].assign(label=[f"{float(label):.4f}" for label in given["label"]]).drop_duplicates()
    twice = given[given.duplicated(wanted[:2], keep=False)]
    if len(twice):
        first = twice.iloc[0]
        raise InputError(
            f"{name}: protein {first['protein_sha256'][:12]}... with label {first['label']} has several species "
            f"({', '.join(twice[twice['protein_sha256'] == first['protein_sha256']]['species'])}); one is wanted."
        )
    found = pd.DataFrame(_key(made)).merge(given, how="left", on=wanted[:2])["species"]
    clash = found.notna() & (made["species"] != UNKNOWN_SPECIES) & (found != made["species"])
    if clash.any():
        row = int(np.argmax(clash))
        raise InputError(
            f"{name}: says that {made['id'].iloc[row]!r} is of {found.iloc[row]!r}, its own row says "
            f"{made['species'].iloc[row]!r}. {int(clash.sum()):,} rows differ; correct one of the two."
        )
    return made.assign(species=made["species"].where(found.isna(), found))


def species_digest(species: str | Path | pd.DataFrame) -> str:
    """Return the sha256 of a table of species, which decides a column.

    Parameters
    ----------
    species
        The table or its file.

    Returns
    -------
    str
        Hexadecimal.
    """
    text = species.to_csv(index=False, sep="\t") if not isinstance(species, (str, Path)) else Path(species).read_bytes()
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def divided_splits(made: pd.DataFrame, val: str, seed: int, known: Publication | None) -> pd.Series[str]:
    """Return the splits, with validation samples divided off where that is asked for or the release has none.

    Parameters
    ----------
    made
        Checked rows.
    val
        ``"given"`` or ``"grouped"``, as for :func:`embedstore.tasks.make_coding`.
    seed
        Of the division.
    known
        What was published of the task, or None.

    Returns
    -------
    pandas.Series
        The split of each row.

    Raises
    ------
    InputError
        If a row is for training and validation both, and ``val`` is ``"given"``.
    """
    split = made["split"]
    unsettled = split == TRAIN_OR_VALID
    if val == "given" and unsettled.any():
        raise InputError(
            f"{int(unsettled.sum()):,} rows are of split {TRAIN_OR_VALID!r}, the first with id "
            f"{made['id'][unsettled].iloc[0]!r}: a sample is on one side. Pass val='grouped' (--val grouped), which "
            "divides training and validation samples anew."
        )
    both = split.isin(["train", "valid", TRAIN_OR_VALID]).to_numpy()
    held_out = (split == "valid").to_numpy()
    drawn = known is not None and "valid" in known.splits and "valid" not in known.counts.get("card", {"valid": 0})
    if val == "grouped":
        groups = made["group"].to_numpy()
        share = held_out.sum() / both.sum() if held_out.any() else _GROUPED_SHARE
    elif drawn and both.any() and not held_out.any():
        groups, share = made["id"].to_numpy(), _DRAWN_SHARE
        logger.info("no validation samples: %g of the training samples are drawn, seed %d", share, seed)
    else:
        return split
    names, group = np.unique(groups[both].astype(str), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    size = np.bincount(group)[order]
    # Whole groups, up to as many samples as are wanted.
    taken = np.zeros(len(names), bool)
    taken[order[np.cumsum(size) <= round(share * both.sum())]] = True
    divided = split.to_numpy(object)
    divided[both] = np.where(taken[group], "valid", "train")
    return split.where(~both, divided)
