"""The options of `embed` and `plan` that say what is kept, and who does it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from toys import random_sequences

import embedstore
from embedstore.cli import main

MODEL = str(Path(__file__).parents[1] / "golden" / "nt_v1")


@pytest.fixture
def fasta(tmp_path, monkeypatch, many_blocks):
    monkeypatch.chdir(tmp_path)
    sequences = random_sequences(np.random.default_rng(0).integers(30, 300, 40))
    Path("t.fa").write_text("".join(f">s{i}\n{text}\n" for i, text in enumerate(sequences)))
    return ["--fasta", "t.fa", "--model", MODEL]


def values(name):
    return embedstore.open_store("store.zarr").open("t", name)["embedding"].to_numpy()


def test_what_is_kept(fasta, capsys):
    assert main(["embed", "t", *fasta, "--keep", "pooled", "--name", "means"]) == 0
    assert "0 rows" in capsys.readouterr().out
    Path("p.tsv").write_text("id\tposition\ns3\t17\ns3\t2\ns9\t0\n")
    assert main(["embed", "t", *fasta, "--positions", "p.tsv", "--name", "some", "--dtype", "float32"]) == 0
    assert main(["embed", "t", *fasta, "--strands", "both", "--name", "both"]) == 0
    store = embedstore.open_store("store.zarr")
    assert store.embedding("t", "some").row_count.sum() == 3
    assert not store.embedding("t", "means").keeps_rows
    assert store.embedding("t", "both").fingerprint["strands"] == "both"
    capsys.readouterr()
    assert main(["plan", "t", "--model", MODEL, "--keep", "pooled", "--name", "means"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"rows +none in \d+ blocks", out)
    assert "nothing is left to compute" in out
    assert main(["plan", "t", "--model", MODEL, "--name", "new"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"tokens +about [\d,]+", out)
    assert re.search(r"batches +of [\d,]+ tokens", out)
    assert main(["embed", "t", *fasta, "--positions", "q.tsv", "--name", "x"]) == 1
    assert "'q.tsv' is neither a file nor a column of the sample table" in capsys.readouterr().err
    assert main(["info", "store.zarr", "--json"]) == 0
    known = {item["model"]: item for item in json.loads(capsys.readouterr().out)["contents"]}
    (run,) = known["both"]["runs"].values()
    assert run["ended"] is not None
    assert known[""]["digest"]["sequence"] == known["both"]["fingerprint"]["sequences"]


def test_shares_and_processes_make_the_same(fasta, capfd):
    assert main(["embed", "t", *fasta, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["blocks_left"] == 0
    assert report["padding"] == 1
    assert report["samples"] == 40
    assert main(["embed", "t", *fasta, "--name", "shares", "--shard", "2/2"]) == 0
    assert re.search(r"This share of t/shares is done; \d+ blocks of others are not yet", capfd.readouterr().out)
    assert main(["embed", "t", *fasta, "--name", "shares", "--shard", "1/2"]) == 0
    assert "t/shares is complete" in capfd.readouterr().out
    np.testing.assert_allclose(values("shares"), values("nt_v1"), rtol=2e-3, atol=2e-3)
    assert main(["embed", "t", *fasta, "--name", "processes", "--devices", "cpu*2"]) == 0
    out = capfd.readouterr().out
    assert "t/processes is complete" in out
    np.testing.assert_allclose(values("processes"), values("nt_v1"), rtol=2e-3, atol=2e-3)
    with pytest.raises(SystemExit):
        main(["embed", "t", *fasta, "--shard", "3/2"])
    assert "there is no share 3 of 2" in capfd.readouterr().err
    assert main(["embed", "t", *fasta, "--scheduler", "tcp://127.0.0.1:1", "--shard", "1/2"]) == 1
    assert "gives out the blocks itself" in capfd.readouterr().err


def test_a_report_in_words(capsys, fasta):
    from embedstore import cli

    store = embedstore.open_store("store.zarr", mode="a")
    from embedstore import tasks
    from embedstore.models import load

    store.add_task(tasks.from_sequences("w", ["ACGT" * 20]))
    report = embedstore.embed(store, "w", load(MODEL), progress=False)
    cli._print_report(report._replace(quarantined=[f"s{i}" for i in range(7)], blocks_before=3), "PATH")
    out = capsys.readouterr().out
    assert "3 blocks were there already." in out
    assert "Quarantined, stored as NaN: 7 sequences: s0, s1, s2, s3, s4, ...\n" in out
    assert "w/nt_v1 is complete in PATH." in out
    assert "matrix-product" not in out
    cli._print_report(report._replace(flops=1e9, matmul_rate=1e9, seconds=2.0), "PATH")
    assert "it did 50% of its matrix-product rate" in capsys.readouterr().out
