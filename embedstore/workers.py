"""Embedding with several processes: one for each device of this machine, or one share of the blocks for each job.

Processes share nothing but the store. Each does its own blocks, by their numbers, and loads the model itself; what
passes between them is an :class:`EmbedSpec`, a few hundred bytes of plain data.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from embedstore.errors import InputError, NotInStoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from embedstore.embedding import EmbedReport
    from embedstore.models import Model
    from embedstore.rows import Embedding
    from embedstore.store import Store

AGAIN = "What was committed is safe; the same command goes on from there."
MOST_PROCESSES = 1024

_DEVICE = re.compile(r"(cpu|mps|cuda(?::\d+)?)(?:\*(\d+))?")
_SHARD = re.compile(r"(\d+)/(\d+)")


class EmbedSpec(NamedTuple):
    """A run as plain data: what another process, or another machine, needs to do a part of it.

    Attributes
    ----------
    store
        Absolute path, or URL, of the store. The task is in it already.
    task
        Name of the task.
    model
        The arguments of `embedstore.models.load`.
    options
        Further arguments of `embedstore.embed`.
    """

    store: str
    task: str
    model: dict[str, Any]
    options: dict[str, Any]

    def to_json(self) -> str:
        """Return it as JSON; equal specs give equal text."""
        return json.dumps(self._asdict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` gave."""
        return cls(**json.loads(text))

    def on(self, device: str) -> Self:
        """Return the same run on another device."""
        return self._replace(model={**self.model, "device": device})

    def digest(self) -> str:
        """Return the first 16 hexadecimal digits of the sha256 of its JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


def embed_spec(store: Store | str | Path, task: str, model: Mapping[str, Any], **options: Any) -> EmbedSpec:
    """Describe a run, with every path made absolute.

    Parameters
    ----------
    store
        The store, its path or its URL.
    task
        Name of a task in it.
    model
        The arguments of `embedstore.models.load`, the first one as ``"model"``.
    **options
        Further arguments of `embedstore.embed`. Those that are None are left out.

    Returns
    -------
    EmbedSpec

    Raises
    ------
    InputError
        If something cannot be told to another process: a store in memory, a table of positions.

    Examples
    --------
    >>> embed_spec("s3://bucket/s.zarr", "genes", {"model": "nt_v2_50m_multi_species"}, dtype="float32").options
    {'dtype': 'float32'}
    """
    where = str(getattr(store, "path", store))
    if where.startswith("memory://") or not (isinstance(store, (str, Path)) or _named(store)):
        raise InputError(f"{where} is in the memory of this process: workers cannot reach it. Give a path or a URL.")
    if "://" not in where:
        where = str(Path(where).expanduser().absolute())
    given = {name: _absolute(name, value) for name, value in model.items() if value is not None}
    chosen = {name: _absolute(name, value) for name, value in options.items() if value is not None}
    spec = EmbedSpec(where, task, given, chosen)
    try:
        same = EmbedSpec.from_json(spec.to_json()) == spec
    except TypeError:
        same = False
    if not same:
        odd = next(name for name, value in {**given, **chosen}.items() if not isinstance(value, (str, int, float)))
        raise InputError(
            f"{odd} is a {type({**given, **chosen}[odd]).__name__}: workers are told of a run in plain text. Give a "
            "name, a number or the path of a file that all of them can read."
        )
    return spec


def _named(store: Any) -> bool:
    """Tell whether a store can be opened by its name in another process."""
    return store.local is not None or "://" in store.path


def _absolute(name: str, value: Any) -> Any:
    """Return a value with the path in it, if it is one, made absolute: workers may run in other folders."""
    if isinstance(value, Path):
        return str(value.absolute())
    if name == "model":
        from embedstore.models.records import installed, records

        if value in records() or value in installed():
            return value
    if name in ("model", "checkpoint", "positions") and isinstance(value, str) and Path(value).exists():
        return str(Path(value).absolute())
    return value


def load_spec(spec: EmbedSpec) -> tuple[Store, Model]:
    """Open the store of a run and load its model.

    Raises
    ------
    NotInStoreError
        If this machine has no such store: it must not be created here, beside the one that is meant.
    """
    from embedstore.models import load
    from embedstore.store import open_store

    open_store(spec.store)
    return open_store(spec.store, mode="a"), load(**spec.model)


def embed_share(spec: EmbedSpec, shard: tuple[int, int], say: Callable[..., object]) -> EmbedReport:
    """Do one share of a run in this process.

    Parameters
    ----------
    spec
        The run.
    shard
        ``(i, n)``, as for `embedstore.embed`.
    say
        Called once the model is loaded with ``name``, of the embedding, and ``before``, the blocks of this share that
        are committed already.

    Raises
    ------
    EmbedstoreError
        As `load_spec` and `embedstore.embed`.
    """
    from embedstore.embedding import embed

    store, model = load_spec(spec)
    name = spec.options.get("name") or model.name
    emb = look(spec, name)
    before = sum(emb.commit(block) is not None for block in range(shard[0] - 1, emb.blocks, shard[1])) if emb else 0
    say(name=name, before=before)
    return embed(store, spec.task, model, shard=shard, progress=False, **spec.options)


# ---- arguments -----------------------------------------------------------------------------------


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--devices``, ``--shard``, ``--scheduler`` and ``--blocks-per-task``."""
    group = parser.add_argument_group("several processes or machines")
    group.add_argument(
        "--devices",
        metavar="D",
        help="one process on each: all (every CUDA device), cuda:0,cuda:1 or cpu*4 (processes that share the cores)",
    )
    group.add_argument(
        "--shard",
        type=_shard_argument,
        metavar="I/N",
        help="do the I-th of N shares of the blocks; N such commands, anywhere, at any time, do all of them",
    )
    group.add_argument("--scheduler", metavar="ADDRESS", help="let the workers of a dask.distributed scheduler do it")
    group.add_argument(
        "--blocks-per-task", type=int, metavar="N", help="blocks of one dask task (default: five seconds of work)"
    )


