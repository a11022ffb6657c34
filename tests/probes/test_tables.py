from __future__ import annotations

import io
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from probe_tasks import planted_store

from embedstore.errors import CorruptError, InputError
from probes import tables
from probes.intervals import bootstrap, interval
from probes.results import read_results, write_json
from probes.scores import Scores, save_scores
from probes.table_formats import _latex, _markdown
from probes.tables import COLUMNS, is_baseline, pivot, results_table, to_csv, to_latex, to_markdown, to_text

ROW = {
    "task": "gene_finding", "model": "dnabert6", "probe": "cnn", "recipe": "bend", "layer": -1, "fold": None, "seed": 0,
    "metric": "mcc", "test": 0.5, "low": 0.4, "high": 0.6, "targets": 1, "targets_defined": 1, "n_test": 8,
    "base_rate": math.nan, "blocks_missing": 0, "record": "gene_finding", "published": False,
}  # fmt: skip


def rows(*changes):
    return pd.DataFrame([{**ROW, **change} for change in changes])


def table(*changes, **options):
    return results_table(rows(*changes), **options)


def confusion(fold, seed=0, samples=20):
    """What is true depends on the fold alone."""
    true = np.random.default_rng(fold).integers(50, 100, (samples, 2))
    right = np.random.default_rng([fold, seed]).integers(30, 50, (samples, 2))
    matrix = np.zeros((samples, 2, 2), int)
    matrix[:, [0, 1], [0, 1]], matrix[:, [0, 1], [1, 0]] = right, true - right
    return matrix


def write(out, name, *, matrix=None, spec=None, splits=("test",), **row):
    """A result folder as a run leaves it; returns its row."""
    row = {**ROW, **row}
    folder = out / row["task"] / row["model"] / name
    folder.mkdir(parents=True)
    if matrix is not None:
        save_scores(folder / "scores.npz", Scores(0.5, matrix))
    test = {"task": row["task"], "model": row["model"], "digest": {"label": "0"}, "splits": list(splits)}
    whole = {"version": 2, "recipe": row["recipe"], "probe": {"hidden": 8, "seed": row["seed"]}, "data": {"test": test}}
    (folder / "spec.json").write_text(json.dumps({**whole, **(spec or {})}))
    write_json(folder / "result.json", row)


def markdown_cells(text):
    """Parse a table with a Markdown parser, text and whether it is bold."""
    found, bold, line = [], [], None
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "tr_open":
            line = []
        elif token.type == "tr_close":
            found.append(line)
        elif token.type == "inline" and line is not None:
            line.append("".join(child.content for child in token.children))
            if any(child.type == "strong_open" for child in token.children):
                bold.append((len(found), len(line) - 1))
        elif token.type == "table_close":
            line = None
    return found, bold


def latex_cells(text):
    """Parse a tabular: cells without their escapes, which of them are bold, and rows before the second \\midrule."""
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    found, bold, rules = [], [], []
    for line in body.splitlines():
        if line == r"\midrule":
            rules.append(len(found))
        if not line.endswith(r"\\"):
            continue
        cells = re.split(r"(?<!\\)&", line.removesuffix(r"\\"))
        bold += [(len(found), place) for place, cell in enumerate(cells) if r"\textbf{" in cell]
        plain = [re.sub(r"\\textbf\{([^}]*)\}", r"\1", cell).strip() for cell in cells]
        plain = [re.sub(r"\$\^\{(.*?)\}\$", r" (\1)", cell) for cell in plain]
        found.append([cell.replace(r"$\pm$", "±").replace("\\", "") for cell in plain])
    return found, bold, rules


ENHANCERS = {"task": "mine", "record": "enhancer_annotation", "metric": "auprc", "base_rate": 0.0123}
BEND = (
    {"test": 0.21},
    {"model": "nt_2b5_multi_species", "test": 0.76},
    {"model": "onehot", "test": 0.0},
    {"model": "kmer3", "probe": "logistic", "test": 0.3, "recipe": "best"},
    {**ENHANCERS, "test": 0.07},
    {**ENHANCERS, "model": "onehot", "test": 0.03},
    {"task": "cpg_methylation", "record": "cpg_methylation", "metric": "auroc", "test": 0.9},
)  # fmt: skip


