"""A process that the crash tests tell what to embed; each run is a fork of it, so that it starts in no time.

Commands are lines: ``PATH PAUSE`` starts a run and answers its process number; ``wait NUMBER`` waits for a run and
answers its exit code, negative where a signal ended it. The parent never touches a store, so
that no thread of zarr's or torch's is lost in a fork.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import dask.array  # noqa: F401 - loaded here so that no fork has to
import numpy as np
import torch
import zarr  # noqa: F401
from toys import ToyModel, random_sequences, small_blocks

from embedstore import cli, tasks


class SlowModel(ToyModel):
    """The toy model with a pause, so that a run lasts long enough to be disturbed."""

    pause = 0.0

    def hidden(self, ids):
        time.sleep(self.pause)
        return super().hidden(ids)


def task() -> tasks.Task:
    lengths = np.random.default_rng(1).integers(20, 200, 120)
    return tasks.from_sequences("crash", random_sequences(lengths, seed=2))


def run(path: str, pause: float) -> int:
    """Run the command line on the toy model and task."""
    model = SlowModel()
    model.pause = pause
    cli.load_model = lambda _: model
    cli.load_task = lambda _: task()
    return cli.main(["--debug", "embed", "crash", "--model", "toy", "--store", path])


def main() -> None:
    torch.set_num_threads(1)
    # A shell that starts tests in the background has them ignore Ctrl-C, and Python then leaves it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    small_blocks()
    print("ready", flush=True)
    for line in sys.stdin:
        path, pause = line.rsplit(maxsplit=1)
        if path == "wait":
            _, status = os.waitpid(int(pause), 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        child = os.fork()
        if child == 0:
            log = os.open(f"{path}.{os.getpid()}.log", os.O_CREAT | os.O_WRONLY)
            os.dup2(log, 1)
            os.dup2(log, 2)
            try:
                code = run(path, float(pause))
            except BaseException:
                import traceback

                traceback.print_exc()
                code = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(child, flush=True)


if __name__ == "__main__":
    main()
