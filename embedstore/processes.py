"""One process for each device of this machine; each does its own share of the blocks.

The parent tells each worker what to do by a line of JSON on its standard input, which then stays open: where the parent
dies, however it dies, the workers see the end of it and stop. Workers answer with lines of JSON.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any, NoReturn

from embedstore.errors import EmbedstoreError, InputError
from embedstore.progress import progress_bar
from embedstore.workers import EmbedSpec, WorkersReport, embed_share, look

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedstore.rows import Embedding

logger = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds that workers have to commit what they hold when the run is stopped."""

_LOOK_SECONDS = 1.0  # between two looks at what is committed, at least
_TERMINATED = 128 + signal.SIGTERM


def run_on_devices(
    spec: EmbedSpec,
    devices: Sequence[str],
    *,
    shard: tuple[int, int] | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> WorkersReport:
    """Embed with one process on each of some devices of this machine.

    A worker that dies does not stop the others, and nothing is started again: the report has a line for it, and the
    same call goes on from what is committed.

    Parameters
    ----------
    spec
        The run; its device is replaced.
    devices
        One for each process, such as ``["cuda:0", "cuda:1"]`` or ``["cpu", "cpu"]``; see
        `embedstore.workers.parse_devices`.
    shard
        ``(i, n)``: the share that this machine does of a run on several; they need equal numbers of devices. All of it
        by default.
    threads
        Of each process on the CPU. By default they share its cores.
    progress
        Show a bar of the samples that are committed.

    Returns
    -------
    WorkersReport
    """
    if not devices:
        raise InputError("devices is empty: name at least one, such as 'cuda:0' or 'cpu'.")
    began = time.monotonic()
    number, of = shard or (1, 1)
    workers: list[_Worker] = []
    with _stopping(workers):
        for place, device in enumerate(devices):
            share = ((number - 1) * len(devices) + place + 1, of * len(devices))
            workers.append(_Worker(spec, device, share, threads or _fair_threads(len(devices))))
            if place == 0 and "://" in spec.store:
                # An object store has no locks: the first worker creates the arrays before the others look for them.
                workers[0].listen()
                _wait_for_arrays(spec, workers[0])
        for worker in workers:
            worker.listen()
        emb = _watch(spec, workers, progress=progress)
    missing = set(emb.missing()) if emb is not None else set()
    done = before = left = 0
    for worker in workers:
        own = worker.blocks(emb.blocks if emb is not None else 0)
        lacking = len(missing & set(own))
        # One that died before it looked has done nothing.
        there = len(own) - lacking if worker.before is None else worker.before
        before, left, done = before + there, left + lacking, done + len(own) - lacking - there
    return WorkersReport(
        spec.store,
        spec.task,
        emb.name if emb is not None else "",
        workers=len(workers),
        blocks=done,
        blocks_before=before,
        blocks_left=left,
        blocks_others=len(missing) - left,
        seconds=time.monotonic() - began,
        seconds_starting=max(worker.ready_at for worker in workers) - began,
        failures=tuple(filter(None, (worker.failure() for worker in workers))),
    )


def _wait_for_arrays(spec: EmbedSpec, worker: _Worker) -> None:
    """Wait until the first worker has created the arrays, or has ended."""
    while worker.alive() and (not worker.name or look(spec, worker.name) is None):
        time.sleep(_LOOK_SECONDS)


def _watch(spec: EmbedSpec, workers: Sequence[_Worker], *, progress: bool) -> Embedding | None:
    """Show what is committed until all workers have ended; return the embedding, if it came to be."""
    emb: Embedding | None = None
    bar: Any = None
    next_look, going = 0.0, True
    with contextlib.ExitStack() as held:
        while going:
            going = any(worker.alive() for worker in workers)
            began = time.monotonic()
            if going and began < next_look:
                time.sleep(0.05)
                continue
            name = next((worker.name for worker in workers if worker.name), "")
            if emb is None and name:
                emb = look(spec, name)
            if emb is not None:
                mine = [block for worker in workers for block in worker.blocks(emb.blocks)]
                missing = set(emb.missing())
                total = sum(len(emb.block_samples(block)) for block in mine)
                done = sum(len(emb.block_samples(block)) for block in mine if block not in missing)
                if bar is None:
                    what = f"embed {spec.task}/{emb.name}"
                    bar = held.enter_context(progress_bar(None, what, show=progress, total=total, unit="seq"))
                bar.update(done - bar.n)
            # Looking at every block of a large store takes a while: most of the time is to be the workers'.
            now = time.monotonic()
            next_look = now + max(_LOOK_SECONDS, 20 * (now - began))
    return emb


@contextlib.contextmanager
def _stopping(workers: Sequence[_Worker]) -> Iterator[None]:
    """End all workers when the run is stopped or fails: first by asking, after a while by force."""
    try:
        yield
    except BaseException:
        for worker in workers:
            worker.process.terminate()
        deadline = time.monotonic() + PATIENCE
        try:
            for worker in workers:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.warning("Workers are still busy %.0f s after they were told to stop: they are killed.", PATIENCE)
        raise
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
            worker.close()


class _Worker:
    """A worker process as its parent sees it.

    Attributes
    ----------
    name
        Of the embedding; empty until the worker has loaded the model.
    before
        Blocks of its share that were committed before it began; None until it has looked.
    ready_at
        When it had loaded the model, by the monotonic clock; before that, when it was started.
    """

    def __init__(self, spec: EmbedSpec, device: str, share: tuple[int, int], threads: int) -> None:
        self.label, self.share = f"worker {share[0]} of {share[1]} on {device}", share
        self.name, self.before = "", None
        self.ready_at = time.monotonic()
        self._error = self._last = ""
        self._threads: list[threading.Thread] = []
        environment, seen_as, threads = _environment(device, threads)
        self.process = _start(environment)
        order = {"spec": spec.on(seen_as).to_json(), "shard": share, "threads": threads}
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once: its exit code says more
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()

    def listen(self) -> None:
        """Begin to read what the worker says; once."""
        if self._threads:
            return
        for stream, hear in ((self.process.stdout, self._answer), (self.process.stderr, self._log)):
            assert stream is not None
            self._threads.append(threading.Thread(target=_read_lines, args=(stream, hear), daemon=True))
            self._threads[-1].start()

    def alive(self) -> bool:
        """Tell whether the worker has not ended."""
        return self.process.poll() is None

    def blocks(self, of: int) -> range:
        """Return which of so many blocks are its own."""
        return range(self.share[0] - 1, of, self.share[1])

    def failure(self) -> str:
        """Return a line on how the worker failed; nothing where it did not."""
        code = self.process.wait()
        if code == 0:
            return ""
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{self.label}: {how}: {self._error or self._last or 'it said nothing'}"

    def close(self) -> None:
        """Let go of the pipes, when the worker has ended."""
        for thread in self._threads:
            thread.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _answer(self, line: str) -> None:
        said = json.loads(line)
        if "name" in said:
            self.ready_at = time.monotonic()
        self.name, self.before = said.get("name", self.name), said.get("before", self.before)
        self._error = said.get("error", self._error)

    def _log(self, line: str) -> None:
        logger.info("%s: %s", self.label, line)
        self._last = line


def _read_lines(stream: IO[str], hear: Any) -> None:
    """Hand on the lines of a pipe until it ends."""
    for line in stream:
        if line.strip():
            hear(line.strip())


def _start(environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start a worker, which waits for its order."""
    # A session of its own: Ctrl-C in a terminal goes to every process of a group, and the parent is to pass it on once.
    return subprocess.Popen(
        [sys.executable, "-m", "embedstore.processes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )


def _fair_threads(processes: int) -> int:
    """Return how many threads each process has when they share the cores that this one may use."""
    return max(1, len(os.sched_getaffinity(0)) // processes)


def _environment(device: str, threads: int) -> tuple[dict[str, str], str, int]:
    """Return the environment of a worker, its device's name there, and its number of threads; 0 for torch's own."""
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    if device.startswith("cuda"):
        # Only its own card: torch and its libraries would also take memory on the first one.
        index = int(device.partition(":")[2] or 0)
        seen = environment.get("CUDA_VISIBLE_DEVICES")
        cards = seen.split(",") if seen else None
        if cards is not None and index >= len(cards):
            raise InputError(f"There is no {device}: CUDA_VISIBLE_DEVICES is {seen!r}.")
        environment["CUDA_VISIBLE_DEVICES"] = cards[index] if cards else str(index)
        return environment, "cuda", 0
    threads = threads if device == "cpu" else 0
    if threads:
        environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(threads)
    return environment, device, threads


# ---- in the worker -------------------------------------------------------------------------------


def main() -> int:
    """Do what the line on standard input says.

    Returns
    -------
    int
        Exit code: 0 done, 1 failed, 143 stopped by SIGTERM.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    signal.signal(signal.SIGTERM, _stop)
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def say(**answer: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            answers.write(json.dumps(answer) + "\n")

    if order["threads"]:
        import torch

        torch.set_num_threads(order["threads"])
    try:
        embed_share(EmbedSpec.from_json(order["spec"]), tuple(order["shard"]), say)
    except (EmbedstoreError, OSError, ModuleNotFoundError) as error:
        say(error=f"{type(error).__name__}: {' '.join(str(error).split())}")
        return 1
    except SystemExit:
        say(error="stopped")
        return _TERMINATED
    return 0


def _stop(*_: object) -> NoReturn:
    """Unwind once, so that finished blocks are committed; being told again changes nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(_TERMINATED)


def _end_with_parent() -> None:
    """Stop this process when its parent, which holds the other end of standard input, is gone."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