def test_the_layout_of_bend():
    wide = pivot(table(*BEND))
    assert wide.columns.tolist() == ["gene_finding (MCC)", "mine (AUPRC)", "cpg_methylation (AUROC)"]
    assert wide.index.names == ["kind", "model", "probe", "recipe"]
    assert wide.index.tolist() == [
        ("language model", "dnabert6", "cnn", "bend"),
        ("language model", "nt_2b5_multi_species", "cnn", "bend"),
        ("baseline", "kmer3", "logistic", "best"),
        ("baseline", "onehot", "cnn", "bend"),
    ]
    assert wide["gene_finding (MCC)"].tolist() == [
        "0.210 [0.400, 0.600]",
        "0.760* [0.400, 0.600]",
        "0.300 [0.400, 0.600]",
        "0.000 [0.400, 0.600]",
    ]
    assert wide["mine (AUPRC)"].tolist() == [
        "0.070* [0.400, 0.600], base rate 0.012",
        "-",
        "-",
        "0.030 [0.400, 0.600], base rate 0.012",
    ]
    assert wide.attrs["notes"][1:] == [
        "gene_finding (MCC): 1 seed, 1 fold, 8 test samples.",
        "mine (AUPRC): 1 seed, 1 fold, 8 test samples.",
        "cpg_methylation (AUROC): 1 seed, 1 fold, 8 test samples.",
    ]


def test_every_export_has_the_same_cells():
    made = table(*BEND, {"model": "awd_lstm", "test": 0.9, "blocks_missing": 3})
    wide = pivot(made)
    wanted = [
        [*wide.index.names, *wide.columns],
        *([*key, *cells] for key, cells in zip(wide.index, wide.values, strict=True)),
    ]
    plain = [[cell.replace("*", "") for cell in line] for line in wanted]
    stars = [(i, j) for i, line in enumerate(wanted) for j, cell in enumerate(line) if "*" in cell]
    assert len(stars) == 3

    cells, bold = markdown_cells(to_markdown(made))
    assert (cells, bold) == (plain, stars)

    cells, bold, rules = latex_cells(to_latex(made))
    kinds = [line[0] for line in cells]
    assert kinds == ["kind", "language model", "", "", "baseline", ""]
    assert [line[1:] for line in cells] == [line[1:] for line in plain]
    assert (bold, rules) == (stars, [1, 4])

    read = pd.read_csv(io.StringIO(to_csv(made)), comment="#", header=None, dtype=str, keep_default_na=False)
    assert read.to_numpy().tolist() == wanted

    lines = to_text(made).splitlines()
    shown = [re.split(r"\s{2,}", line) for line in lines if not line.startswith("-")][: len(wanted)]
    assert shown[:2] == wanted[:2]
    assert [line[-4:] for line in shown] == [line[-4:] for line in wanted]
    starts = {line.index("0.210") for line in lines if "0.210" in line} | {lines[0].index("gene_finding")}
    assert len(starts) == 1


def test_the_best_is_found_after_rounding_and_is_never_partial():
    made = table(
        {"test": 0.76012},
        {"model": "b", "test": 0.75988},
        {"model": "onehot", "test": 0.1},
        {"model": "c", "test": 0.99, "blocks_missing": 2},
        {"model": "d", "test": math.nan, "low": math.nan, "high": math.nan},
    )
    wide = pivot(made)["gene_finding (MCC)"].droplevel(["kind", "probe", "recipe"])
    assert wide.to_dict() == {
        "dnabert6": "0.760* [0.400, 0.600]",
        "b": "0.760* [0.400, 0.600]",
        "c": "0.990 [0.400, 0.600] partial (a)",
        "d": "undefined",
        "onehot": "0.100 [0.400, 0.600]",
    }
    only = pivot(table({"blocks_missing": 1}, {"model": "b", "test": math.nan}))
    assert not only.map(lambda cell: "*" in cell).any(axis=None)


