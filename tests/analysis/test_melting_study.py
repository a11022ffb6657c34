"""The whole way: simulate, recode, embed, study, write, read again; by the command."""

from __future__ import annotations

import json
import shutil

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from analysis.melting_point.figures import (
    plot_partition,
    plot_strategies,
    plot_total_and_within,
    plot_window_curve,
)
from analysis.melting_point.reading import read_study
from analysis.melting_point.regression import ONE_PENALTY
from analysis.melting_point.simulated import simulate_studies
from analysis.melting_point.study import CAPTIONS, melting_point_study
from analysis.melting_point.study_files import check_out, read_written_study, write_study
from analysis.melting_point.study_tables import augmentation_table, permutation_table
from embedstore import open_store
from embedstore.cli import main
from embedstore.errors import CorruptError, InputError, NotInStoreError

mpl.use("Agg")
MODELS = ("codon_composition",)
SIZE = (
    "--samples",
    "180",
    "--test",
    "60",
    "--permutations",
    "2",
    "--seeds",
    "1",
    "--draws",
    "60",
    "--coding-models",
    *MODELS,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A small world, studied by the command."""
    folder = tmp_path_factory.mktemp("study") / "mixed"
    assert main(["melting-point", "--world", "mixed", "--out", str(folder), *SIZE]) == 0
    return folder


def test_the_command_leaves_tables_figures_and_a_verdict(written):
    record = json.loads((written / "study.json").read_text())
    assert record["conclusion"] in ("local", "composition", "species only", "undecided")
    assert record["source"]["world"] == "mixed"
    assert record["settings"]["models"] == list(MODELS)
    for name, one in record["tables"].items():
        table = pd.read_csv(written / one["file"])
        assert len(table), name
        assert one["caption"] == CAPTIONS[name]
    for one in record["figures"].values():
        picture = written / one["file"]
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.with_suffix(".csv").exists()
    assert {"scores", "partition", "shapley", "window_curve", "baselines", "augmentations", "permutations",
            "evidence", "samples"} <= set(record["tables"])  # fmt: skip


def test_it_reads_as_it_was_written(written):
    study = read_written_study(written)
    assert study.verdict.text.endswith(".")
    assert study.tables["samples"]["test"].sum() == 60
    assert study.settings["species_share"] == pytest.approx(
        study.tables["baselines"].set_index("name").loc["species", "r2"], abs=1e-9
    )
    assert set(study.tables["scores"]["flag"].fillna("")) == {"", "constant prediction"}
    growth = study.tables["baselines"].set_index("name").loc["growth"]
    assert "species_1" in growth["missing"]
    assert np.isnan(growth["r2"])


def test_a_second_run_uses_what_is_there_and_says_the_same(written, tmp_path, capsys):
    written = shutil.copytree(written, tmp_path / "copy")
    before = {path: path.stat().st_mtime_ns for path in (written / "store.zarr").rglob("c/*")}
    record = json.loads((written / "study.json").read_text())
    assert main(["melting-point", "--world", "mixed", "--out", str(written), *SIZE, "--partition-only"]) == 0
    shown = capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (written / "store.zarr").rglob("c/*")} == before
    assert json.loads((written / "study.json").read_text())["verdict"] == record["verdict"]
    assert f"Verdict: {record['conclusion']}" in shown
    assert "The rule: d_local lower CI > 0" in shown
    assert "codon_composition: d_local" in shown


def test_another_world_in_the_same_folder_is_refused(written, capsys):
    assert main(["melting-point", "--world", "gc_only", "--out", str(written)]) != 0
    assert "holds another study: world mixed, now gc_only" in capsys.readouterr().err


def test_a_store_gives_the_same_study_as_the_world_it_is_of(written, tmp_path, capsys):
    study = read_written_study(written)
    arguments = ["--store", str(written / "store.zarr"), "--protein-model", "amino_acid", "--coding-models"]
    assert main(
        ["melting-point", *arguments, "codon_composition", "--out", str(tmp_path), "--seeds", "1", "--draws", "60",
         "--partition-only"]
    ) == 0  # fmt: skip
    other = read_written_study(tmp_path)
    mine = study.tables["partition"].query("model == 'codon_composition'").reset_index(drop=True)
    pd.testing.assert_frame_equal(other.tables["partition"], mine)
    assert main(["melting-point", "--store", str(written / "store.zarr"), "--out", str(tmp_path)]) != 0
    assert "--store needs --protein-model and --coding-models" in capsys.readouterr().err


@pytest.fixture(scope="module")
def studies(written):
    store = open_store(written / "store.zarr")
    return {name: read_study(store, coding_model=name, protein_model="amino_acid") for name in MODELS}


def test_augmentations_and_permutations(studies):
    data = studies["codon_composition"]
    beside = augmentation_table(data, seeds=(0,), draws=50).query("measure == 'total'").set_index("contrast")
    assert beside.loc["protein: +species", "estimate"] > 0.2
    assert beside.loc["protein: +species", "estimate"] > beside.loc["protein: +gc", "estimate"]
    single = permutation_table(data, draws=50)
    assert single["permutation"].tolist() == ["0", "1", "mean of 2"]
    assert single["within_low"].le(single["r2_within"]).all()
    with pytest.raises(InputError, match="features of single permutations were not kept"):
        permutation_table(data._replace(by_seed={}))


def test_one_study_and_what_it_cannot_have(studies):
    data = studies["codon_composition"]._replace(sequences={}, by_seed={})
    study = melting_point_study(data, seeds=(0,), draws=40, ratios=ONE_PENALTY, species_analyses=False)
    assert study.settings["ratios"] == [1.0]
    assert set(study.tables["scores"]["ratio"].dropna()) == {1.0}
    assert set(study.missing) == {"augmentations (codon_composition)", "permutations (codon_composition)"}
    assert "no sequences of kind 'cds'" in study.missing["augmentations (codon_composition)"]
    assert "shapley" in study.tables
    assert "decodability" not in study.tables
    assert study.tables["baselines"].set_index("name").loc["gc", "missing"].startswith("the study has no sequences")


def test_a_study_without_windows_has_a_verdict(studies):
    data = studies["codon_composition"]
    kept = {name: values for name, values in data.features.items() if not name.startswith("window")}
    study = melting_point_study(
        data._replace(features=kept, sequences={}, by_seed={}), seeds=(0,), draws=40, species_analyses=False
    )
    assert study.tables["window_curve"].empty
    assert study.verdict.conclusion != "local"
    assert "windows of" not in study.verdict.evidence.to_string()


def test_studies_of_other_samples_are_refused(studies):
    (first,) = studies.values()
    kept = np.arange(180) != 3
    with pytest.raises(InputError, match="the studies of 'a' and 'b' differ in their samples or proteins"):
        melting_point_study({"a": first, "b": first.rows(kept)})
    with pytest.raises(InputError, match="the studies of 'a' and 'b' differ"):
        moved = {**first.features, "protein": first.features["protein"] + 1}
        melting_point_study({"a": first, "b": first._replace(features=moved)})
    with pytest.raises(InputError, match="there is no study"):
        melting_point_study({})


def test_what_is_no_study_or_damaged_is_said(written, tmp_path):
    with pytest.raises(NotInStoreError, match="holds no finished study"):
        read_written_study(tmp_path)
    (tmp_path / "study.json").write_text((written / "study.json").read_text())
    with pytest.raises(CorruptError, match="the study cannot be read"):
        read_written_study(tmp_path)


def test_figures_show_the_numbers(written):
    tables = read_written_study(written).tables
    both = {
        name: pd.concat([tables[name], tables[name].assign(model="other")]) for name in ("partition", "window_curve")
    }
    bars = plot_partition(both["partition"], measure="total")
    assert bars.get_yticklabels()[0].get_text().startswith("species")
    assert "beside protein" not in str(
        [text.get_text() for text in plot_partition(both["partition"]).get_yticklabels()]
    )
    assert [text.get_text() for text in bars.get_legend().get_texts()] == ["codon_composition", "other"]
    both["window_curve"]["estimate"] += np.arange(len(both["window_curve"]))
    curve = plot_window_curve(both["window_curve"])
    assert [text.get_text() for text in curve.get_xticklabels()] == ["1", "2", "4", "8", "16", "32", "all"]
    rows = both["window_curve"].query("model == 'other' and measure == 'within'")
    np.testing.assert_allclose(curve.lines[1].get_ydata(), rows["estimate"])
    scores = tables["scores"].set_index("name")
    total = plot_total_and_within(tables["scores"].head(4))
    assert [text.get_text() for text in total.texts] == [
        f"{value:.2f}" for value in tables["scores"]["r2_within"].head(4) if value < -0.5
    ]
    assert len(total.texts) == 2  # mean and protein
    strategies = plot_strategies(tables["scores"])
    heights = [bar.get_height() for bar in strategies.patches]
    np.testing.assert_allclose(heights, scores["r2_within"][["true+species", "permuted+species", "uniform+species"]])
    with pytest.raises(InputError, match="no rows of measure 'none'"):
        plot_partition(tables["partition"], measure="none")
    with pytest.raises(InputError, match="the table has none of"):
        plot_strategies(tables["scores"].query("name == 'mean'"))


def test_a_language_model_is_trained_on_training_samples_only(tmp_path):
    studies = simulate_studies(
        "mixed",
        tmp_path,
        samples=80,
        test=30,
        permutations=1,
        coding_models=MODELS[:1],
        strategies=["true", "permuted"],
        language_model=True,
        steps=2,
    )
    assert list(studies) == ["codon_composition", "coding_lm"]
    assert studies["coding_lm"].features["true"].shape == (80, 64)
    assert "coding_lm" in open_store(tmp_path / "store.zarr").models("melting_point")


def said_of(capsys, *arguments: str) -> str:
    """Return what a command that must fail says, in one line."""
    assert main(["melting-point", *arguments]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--world", "mixd"), "There is no world 'mixd'. Did you mean 'mixed'?"),
        (("--world", "mixed", "--samples", "60", "--test", "1"), "test=1: a study needs 2 or more"),
        (("--world", "mixed", "--permutations", "0"), "permutations=0: a study needs 1 or more"),
        (("--world", "mixed", "--draws", "39"), "39 draws: a study needs 40 or more"),
        (("--world", "mixed", "--seeds", "0"), "0 seeds: a study needs 1 or more"),
        (("--world", "mixed", "--protein-model", "x"), "--protein-model goes with --store, not with --world"),
        (("--store", "x", "--language-model"), "--language-model goes with --world, not with --store"),
        (("--world", "mixed", "--coding-models", "codon_compositon"), "Did you mean 'codon_composition'?"),
        (("--store", "nothing.zarr", "--protein-model", "p", "--coding-models", "c"), "There is no store at"),
    ],
)
def test_what_cannot_be_run_leaves_nothing_behind(options, said, tmp_path, capsys):
    assert said in said_of(capsys, *options, "--out", str(tmp_path / "new"))
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_as_it_is(written, tmp_path, capsys):
    before = sorted(written.rglob("*"))
    store = ("--store", "other.zarr", "--protein-model", "p", "--coding-models", "c")
    said = said_of(capsys, *store, "--out", str(written))
    assert "holds another study: store None, now other.zarr; task None, now melting_point" in said
    said = said_of(capsys, "--world", "mixed", *SIZE, "--permutations", "3", "--out", str(written))
    assert "holds another simulated world: permutations 2, now 3" in said
    assert sorted(written.rglob("*")) == before
    (tmp_path / "file").touch()
    assert "is a file, and a folder is wanted there" in said_of(capsys, "--world", "mixed", "--out", f"{tmp_path}/file")
    open_store(tmp_path / "own" / "store.zarr", mode="a")
    assert "not made for a simulated world" in said_of(capsys, "--world", "mixed", "--out", str(tmp_path / "own"))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "world.json").write_text('{"world": "mi')
    assert main(["melting-point", "--world", "mixed", "--out", str(tmp_path / "torn")]) == 3
    assert "world.json cannot be read" in capsys.readouterr().err


def test_tables_and_figures_of_a_former_study_do_not_stay(studies, tmp_path):
    data = studies["codon_composition"]
    study = melting_point_study(data, seeds=(0,), draws=40, species_analyses=False)
    (tmp_path / "tables").mkdir()
    (tmp_path / "figures").mkdir()
    for name in ("tables/decodability.csv", "figures/erased.png", "figures/erased.csv", "tables/my_own.csv"):
        (tmp_path / name).touch()
    write_study(study, tmp_path)
    kept = {path.name for path in (tmp_path / "tables").iterdir()}
    assert kept == {f"{name}.csv" for name in study.tables} | {"my_own.csv"}
    assert not list((tmp_path / "figures").glob("erased*"))
    assert list(tmp_path.glob(".*")) == []
    (tmp_path / "study.json").write_text("{")
    check_out(tmp_path, {"world": "mixed"})  # what can no longer be read may be replaced


def test_too_little_to_study_is_refused(studies):
    data = studies["codon_composition"]
    test = np.flatnonzero(data.test)
    few = np.ones(len(data.test), bool)
    few[test[9:]] = False
    with pytest.raises(InputError, match=r"9 groups of test samples .*; 10 are wanted"):
        melting_point_study(data.rows(few), draws=40)
    few = data.test.copy()
    few[np.flatnonzero(data.train)[:4]] = True
    with pytest.raises(InputError, match="4 groups of training samples"):
        melting_point_study(data.rows(few), draws=40)
    with pytest.raises(InputError, match="all training samples have the melting point 50"):
        melting_point_study(data.with_y(np.full(len(data.y), 50.0)), draws=40)
    lacking = {name: values for name, values in data.features.items() if name != "permuted"}
    with pytest.raises(InputError, match=r"has no features 'permuted', .* `embedstore recode TASK"):
        melting_point_study({"m": data._replace(features=lacking)}, draws=40)


def test_intervals_need_not_contain_their_numbers():
    table = pd.DataFrame([{"model": "m", "contrast": "d_local", "measure": "within"}])
    ax = plot_partition(table.assign(estimate=0.5, low=0.1, high=0.3))
    points = {float(x) for line in ax.lines[:-1] for x in np.atleast_1d(line.get_xdata())}
    assert {0.5, 0.1, 0.3} <= {round(point, 9) for point in points}


def test_every_figure_has_the_size_that_suits_it(written, tmp_path):
    import matplotlib.image as image
    from matplotlib import pyplot as plt

    heights = {path.stem: image.imread(path).shape[0] for path in (written / "figures").glob("*.png")}
    assert heights["left_out"] == 4.6 * 150
    assert heights["erased"] == 4 * 150
    assert heights["decodability"] < heights["by_species"] < 5 * 150
    before = plt.get_fignums()
    write_study(read_written_study(written), tmp_path)
    assert plt.get_fignums() == before
