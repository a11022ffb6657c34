"""Stand-ins for probes that take a known time and say when they are computed, for tests of what runs them.

A stand-in writes a line to ``OUT/log`` when it begins and one when it is done, and its number is a digest of its spec.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin

from probes.results import RESULT, write_json

if TYPE_CHECKING:
    from probes.specs import Spec

PAUSE = "PAUSE_OF_PROBES"


def spec_folder(spec: Spec, out: Path) -> Path:
    text = json.dumps(spec._replace(store="").to_dict(), sort_keys=True)
    return Path(out) / spec.task / spec.model / hashlib.sha256(text.encode()).hexdigest()[:12]


def run_spec(spec: Spec, out: Path, *, progress: bool = False) -> dict[str, Any]:
    folder = spec_folder(spec, out)
    folder.mkdir(parents=True, exist_ok=True)
    log(out, "begun", folder.name)
    write_json(folder / "spec.json", spec.to_dict())
    time.sleep(float(os.environ.get(PAUSE, "0")))
    if spec.settings.get("epochs") == 14:
        os.kill(os.getpid(), signal.SIGKILL)
    if spec.settings.get("epochs") == 13:
        raise ValueError("thirteen epochs\nbring bad luck")
    test = int(folder.name[:6], 16) / 0xFFFFFF
    row = {"task": spec.task, "model": spec.model, "probe": spec.probe, "recipe": spec.recipe, "fold": spec.fold}
    row |= {"seed": spec.seed, "metric": "mcc", "test": test, "low": test, "high": test, "spec": folder.name}
    write_json(folder / RESULT, row)
    log(out, "done", folder.name)
    return row


def run_ridges(specs: list[Spec], out: Path) -> list[dict[str, Any]]:
    log(out, "ridges", f"{len(specs)}")
    return [run_spec(spec, out) for spec in specs]


def log(out: Path, event: str, name: str) -> None:
    """Add a line; the system keeps lines of several processes apart."""
    Path(out).mkdir(parents=True, exist_ok=True)
    handle = os.open(Path(out) / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.write(handle, f"{event} {name}\n".encode())
    os.close(handle)


def logged(out: Path) -> Counter[str]:
    """Count the lines of the log: ``logged(out)["begun 0123456789ab"]``."""
    file = Path(out) / "log"
    return Counter(file.read_text().splitlines() if file.exists() else [])


def install(patch: Any = None) -> None:
    """Put the stand-ins in place in this process, or for one test."""
    from probes import experiment

    replace = setattr if patch is None else patch.setattr
    for function in (spec_folder, run_spec, run_ridges):
        replace(experiment, function.__name__, function, **({} if patch is None else {"raising": False}))


class StandIns(WorkerPlugin):
    """Puts the stand-ins in place in workers, also in those that are started anew."""

    def __init__(self, pause: float) -> None:
        self.pause = pause

    def setup(self, worker: Any) -> None:
        os.environ[PAUSE] = str(self.pause)
        install()