PARTIAL = "partial: 3 blocks of the embedding were not there, their samples were left out"
UNDEFINED = "mean over 120 of 125 targets: the metric is not defined for the others, whose test labels are all alike"


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("export", [to_text, to_csv, to_markdown, to_latex])
def test_what_a_reader_must_know_is_in_every_export(export, long):
    made = table(
        {"blocks_missing": 3, "targets": 125, "targets_defined": 120},
        {"model": "b", "targets": 125, "targets_defined": 125},
        {"model": "c", "blocks_missing": 3},
    )
    text = export(made, long=long)
    assert PARTIAL in text
    assert UNDEFINED in text
    if long and export is to_csv:
        read = pd.read_csv(io.StringIO(text), keep_default_na=False)
        assert dict(zip(read["model"], read["remarks"], strict=True)) == {
            "b": "", "c": PARTIAL, "dnabert6": f"{PARTIAL}; {UNDEFINED}",
        }  # fmt: skip
        return
    marked = {"partial$^{a,b}$", "partial$^{a}$"} if export is to_latex else {"partial (a,b)", "partial (a)"}
    order = text.index("partial$^{a" if export is to_latex else "partial (a")
    assert order < text.index(PARTIAL)
    for mark in marked:
        assert text.count(mark) == 1
    assert text.count(PARTIAL) == 1


def test_what_a_mean_is_over_is_said_where_it_is_not_as_usual():
    made = table({"n_test": 8}, {"model": "b", "n_test": 8}, {"model": "c", "n_test": 7})
    wide = pivot(made)
    assert wide["gene_finding (MCC)"].droplevel(["kind", "probe", "recipe"])["c"] == "0.500* [0.400, 0.600] (a)"
    assert wide.to_string().count("(a)") == 1
    assert wide.attrs["notes"][1:] == [
        "gene_finding (MCC): 1 seed, 1 fold, 8 test samples.",
        "(a) 1 seed, 1 fold, 7 test samples",
    ]
    many = pivot(table(*({"model": f"m{number}", "n_test": number % 30} for number in range(60)))).attrs["notes"]
    assert [note[: note.index(")")] for note in many[2:]] == [f"({a}" for a in "abcdefghijklmnopqrstuvwxyz"] + [
        "(aa", "(ab", "(ac",
    ]  # fmt: skip


def test_a_mean_over_seeds_and_folds(tmp_path):
    """Against the definition, written out: folds drawn apart, seeds averaged within a draw."""
    matrices = {(fold, seed): confusion(fold, seed) for fold in (1, 2, 3) for seed in (0, 1)}
    values = {}
    for (fold, seed), matrix in matrices.items():
        from sklearn.metrics import matthews_corrcoef

        total = matrix.sum(axis=0)
        truth, said = np.repeat([0, 0, 1, 1], total.ravel()), np.repeat([0, 1, 0, 1], total.ravel())
        values[fold, seed] = matthews_corrcoef(truth, said)
        name, split = f"f{fold}s{seed}", [f"part{fold}"]
        write(tmp_path, name, matrix=matrix, splits=split, fold=fold, seed=seed, test=values[fold, seed], n_test=20)
    (cell,) = results_table(read_results(tmp_path)).to_dict("records")
    means = [np.mean([values[fold, seed] for seed in (0, 1)]) for fold in (1, 2, 3)]
    assert cell["value"] == pytest.approx(np.mean(means))
    assert cell["std_folds"] == pytest.approx(np.std(means))
    assert (cell["seeds"], cell["folds"], cell["n_test"]) == (2, 3, 60)
    draws = [
        np.mean([bootstrap("mcc", Scores(0.5, matrices[fold, seed]), seed=fold - 1) for seed in (0, 1)], axis=0)
        for fold in (1, 2, 3)
    ]
    assert (cell["low"], cell["high"]) == pytest.approx(interval(np.mean(draws, axis=0)))
    assert cell["low"] < cell["value"] < cell["high"]
    shown = pivot(results_table(read_results(tmp_path)))
    assert shown.iloc[0, 0].startswith(f"{cell['value']:.3f}* ± {cell['std_folds']:.3f} [{cell['low']:.3f}, ")
    assert "gene_finding (MCC): 2 seeds, 3 folds, 60 test samples." in shown.attrs["notes"]
    assert "± standard deviation over folds" in shown.attrs["notes"][0]


