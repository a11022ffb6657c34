"""How a sweep goes, while it goes: a bar with counts and, in Jupyter, a table that is redrawn in place."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from embedstore.errors import InputError
from embedstore.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from probes.specs import Spec

_REDRAW_SECONDS = 1.0


class Live:
    """Shows what is finished; a context manager.

    Parameters
    ----------
    specs
        All that is to run.
    progress
        Show a bar: redrawn in a terminal and in Jupyter, a line every few seconds elsewhere.
    table
        Show a table too, which needs Jupyter; None (default) does where the bar is shown in Jupyter.
    """

    def __init__(self, specs: Sequence[Spec], *, progress: bool, table: bool | None = None) -> None:
        self._specs, self._rows = specs, dict[int, dict[str, Any]]()
        self._counts: Counter[str] = Counter()
        self._bar = progress_bar(None, "sweep", show=progress, total=len(specs), unit="probe")
        wanted = (progress and "ipykernel" in sys.modules) if table is None else table
        self._handle = _handle() if wanted else None
        if table and self._handle is None:
            raise InputError("table=True needs Jupyter or IPython: leave it out, and the bar alone is shown.")
        self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._draw()

    def take(self, place: int, row: dict[str, Any]) -> None:
        """Show one more result.

        Parameters
        ----------
        place
            Its place among the specs.
        row
            Its row, with ``status``.
        """
        self._rows[place] = row
        self._counts[row["status"]] += 1
        self._bar.update()
        self._bar.set_postfix(self._counts, refresh=False)
        if time.monotonic() - self._drawn > _REDRAW_SECONDS:
            self._draw()

    def summary(self) -> pd.DataFrame:
        """Return what is finished so far.

        Returns
        -------
        pandas.DataFrame
            One row for each task, model, probe and recipe, and test split where some are named, in the order of the
            specs: probes asked for, finished and failed, the metric, its mean over the finished probes (folds and
            seeds), and its lowest and highest value.
        """
        import pandas as pd

        columns = ["task", "model", "probe", "recipe"]
        named = any(spec.test is not None for spec in self._specs)
        lines = []
        for place, spec in enumerate(self._specs):
            row = self._rows.get(place, {})
            failed = row.get("status") == "failed"
            name = {column: getattr(spec, column) for column in columns}
            name |= {"test_split": spec.test or "test"} if named else {}
            values = {"metric": row.get("metric"), "test": row.get("test")}
            lines.append({**name, "finished": bool(row) and not failed, "failed": failed, **values})
        groups = pd.DataFrame(lines).groupby([*columns, "test_split"] if named else columns, sort=False)
        return groups.agg(
            probes=("finished", "size"),
            finished=("finished", "sum"),
            failed=("failed", "sum"),
            metric=("metric", "first"),
            mean=("test", "mean"),
            lowest=("test", "min"),
            highest=("test", "max"),
        ).reset_index()

    def _draw(self) -> None:
        if self._handle is not None:
            self._handle.update(self.summary())
            self._drawn = time.monotonic()


def _handle() -> Any:
    """Return a place on the page that can be redrawn, or None outside of IPython."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        return None
    return None if get_ipython() is None else display({}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
