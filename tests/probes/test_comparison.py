"""Comparisons of results on disk, against planted differences, plain loops over drawn samples, and SciPy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from embedstore.errors import CorruptError, InputError
from probes.comparison import compare, comparison_table, seed_interval
from probes.intervals import bootstrap, interval
from probes.metrics import confusions, mcc, mean_defined, per_target
from probes.results import ProbeResult
from probes.scores import Scores, save_scores

if TYPE_CHECKING:
    from pathlib import Path

TASK = "genes"


def labels(seed: int = 0, samples: int = 80, positions: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Labels of two classes, and how hard each position is, by sample: shared by all that is tested on them."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, (samples, positions)), rng.beta(4, 2, (samples, 1)) + np.zeros(positions)


def predicted(true: np.ndarray, ease: np.ndarray, better: float, seed: int) -> Scores:
    """Scores of a probe that is right where a number is below the ease of a position."""
    said = np.where(np.random.default_rng(seed).random(true.shape) < ease + better, true, 1 - true)
    sample = np.repeat(np.arange(len(true)), true.shape[1])
    return Scores(0.0, confusions(sample, true.ravel(), said.ravel(), len(true), 2))


def write(folder: Path, scores: Scores, *, model: str = "m", split: str = "test", seed: int = 0, **changes) -> Path:
    """Write what a comparison reads of a result."""
    folder.mkdir(parents=True)
    save_scores(folder / "scores.npz", scores)
    spec = {
        "version": 2,
        "seed": seed,
        "probe": {"hidden": changes.pop("hidden", 64), "device": str(folder)},
        "data": {
            "train": {"splits": ["any"]},
            "test": {
                "task": changes.pop("task", TASK),
                "model": model,
                "embedding": {"checkpoint": model},
                "digest": {"labels": changes.pop("digest", "1f")},
                "splits": [split],
            },
        },
    }
    row = {"task": TASK, "model": model, "probe": "cnn", "recipe": "bend", "layer": None, "metric": "mcc", **changes}
    (folder / "spec.json").write_text(json.dumps(spec))
    (folder / "result.json").write_text(json.dumps(row))
    return folder


@pytest.fixture
def pair(tmp_path):
    """Two probes on the same samples, the first better by 0.05 in accuracy; hard samples are hard for both."""
    true, ease = labels()
    first = write(tmp_path / "a", predicted(true, ease, 0.05, 1))
    return first, write(tmp_path / "b", predicted(true, ease, 0.0, 2), model="other")


def loaded(true, ease, better, seed):
    return predicted(true, ease, better, seed).confusion


def test_difference_draw_by_draw(pair):
    true, ease = labels()
    a, b = loaded(true, ease, 0.05, 1), loaded(true, ease, 0.0, 2)
    found = compare(*pair, draws=300)
    assert found.difference == pytest.approx(mcc(a.sum(axis=0)) - mcc(b.sum(axis=0)))
    rng, differences = np.random.default_rng(0), []
    for _ in range(300):
        drawn = rng.integers(0, 80, 80)
        differences.append(mcc(a[drawn].sum(axis=0)) - mcc(b[drawn].sum(axis=0)))
    assert (found.low, found.high) == pytest.approx(np.quantile(differences, [0.025, 0.975]))
    assert found.p == pytest.approx(2 * (np.sum(np.array(differences) <= 0) + 1) / 301)
    assert (found.n, found.draws) == (80, 300)


def test_paired_interval_is_narrower_than_of_two_that_know_nothing_of_each_other(pair):
    true, ease = labels()
    found = compare(*pair)
    draws = [bootstrap("mcc", predicted(true, ease, better, seed), seed=seed) for better, seed in ((0.05, 1), (0, 2))]
    low, high = interval(draws[0] - draws[1])
    assert found.high - found.low < 0.7 * (high - low)


def test_p_agrees_with_a_paired_t_test_where_that_holds(tmp_path):
    """Values of one target, correlation 0.5 and more between two probes' errors: squared errors are compared."""
    rng = np.random.default_rng(3)
    target = rng.normal(size=(400, 1))
    shared = rng.normal(size=(400, 1))
    said = [target + shared + 0.6 * rng.normal(size=(400, 1)), target + 1.08 * shared + 0.6 * rng.normal(size=(400, 1))]
    folders = []
    for number, score in enumerate(said):
        scores = Scores(0.0, None, np.arange(400), target.astype(np.float32), score.astype(np.float32))
        folders.append(write(tmp_path / str(number), scores, metric="r2", model=str(number)))
    found = compare(*folders, draws=4000)
    errors = [(score - target)[:, 0] ** 2 for score in said]
    expected = scipy.stats.ttest_rel(*errors).pvalue
    assert 0.005 < expected < 0.3
    assert found.p == pytest.approx(expected, rel=0.5)
    assert found.p == pytest.approx(compare(*folders[::-1], draws=4000).p)


