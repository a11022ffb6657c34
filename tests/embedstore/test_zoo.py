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


def test_options_of_a_model(inputs, tmp_path, monkeypatch, capsys):
    """Each option reaches the model, and the store says so."""
    monkeypatch.chdir(tmp_path)
    files = ["--table", str(inputs / "cds.csv"), "--store", "s.zarr"]

    def embed(name, *options, model="hyenadna"):
        words = ["embed", "cds", "--model", str(GOLDEN / model), "--name", name, *files, *options]
        code = main(words)
        return code, capsys.readouterr().err

    assert embed("plain")[0] == 0
    options = {
        "mean": ("--layer", "mean"),
        "range": ("--layer", "1-2"),
        "first": ("--layer", "0"),
        "half": ("--precision", "bfloat16"),
        "bend": ("--rules", "bend"),
    }
    store = embedstore.open_store("s.zarr", mode="a")
    plain = store.embedding("cds", "plain").read([0]).vector.astype(np.float32)
    for name, words in options.items():
        assert embed(name, *words)[0] == 0
        other = store.embedding("cds", name).read([0]).vector.astype(np.float32)
        assert other.shape == plain.shape
        assert np.abs(other - plain).max() > 1e-3
    records = {name: store.embedding("cds", name).record for name in ("plain", *options)}
    assert [records[name]["layer"] for name in ("plain", "mean", "range", "first")] == [
        -1,
        "mean of 1-2",
        "mean of 1-2",
        0,
    ]
    assert (records["half"]["precision"], records["plain"]["precision"]) == ("bfloat16", "float32")
    assert (records["bend"]["rules"], records["plain"]["rules"]) == ("bend", "authors")
    # What was made in another way is another embedding.
    assert embed("plain", "--rules", "bend")[0] == 1
    for words, message in (
        (("--layer", "last"), "has no layer 'last'"),
        (("--layer", "7"), "has no layer 7"),
        (("--precision", "tf32"), "a mode of CUDA devices"),
    ):
        code, error = embed("wrong", *words)
        assert code == 1
        assert message in error
    assert embed("short", "--no-windows")[0] == 0
    assert store.embedding("cds", "short").record["window"].startswith("one piece per sequence")
