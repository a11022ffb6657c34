"""Why a variant is not scored: one sentence for each reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

REASONS = {
    "chromosome": "The genome has no chromosome {name!r}.{hint}",
    "no_reference": "The reference allele is empty.",
    "reference_letters": "The reference allele has letters other than A, C, G and T: {letters}.",
    "before": "The position {position} (0-based) is before the start of the chromosome.",
    "past": "The reference allele ends at {end}, past the end of the chromosome ({size} nucleotides).",
    "mismatch": "The reference allele differs from the genome, which has {genome} here.",
    "unknown": "The genome has the letter N here: {genome}.",
    "refused": "The genome gives no letters here: {error}",
    "no_alternate": "There is no alternate allele.",
    "spanning": "The alternate allele is '*': a deletion that begins before spans this place.",
    "breakend": "The alternate allele is a breakend: {alt}.",
    "symbolic": "The alternate allele is symbolic: {alt}.",
    "alternate_letters": "The alternate allele has letters other than A, C, G and T: {letters}.",
    "equal": "The alternate allele equals the reference allele.",
}
"""What `embedstore.variants.check_variants` can find, by a short name."""


class Reasons:
    """The reason of each row of a table of variants: the first that is found stays.

    Parameters
    ----------
    rows
        Rows of the table.

    Attributes
    ----------
    keys, texts : numpy.ndarray
        (row,) names in `REASONS`, and whole sentences; ``""`` where there is no reason.
    """

    def __init__(self, rows: int) -> None:
        self.keys = np.full(rows, "", dtype=object)
        self.texts = np.full(rows, "", dtype=object)

    @property
    def none(self) -> NDArray[np.bool_]:
        """Which rows have no reason, shape (row,)."""
        return np.asarray(self.keys == "", bool)

    def give(self, bad: NDArray[np.bool_], key: str, values: Callable[[int], dict[str, object]] | None = None) -> None:
        """Give a reason to those marked rows that have none yet.

        Parameters
        ----------
        bad
            (row,) the marks.
        key
            Name of the reason.
        values
            Gives what the sentence says of a row.
        """
        for row in np.flatnonzero(bad & self.none).tolist():
            self.keys[row] = key
            self.texts[row] = REASONS[key].format(**(values(row) if values else {}))

    def counts(self) -> str:
        """Return how often each reason is given, most often first, with the text of its first row."""
        given = ~self.none
        _, first, count = np.unique(self.keys[given].astype(str), return_index=True, return_counts=True)
        texts = self.texts[given][first]
        order = np.argsort(-count, kind="stable").tolist()
        return "; ".join(f"{count[i]:,} x {texts[i]!r}{' and the like' if count[i] > 1 else ''}" for i in order) + "."