def test_nothing_between_equals(tmp_path, pair):
    true, ease = labels()
    again = write(tmp_path / "c", predicted(true, ease, 0.05, 1), model="copy")
    assert compare(pair[0], again, draws=50) == (0, 0, 0, 1, 80, 50)


def test_p_of_equal_probes_is_uniform(tmp_path):
    below = 0
    for number in range(60):
        true, ease = labels(100 + number, samples=40, positions=10)
        folders = [
            write(tmp_path / f"{number}{side}", predicted(true, ease, 0, 1000 + 2 * number + side), model=str(side))
            for side in (0, 1)
        ]
        below += compare(*folders, draws=100).p < 0.5
    assert 20 <= below <= 40  # 30 and 2.6 standard deviations of 60 coins


def test_seeds_are_averaged_within_a_draw(tmp_path):
    true, ease = labels()
    scores = {name: [predicted(true, ease, better, 10 * number + seed) for seed in range(3)]
              for number, (name, better) in enumerate({"a": 0.03, "b": 0.0}.items())}  # fmt: skip
    folders = {
        name: [write(tmp_path / name / str(seed), one, model=name, seed=seed) for seed, one in enumerate(many)]
        for name, many in scores.items()
    }
    values = {name: [float(mcc(one.confusion.sum(axis=0))) for one in many] for name, many in scores.items()}
    means = {name: np.mean([bootstrap("mcc", one) for one in many], axis=0) for name, many in scores.items()}
    found = compare(folders["a"], folders["b"])
    assert found.difference == pytest.approx(np.mean(values["a"]) - np.mean(values["b"]))
    assert (found.low, found.high) == pytest.approx(interval(means["a"] - means["b"]))
    average = seed_interval(folders["a"])
    assert average.mean == pytest.approx(np.mean(values["a"]))
    assert (average.low, average.high) == pytest.approx(interval(means["a"]))
    assert average.deviation == pytest.approx(np.std(values["a"]))
    assert (average.n, average.seeds, average.folds) == (80, 3, 1)
    one = seed_interval(folders["a"][0])
    assert (one.low, one.high) == interval(bootstrap("mcc", scores["a"][0]))


def test_folds_are_drawn_on_their_own(tmp_path):
    folders, scores = {"a": [], "b": []}, {"a": [], "b": []}
    for fold in range(4):
        true, ease = labels(fold, samples=20 + fold)
        for name, better in (("a", 0.02), ("b", 0.0)):
            scores[name].append(predicted(true, ease, better, 50 + fold))
            folder = tmp_path / name / str(fold)
            folders[name].append(write(folder, scores[name][-1], model=name, split=f"part{fold}", fold=fold))
    values = {name: [float(mcc(one.confusion.sum(axis=0))) for one in many] for name, many in scores.items()}
    average = seed_interval(folders["a"][::-1])
    assert average.mean == pytest.approx(np.mean(values["a"]))
    assert average.deviation == pytest.approx(np.std(values["a"]))
    assert (average.n, average.seeds, average.folds) == (20 + 21 + 22 + 23, 1, 4)
    draws = {
        name: np.mean([bootstrap("mcc", one, seed=fold) for fold, one in enumerate(many)], axis=0)
        for name, many in scores.items()
    }
    assert (average.low, average.high) == pytest.approx(interval(draws["a"]))
    # Four folds that vary on their own: their mean varies half as much.
    single = [np.ptp(interval(bootstrap("mcc", one))) for one in scores["a"]]
    assert 0.4 < (average.high - average.low) / np.mean(single) < 0.6
    found = compare(folders["a"], folders["b"][::-1])
    assert (found.low, found.high) == pytest.approx(interval(draws["a"] - draws["b"]))
    with pytest.raises(
        InputError, match="first probe was tested on 4 sets of samples, the second on 3: give the resul"
    ):
        compare(folders["a"], folders["b"][:3])