def test_seeds_that_some_folds_lack_do_not_weigh_more(tmp_path):
    for fold, seed, test in ((1, 0, 0.2), (1, 1, 0.4), (2, 0, 0.9)):
        name = f"f{fold}s{seed}"
        write(tmp_path, name, matrix=confusion(fold), splits=[f"part{fold}"], fold=fold, seed=seed, test=test)
    (cell,) = results_table(read_results(tmp_path)).to_dict("records")
    assert cell["value"] == pytest.approx((0.3 + 0.9) / 2)
    assert (cell["seeds"], cell["folds"]) == (2, 2)


def test_a_seed_that_is_not_defined_is_not_left_out_in_silence(tmp_path):
    write(tmp_path, "a", matrix=confusion(1), test=0.5)
    write(tmp_path, "b", matrix=confusion(1), seed=1, test=math.nan)
    assert math.isnan(results_table(read_results(tmp_path))["value"].iloc[0])


def test_scores_that_are_needed_and_not_there(tmp_path):
    write(tmp_path, "a")
    write(tmp_path, "b", seed=1)
    found = read_results(tmp_path)
    with pytest.raises(InputError, match=r"scores\.npz is not there"):
        results_table(found)
    nowhere = "mean over 2 seeds and folds needs the scores in the folders .* do not name in a column path"
    with pytest.raises(InputError, match=nowhere):
        results_table(found.drop(columns="path"))
    assert len(results_table(found[:1])) == 1


def test_rows_of_a_sweep(tmp_path, caplog):
    digests = ["a" * 64, "b" * 64]
    for seed, name in enumerate(digests):
        write(tmp_path, name[:12], matrix=confusion(1, seed), seed=seed)
    swept = read_results(tmp_path).drop(columns="path").assign(spec=digests, status="done", error="")
    failed = pd.DataFrame([{"task": "gene_finding", "model": "x", "probe": "cnn", "status": "failed", "error": "no"}])
    made = results_table(pd.concat([swept, failed]), out=tmp_path)
    pd.testing.assert_frame_equal(made, results_table(read_results(tmp_path)))
    assert "1 probes that failed are left out" in caplog.text
    with pytest.raises(InputError, match="no results to make a table of"):
        results_table(failed)


def test_what_differs_is_never_averaged(tmp_path):
    write(tmp_path, "a", spec={"probe": {"hidden": 8, "epochs": 100, "seed": 0}})
    write(tmp_path, "b", spec={"probe": {"hidden": 8, "epochs": 5, "seed": 0}})
    write(tmp_path, "c", recipe="best")
    write(tmp_path, "d", probe="linear")
    write(tmp_path, "e", layer=3)
    write(tmp_path, "f", layer="mean of 3-5")
    write(tmp_path, "g", spec={"probe": {"hidden": 8, "epochs": 5, "seed": 0}}, blocks_missing=2)
    found = results_table(read_results(tmp_path))
    assert found["seeds"].tolist() == [1] * 7
    assert sorted(zip(found["layer"], found["probe"], found["recipe"], found["settings"], strict=True)) == [
        ("", "cnn", "bend", "epochs=100, missing blocks=0"),
        ("", "cnn", "bend", "epochs=5, missing blocks=0"),
        ("", "cnn", "bend", "epochs=5, missing blocks=2"),
        ("", "cnn", "best", ""),
        ("", "linear", "bend", ""),
        ("3", "cnn", "bend", ""),
        ("mean of 3-5", "cnn", "bend", ""),
    ]
    wide = pivot(found)
    assert ("language model", "dnabert6 layer mean of 3-5", "cnn", "bend") in wide.index
    assert ("language model", "dnabert6", "cnn", "bend, epochs=5, missing blocks=2") in wide.index


