"""The demonstration, small: one run for all tests, with a model and a genome that are a fraction of the real ones."""

from __future__ import annotations

import argparse
import io
import json
import logging
import shlex

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import matthews_corrcoef

from analysis import commands, demo
from embedstore import cli, open_store
from embedstore.errors import InputError
from embedstore.models import load
from embedstore.simulate import simulate_genome, splits

pytestmark = pytest.mark.slow

SMALL = {"length": 200_000, "steps": 400}
MODELS = ["resnet_lm", "resnet_untrained", "onehot"]


@pytest.fixture(scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_HIDDEN", 32)
        patch.setattr(demo, "_LAYERS", 6)
        patch.setattr(demo, "_VARIANTS", 30)
        patch.setitem(demo._TRAINING, "evaluations", 1)
        patch.setitem(demo._PROBE, "epochs", 8)
        yield


@pytest.fixture(scope="module")
def result(small, tmp_path_factory):
    return demo.run_demo(tmp_path_factory.mktemp("demo"), **SMALL, progress=False)


def test_the_language_model_beats_letters_and_itself_before_training(result):
    table = result.gene_finding.set_index("model")
    assert table.index.tolist() == MODELS
    assert table.loc["resnet_lm", "low"] > table.loc[["resnet_untrained", "onehot"], "high"].max() + 0.05
    assert result.perplexity < result.markov_perplexity
    assert (table["n_test"] == (result_samples(result)["split"] == "test").sum()).all()


def result_samples(result):
    return open_store(result.store).samples("gene_finding")


def test_the_model_saw_no_test_chromosome_and_the_untrained_one_is_its_beginning(result):
    split = splits(simulate_genome(SMALL["length"]))
    text = (result.folder / "pretraining.fa").read_text()
    assert [line[1:] for line in text.splitlines() if line.startswith(">")] == [
        name for name, part in split.items() if part == "train"
    ]
    trained, untrained = (load(result.folder / name) for name in MODELS[:2])
    assert trained.width == untrained.width == 32
    assert trained.digest != untrained.digest


def test_variants_are_scored_by_both_networks_against_both_controls(result):
    table = result.variants
    assert table["model"].tolist() == ["resnet_lm"] * 3 + ["resnet_untrained"] * 3
    assert table["controls"].tolist() == ["all", "intergenic", "synonymous"] * 2
    assert table["positives"].tolist() == [30] * 6
    assert table["negatives"].tolist() == [60, 30, 30] * 2
    store = open_store(result.store)
    assert store.embedding("splice_variants", "resnet_lm").dtype == np.float32
    assert store.embedding("gene_finding", "resnet_lm").dtype == np.float16


def test_figures_come_with_their_numbers(result):
    assert [path.name for path in result.figures] == ["gene.png", "mcc.png", "variants.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in result.figures)
    gene, mcc, variants = (pd.read_csv(path.with_suffix(".csv")) for path in result.figures)
    assert list(gene) == ["position", "annotation", *MODELS]
    pd.testing.assert_frame_equal(mcc, result.gene_finding)
    assert len(variants) == 90


def test_the_gene_that_is_shown_is_a_test_window_with_its_own_labels(result):
    gene = pd.read_csv(result.figures[0].with_suffix(".csv"))
    samples = result_samples(result)
    window = samples[(samples["start"] == gene["position"].iloc[0]) & (samples["end"] == gene["position"].iloc[-1] + 1)]
    assert window["split"].tolist() == ["test"]
    labels = simulate_genome(SMALL["length"]).labels[window["chromosome"].iloc[0]]
    np.testing.assert_array_equal(gene["annotation"], labels[gene["position"]])
    # Predictions of another window would agree with these labels by chance only.
    assert matthews_corrcoef(gene["annotation"], gene["resnet_lm"]) > 0.2


def test_a_second_run_computes_nothing_again(result, small):
    folders = [result.store, result.folder / "resnet_lm", result.folder / "store.results"]

    def state():
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        # The root's metadata list all others and are written anew, with the same bytes.
        return {path: path.read_bytes() if path.parent == result.store else path.stat().st_mtime_ns for path in files}

    before = state()
    again = demo.run_demo(result.folder, **SMALL, progress=False)
    assert state() == before
    pd.testing.assert_frame_equal(again.gene_finding, result.gene_finding)
    pd.testing.assert_frame_equal(again.variants, result.variants)


def test_the_sweep_that_is_offered_finds_what_was_trained_and_adds_baselines(result, capsys):
    assert cli.main(["sweep", str(result.folder / "sweep.toml")]) == 0
    shown = capsys.readouterr().out
    assert "8 of 8 probes are finished, 3 of them before this run" in shown
    for name in ("resnet_lm", "resnet_untrained", "onehot", "kmer4", "gc", "majority"):
        assert name in shown
    assert cli.main(["results", str(result.store), "--format", "csv"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out), comment="#")
    assert len(table) == 8


def test_other_settings_in_the_same_folder_are_refused(result, small):
    before = (result.folder / "demo.json").read_bytes()
    with pytest.raises(InputError, match=r"other settings: seed 0, now 5; genome .* Give another folder \(--out\)"):
        demo.run_demo(result.folder, **SMALL, seed=5, progress=False)
    with pytest.raises(InputError, match=r"other settings: steps 400, now None; minutes None, now 2\.0\."):
        demo.run_demo(result.folder, length=SMALL["length"], minutes=2.0, progress=False)
    assert (result.folder / "demo.json").read_bytes() == before


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match=r"holds other things \(thesis.tex\)"):
        demo.run_demo(tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "length", [{"minutes": 0}, {"minutes": -1.0}, {"minutes": float("nan")}, {"steps": 3, "minutes": 1}]
)
def test_a_length_of_training_that_makes_no_sense_leaves_nothing(tmp_path, length):
    with pytest.raises(InputError, match="give one of them"):
        demo.run_demo(tmp_path / "new", **length, progress=False)
    assert not (tmp_path / "new").exists()


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    commands.add_demo(parser.add_subparsers())
    return parser


@pytest.fixture
def printed(result, parser, monkeypatch, capsys):
    called = {}

    def run_demo(out, **options):
        called.update(options, out=out, level=logging.getLogger("probes").getEffectiveLevel())
        return result

    monkeypatch.setattr(demo, "run_demo", run_demo)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    before = logging.getLogger("probes").level
    arguments = parser.parse_args(["demo", "--out", "there", "--seed", "4"])
    assert arguments.run(arguments) == 0
    assert called == {"out": "there", "seed": 4, "minutes": None, "level": logging.WARNING}
    assert logging.getLogger("probes").level == before
    return capsys.readouterr().out


def test_what_is_printed_are_the_tables(result, printed):
    for row in result.gene_finding.itertuples():
        assert f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})" in printed
    for row in result.variants.itertuples():
        assert f"{row.auroc:.3f} ({row.low:.3f} to {row.high:.3f})" in printed
    assert all(str(path) in printed for path in result.figures)
    header, *rows = [
        line.split("  ") for line in printed.splitlines() if line.startswith(("  model", "  resnet", "  onehot"))
    ]
    assert header[1] == "model"
    assert len(rows) == 6  # three models, a second header, two networks


