"""One progress bar for terminals, notebooks and logs."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tqdm import tqdm


_LOG_SECONDS = 5.0


def progress_bar(items: Iterable[Any] | None, what: str, *, show: bool, **options: Any) -> tqdm[Any]:
    """Return a tqdm bar that suits where it is shown.

    In a terminal and in Jupyter it redraws in place; where output goes to a file it writes a line every five seconds.

    Parameters
    ----------
    items
        What to go through, or None with ``total`` among the options.
    what
        Name of the work.
    show
        False gives a bar that shows nothing.
    **options
        Passed on to tqdm.

    Returns
    -------
    tqdm.tqdm
    """
    if find_spec("ipywidgets"):
        from tqdm.auto import tqdm
    else:  # tqdm.auto warns in a notebook that its widgets are missing; the plain bar works there too
        from tqdm import tqdm  # type: ignore[assignment]

    quiet = not sys.stderr.isatty() and "ipykernel" not in sys.modules
    every = _LOG_SECONDS if quiet else 0.2
    return tqdm(items, desc=what, disable=not show, mininterval=every, dynamic_ncols=not quiet, **options)
