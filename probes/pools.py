"""In which order samples are gone through, and reading them ahead of their use.

The order depends on a seed alone, not on what fits in memory: blocks are drawn, eight at a time, and the samples of
these eight shuffled. So a task that is read anew each epoch gives the same numbers as one held in memory.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from probes.dataset import Part
    from probes.reading import Held

POOL_BLOCKS = 8


def draw_pools(
    samples: NDArray[np.int64], block_of: NDArray[np.int64], seed: Sequence[int] | None
) -> list[NDArray[np.int64]]:
    """Group the blocks, and the samples of each group, in the order of a seed.

    Parameters
    ----------
    samples
        (n,) indices, ascending.
    block_of
        (n,) the block of each.
    seed
        Numbers that decide the order; None keeps that of the task, one block at a time.

    Returns
    -------
    list of numpy.ndarray
        The samples of each group, shuffled among each other.
    """
    blocks, place = np.unique(block_of, return_inverse=True)
    rng = None if seed is None else np.random.default_rng(seed)
    rank = np.arange(len(blocks)) if rng is None else np.argsort(rng.permutation(blocks))
    together = 1 if rng is None else POOL_BLOCKS  # in order there is nothing to shuffle, and less to hold
    pool_of = rank[place] // together
    order = np.argsort(pool_of, kind="stable")
    ends = np.cumsum(np.bincount(pool_of))
    pools = np.split(samples[order], ends[:-1])
    return pools if rng is None else [rng.permutation(pool) for pool in pools]


def read_ahead(
    chunks: Sequence[NDArray[np.int64]],
    pools: Sequence[NDArray[np.int64]],
    load: Callable[[NDArray[np.int64]], Held],
    use: Callable[[NDArray[np.int64], list[Held]], list[Part]],
) -> Iterator[list[Part]]:
    """Go through samples while one thread reads those of the next pool.

    Parameters
    ----------
    chunks
        Samples of each step, in the order of the pools.
    pools
        The same samples.
    load
        Reads the samples of a pool.
    use
        Makes what is yielded of a chunk and the pools in which it lies.

    Yields
    ------
    list of Part
        What `use` returned for each chunk; a pool is let go of as soon as all of it was used.
    """
    ends = np.cumsum([len(pool) for pool in pools])
    held: dict[int, Held] = {}
    loaded = done = used = 0
    with ThreadPoolExecutor(1) as reader:
        pending = reader.submit(load, pools[0])
        for chunk in chunks:
            used += len(chunk)
            while loaded == 0 or ends[loaded - 1] < used:
                held[loaded] = pending.result()
                loaded += 1
                if loaded < len(pools):
                    pending = reader.submit(load, pools[loaded])
            parts = use(chunk, list(held.values()))
            while done < loaded and ends[done] <= used:
                del held[done]
                done += 1
            yield parts
