"""A world of local servers, and runs against it."""

from __future__ import annotations

import gzip

import pandas as pd
import pytest
from databases import Databases

from embedstore.curation import Client, curate


@pytest.fixture
def world():
    world = Databases()
    yield world
    world.close()


@pytest.fixture
def run(world, tmp_path):
    """Curates rows of (accession, protein) or dicts against the servers."""

    def run(*rows, offline=False, folder="out", **options):
        columns = [row if isinstance(row, dict) else {"accession": row[0], "protein": row[1]} for row in rows]
        client = Client(tmp_path / "cache", offline=True) if offline else world.client(tmp_path / "cache")
        return curate(pd.DataFrame(columns), tmp_path / folder, client=client, servers=world.servers, **options)

    return run


@pytest.fixture
def client(world, tmp_path):
    return world.client(tmp_path / "cache")


@pytest.fixture
def fasta(tmp_path):
    def fasta(*records, name="cds.fna"):
        path = tmp_path / name
        text = "".join(f">{header}\n{cds}\n" for header, cds in records).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return path

    return fasta
