"""Runs that are stopped, repeated, replayed without a network, or let down by a server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from databases import OTHER, PROTEIN, embl, gene, inactive, reject

from embedstore.coding.reasons import TRANSIENT
from embedstore.curation import curate
from embedstore.errors import RemoteError


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("html", "html_page"), ("empty", "empty_body"), ("half", "truncated"), ("cut", "connection"),
     ("500", "server_error"), ("429", "too_many_requests"), ("403", "refused"), ("reset", "connection")],
)  # fmt: skip
def test_what_a_server_is_to_blame_for_is_asked_again_by_the_next_run(world, run, kind, reason):
    world.add("P00001", PROTEIN)
    world.add("P00002", OTHER)
    world.faults.append(["/ena/.*P00001", kind, 99])
    found = run(("P00001", PROTEIN), ("P00002", OTHER))
    assert reject(found)[:2] == ("fetched", reason)
    assert reason in TRANSIENT
    assert (found.undecided, found.dataset["id"].tolist()) == (1, ["P00002"])
    replayed = run(("P00001", PROTEIN), ("P00002", OTHER), offline=True)
    assert (reject(replayed)[1], replayed.undecided, len(replayed.dataset)) == ("not_cached", 1, 1)
    world.faults.clear()
    before = len(world.log)
    again = run(("P00001", PROTEIN), ("P00002", OTHER))
    assert (again.undecided, again.dataset["id"].tolist()) == (0, ["P00001", "P00002"])
    assert len(world.log) - before <= 2


def test_a_candidate_that_did_not_come_may_be_the_right_one(world, run):
    wrong = gene(PROTEIN.replace("V", "A"))
    world.add("P00001", PROTEIN, name="AAA.1", cds=wrong)
    world.add("P00001", PROTEIN, name="BBB.1")
    world.add("P00002", OTHER, name="CCC.1")
    world.add("P00002", OTHER, name="DDD.1", cds=gene(OTHER, pick=1))
    world.faults += [["BBB", "500", 99], ["CCC", "500", 99]]
    rows = [("P00001", PROTEIN), ("P00002", OTHER)]
    found = run(*rows, workers=1)
    assert reject(found)[:2] == ("fetched", "server_error")
    assert (found.undecided, found.dataset["flags"].tolist()) == (1, ["candidates_missing"])
    world.faults.clear()
    found = run(*rows)
    assert found.dataset[["cds_accession", "distinct_cds", "flags"]].to_numpy().tolist() == [
        ["BBB.1", 1, ""],
        ["CCC.1", 2, ""],
    ]


def test_each_protein_of_a_dropped_accession_is_looked_for(world, run):
    world.entries["P00001"] = inactive("P00001", "DELETED")
    world.uniparc["UPI1"] = (OTHER, [{"database": "EMBL", "id": "AAX.3"}])
    world.embl["AAX.3"] = embl("AAX.3", gene(OTHER))
    found = run(
        {"id": "a", "accession": "P00001", "protein": PROTEIN}, {"id": "b", "accession": "P00001", "protein": OTHER}
    )
    assert found.dataset["id"].tolist() == ["b"]


KILLED = """
import sys
import pandas as pd
from embedstore.curation import Client, Servers, curate
folder, address, table = sys.argv[1:]
servers = Servers(*(f"{address}/{name}" for name in ("uniprot", "ena", "ncbi", "data", "coordinates")))
client = Client(f"{folder}/cache", contact="me@example.org", sleep=lambda seconds: None)
curate(table, f"{folder}/out", client=client, servers=servers, workers=1)
"""


def _many(world, tmp_path):
    """Two hundred proteins, whose coding sequences take four requests."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(200):
        protein = "M" + "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 50))
        world.add(f"P{number:05}", protein, cds=gene(protein, pick=number))
        rows.append((f"P{number:05}", protein))
    world.page = 50
    table = tmp_path / "list.tsv"
    table.write_text("accession\tprotein\n" + "".join(f"{name}\t{protein}\n" for name, protein in rows))
    return table


def test_a_killed_run_goes_on_where_it_was(world, tmp_path):
    table = _many(world, tmp_path)
    whole = curate(table, tmp_path / "whole", client=world.client(tmp_path / "other"), servers=world.servers, workers=1)
    assert len(whole.dataset) == 200
    needed = len(world.log)
    for killed_at in (3, needed - 1):
        folder = tmp_path / f"killed{killed_at}"
        world.log.clear()
        world.jobs.clear()
        world.polled.clear()
        with subprocess.Popen([sys.executable, "-c", KILLED, str(folder), world.address, str(table)]) as child:
            world.on_request = lambda count, at=killed_at, pid=child.pid: (
                os.kill(pid, signal.SIGKILL) if count == at else None
            )
        assert child.returncode == -signal.SIGKILL
        world.on_request = lambda count: None
        assert not (folder / "out" / "dataset.jsonl").exists()
        client = world.client(folder / "cache")
        curate(table, folder / "out", client=client, servers=world.servers, workers=1)
        assert len(world.log) == killed_at + client.asked <= needed + 1
        for name in ("dataset.jsonl", "rejects.jsonl", "retention.tsv", "fetched.jsonl", "candidates.jsonl"):
            assert (folder / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_an_offline_run_replays_the_same(world, run, tmp_path):
    world.add("P00001", PROTEIN)
    rows = [("P00001", PROTEIN), ("P00002", OTHER)]
    online = run(*rows)
    sent = len(world.log)
    offline = run(*rows, offline=True, folder="replayed")
    assert len(world.log) == sent
    assert offline.dataset.equals(online.dataset)
    assert offline.rejects.equals(online.rejects)
    for path in (tmp_path / "out").iterdir():
        assert (tmp_path / "replayed" / path.name).read_bytes() == path.read_bytes()


def test_a_dead_server_stops_the_run_and_leaves_what_came(world, tmp_path):
    table = _many(world, tmp_path)
    world.faults.append(["/ena/", "500", 10**6])
    with pytest.raises(RemoteError, match=r"2\d failures in a row.*run the same command again later"):
        curate(table, tmp_path / "out", client=world.client(tmp_path / "cache"), servers=world.servers)
    world.faults.clear()
    assert (tmp_path / "out" / "candidates.jsonl").exists()
    before = len(world.log)
    curate(table, tmp_path / "out", client=world.client(tmp_path / "cache"), servers=world.servers)
    assert {address.split("/")[1] for address in world.log[before:]} == {"ena"}