def parse_shard(text: str) -> tuple[int, int]:
    """Read which share of the blocks to do.

    Parameters
    ----------
    text
        ``"I/N"``, with I from 1 to N.

    Raises
    ------
    InputError
        If it is not of that form.

    Examples
    --------
    >>> parse_shard("2/16")
    (2, 16)
    """
    found = _SHARD.fullmatch(text.strip())
    if not found:
        hint = " Is SLURM_ARRAY_TASK_ID set?" if text.strip().startswith("/") else ""
        raise InputError(f"shard {text!r}: give I/N, the I-th of N shares, such as 2/16.{hint}")
    number, of = int(found[1]), int(found[2])
    if not 1 <= number <= of:
        hint = " Shares are counted from 1: write #SBATCH --array=1-N." if number == 0 else ""
        raise InputError(f"shard {text!r}: there is no share {number} of {of}.{hint}")
    return number, of


def _shard_argument(text: str) -> tuple[int, int]:
    """Read ``--shard``: argparse shows the message of this class of error only."""
    try:
        return parse_shard(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parse_devices(text: str) -> list[str]:
    """Read a list of devices, one for each process.

    Parameters
    ----------
    text
        ``"all"``: every CUDA device. Else devices as torch names them, with commas between; ``"cpu*4"`` stands for
        four processes on the CPU.

    Returns
    -------
    list of str

    Raises
    ------
    InputError
        If a device is not known, or they are not of one kind: CPU and CUDA round differently, and blocks of both in one
        embedding would not be those of either.

    Examples
    --------
    >>> parse_devices("cuda:0,cuda:2"), parse_devices("cpu*3")
    (['cuda:0', 'cuda:2'], ['cpu', 'cpu', 'cpu'])
    """
    if text.strip() == "all":
        import torch

        if not torch.cuda.is_available():
            raise InputError("--devices all: this machine has no CUDA device. `--devices cpu*2` runs two on the CPU.")
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    devices: list[str] = []
    for word in text.split(","):
        found = _DEVICE.fullmatch(word.strip())
        if not found or found[2] == "0":
            raise InputError(f"--devices {text}: {word!r} is not a device. Give all, cuda:0,cuda:1 or cpu*4.")
        devices += [found[1]] * min(int(found[2] or 1), MOST_PROCESSES + 1)
    if len({device.split(":")[0] for device in devices}) > 1:
        raise InputError(f"--devices {text}: give devices of one kind. The CPU and CUDA round differently.")
    if len(devices) > MOST_PROCESSES:
        raise InputError(f"--devices {text}: more than {MOST_PROCESSES} processes.")
    return devices


def asks_for_workers(arguments: argparse.Namespace) -> bool:
    """Tell whether other processes than this one are to do the work."""
    return bool(arguments.devices or arguments.scheduler)


def run_workers(
    arguments: argparse.Namespace, model: Mapping[str, Any], options: Mapping[str, Any], *, progress: bool = True
) -> WorkersReport:
    """Do what a command line asks for; its task is in the store already.

    Parameters
    ----------
    arguments
        Parsed, with what `add_worker_arguments` added, ``store``, ``task`` and ``device``.
    model
        The arguments of `embedstore.models.load`.
    options
        Further arguments of `embedstore.embed`.
    progress
        Show a bar.

    Returns
    -------
    WorkersReport

    Raises
    ------
    InputError
        If the arguments exclude each other.
    """
    if arguments.scheduler and (arguments.devices or arguments.shard):
        raise InputError("--scheduler gives out the blocks itself: leave --devices and --shard out.")
    if arguments.blocks_per_task is not None and not arguments.scheduler:
        raise InputError("--blocks-per-task belongs to --scheduler.")
    spec = embed_spec(arguments.store, arguments.task, model, **options)
    if arguments.scheduler:
        from embedstore.scheduler import run_on_scheduler

        per_task = arguments.blocks_per_task
        return run_on_scheduler(spec, arguments.scheduler, blocks_per_task=per_task, progress=progress)
    from embedstore.processes import run_on_devices

    return run_on_devices(spec, parse_devices(arguments.devices), shard=arguments.shard, progress=progress)


# ---- reports -------------------------------------------------------------------------------------


class WorkersReport(NamedTuple):
    """What several workers did together.

    Attributes
    ----------
    store, task, model
        Where, what, and the name of the embedding; the last is empty where no worker came so far as to say it.
    workers
        How many processes or dask workers took part.
    blocks, blocks_before, blocks_left
        Blocks that were committed during this run, before it, and those that are still to do in this run's share.
    blocks_others
        Blocks of other shares that are still to do.
    seconds
        Wall time, start-up included.
    seconds_starting
        Those of them until the last worker had loaded the model.
    failures
        One line for each worker or task that failed.
    """

    store: str
    task: str
    model: str
    workers: int
    blocks: int
    blocks_before: int
    blocks_left: int
    blocks_others: int
    seconds: float
    seconds_starting: float
    failures: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 where all that was asked for is done and nothing failed, else 1."""
        return 1 if self.failures or self.blocks_left else 0

    def lines(self) -> list[str]:
        """Return what to tell the user."""
        said = [f"failed: {line}" for line in self.failures]
        if self.blocks_before:
            said.append(f"{self.blocks_before} blocks were there already.")
        if self.blocks:
            said.append(f"{self.workers} workers embedded {self.blocks} blocks in {self.seconds:.1f} s.")
        name = f"{self.task}/{self.model}" if self.model else self.task
        if self.blocks_left or (self.failures and not self.model):
            left = f"{self.blocks_left} blocks" if self.model else "all blocks"
            said.append(f"{name} in {self.store}: {left} are left. {AGAIN}")
        elif self.blocks_others:
            said.append(f"This share of {name} is done; {self.blocks_others} blocks of others are not yet.")
        else:
            said.append(f"{name} is complete in {self.store}.")
        return said

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {**self._asdict(), "failures": list(self.failures)}


def look(spec: EmbedSpec, name: str) -> Embedding | None:
    """Return the embedding of a run as it is stored now, or None where its arrays are not there yet."""
    from embedstore.store import open_store

    try:
        return open_store(spec.store).embedding(spec.task, name)
    except NotInStoreError:
        return None