def test_what_to_type_next_can_be_typed(result, printed, capsys, monkeypatch):
    info, sweep, probe, python = [
        shlex.split(line) for line in printed.splitlines() if line.startswith(("  embedstore", "  python"))
    ]
    assert cli.main(info[1:]) == 0
    shown = capsys.readouterr().out
    assert "gene_finding" in shown
    assert "splice_variants" in shown
    assert sweep == ["embedstore", "sweep", str(result.folder / "sweep.toml")]
    arguments = cli.build_parser().parse_args(probe[1:])
    assert (arguments.task, arguments.model, arguments.store) == ("gene_finding", "resnet_lm", str(result.store))
    exec(python[2])
    assert "Dataset" in capsys.readouterr().out


def test_the_minutes_are_passed_on_and_the_defaults_are_the_demonstrations(parser):
    arguments = parser.parse_args(["demo"])
    assert (arguments.out, arguments.seed, arguments.minutes) == ("demo", 0, None)
    assert parser.parse_args(["demo", "--minutes", "0.5"]).minutes == 0.5


def test_settings_are_written_as_json(result):
    written = json.loads((result.folder / "demo.json").read_text())
    assert {key: written[key] for key in ("seed", "length", "steps", "minutes")} == {
        "seed": 0,
        "minutes": None,
        **SMALL,
    }
