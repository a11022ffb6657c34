"""A process that the crash tests tell which sweep to run; each is a fork of it, so that it starts in no time.

Commands are lines of JSON: ``["run", SPECS, OUT, WORKERS, PAUSE]`` starts a sweep (in order where WORKERS is 0; with
stand-ins for probes where PAUSE is not null) and answers its process number, ``["wait", NUMBER]`` its exit code.
This process itself never touches a store and starts no thread: none can be lost in a fork.
"""

from __future__ import annotations

import json
import os
import sys

import dask.array  # noqa: F401 - loaded here so that no fork has to
import distributed  # noqa: F401
import matplotlib.figure  # noqa: F401
import pandas as pd  # noqa: F401
import sklearn.metrics  # noqa: F401
import torch
import zarr  # noqa: F401
from sweeps import PAUSE, StandIns, install

import probes.experiment  # noqa: F401
from probes.scheduler import connected
from probes.specs import Spec
from probes.sweeping import sweep


def run(specs: list[dict], out: str, workers: int, pause: float | None) -> int:
    chosen = [Spec.from_dict(fields) for fields in specs]
    if not workers:
        if pause is not None:
            os.environ[PAUSE] = str(pause)
            install()
        return int(sweep(chosen, out, progress=False)["status"].eq("failed").any())
    with connected(workers) as client:
        if pause is not None:
            client.register_plugin(StandIns(pause))
        return int(sweep(chosen, out, client, progress=False)["status"].eq("failed").any())


def main() -> None:
    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        if command == "wait":
            _, status = os.waitpid(arguments[0], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        child = os.fork()
        if child == 0:
            os.dup2(2, 1)
            os.close(0)
            try:
                code = run(*arguments)
            except BaseException:
                import traceback

                traceback.print_exc()
                code = 1
            sys.stderr.flush()
            os._exit(code)
        print(child, flush=True)


if __name__ == "__main__":
    main()
