"""Digests against published vectors and slow references, and what they must tell apart."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore.digests import (
    crc32c,
    fingerprint_word,
    labels_digest,
    rows_checksum,
    sequence_digest,
    table_digest,
)
from embedstore.tasks import Labels


def slow_crc32c(data: bytes, value: int = 0) -> int:
    """RFC 3720 appendix B.4, a bit at a time: polynomial 0x1EDC6F41, reflected."""
    value ^= 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4: zeros, ones, rising, falling
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_vectors(data, value):
    assert crc32c(data) == value == slow_crc32c(data)


@settings(deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_crc_of_pieces_and_arrays(one, two):
    assert crc32c(two, crc32c(one)) == crc32c(one + two) == slow_crc32c(one + two)
    assert crc32c(np.frombuffer(one, np.uint8)) == crc32c(one)


def test_crc_of_arrays_in_any_order_of_memory():
    values = np.arange(12, dtype="<f2").reshape(3, 4)
    assert crc32c(values[:, ::2]) == slow_crc32c(values[:, ::2].tobytes())
    assert crc32c(values.T) == slow_crc32c(values.T.tobytes())


def test_rows_and_spans():
    vector, span = np.ones((2, 3), "<f2"), np.array([6, 1], "<u2")
    assert rows_checksum(vector, None) == slow_crc32c(vector.tobytes())
    assert rows_checksum(vector, span) == slow_crc32c(vector.tobytes() + span.tobytes())
    assert rows_checksum(vector, span) != rows_checksum(vector, span[::-1].copy())


def test_fingerprint_words(monkeypatch):
    one = fingerprint_word({"a": "1", "b": "2"})
    assert one == fingerprint_word({"b": "2", "a": "1"}) == slow_crc32c(b"a=1\nb=2")
    assert one != fingerprint_word({"a": "1", "b": "3"})
    monkeypatch.setattr("embedstore.digests.crc32c", lambda _: 0)
    assert fingerprint_word({}) == 1  # 0 stands for no record


def codes(*texts: str) -> list[np.ndarray]:
    return [np.frombuffer(text.encode(), np.uint8) for text in texts]


def test_sequences_cut_elsewhere_differ():
    lengths = np.array([2, 3])
    expected = hashlib.sha256(lengths.astype("<i8").tobytes() + b"ACGTT").hexdigest()
    assert sequence_digest(lengths, iter(codes("AC", "GTT"))) == expected
    assert sequence_digest(np.array([3, 2]), codes("ACG", "TT")) != expected
    assert sequence_digest(lengths, codes("AC", "GTA")) != expected


def test_tables_differ_by_name_type_value_and_place():
    table = pd.DataFrame({"id": ["a", "b"], "n": [1, 2]})
    known = [
        table,
        table.rename(columns={"n": "m"}),
        table.astype({"n": "int32"}),
        table.assign(n=[1, 3]),
        table.assign(id=["a", "c"]),
        table.iloc[::-1],
        table[["n", "id"]],
        table.assign(n=["1", "2"]),
    ]
    assert len({table_digest(one) for one in known}) == len(known)
    assert table_digest(table.copy()) == table_digest(table)


def test_text_columns_do_not_run_into_each_other():
    one = pd.DataFrame({"id": ["a", "b"], "x": ["", "c"]})
    assert table_digest(one) != table_digest(pd.DataFrame({"id": ["a", ""], "x": ["b", "c"]}))
    assert table_digest(pd.DataFrame({"id": ["a\nb", "c"]})) != table_digest(pd.DataFrame({"id": ["a", "b\nc"]}))
    assert table_digest(pd.DataFrame({"id": ['a", "b', "c"]})) != table_digest(pd.DataFrame({"id": ["a", 'b", "c']}))


def test_labels_differ_by_value_shape_dims_names_and_type():
    values = np.arange(6, dtype=np.int16)
    known = [
        Labels(values, ("nucleotide",), ("x",)),
        Labels(values, ("sample",), ("x",)),
        Labels(values, ("nucleotide",), ("y",)),
        Labels(values.astype(np.int32), ("nucleotide",), ("x",)),
        Labels(values[::-1], ("nucleotide",), ("x",)),
        Labels(values.reshape(2, 3), ("sample", "target"), ("x",)),
        Labels(values.reshape(3, 2), ("sample", "target"), ("x",)),
    ]
    assert len({labels_digest(one) for one in known}) == len(known)
    assert labels_digest(Labels(values.copy(), ("nucleotide",), ("x",))) == labels_digest(known[0])