def test_splits_of_ones_own_and_another_checkpoint(tmp_path):
    def data(checkpoint, split):
        one = {"task": "t", "model": "m", "digest": {"label": "0"}, "embedding": {"checkpoint": checkpoint * 64}}
        return {"train": {**one, "splits": ["part1", split]}, "test": {**one, "splits": ["part4"]}}

    write(tmp_path, "a", spec={"data": data("1", "part2")})
    write(tmp_path, "b", spec={"data": data("1", "part3")})
    write(tmp_path, "c", spec={"data": data("2", "part2")})
    found = results_table(read_results(tmp_path))
    assert sorted(found["settings"]) == [
        "embedding.checkpoint=11111111, train.splits=part1+part2",
        "embedding.checkpoint=11111111, train.splits=part1+part3",
        "embedding.checkpoint=22222222, train.splits=part1+part2",
    ]


def test_results_that_contradict_each_other(tmp_path):
    write(tmp_path, "a", test=0.5)
    write(tmp_path, "b", test=0.5)
    assert results_table(read_results(tmp_path))[["value", "seeds"]].values.tolist() == [[0.5, 1]]
    write(tmp_path, "c", test=0.6)
    with pytest.raises(InputError, match=r"results for the same seed and fold.*a has 0\.5000.*c has 0\.6000\. Remove"):
        results_table(read_results(tmp_path))


def test_a_damaged_spec_is_named(tmp_path):
    write(tmp_path, "a")
    file = tmp_path / "gene_finding/dnabert6/a/spec.json"
    file.write_text("{")
    with pytest.raises(CorruptError, match=r"a/spec\.json: .*The file is damaged"):
        results_table(read_results(tmp_path))
    file.unlink()
    assert len(results_table(read_results(tmp_path))) == 1


def test_columns_that_are_missing():
    with pytest.raises(InputError, match="no results to make a table of"):
        results_table(pd.DataFrame())
    with pytest.raises(InputError, match="have no column metric, test"):
        results_table(rows({}).drop(columns=["metric", "test"]))
    with pytest.raises(
        InputError, match="1 results name no recipe, the first gene_finding/dnabert6 cnn seed 0: an older"
    ):
        table({}, {"recipe": math.nan})
    least = rows({})[["task", "model", "probe", "recipe", "seed", "metric", "test", "low", "high"]]
    made = results_table(least)
    assert made.columns.tolist() == list(COLUMNS)
    assert pivot(made).attrs["notes"][1] == "gene_finding (MCC): 1 seed, 1 fold, ? test samples."


# ---- published numbers ---------------------------------------------------------------------------


def test_published_numbers_of_bend():
    """Against Table 3 of the paper (review version), where the task is the published one."""
    real = {"published": True}
    made = table(
        {**real},
        {**real, "model": "nt_2b5_multi_species"},
        {**real, "model": "onehot"},
        {**real, "model": "onehot", "probe": "resnet"},
        {**real, "model": "dnabert6", "layer": 3},
        {**real, "model": "dnabert6", "probe": "linear"},
        {**real, "model": "my_own"},
        {"model": "awd_lstm"},
    )
    names = made["model"] + " " + made["layer"] + " " + made["probe"]
    assert dict(zip(names, made["published"].fillna(-1), strict=True)) == {
        "dnabert6  cnn": 0.21,
        "nt_2b5_multi_species  cnn": 0.76,
        "onehot  cnn": 0.00,
        "onehot  resnet": 0.53,
        "dnabert6 3 cnn": -1,
        "dnabert6  linear": -1,
        "my_own  cnn": -1,
        "awd_lstm  cnn": -1,
    }
    wide = pivot(made)
    assert wide.columns.tolist() == ["gene_finding (MCC)", "gene_finding (MCC) published"]
    beside = wide["gene_finding (MCC) published"].droplevel(["kind", "recipe"]).to_dict()
    assert beside["onehot", "cnn"] == "0.00"
    assert beside["my_own", "cnn"] == "-"
    hidden = results_table(rows(real), published=False)
    assert hidden["published"].isna().all()
    assert pivot(hidden).columns.tolist() == ["gene_finding (MCC)"]


