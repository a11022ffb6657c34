"""How many proteins of each species and length have a coding sequence, and at which stage the others were lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

STAGES = ("accessions", "mapping", "candidates", "fetched", "checked")
"""Where a protein can be rejected, in order."""


def retention_table(fates: pd.DataFrame) -> pd.DataFrame:
    """Count what is left after each stage.

    Parameters
    ----------
    fates
        One row per protein: ``species``, ``length`` (residues) and ``stage``, the stage that rejected it, ``""`` for
        those that were kept.

    Returns
    -------
    pandas.DataFrame
        A row for all proteins, for each species and, of more than three lengths, for each quarter of them: ``group``,
        ``name``, ``proteins``, how many passed each stage (``accessions`` ... ``checked``; the last are the kept ones),
        ``retention`` (kept of all) and the median lengths ``length`` and ``length_kept``.
    """
    import pandas as pd

    fates = fates.assign(species=fates["species"].where(fates["species"] != "", "unknown"))
    rows = [_count("all", "all", fates)]
    rows += [_count("species", str(name), part) for name, part in fates.groupby("species", sort=True)]
    if fates["length"].nunique() > 3:
        quarters = fates.groupby(pd.qcut(fates["length"], 4, duplicates="drop"), sort=True, observed=True)
        rows += [_count("length", f"{cut.left:.0f} to {cut.right:.0f}", part) for cut, part in quarters]
    return pd.DataFrame(rows)


def _count(group: str, name: str, part: pd.DataFrame) -> dict[str, object]:
    """Count one group."""
    lost = part["stage"].map({stage: place for place, stage in enumerate(STAGES)}).fillna(len(STAGES))
    kept = part["stage"] == ""
    return {
        "group": group,
        "name": name,
        "proteins": len(part),
        **{stage: int((lost > place).sum()) for place, stage in enumerate(STAGES)},
        "retention": float(kept.mean()),
        "length": float(part["length"].median()),
        "length_kept": float(part.loc[kept, "length"].median()) if kept.any() else float("nan"),
    }
