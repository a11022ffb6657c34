"""Reading the arrays of one embedding through zarr, wherever they are stored and whatever their codec is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from embedstore.direct import Wanted
    from embedstore.layout import Geometry
    from embedstore.store import Store

_NAMES = ("vector", "span", "start", "pooled", "quarantined", "commit")


class ZarrReader:
    """Reads the arrays of one embedding through zarr: all that `embedstore.direct.DirectReader` reads, and the rest.

    Parameters
    ----------
    store
        An open store.
    path
        Of the embedding's group.
    names
        Arrays that the embedding has.
    geometry
        How samples lie in blocks.
    where
        Names a block for a message.

    Attributes
    ----------
    arrays
        The arrays by name.
    """

    def __init__(
        self, store: Store, path: str, names: Sequence[str], geometry: Geometry, where: Callable[[int], str]
    ) -> None:
        self._store, self._geometry, self._where = store, geometry, where
        self.arrays = {name: store.array(f"{path}/{name}", rust=name == "vector") for name in _NAMES if name in names}

    def part(self, name: str, selection: Any, block: int) -> NDArray[Any]:
        """Read part of an array, which belongs to a block.

        Parameters
        ----------
        name
            Of the array.
        selection
            Which part.
        block
            Which block.

        Returns
        -------
        numpy.ndarray

        Raises
        ------
        CorruptError
            If it cannot be read.
        """
        values: NDArray[Any] = self._store.read_part(self.arrays[name], selection, self._where(block))
        return values

    def samples(self, name: str, block: int) -> NDArray[Any]:
        """Read a block's part of an array that has a row per sample.

        Parameters
        ----------
        name
            Of the array.
        block
            Which block.

        Returns
        -------
        numpy.ndarray
            Shape (sample,) or (sample, channel).
        """
        samples = self._geometry.block_samples(block)
        return self.part(name, np.s_[samples.start : samples.stop], block)

    def small(self, name: str, block: int) -> NDArray[Any]:
        """Read a block's part of an array that has a number per row.

        Parameters
        ----------
        name
            Of the array.
        block
            Which block.

        Returns
        -------
        numpy.ndarray
            Shape (row,), with the rows of the shard that no sample has.
        """
        rows = self._geometry.shard_rows
        return self.part(name, np.s_[block * rows : (block + 1) * rows], block)

    def rows(self, wanted: Sequence[Wanted], out: NDArray[Any]) -> Iterator[int]:
        """Read rows of ``vector``, neighbours at once.

        Parameters
        ----------
        wanted
            What to read of each block.
        out
            Memory for all of it, shape (row, channel).

        Yields
        ------
        int
            Each block when its rows have been read.

        Raises
        ------
        CorruptError
            If they cannot be read.
        """
        for block, row, rows, place in wanted:
            end = row + rows
            follows = (row[1:] == end[:-1]) & (place[1:] == place[:-1] + rows[:-1])
            for run in np.split(np.arange(len(row)), np.flatnonzero(~follows) + 1):
                first, last = row[run[0]], end[run[-1]]
                begin, to = block * self._geometry.shard_rows + int(first), int(place[run[0]])
                count = int(last - first)
                out[to : to + count] = self.part("vector", np.s_[begin : begin + count], block)
            yield block
