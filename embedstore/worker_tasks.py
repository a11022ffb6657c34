"""What a worker of a dask.distributed scheduler does of an embedding run: the functions that a task calls there.

A worker keeps the model that it has loaded, and computes one task at a time.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from embedstore.errors import BlockTakenError, EmbedstoreError
from embedstore.workers import load_spec, look

if TYPE_CHECKING:
    from embedstore.models import Model
    from embedstore.store import Store
    from embedstore.workers import EmbedSpec

_lock = threading.Lock()
_kept: dict[str, tuple[Store, Model]] = {}


class Done(NamedTuple):
    """What a task did.

    Attributes
    ----------
    worker
        Its address.
    blocks
        Blocks that are committed now, by this task or before it.
    taken
        Blocks that another process was writing.
    seconds
        Time in `embedstore.embed`; 0 where nothing was left to do.
    error
        Why it failed, if it did.
    name
        Of the embedding.
    """

    worker: str
    blocks: list[int]
    taken: list[int]
    seconds: float
    error: str = ""
    name: str = ""


def prepare_on_worker(spec: EmbedSpec) -> Done:
    """Create the arrays of a run, or take up those that are there.

    Parameters
    ----------
    spec
        The run.
    """
    from embedstore.embedding import prepare

    begun = time.perf_counter()
    with _lock:
        try:
            store, model = _ready(spec)
            options = {key: value for key, value in spec.options.items() if key not in ("batch_tokens", "quarantine")}
            name = prepare(store, spec.task, model, **options).embedding.name
        except (EmbedstoreError, OSError, ModuleNotFoundError) as error:
            return Done(_here(), [], [], 0.0, _told(error))
    return Done(_here(), [], [], time.perf_counter() - begun, name=name)


def embed_on_worker(spec: EmbedSpec, blocks: list[int]) -> Done:
    """Embed blocks of a run; those that are committed already take no time.

    Parameters
    ----------
    spec
        The run.
    blocks
        Their numbers.
    """
    # Threads of a worker share a device and a model: one computes at a time.
    with _lock:
        try:
            store, model = _ready(spec)
            done, taken, seconds = _embed(spec, store, model, blocks)
        except (EmbedstoreError, OSError, ModuleNotFoundError) as error:
            return Done(_here(), [], [], 0.0, _told(error))
    return Done(_here(), done, taken, seconds)


def _embed(spec: EmbedSpec, store: Store, model: Model, blocks: list[int]) -> tuple[list[int], list[int], float]:
    """Embed blocks; return those that are done, those that others hold, and the seconds."""
    from embedstore.embedding import embed

    def run(some: list[int]) -> float:
        return embed(store, spec.task, model, blocks=some, progress=False, **spec.options).seconds

    with contextlib.suppress(BlockTakenError):
        return blocks, [], run(blocks)
    # Another process is at one of them, perhaps one that the scheduler has lost sight of: do the others.
    began, taken = time.perf_counter(), []
    for block in blocks:
        try:
            run([block])
        except BlockTakenError:
            taken.append(block)
    emb = look(spec, spec.options.get("name") or model.name)
    taken = [block for block in taken if emb is None or emb.commit(block) is None]
    return [block for block in blocks if block not in taken], taken, time.perf_counter() - began


def _ready(spec: EmbedSpec) -> tuple[Store, Model]:
    """Return the store and the model of a run; they are kept until another run comes."""
    text = spec.to_json()
    if text not in _kept:
        _kept.clear()
        _use_threads(str(spec.model.get("device", "cpu")))
        _kept[text] = load_spec(spec)
    return _kept[text]


def _use_threads(device: str) -> None:
    """Let torch use the cores that the worker was given."""
    from distributed import get_worker

    with contextlib.suppress(ValueError):  # not on a worker
        threads = get_worker().state.nthreads
        if device == "cpu":
            import torch

            torch.set_num_threads(threads)


def _here() -> str:
    """Return the address of this worker."""
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return "none"


def _told(error: BaseException) -> str:
    """Return an error as text: an exception may not survive the way, and dask would add its own."""
    return f"worker {_here()} on {socket.gethostname()}: {type(error).__name__}: {' '.join(str(error).split())}"
