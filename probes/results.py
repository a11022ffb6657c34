"""Results of probes on disk and as figures.

One folder per result, named by what was computed: ``OUT/<task>/<model>/<first 12 digits of the sha256 of the spec>/``.
``result.json`` is written last: a folder without it is not finished.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from embedstore.errors import CorruptError, InputError
from embedstore.outputs import write_atomically

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from embedstore.store import Store
    from probes.base import Probe
    from probes.scores import Scores

RESULT = "result.json"


class ProbeResult(NamedTuple):
    """What `probes.run_probe` returns.

    Attributes
    ----------
    row
        The result, one value per column: task, model, probe, metric, valid, test, low and high (95 % bootstrap
        interval of `test` over samples), ...
    history
        One row per epoch.
    per_class
        One row per class or target.
    probe
        The trained probe.
    path
        Folder of the result, None where nothing was written.
    scores
        What the probe said of the test samples, with what is true.
    """

    row: dict[str, Any]
    history: pd.DataFrame
    per_class: pd.DataFrame
    probe: Probe
    path: Path | None
    scores: Scores


def digest(spec: dict[str, Any]) -> str:
    """Return the sha256 of a description, the same for equal descriptions.

    Parameters
    ----------
    spec
        Plain data that JSON can hold.

    Returns
    -------
    str
        64 hexadecimal digits.

    Examples
    --------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a dictionary as JSON, whole or not at all; numbers that are not defined (NaN) become null.

    Parameters
    ----------
    path
        The file.
    value
        Plain data.
    """
    plain = {key: None if isinstance(item, float) and math.isnan(item) else item for key, item in value.items()}
    write_atomically(path, (json.dumps(plain, indent=1, allow_nan=False) + "\n").encode())


def read_row(path: Path) -> dict[str, Any]:
    """Read a dictionary that `write_json` wrote; null becomes NaN.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict

    Raises
    ------
    CorruptError
        The file does not hold what was written.
    """
    try:
        row = json.loads(path.read_text())
    except ValueError as error:
        raise CorruptError(f"{path}: {error}. {_DAMAGED}") from error
    if not isinstance(row, dict):
        raise CorruptError(f"{path}: holds a {type(row).__name__}, not names with values. {_DAMAGED}")
    return {key: math.nan if item is None else item for key, item in row.items()}


_DAMAGED = "The file is damaged: remove its folder and run the same probe again."


def results_folder(store: Store | str | Path) -> Path:
    """Return where the results of a store are unless a folder is given.

    Parameters
    ----------
    store
        The store, its path or its address.

    Returns
    -------
    pathlib.Path
        Beside a local store, with its name: ``demo/store.zarr`` has ``demo/store.results``. For a store on a server a
        folder of that name in the working folder.

    Raises
    ------
    InputError
        The store is in memory, or its path has no name.

    Examples
    --------
    >>> results_folder("s3://bucket/genes.zarr").as_posix()
    'genes.results'
    """
    place = store if isinstance(store, str | Path) else store.local or store.path
    text = str(place).removeprefix("file://")
    if "://" in text and not text.startswith("memory://"):
        folder, name = Path(), Path(urlsplit(text).path or urlsplit(text).netloc).name
    elif "://" in text:
        folder, name = Path(), ""
    else:
        path = Path(text).expanduser()
        path = path if path.name not in ("", "..") else path.resolve()
        folder, name = path.parent, path.name
    if not name:
        raise InputError(f"{text} has no place beside it for results: give the folder for them (out, --out).")
    return folder / f"{name.removesuffix('.zarr')}.results"


def read_results(out: str | Path) -> pd.DataFrame:
    """Collect the rows of all finished results.

    Parameters
    ----------
    out
        Folder that `probes.run_probe` was given.

    Returns
    -------
    pandas.DataFrame
        One row per result, sorted by folder, which is the last column, ``path``. Empty where nothing is finished.

    Raises
    ------
    CorruptError
        A result is damaged; the message names its file.
    """
    import pandas as pd

    found = sorted(Path(out).glob(f"*/*/*/{RESULT}"))
    return pd.DataFrame([{**read_row(path), "path": str(path.parent)} for path in found])


def plot_history(
    history: pd.DataFrame, ax: Axes | None = None, *, metric: str = "validation metric", best: int | None = None
) -> Axes:
    """Draw learning curves: losses on the left axis, the validation metric on the right one.

    Parameters
    ----------
    history
        One row per epoch with epoch, train_loss and, where there was validation data, valid_loss and valid.
    ax
        Where to draw, default a new figure.
    metric
        Name of the validation metric.
    best
        The epoch that was kept; None (default): the one with the highest validation metric.

    Returns
    -------
    matplotlib.axes.Axes
        The axes of the losses.
    """
    if ax is None:
        from matplotlib import pyplot as plt

        _, ax = plt.subplots(layout="constrained")
    ax.plot(history["epoch"], history["train_loss"], color="C0", label="training loss")
    ax.set(xlabel="epoch", ylabel="loss per label")
    if "valid" in history:
        ax.plot(history["epoch"], history["valid_loss"], color="C1", label="validation loss")
        right = ax.twinx()
        right.plot(history["epoch"], history["valid"], color="C2", label=metric)
        right.set_ylabel(metric)
        kept = history.iloc[int(history["valid"].argmax()) if best is None else best - 1]
        right.plot(kept["epoch"], kept["valid"], "o", color="C2", label=f"best: epoch {kept['epoch']:.0f}")
        lines = [*ax.get_lines(), *right.get_lines()]
        ax.legend(lines, [str(line.get_label()) for line in lines], loc="upper center", ncols=2, fontsize="small")
    else:
        ax.legend()
    return ax


def save_history(
    history: pd.DataFrame, path: str | Path, *, metric: str = "validation metric", best: int | None = None
) -> None:
    """Write the learning curves as a picture, and their numbers as CSV beside it.

    Parameters
    ----------
    history
        One row per epoch.
    path
        The picture; its ending says which kind.
    metric, best
        As for `plot_history`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    plot_history(history, figure.subplots(), metric=metric, best=best)
    figure.savefig(path)
    history.to_csv(Path(path).with_suffix(".csv"), index=False)