def test_another_metric(tmp_path):
    rng = np.random.default_rng(5)
    target = (rng.random((50, 3)) < 0.4).astype(np.float32)
    scores = [Scores(0.0, None, np.arange(50), target, rng.normal(size=(50, 3)).astype(np.float32)) for _ in range(2)]
    folders = [write(tmp_path / str(i), one, metric="auroc", model=str(i)) for i, one in enumerate(scores)]
    for metric in ("auroc", "auprc"):
        expected = np.subtract(*(mean_defined(per_target(metric, one)) for one in scores))
        assert compare(*folders, metric=metric, draws=20).difference == pytest.approx(expected)
    assert compare(*folders, draws=20).difference == compare(*folders, metric="auroc", draws=20).difference


def test_draws_in_which_one_is_not_defined_are_left_out(tmp_path):
    target = np.array([[1.0]] + [[0.0]] * 5, np.float32)
    scores = Scores(0.0, None, np.arange(6), target, np.arange(6.0, dtype=np.float32)[:, None])
    folders = [write(tmp_path / name, scores, metric="auroc", model=name) for name in "ab"]
    defined = int((~np.isnan(bootstrap("auroc", scores, draws=100))).sum())
    assert 0 < defined < 100
    assert compare(*folders, draws=100).draws == defined


def test_results_in_memory_are_found_by_their_folders(pair):
    results = [ProbeResult(**{**dict.fromkeys(ProbeResult._fields), "path": folder}) for folder in pair]
    assert compare(*results, draws=20) == compare(*map(str, pair), draws=20)
    with pytest.raises(InputError, match="was not written holds no scores.*run the probe with out="):
        compare(results[0]._replace(path=None), results[1])


# ---- what is refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "valid"}, r"splits is \['test'\] in the first and \['valid'\] in the second"),
        ({"digest": "2e"}, "digest is {'labels': '1f'} in the first and {'labels': '2e'} in the second"),
        ({"task": "other"}, "task is genes in the first and other in the second"),
    ],
)
def test_other_samples_are_refused(tmp_path, pair, changes, said):
    true, ease = labels()
    other = write(tmp_path / "c", predicted(true, ease, 0, 9), **changes)
    with pytest.raises(InputError, match=rf"{pair[0]} and {other} were not tested on the same samples: {said}"):
        compare(pair[0], other)


def test_other_labels_are_refused_whatever_the_specs_say(tmp_path, pair):
    other = write(tmp_path / "c", predicted(*labels(1), 0, 9), model="other")
    with pytest.raises(InputError, match="labels of the test samples differ, so these are not the same samples"):
        compare(pair[0], other)
    values = np.arange(6, dtype=np.float32)[:, None]
    scores = Scores(0.0, None, np.arange(6), values, values)
    first, second = (
        write(tmp_path / name, scores._replace(target=values + add), metric="r2", model=name)
        for add, name in ((0, "x"), (np.float32(1), "y"))
    )
    with pytest.raises(InputError, match="labels of the test samples differ, so these are not the same samples"):
        compare(first, second)
    seed = write(tmp_path / "d", predicted(*labels(1), 0, 9), seed=1)
    with pytest.raises(InputError, match="a and other seeds: the labels of the test samples differ"):
        seed_interval([pair[0], seed])


def test_what_is_not_one_probe_is_not_averaged(tmp_path, pair):
    true, ease = labels()
    wide = write(tmp_path / "wide", predicted(true, ease, 0, 9), hidden=128)
    with pytest.raises(
        InputError, match="not seeds or folds of one probe: hidden is 64 in the first and 128 in the sec"
    ):
        seed_interval([pair[0], wide])
    with pytest.raises(InputError, match="not seeds or folds of one probe: model is 'm' in the first and 'other'"):
        seed_interval(list(pair))
    with pytest.raises(InputError, match="a: a result is given twice"):
        seed_interval([pair[0], pair[0]])
    with pytest.raises(InputError, match="no results are given: at least one is needed"):
        seed_interval([])


def test_metrics_that_differ(tmp_path, pair):
    true, ease = labels()
    other = write(tmp_path / "c", predicted(true, ease, 0, 9), metric="auroc", model="other")
    with pytest.raises(InputError, match="the results have the metrics auroc and mcc: say which one by metric="):
        compare(pair[0], other)
    assert compare(pair[0], other, metric="mcc", draws=5).n == 80


@pytest.mark.parametrize("name", ["result.json", "spec.json", "scores.npz"])
def test_a_result_that_is_not_complete(pair, name):
    (pair[1] / name).unlink()
    with pytest.raises(InputError, match=rf"{pair[1]}: {name} is not there, so this is no finished result"):
        compare(*pair)


