"""Every architecture from a tiny checkpoint, through the command line, into a store and out of it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import embedstore
from embedstore.cli import main
from embedstore.models import load
from embedstore.models.architectures import ARCHITECTURES
from embedstore.sequences import decode
from embedstore.simulate import simulate_genome, write_gene_finding

GOLDEN = Path(__file__).parents[1] / "golden"
FAMILIES = sorted(path.parent.name for path in GOLDEN.glob("*/cases.json"))
PROTEIN = {"esm1b", "esm2", "esmc", "prott5"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """The demonstration's task, smaller; and coding sequences and proteins as tables."""
    folder = tmp_path_factory.mktemp("zoo")
    sim = simulate_genome(60_000, seed=3)
    write_gene_finding(sim, folder)
    rng = np.random.default_rng(0)
    for name, letters in (("cds", "ACGT"), ("protein", "ACDEFGHIKLMNPQRSTVWYX")):
        rows = [
            f"s{i},{''.join(rng.choice(list(letters), 3 * int(n)))},all" for i, n in enumerate(rng.integers(9, 60, 12))
        ]
        (folder / f"{name}.csv").write_text("\n".join(["id,sequence,split", *rows]) + "\n")
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_embed(family, inputs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if family in PROTEIN or family == "calm":
        kind = "protein" if family in PROTEIN else "dna"
        task = "protein" if family in PROTEIN else "cds"
        files = ["--table", inputs / f"{task}.csv", "--alphabet", kind]
    else:
        task = "gene_finding"
        files = ["--bed", inputs / "gene_finding.bed", "--fasta", inputs / "genome.fa"]
        files += ["--labels", inputs / "gene_finding.hdf5"]
    words = ["embed", task, "--model", GOLDEN / family, "--store", "s.zarr", "--dtype", "float32", *files]
    assert main([str(word) for word in words]) == 0
    assert f"{task}/{family} is complete" in capsys.readouterr().out
    store = embedstore.open_store("s.zarr")
    model = load(GOLDEN / family)
    dataset = store.open(task, family)
    lengths = store.lengths(task)
    first = int(np.argmin(lengths))  # the shortest sample, which is run alone here
    codes = store.sequences(task, [first])[0]
    by_hand = np.concatenate(
        [
            np.repeat(
                model.hidden(torch.from_numpy(piece.ids)[None])[0, piece.first :][: len(piece.span)].numpy(),
                piece.span,
                axis=0,
            )
            for piece in model.pieces(codes)
        ]
    )
    start = int(lengths[:first].sum())
    stored = dataset["embedding"].isel(nucleotide=slice(start, start + len(codes))).to_numpy()
    scale = max(1.0, float(np.abs(by_hand).max()))
    np.testing.assert_allclose(stored, by_hand, rtol=0, atol=2e-5 * scale)
    assert decode(dataset["sequence"].isel(nucleotide=slice(start, start + len(codes))).to_numpy()) == decode(codes)
    assert store.embedding(task, family).record["architecture"] in ARCHITECTURES


def test_every_architecture_has_a_tiny_checkpoint():
    found = {load(GOLDEN / family).record["architecture"] for family in FAMILIES}
    assert found == set(ARCHITECTURES)
