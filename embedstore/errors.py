"""Every error that embedstore raises on purpose.

A message says what failed, where, what was seen, what was wanted and what to do about it. Each class also has
the builtin parent that old code would catch.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd


class EmbedstoreError(Exception):
    """Parent of every error raised on purpose; the command line shows it without a traceback."""


class InputError(EmbedstoreError, ValueError):
    """A FASTA, BED, label or table file, or an argument, is not what it must be."""


class ReferenceMismatchError(InputError):
    """Reference alleles of variants are not the genome's letters.

    Attributes
    ----------
    mismatches : pandas.DataFrame or None
        The rows that differ, with the genome's letters in their ``reason``.
    checked : pandas.DataFrame or None
        All rows, with the ``reason`` of each.
    """

    mismatches: pd.DataFrame | None = None
    checked: pd.DataFrame | None = None


class CheckpointError(EmbedstoreError, ValueError):
    """A model checkpoint is incomplete, has unknown parts, or would need code or pickles to load."""


class NonFiniteError(EmbedstoreError, ValueError):
    """A model gave NaN or infinity, or a value that the stored precision cannot hold."""


class DeviceMemoryError(EmbedstoreError, MemoryError):
    """A device has not enough memory for a batch."""


class DiskSpaceError(EmbedstoreError, OSError):
    """The disk is full, or would be before the run ends."""


class StoreError(EmbedstoreError):
    """Parent of the errors of a store."""


class NotInStoreError(StoreError, KeyError):
    """A store, task, model or sample of that name does not exist."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument: a message of several words would come out quoted.
        return str(self.args[0]) if self.args else ""


class FormatVersionError(StoreError):
    """The store was written by another version of the format."""


class FingerprintError(StoreError, ValueError):
    """What is stored under a name was made from other inputs than those given now."""


class IncompleteError(StoreError):
    """A block was asked for that no run has committed yet."""


class CorruptError(StoreError):
    """Stored bytes differ from those that were committed, or are gone."""


class BlockTakenError(StoreError):
    """Another run is writing, or has written, the same block."""


class RemoteError(StoreError):
    """A server that holds a store cannot be reached, or refuses what is asked of it."""


class ServerError(RemoteError):
    """A server of public data gave no usable answer, however often it was asked.

    Attributes
    ----------
    reason : str
        One of `embedstore.coding.reasons.REASONS`.
    """

    def __init__(self, message: str, reason: str = "server_error") -> None:
        super().__init__(message)
        self.reason = reason


class WorkersError(EmbedstoreError, RuntimeError):
    """The scheduler that gives workers their tasks is gone, or a worker cannot do them."""


def check_seed(seed: int) -> None:
    """Refuse a seed that random numbers cannot be drawn from.

    Parameters
    ----------
    seed
        What the user gave.

    Raises
    ------
    InputError
        It is below 0, or larger than scikit-learn takes (2^32 - 1).
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed is {seed}; a whole number from 0 to 2^32 - 1 is wanted.")


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return a hint that names the closest of some known words.

    Parameters
    ----------
    word
        What the user wrote.
    choices
        The words that would have been right.

    Returns
    -------
    str
        ``" Did you mean 'x'?"``, or the list of choices when none is close, or nothing when there are none.

    Examples
    --------
    >>> did_you_mean("gene_fidning", ["gene_finding", "cpg_methylation"])
    " Did you mean 'gene_finding'?"
    >>> did_you_mean("nt_v2_50m", ["nt_v2_50m_multi_species", "nt_v2_500m_multi_species"])
    " Did you mean 'nt_v2_50m_multi_species'?"
    """
    known = sorted(choices)
    begun = [name for name in known if word and name.startswith(word)]
    close = begun or difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}." if known else ""
