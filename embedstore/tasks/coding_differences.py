"""What differs between coding sequences that were read and what was published of them, and checks of a whole task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from embedstore.tasks.published import Publication
    from embedstore.tasks.records import TaskRecord

_TRAINING = ("train", "valid")


def differences(table: pd.DataFrame, record: TaskRecord, known: Publication | None) -> pd.DataFrame:
    """Compare a task of coding sequences with what was published, and check it as a whole.

    Parameters
    ----------
    table
        From :func:`embedstore.tasks.coding.make_coding`.
    record
        What the labels are.
    known
        What was published of the task, or None.

    Returns
    -------
    pandas.DataFrame
        Columns what, seen, wanted (both text): only what differs.
    """
    import pandas as pd

    found = [*_counts(table, known), *_lengths(table, known), *_overlaps(table), *_repeats(table)]
    if record.level == "nucleotide":
        found += _balance(table, record)
    return pd.DataFrame(found, columns=["what", "seen", "wanted"], dtype=str)


def _counts(table: pd.DataFrame, known: Publication | None) -> list[tuple[str, str, str]]:
    """Compare the samples per split with every published count."""
    if known is None:
        return []
    seen = known.counted(table["split"])
    return [
        (f"samples in {split or 'no split'} ({whose})", f"{seen.get(split, 0):,}", f"{counts.get(split, 0):,}")
        for whose, counts in known.counts.items()
        for split in dict.fromkeys([*counts, *seen])
        if seen.get(split, 0) != counts.get(split, 0)
    ]


def _lengths(table: pd.DataFrame, known: Publication | None) -> list[tuple[str, str, str]]:
    """Compare lengths of coding sequences, stop codon included, with the published one."""
    if known is None or not known.coding.nucleotides:
        return []
    lengths = table["cds"].str.len()
    wanted = known.coding.nucleotides
    if known.coding.same_length:
        odd = int((lengths != wanted).sum())
        return [(f"coding sequences that are not {wanted} nucleotides long", f"{odd:,}", "0")] if odd else []
    mean = lengths.mean()
    return [("nucleotides per coding sequence, mean", f"{mean:,.0f}", f"{wanted:,}")] if round(mean) != wanted else []


def _overlaps(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Count rows whose protein is also on the other side of a split."""
    split, protein = table["split"], table["protein"]
    of_training = set(protein[split == "train"])
    found = []
    for name, others in (("valid", of_training), (None, set(protein[split.isin(_TRAINING)]))):
        part = (split == name) if name else ~split.isin(_TRAINING)
        shared = int((part & protein.isin(others)).sum())
        if shared:
            what = (
                "valid samples whose protein is in train" if name else "test samples whose protein is in train or valid"
            )
            found.append((what, f"{shared:,}", "0"))
    return found


def _repeats(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Count rows that say what another row says."""
    again = int(table.duplicated(["cds", "label", "split"]).sum())
    return [("samples with the coding sequence, label and split of one before", f"{again:,}", "0")] if again else []


def _balance(table: pd.DataFrame, record: TaskRecord) -> list[tuple[str, str, str]]:
    """Check that H is the most frequent class of residues, and I the rarest, as in every collection of structures."""
    values: Any = np.concatenate([np.asarray(labels) for labels in table["label"]])
    counts = np.bincount(values[values >= 0], minlength=len(record.names))
    if not {"H", "I"} <= set(record.names) or not counts.any():
        return []
    most, least = record.names[int(counts.argmax())], record.names[int(counts.argmin())]
    rarest_is_there = counts[record.names.index("I")] > counts.min()
    found = [] if most == "H" else [("most frequent class of residues (is label_order right?)", most, "H")]
    return [*found, *([("rarest class of residues (is label_order right?)", least, "I")] if rarest_is_there else [])]
