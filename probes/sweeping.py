"""Many probes, here in order or on the workers of a dask.distributed scheduler: the same code, the same numbers.

A dask task carries specs and a folder, never data: workers read the store and write the results themselves. What is
finished is known from the folder alone, so workers, scheduler and this process may die at any time.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.errors import InputError
from probes.combine import store_address
from probes.live import Live
from probes.results import RESULT, digest, read_row
from probes.scheduler import AGAIN, Tasks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from distributed import Client

    from probes.specs import Spec

logger = logging.getLogger(__name__)

TOGETHER = ("ridge",)
"""Probes of one task and model that are solved from the same sums, all folds in one task."""

LAST = ("path", "status", "error")
"""Columns that a sweep adds to those of its probes."""

_alone = threading.Lock()


class Job(NamedTuple):
    """What one dask task does.

    Attributes
    ----------
    places
        Places of its specs in the sweep.
    specs
        One spec, or several that are solved together.
    """

    places: list[int]
    specs: list[Spec]


def sweep(
    specs: Sequence[Spec],
    out: str | Path | None = None,
    client: Client | None = None,
    *,
    progress: bool = True,
    table: bool | None = None,
) -> pd.DataFrame:
    """Train and test many probes; go on where a stopped sweep was.

    A probe that fails does not stop the others. Interrupted (Ctrl-C), tasks that wait are taken back, and the interrupt
    goes on; what is finished is on disk. Each probe computes in one thread, so that its numbers do not depend on where
    it runs.

    Parameters
    ----------
    specs
        What to run, from `probes.combine.make_specs` or `probes.sweep_file.read_sweep`.
    out
        Folder for results, default beside the store (`probes.results.results_folder`). Workers need it, and the store,
        under the same path.
    client
        Of a dask scheduler; its workers run one probe at a time each. None (default) runs here, in order.
    progress
        Show a bar.
    table
        Show a table that is redrawn, which needs Jupyter; None (default) does where the bar is shown in Jupyter.

    Returns
    -------
    pandas.DataFrame
        One row for each spec, in their order: the columns of `probes.run_probe` (``test_split`` says on which samples
        ``test`` is), then ``path`` (folder of the result),
        ``status`` (``"done"``, ``"found"``: on disk when its turn came, or ``"failed"``) and ``error`` (empty where
        nothing failed).

    Raises
    ------
    InputError
        There is no spec, or a store cannot be reached from other processes.
    WorkersError
        The scheduler has gone away.
    """
    if not specs:
        raise InputError("a sweep of no probes: give one spec or more.")
    specs = [spec._replace(store=store_address(spec.store)) for spec in specs]
    folder = str(_folder(specs, out).absolute())
    rows: list[dict[str, Any]] = [{}] * len(specs)
    with Live(specs, progress=progress, table=table) as live:

        def take(job: Job, found: list[dict[str, Any]] | Exception) -> None:
            if isinstance(found, Exception):
                found = [_failed(spec, found) for spec in job.specs]
            for place, spec, row in zip(job.places, job.specs, found, strict=True):
                rows[place] = row
                live.take(place, row)
                _log(spec, row)

        todo = jobs(specs)
        if client is None:
            for job in todo:
                take(job, run_job(job.specs, folder))
        else:
            tasks = [(_key(job, folder), (job.specs, folder)) for job in todo]
            Tasks(client).run(run_job, tasks, lambda place, found: take(todo[place], found))
    failed = sum(row["status"] == "failed" for row in rows)
    if failed:
        logger.error("%d of %d probes failed; the column error says why. %s", failed, len(rows), AGAIN)
    return _frame(rows)


def jobs(specs: Sequence[Spec]) -> list[Job]:
    """Put together what is solved together: the ridge probes of one task and model.

    Parameters
    ----------
    specs
        What to run.

    Returns
    -------
    list of Job
        In the order of their first specs.
    """
    found: dict[tuple[object, ...], Job] = {}
    for place, spec in enumerate(specs):
        shared = (spec.probe, spec.store, spec.task, spec.model, spec.allow_partial)
        job = found.setdefault(shared if spec.probe in TOGETHER else (place,), Job([], []))
        job.places.append(place)
        job.specs.append(spec)
    return list(found.values())


def run_job(specs: list[Spec], out: str) -> list[dict[str, Any]]:
    """Run what one dask task does; what is finished already is read from disk.

    Parameters
    ----------
    specs
        One spec, or several that are solved together.
    out
        Folder for results.

    Returns
    -------
    list of dict
        A row for each spec, with ``status`` and ``error``. No error of a probe is raised: it is in its row.
    """
    # Threads of a worker share torch's random numbers and its number of threads: one probe runs at a time.
    with _alone:
        rows = [_found(spec, out) for spec in specs]
        todo = [spec for spec, row in zip(specs, rows, strict=True) if not row]
        if todo:
            with one_thread():
                done = iter(_run(todo, out))
            rows = [row or next(done) for row in rows]
    return rows


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: sums are taken in the same order wherever a probe runs, however many cores there are."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def finished(spec: Spec, out: str | Path) -> bool:
    """Tell whether a probe's result is on disk.

    Parameters
    ----------
    spec
        The probe.
    out
        Folder for results.

    Returns
    -------
    bool
    """
    from probes.experiment import spec_folder
    from probes.outcome import predicted

    return (spec_folder(spec, Path(out)) / RESULT).exists() and (not spec.predictions or predicted(spec, out))


def _found(spec: Spec, out: str) -> dict[str, Any]:
    """Return the row of a finished result; empty where there is none."""
    from probes.experiment import spec_folder

    try:
        if not finished(spec, out):
            return {}
        folder = spec_folder(spec, Path(out))
        row = read_row(folder / RESULT)
    except FileNotFoundError:
        return {}
    except Exception as error:  # noqa: BLE001 - a probe that fails does not stop the others
        return _failed(spec, error)
    return {**row, "path": str(folder), "status": "found", "error": ""}


def _run(specs: list[Spec], out: str) -> list[dict[str, Any]]:
    """Train and test probes."""
    from probes.experiment import run_ridges, run_spec, spec_folder

    try:
        if specs[0].probe in TOGETHER:
            rows = run_ridges(specs, Path(out))
        else:
            rows = [run_spec(spec, Path(out)) for spec in specs]
        folders = [str(spec_folder(spec, Path(out))) for spec in specs]
    except Exception as error:  # noqa: BLE001 - as above; out of memory is among them
        if len(specs) == 1:
            return [_failed(specs[0], error)]
        logger.warning("%d probes could not be solved together (%s); each is tried alone", len(specs), error)
        return [row for spec in specs for row in _run([spec], out)]
    return [
        {**_undefined(row), "path": folder, "status": "done", "error": ""}
        for row, folder in zip(rows, folders, strict=True)
    ]


def _failed(spec: Spec, error: Exception) -> dict[str, Any]:
    """Return the row of a probe that failed."""
    logger.debug("%s", spec, exc_info=error)
    fields = ("task", "model", "probe", "recipe", "fold", "seed")
    known = _undefined({field: getattr(spec, field) for field in fields} | {"test_split": spec.test})
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return {**known, "path": "", "status": "failed", "error": text}


def _undefined(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as it is read from disk: what is not defined is NaN."""
    return {name: math.nan if value is None else value for name, value in row.items()}


def _key(job: Job, out: str) -> str:
    """Return the name of a task: two clients that ask a scheduler for the same get it from one worker."""
    return f"probe-{digest({'out': out, 'specs': [spec.to_dict() for spec in job.specs]})[:32]}"


def _log(spec: Spec, row: dict[str, Any]) -> None:
    if row["status"] == "failed":
        logger.error("failed: %s: %s", spec, row["error"])
    else:
        logger.info("%s: %s: test %s %.4f", row["status"], spec, row["metric"], row["test"])


def _folder(specs: Sequence[Spec], out: str | Path | None) -> Path:
    """Return the folder for results."""
    from probes.results import results_folder

    if out is not None:
        return Path(out).expanduser()
    stores = sorted({spec.store for spec in specs})
    if len(stores) > 1:
        raise InputError(f"the specs name {len(stores)} stores ({', '.join(stores[:3])}): say by out where results go.")
    return results_folder(stores[0])


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Make a table; a row that failed has fewer columns than the others and decides their order last."""
    import pandas as pd

    ordered = sorted(rows, key=lambda row: row["status"] == "failed")
    columns = dict.fromkeys(name for row in ordered for name in row if name not in LAST)
    return pd.DataFrame(rows, columns=[*columns, *LAST])
