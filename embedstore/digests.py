"""Every digest of a store: of sequences, sample tables, labels and fingerprints, and checksums of rows."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.tasks import Labels


def crc32c(data: NDArray[Any] | bytes, start: int = 0) -> int:
    """Return the CRC-32C of some bytes, going on from ``start``.

    Examples
    --------
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    return int(google_crc32c.extend(start, np.ascontiguousarray(data) if not isinstance(data, bytes) else data))


def fingerprint_word(fingerprint: dict[str, str]) -> int:
    """Return a 32-bit word that stands for a fingerprint in commit records; never 0, which means no record."""
    return crc32c("\n".join(f"{key}={fingerprint[key]}" for key in sorted(fingerprint)).encode()) or 1


def rows_checksum(
    vector: NDArray[Any],
    span: NDArray[np.uint16] | None,
    start: NDArray[np.uint32] | None = None,
    *,
    quarantined: bool = False,
) -> int:
    """Return the CRC-32C of one sample's rows followed by its spans, its starts, and a word if it is quarantined."""
    total = crc32c(vector)
    for more in (span, start):
        total = total if more is None else crc32c(more, total)
    return crc32c(b"quarantined", total) if quarantined else total


def sequence_digest(lengths: NDArray[np.int64], sequences: Iterable[NDArray[np.uint8]]) -> str:
    """Return the sha256 of the lengths of sequences followed by their letters.

    Parameters
    ----------
    lengths
        Nucleotides of each sample, shape (sample,).
    sequences
        Letters of each sample; read one at a time.
    """
    digest = hashlib.sha256(np.ascontiguousarray(lengths, np.int64).tobytes())
    for codes in sequences:
        digest.update(np.ascontiguousarray(codes).data)
    return digest.hexdigest()


def table_digest(table: pd.DataFrame) -> str:
    """Return the sha256 of a sample table: column names, types and values."""
    digest = hashlib.sha256()
    for name in table.columns:
        values = table[name].to_numpy()
        digest.update(f"{name}\n".encode())
        if values.dtype.kind in "OUT":
            digest.update(json.dumps(values.astype(str).tolist()).encode())  # quoted: a text may hold any separator
        else:
            digest.update(values.dtype.str.encode() + values.tobytes())
        digest.update(b"\0")
    return digest.hexdigest()


def labels_digest(labels: Labels) -> str:
    """Return the sha256 of labels: dimensions, names and values."""
    digest = hashlib.sha256(json.dumps([labels.dims, labels.names, labels.values.shape]).encode())
    digest.update(labels.values.dtype.str.encode())
    digest.update(np.ascontiguousarray(labels.values).data)
    return digest.hexdigest()