# ---- names ---------------------------------------------------------------------------------------


def test_baselines():
    letters = ["onehot", "gc", "kmer1", "kmer6"]
    assert all(is_baseline(name, "cnn") for name in letters)
    assert not any(is_baseline(name, "cnn") for name in ("onehot2", "kmer7", "my_kmer3", "resnet_lm"))
    assert is_baseline("resnet_lm", "majority")
    made = table(*({"model": name} for name in ("kmer2", "esm2", "onehot", "gc", "dnabert10", "dnabert9")))
    assert made["model"].tolist() == ["dnabert9", "dnabert10", "esm2", "gc", "kmer2", "onehot"]


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), min_size=1))
def test_any_text_comes_through_markdown(text):
    cells, bold = markdown_cells(f"| head |\n| --- |\n| x{_markdown(text)}x |\n")
    assert cells[1] == [f"x{text}x"]
    assert bold == []


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S"))))
def test_any_text_is_escaped_for_latex(text):
    """What is left after commands are read has none of LaTeX's own characters, and names the text again."""
    escaped = _latex(text)
    commands = {r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^"}
    commands |= {f"${one}$": one for one in "<>|"} | {f"\\{one}": one for one in "&%#_{}$"}
    words = "|".join(map(re.escape, commands))
    assert re.sub(words, lambda found: commands[found[0]], escaped) == text
    assert not re.search(r"(?<!\\)[&%#_]", escaped)


def test_names_with_markup():
    made = table({"task": "my_task", "model": "a_b", "settings": "x"}, {"task": "my_task", "model": "_c_"})
    cells, _ = markdown_cells(to_markdown(made))
    assert [line[1] for line in cells] == ["model", "_c_", "a_b"]
    cells, _, _ = latex_cells(to_latex(made))
    assert [line[1] for line in cells] == ["model", "_c_", "a_b"]
    assert cells[0][4] == "my_task (MCC)"


def test_long_exports_hold_every_number():
    made = table(*BEND)
    read = pd.read_csv(io.StringIO(to_csv(made, long=True)), keep_default_na=False, na_values=[""])
    np.testing.assert_array_equal(
        read[["value", "low", "high", "base_rate"]], made[["value", "low", "high", "base_rate"]]
    )
    assert read.columns.tolist() == list(COLUMNS)
    cells, _ = markdown_cells(to_markdown(made, long=True))
    shown = pd.DataFrame(cells[1:], columns=cells[0])
    assert shown["model"].tolist() == made["model"].tolist()
    assert shown["value"].tolist() == [f"{value:.3f}" for value in made["value"]]
    assert shown["base_rate"].tolist() == ["-"] * 4 + ["0.012"] * 2 + ["-"]
    assert shown["n_test"].tolist() == ["8"] * 7
    rows_, bold, _ = latex_cells(to_latex(made, long=True))
    assert [line[1:] for line in rows_[1:]] == [line[1:] for line in cells[1:]]
    assert bold == []
    assert to_text(made, long=True).splitlines()[0].split() == cells[0]


def test_a_real_run_becomes_a_table(tmp_path):
    from probes.experiment import run_probe

    store = planted_store(hidden=4, epochs=1, batch_size=16, learning_rate=0.01)
    for seed in (0, 1):
        run_probe(store, "planted", "toy", out=tmp_path, seed=seed, draws=100, progress=False, device="cpu")
    run_probe(store, "planted", "onehot", out=tmp_path, seed=0, draws=100, progress=False, device="cpu")
    made = results_table(read_results(tmp_path))
    assert made[["model", "recipe", "settings", "seeds", "n_test"]].to_numpy().tolist() == [
        ["toy", "bend", "", 2, 8], ["onehot", "bend", "", 1, 8],
    ]  # fmt: skip
    assert (made["low"] <= made["value"]).all()
    assert (made["value"] <= made["high"]).all()
    assert tables.to_text(made).count("\n") >= 6
