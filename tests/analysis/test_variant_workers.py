"""Scores whose windows several processes embed: those of one process; shares; what fails is said and gone on from."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from variant_inputs import write_files

import embedstore
from analysis.scoring import embed_variants, score_variants
from analysis.variant_workers import model_here
from embedstore.cli import main
from embedstore.errors import IncompleteError, InputError
from embedstore.models import load
from embedstore.variants import variant_positions

MODEL = Path(__file__).parents[1] / "golden" / "nt_v1"
SCORES = "cosine,llr_masked"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def score(files, tmp_path, monkeypatch, capsys, many_blocks):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def score(*words, store="s.zarr", out="scores.csv", model=MODEL):
        fixed = ["--fasta", files.genome, "--model", model, "--scores", SCORES, "--context", 32, "--store", store]
        capsys.readouterr()
        code = main(["variants", "score", *map(str, (files.vcf, *fixed, "--out", out, *words))])
        return code, *capsys.readouterr()

    return score


@pytest.fixture
def alone(score):
    assert score(store="alone.zarr", out="alone.csv")[0] == 0
    return pd.read_csv("alone.csv")


def same(table, alone):
    pd.testing.assert_frame_equal(table, alone, rtol=1e-5, atol=1e-8)


def test_two_processes_give_the_scores_of_one(score, alone):
    # The arrays are made here, with blocks as small as this process makes them; what is done is not done again.
    assert score("--shard", "5/5", "--name", "mine")[0] == 0
    code, out, err = score("--devices", "cpu*2", "--name", "mine")
    assert code == 0, err
    same(pd.read_csv("scores.csv"), alone)
    assert "variants.masked/mine.letters: " in out
    store = embedstore.open_store("s.zarr")
    assert store.embedding("variants", "mine").blocks > 1
    assert store.verify().sound
    # Processes found what to embed by the same rule as one does: they are refused nothing, and nothing is done twice.
    code, out, _ = score("--name", "mine", out="again.csv")
    assert code == 0
    assert out.count("blocks were there already") == 2
    pd.testing.assert_frame_equal(pd.read_csv("again.csv"), pd.read_csv("scores.csv"))


def test_shares_are_done_at_any_time_and_the_last_one_writes(score, alone):
    code, out, _ = score("--shard", "2/2")
    assert code == 0
    assert "This share is done; " in out
    assert "blocks of others are not yet. The last one writes scores.csv." in out
    assert not Path("scores.csv").exists()
    assert score("--shard", "1/2")[0] == 0
    same(pd.read_csv("scores.csv"), alone)


def test_processes_that_fail_are_named(score, tmp_path):
    Path("store.zarr").mkdir()
    code, _, err = score("--devices", "cpu*2", "--scheduler", "tcp://h:1")
    assert (code, "--scheduler gives out the blocks itself" in err) == (1, True)
    code, _, err = score("--devices", "cpu*2", store="memory://")
    assert (code, "workers cannot reach it" in err) == (1, True)


def test_a_process_that_cannot_embed_ends_the_run(score, monkeypatch):
    """Its share is not there, and no scores are written; the same command goes on."""
    monkeypatch.setenv("PYTHONPATH", "nowhere")
    monkeypatch.setattr("sys.executable", "/bin/false")
    code, _, err = score("--devices", "cpu*2")
    assert code == 1
    assert "failed: worker 1 of 2 on cpu" in err
    assert "the same command goes on from there" in err
    assert not Path("scores.csv").exists()


def test_blocks_of_others_are_counted_and_have_no_scores(files, tmp_path, many_blocks):
    model = load(MODEL)

    def half(store, task, letters, **options):
        assert letters is None
        return embedstore.embed(store, task, model, shard=(1, 2), **options)

    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    options = {"context": 32, "progress": False}
    embedded = embed_variants(files.table, files.genome, model, store, embed_with=half, **options)
    assert embedded.blocks_left == len(store.embedding("variants", "nt_v1").missing()) > 0
    with pytest.raises(IncompleteError):
        embedded.scores()
    done = embed_variants(files.table, files.genome, model, store, **options)
    assert done.blocks_left == 0
    expected = score_variants(files.table, files.genome, model, **options)
    np.testing.assert_allclose(done.scores()["cosine"], expected["cosine"], rtol=1e-5, atol=1e-8)


def test_the_model_is_here_on_the_cpu_where_others_compute():
    given = {"model": str(MODEL), "checkpoint": None, "revision": None, "layer": -1, "precision": None, "rules": None}
    given |= {"overlap": 0, "no_windows": False, "device": "cuda:7", "name": "mine", "dtype": "float32"}
    model = model_here(argparse.Namespace(**given, devices="cuda:7", scheduler=None, shard=None))
    assert (model.device.type, model.name, model.precision) == ("cpu", "mine", "float32")
    with pytest.raises(InputError, match="Cannot use the device 'cuda:7'"):
        model_here(argparse.Namespace(**given))


def test_positions_of_variants_have_a_name(files, tmp_path):
    """So that a process elsewhere can be told of them in plain text."""
    model, store = load(MODEL), embedstore.open_store(tmp_path / "s.zarr", mode="a")
    score_variants(files.table, files.genome, model, store, context=32, progress=False)
    for around, name in ((0, "variants"), (0, "variants+0"), (2, "variants+2")):
        table = variant_positions(store, "variants", around=around)
        embedstore.embed(store, "variants", model, name="a", positions=table, progress=False)
        embedstore.embed(store, "variants", model, name="a", positions=name, progress=False)  # else it is refused
        (tmp_path / "s.zarr/variants/embedding/a").rename(tmp_path / f"{name}")
    with pytest.raises(InputError, match="neither a file nor a column"):
        embedstore.embed(store, "variants", model, name="b", positions="variants+", progress=False)