def test_a_damaged_result(pair):
    (pair[1] / "scores.npz").write_bytes(b"")
    with pytest.raises(CorruptError, match=r"scores.npz: not the scores of a probe"):
        compare(*pair)


# ---- the table


@pytest.fixture
def results(tmp_path):
    """Two tasks; a model with two seeds, another, and a baseline of two kinds of probe; layers as read from JSON."""
    rows = []
    for task in ("one", "two"):
        true, ease = labels(len(task) + (task == "two"))
        kinds = [("big", "cnn", 0.1, 2, 7), ("small", "linear", 0.02, 1, None)]
        kinds += [("onehot", "cnn", 0.0, 2, None), ("onehot", "linear", -0.05, 1, None)]
        for number, (model, probe, better, seeds, layer) in enumerate(kinds):
            for seed in range(seeds):
                folder = tmp_path / task / model / f"{probe}{seed}"
                scores = predicted(true, ease, better, 20 * number + seed)
                write(folder, scores, model=model, task=task, seed=seed, digest=task)
                row = {"task": task, "model": model, "probe": probe, "recipe": "bend", "layer": layer}
                rows.append({**row, "seed": seed, "metric": "mcc", "path": str(folder)})
    return pd.DataFrame(rows)


def test_table_compares_every_probe_with_the_baseline_of_its_kind(results):
    table = comparison_table(results, "onehot", draws=200)
    assert table["model"].tolist() == ["big", "small", "onehot", "onehot"] * 2
    assert table["seeds"].tolist() == [2, 1, 2, 1] * 2
    assert table["layer"].tolist() == [7, pd.NA, pd.NA, pd.NA] * 2
    assert (table["metric"] == "mcc").all()
    assert table.loc[table["model"] == "onehot", ["difference", "p"]].isna().all(axis=None)
    paths = {key: rows["path"].tolist() for key, rows in results.groupby(["task", "model", "probe"])}
    for model, probe in (("big", "cnn"), ("small", "linear")):
        (row,) = table[(table["task"] == "two") & (table["model"] == model)].to_dict("records")
        found = compare(paths["two", model, probe], paths["two", "onehot", probe], draws=200)
        names = ("difference", "difference_low", "difference_high", "p")
        assert tuple(row[name] for name in names) == found[:4]
        average = seed_interval(paths["two", model, probe], draws=200)
        names = ("test", "low", "high", "deviation", "n", "seeds", "folds")
        assert tuple(row[name] for name in names) == average


def test_table_with_one_baseline_for_all(results):
    table = comparison_table(results, {"model": "onehot", "probe": "linear"}, draws=50).set_index(["task", "model"])
    assert table.loc[("one", "onehot"), "difference"].notna().tolist() == [True, False]
    assert table["difference"].notna().sum() == 6
    table = comparison_table(results[results["probe"] == "cnn"].drop(columns="layer"), "onehot", draws=50)
    assert table["layer"].isna().all()
    assert table["difference"].notna().tolist() == [True, False] * 2


def test_tables_that_cannot_be_made(results):
    with pytest.raises(
        InputError, match="small probe linear .*: the baseline {'model': 'onehat'} must be one probe, and it is 0"
    ):
        comparison_table(results[results["model"] == "small"], "onehat", draws=5)
    both = results[~((results["model"] == "onehot") & (results["probe"] == "linear"))]
    more = results[results["model"] == "onehot"].assign(recipe="best")
    with pytest.raises(
        InputError, match="one model small .* must be one probe, and it is 3. There are: task one model onehot pro"
    ):
        comparison_table(pd.concat([both, more]), "onehot", draws=5)
    with pytest.raises(InputError, match="the baseline is {'kind': 'x'}; it is said by model, probe, recipe, layer"):
        comparison_table(results, {"kind": "x"})
    with pytest.raises(InputError, match="the table of results has no column 'path', only task, model"):
        comparison_table(results.drop(columns="path"), "onehot")
    other = results.copy()
    place = other.index[(other["task"] == "one") & (other["model"] == "small")]
    other.loc[place, "path"] = results.loc[(results["task"] == "two") & (results["model"] == "small"), "path"].tolist()
    with pytest.raises(
        InputError, match="task one model small .* and its baseline were not tested on the same samples"
    ):
        comparison_table(other, "onehot", draws=5)
