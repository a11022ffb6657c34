"""The report: read back by the standard library's parser, and by the eyes of a hostile caption."""

from __future__ import annotations

import base64
import errno
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from pages_read import named, read

from analysis.melting_point.species_figures import SPECIES_FIGURES, plot_codon_bias, plot_transplant
from analysis.report import find_sources, read_study_folder, report_page, write_report
from analysis.report_figures import plot_inputs
from analysis.report_paper import study_results
from analysis.report_tables import evidence_by_model, readable
from embedstore.cli import main
from embedstore.errors import CorruptError, DiskSpaceError, InputError

PAGE = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
OURS = "Ours beside Boshar et al. 2024, and whether the published number lies inside our interval."
HOSTILE = '<script>alert("x")</script> & <b>'
NT, ESM2 = "nt_v2_500m_multi_species", "esm2_650m"


def interval(value: float, head: str = "") -> dict[str, float]:
    return {f"{head}low": value - 0.05, f"{head}high": value + 0.05}


def tables(models=(NT, "dnabert2")) -> dict[str, pd.DataFrame]:
    """Small tables with the columns that a study has."""
    made: dict[str, list[dict]] = {one.table: [] for one in SPECIES_FIGURES}
    made["scores"] = []
    for model in models:
        for name, value in {"protein": 0.7, "protein+species": 0.79, "true": 0.8, "true+gc3": 0.8, "mean": 0.0}.items():
            made["scores"].append({"model": model, "name": name, "r2": value, **interval(value), "r2_within": 0.1})
        for name in ("protein", "true"):
            own = {"model": model, "features": name}
            made["decodability"].append({**own, "accuracy": 0.5, **interval(0.5), "majority": 0.2})
            made["erased"].append(
                {
                    **own,
                    "accuracy_before": 0.9,
                    "accuracy_after": 0.2,
                    "majority": 0.2,
                    "r2_before": 0.6,
                    "r2_after": 0.3,
                }
            )
            made["controls"].append(
                {
                    **own,
                    "features": f"{name}+species",
                    "control": "labels shuffled",
                    "r2_within": 0.0,
                    **interval(0, "within_"),
                }
            )
            for species in ("yeast", "mouse", "mean of species"):
                made["by_species"].append({**own, "species": species, "spearman": 0.4, **interval(0.4)})
                made["left_out"].append({**own, "species": species, "expected": len(species), "bias": 1.0})
        for variable in ("cai", "gc3"):
            for species in ("yeast", "mean of species"):
                row = {"variable": variable, "fixed": "species, amino acids", "species": species, "r": 0.1}
                made["usage"].append({"model": model, **row, **interval(0.1)})
        for donor in ("all", "yeast"):
            made["transplant"].append({"model": model, "donor": donor, "slope": 0.8, **interval(0.8), "note": ""})
    made["partition"] = [{"model": NT, "contrast": "d_local", "measure": "within", "estimate": 0.1, **interval(0.1)}]
    made["samples"] = [{"species": "yeast", "train": 100, "test": 50}]
    made["evidence"] = [{"model": NT, "criterion": "d_local > 0", "estimate": 0.001, "holds": False}]
    return {name: pd.DataFrame(rows) for name, rows in made.items()}


def write_folder(folder, *, source=None, verdict="Species only: nothing else.", tables=tables) -> None:
    (folder / "tables").mkdir(parents=True)
    (folder / "figures").mkdir()
    frames = tables()
    for name, frame in frames.items():
        frame.to_csv(folder / "tables" / f"{name}.csv", index=False)
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    for name in ("partition_within", "mine"):
        figure.savefig(folder / "figures" / f"{name}.png", dpi=20)
    record = {
        "kind": "melting_point_study",
        "conclusion": "species only",
        "verdict": verdict,
        "rule": "d_local lower CI > 0",
        "note": "A gain from species fools nobody.",
        "settings": {
            "models": [NT],
            "protein_model": ESM2,
            "train": 1000,
            "test": 500,
            "species": 13,
            "species_share": 0.74,
        },
        "source": {"store": "s.zarr", "task": "melting_point"} if source is None else source,
        "tables": {name: {"file": f"tables/{name}.csv", "caption": f"About {name}."} for name in frames},
        "figures": {
            "mine": {"file": "figures/mine.png", "caption": "A figure of my own"},
            "partition": {"file": "figures/partition_within.png", "caption": "Terms < all"},
        },
        "missing": {"conditions": "the study has no column run or condition"},
    }
    (folder / "study.json").write_text(json.dumps(record))


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "study")
    return tmp_path / "study"


def results() -> pd.DataFrame:
    """What `probes.results_table` gives of one probe."""
    from probes.tables import COLUMNS

    row = dict.fromkeys(COLUMNS, "") | {
        "task": "stability",
        "metric": "spearman",
        "kind": "language model",
        "model": NT,
    }
    row |= {"probe": "ia3", "record": "stability", "value": 0.75, "low": 0.7, "high": 0.8, "blocks_missing": 0}
    numbers = ("std_folds", "base_rate", "published", "targets", "targets_defined")
    return pd.DataFrame([row | dict.fromkeys(numbers, np.nan) | {"seeds": 1, "folds": 1, "n_test": 100.0}])


def test_a_report_of_a_study(folder, tmp_path):
    path = write_report(tmp_path / "report.html", study=read_study_folder(folder))
    html = path.read_text(encoding="utf-8")
    found = read(html)
    texts = found.text
    sections = [
        "What each part adds",
        "Controls",
        "Other figures and tables",
        "Not in this study",
        "Beside the paper",
        "Files",
    ]
    assert all(texts.count(name) == 2 for name in sections)  # once in the contents
    # The answer and what it rests on stand above the contents.
    first = texts[: texts.index("Contents")]
    assert [name in first for name in ("Verdict: species only", "Species only: nothing else.")] == [True, True]
    assert "no: +0.001" in first
    assert "d_local lower CI > 0" in first
    assert "conditions: the study has no column run or condition" in texts
    assert any("0.740" in text for text in texts)
    assert any("1,000 training and 500 test samples of 13 species" in text for text in texts)
    pictures = named(found, "img")
    assert len(pictures) == 2
    for picture in pictures:
        assert base64.b64decode(picture["src"].partition(",")[2]).startswith(b"\x89PNG")
        assert picture["alt"]
    said = "Figure: Terms < all. Its numbers are in the file partition_within.csv of the study."
    assert pictures[0]["alt"] == said
    assert "http" not in html.replace("http-equiv", "")
    assert not [tag for tag, _ in found.elements if tag in ("script", "link", "iframe")]
    # Every contradiction of the paper, and its two tables.
    assert "R2 of Nucleotide Transformer 0.82 (Table 2)" in texts
    assert texts.count("27,217") == 1
    assert "0.68" in texts


def test_ours_beside_the_paper_only_where_the_data_is_the_same_kind(folder, tmp_path):
    study = read_study_folder(folder)
    rows = study_results(study)
    assert rows[["task", "model", "added"]].to_numpy().tolist() == [
        ["melting_point.protein", ESM2, ""],
        ["melting_point.protein", ESM2, "species"],
        ["melting_point", NT, ""],
        ["melting_point", "dnabert2", ""],
    ]
    found = read(report_page(study=study))
    assert OURS in found.text
    write_folder(tmp_path / "world", source={"world": "mixed"})
    simulated = read_study_folder(tmp_path / "world")
    assert study_results(simulated).empty
    texts = read(report_page(study=simulated)).text
    assert any(
        "No number of ours stands beside those of Boshar et al. 2024: the samples are simulated." in t for t in texts
    )
    assert any("Simulated world 'mixed'" in text for text in texts)


def test_texts_of_a_study_are_shown_and_not_obeyed(tmp_path):
    write_folder(tmp_path / "study", verdict=HOSTILE)
    study = read_study_folder(tmp_path / "study")
    frame = study.tables["evidence"].assign(criterion=HOSTILE, model=HOSTILE)
    study = study._replace(tables={**study.tables, "evidence": frame}, captions={**study.captions, "controls": HOSTILE})
    html = report_page(study=study, title=HOSTILE)
    assert "<script" not in html
    # Title twice, the verdict, a criterion, a model, a caption.
    assert read(html).text.count(HOSTILE) == 6


def test_a_report_of_results(tmp_path):
    found = read(report_page(results=results()))
    assert "Results" in found.text
    assert any("0.750 [0.700, 0.800]" in text or "0.750" in text for text in found.text)
    assert OURS in found.text
    other = results().assign(task="gene_finding", record="gene_finding", metric="mcc")
    found = read(report_page(results=other))
    assert not any("Boshar" in text for text in found.text)


def test_a_report_needs_something_and_a_name(folder, tmp_path):
    with pytest.raises(InputError, match="there is nothing to report"):
        report_page()
    (tmp_path / "report.html").mkdir()
    (tmp_path / "file").touch()
    study = read_study_folder(folder)
    for name, message in {
        "report.pdf": r"report\.pdf: the name must end in one of \.html, \.htm",
        "report.html": r"report\.html is a folder; a file is wanted",
        "missing/report.html": r"there is no folder .*missing\. Make it",
        "file/report.html": r"file is a file, and a folder is wanted there",
    }.items():
        with pytest.raises(InputError, match=rf"^the report \(--out\) .*{message}"):
            write_report(tmp_path / name, study=study)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "report.html", "study"]


def test_a_folder_without_permission(folder, tmp_path, monkeypatch):
    """Whoever runs the tests may be allowed everything."""
    monkeypatch.setattr("embedstore.outputs.os.access", lambda *_: False)
    with pytest.raises(InputError, match="you have no permission to write into"):
        write_report(tmp_path / "report.html", study=read_study_folder(folder))


def test_a_report_is_replaced_whole_or_not_at_all(folder, tmp_path, monkeypatch):
    out = tmp_path / "report.html"
    out.write_text("the former one")
    study = read_study_folder(folder)

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(DiskSpaceError, match=r"report\.html: the disk is full"):
            write_report(out, study=study)
    assert out.read_text() == "the former one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "study"]
    write_report(out, study=study)
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_damaged_studies_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="has no study.json, so it is not the folder of a finished study"):
        read_study_folder(tmp_path)
    (folder / "figures" / "mine.png").unlink()
    with pytest.raises(CorruptError, match=r"names figures that are not there: .*mine\.png"):
        read_study_folder(folder)
    (folder / "tables" / "scores.csv").unlink()
    with pytest.raises(CorruptError, match=r"study\.json: the study cannot be read .*scores\.csv"):
        read_study_folder(folder)
    (folder / "study.json").write_text("[]")
    with pytest.raises(CorruptError, match="cannot be read"):
        read_study_folder(folder)


def test_places(folder, tmp_path):
    study, none = find_sources([str(folder)])
    assert study is not None
    assert none is None
    made = tmp_path / "s.results" / "task" / "model" / "digest"
    made.mkdir(parents=True)
    (made / "result.json").write_text("{}")
    assert find_sources([str(tmp_path / "s.zarr")]) == (None, tmp_path / "s.results")
    assert find_sources([str(tmp_path / "s.results")])[1] == tmp_path / "s.results"
    with pytest.raises(InputError, match="are both studies: a report is about one"):
        find_sources([str(folder), str(folder)])
    with pytest.raises(InputError, match="both hold results"):
        find_sources([str(tmp_path / "s.zarr"), str(tmp_path / "s.results")])


def test_places_that_have_nothing(folder, tmp_path):
    """Each says what is there instead, and what to do."""
    for name in ("empty", "half/tables"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").touch()
    for place, message in {
        str(tmp_path / "empty"): "empty is no folder of a finished study .*and neither it nor .*has results",
        "s3://bucket/x.zarr": "neither it nor x.results has results",
        str(tmp_path / "other.zarr"): r"there is no '.*other\.zarr': the folder of a study .* is wanted",
        "": "there is no '': ",
        str(tmp_path / "file"): "file is a file; the folder of a study, a store or a folder of results is wanted",
        str(tmp_path / "half"): "half has a study that is not finished.* Run the same .* again",
        str(folder / "tables"): "tables is a part of the study in .*study: give that folder",
        str(folder / "study.json"): r"study\.json is a part of the study in",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            find_sources([place])
        assert "\n" not in str(caught.value)


def test_the_command(folder, tmp_path, capsys):
    out = tmp_path / "report.html"
    assert main(["report", str(folder), "--out", str(out), "--title", "Mine"]) == 0
    said = capsys.readouterr().out
    assert "Verdict: species only" in said
    assert str(out) in said
    assert "Mine" in read(out.read_text(encoding="utf-8")).text
    assert main(["report", str(tmp_path / "nothing.zarr"), "--out", str(out)]) != 0
    assert "there is no" in capsys.readouterr().err
    # The name is looked at before anything is read.
    assert main(["report", str(tmp_path / "nothing.zarr"), "--out", str(out / "x.html")]) != 0
    assert "report.html is a file, and a folder is wanted there" in capsys.readouterr().err


def test_the_page_about_reports(folder, tmp_path, monkeypatch, capsys):
    """Its commands and its code run as shown, and its table names the parts there are."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line) for kind, text in blocks if not kind for line in text.splitlines()]
    assert [command[1] for command in commands] == ["melting-point", "report", "report"]
    made = tmp_path / "protein_tasks.results" / "stability" / NT / "digest"
    made.mkdir(parents=True)
    (made / "result.json").write_text("{}")
    monkeypatch.setattr("probes.results.read_results", lambda _: pd.DataFrame())
    monkeypatch.setattr("probes.tables.results_table", lambda *_, **__: results())
    for command in commands[1:]:
        assert main(command[1:]) == 0, capsys.readouterr().err
        assert Path("report.html").stat().st_size > 10_000
    parts = set(read(Path("report.html").read_text(encoding="utf-8")).text)
    rows = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("| ")][2:]
    missing = [name for name in rows if name not in parts]
    assert missing == ["Verdict"]  # which goes on with its conclusion
    exec(next(text for kind, text in blocks if kind == "python"), {})


# ---- tables as they are read ------------------------------------------------------------------------


def test_a_table_as_it_is_read():
    table = pd.DataFrame(
        {
            "model": ["a", "a", "b", "b"],
            "contrast": ["d_comp", "d_local"] * 2,
            "measure": "within",
            "estimate": [0.1, -0.25, 0.3, 0.4],
            "low": [0.0, -0.5, np.nan, 0.3],
            "high": [0.2, 0.5, 0.4, np.nan],
            "p_holm": [0.00012, 1.0, np.nan, 0.05],
            "seeds": 5,
        }
    )
    found = readable("partition", table)
    assert list(found) == ["model", "measure", "difference", "gain of R2", "95 % interval", "p (Holm)"]
    # The models of one term stand side by side.
    assert found["model"].tolist() == ["a", "b", "a", "b"]
    assert found["difference"].tolist()[::2] == ["codon usage within species (d_comp)", "order of codons (d_local)"]
    assert found["gain of R2"].tolist() == [0.1, 0.3, -0.25, 0.4]
    less = "\N{MINUS SIGN}"
    assert found["95 % interval"].tolist() == ["[0.000, 0.200]", "", f"[{less}0.500, 0.500]", ""]
    assert found["p (Holm)"].tolist() == ["< 0.001", "\N{EN DASH}", "1.000", "0.050"]
    assert readable("mine", table) is table


def test_widths_counts_and_empty_columns_of_tables():
    curve = pd.DataFrame({"model": "m", "measure": "total", "width": [2.0, np.inf], "estimate": [0.0, 0.1], "p": 1.0})
    assert readable("window_curve", curve)["width (codons)"].tolist() == ["2", "whole sequence"]
    species = pd.DataFrame(
        {"species": ["yeast", "all"], "n": [1234.0, np.nan], "i2": np.nan, "features": "true+species"}
    )
    found = readable("by_species", species.assign(spearman=0.5))
    assert list(found) == ["input", "species", "test samples", "Spearman"]
    assert found["test samples"].tolist() == ["1,234", ""]
    assert found["input"].tolist() == ["true codons + species"] * 2


@pytest.mark.parametrize("one", SPECIES_FIGURES, ids=lambda one: one.table)
def test_every_table_of_species_has_titles_for_its_numbers(one):
    table = tables()[one.table]
    found = readable(one.table, table)
    assert len(found) == len(table)
    assert not [name for name in found if "_" in name]


def test_evidence_has_a_column_for_each_model():
    rows = [
        ("a", "d_local > 0", 0.1, 0.05, 0.2, "lower end above 0", True),
        ("a", "loss begins near 0", 0.01, -0.1, 0.1, "below 0.5 of the whole loss, 0.310", True),
        ("b", "d_local > 0", -0.1, -0.2, 0.0, "lower end above 0", False),
        ("b", "loss begins near 0", np.nan, np.nan, np.nan, "below 0.5 of the whole loss, 0.000", False),
    ]
    names = ["model", "criterion", "estimate", "low", "high", "wanted", "holds"]
    found = evidence_by_model(pd.DataFrame(rows, columns=names))
    less = "\N{MINUS SIGN}"
    assert found.to_numpy().tolist() == [
        ["order of codons (d_local) adds", "yes: +0.100 [0.050, 0.200]", f"no: {less}0.100 [{less}0.200, 0.000]",
         "lower end above 0"],
        ["loss begins near 0", f"yes: +0.010 [{less}0.100, 0.100]", "no", "below 0.5 of the whole loss"],
    ]  # fmt: skip


def test_numbers_at_the_end_of_a_verdict_stand_in_its_table(tmp_path):
    write_folder(tmp_path / "study", verdict=f"Species only: nothing. {NT}: d_local +0.001 [-0.1, +0.1].")
    first = read(report_page(study=read_study_folder(tmp_path / "study"))).text
    assert "Species only: nothing." in first


def test_what_a_report_says_of_its_study(folder):
    study = read_study_folder(folder)
    said = "1,000 training and 500 test samples of 13 species."
    for settings, end in (
        ({"train": 1000, "test": 500, "species": 13, "models": [NT], "protein_model": ESM2},
         f"{said} Coding sequences: {NT}; proteins: {ESM2}."),
        ({"train": 1000, "test": 500, "species": 13}, said),
        ({}, "Task 'melting_point' of s.zarr."),
    ):  # fmt: skip
        texts = read(report_page(study=study._replace(record={**study.record, "settings": settings}))).text
        assert [text.endswith(end) for text in texts if text.startswith("Written by embedstore")] == [True]


def test_results_of_several_inputs_are_drawn(monkeypatch):
    names = ("stability", "stability.protein", "stability.uniform.seed0", "stability.uniform.seed1")
    rows = pd.concat([results().assign(task=name) for name in names], ignore_index=True)
    found = read(report_page(results=rows))
    assert len(named(found, "img")) == 1
    assert any(
        "Spearman by what the models were given" in text and "n = 100 test samples" in text for text in found.text
    )
    # Another probe is another line, and no part of the mean.
    other = pd.concat([rows, rows.assign(probe="ridge", value=0.1)], ignore_index=True)
    drawn: list[pd.DataFrame] = []

    def kept(table, **options):
        drawn.append(table)
        return plot_inputs(table, **options)

    monkeypatch.setattr("analysis.report_figures.plot_inputs", kept)
    report_page(results=other)
    assert drawn[0].groupby("name")["value"].agg(["min", "max"]).to_dict("index") == {
        f"{NT}, ia3": {"min": 0.75, "max": 0.75},
        f"{NT}, ridge": {"min": 0.1, "max": 0.1},
    }
    # More tasks than fit side by side stand below each other.
    many = pd.concat([rows, results().assign(task="stability.uniform.seed2")], ignore_index=True)
    assert "task" in read(report_page(results=many)).text
    assert not named(read(report_page(results=results())), "img")


def test_inputs_are_drawn_with_proteins_first():
    table = pd.DataFrame({"input": ["uniform", "true", "protein"], "name": "m", "value": [0.1, 0.2, 0.3]})
    ax = plot_inputs(table.assign(low=0.0, high=0.4), Figure().subplots())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["protein", "true codons", "uniform codons"]
    points = next(line for line in ax.lines if line.get_label() == "m")
    assert points.get_xdata().tolist() == [0.3, 0.2, 0.1]


# ---- figures of species --------------------------------------------------------------------------


@pytest.mark.parametrize("one", SPECIES_FIGURES, ids=lambda one: one.table)
def test_points_are_where_the_numbers_are(one):
    column = {
        "by_species": "spearman",
        "usage": "r",
        "transplant": "slope",
        "controls": "r2_within",
        "erased": "r2_before",
    }
    column |= {"left_out": "expected", "decodability": "accuracy"}
    table = tables((NT,))[one.table]
    ax = one.draw(table, Figure().subplots())
    if one.table == "decodability":
        assert [bar.get_width() for bar in ax.patches] == table["accuracy"].tolist()
        return
    axis = 1 if one.table == "erased" else 0
    points = np.concatenate([np.asarray(line.get_data()[axis], float) for line in ax.lines])
    assert set(np.round(table[column[one.table]], 6)) <= set(np.round(points, 6))


def test_refused_slopes_say_why():
    table = tables((NT,))["transplant"].assign(slope=np.nan, low=np.nan, high=np.nan, note="no slope: too alike")
    ax = plot_transplant(table, Figure().subplots())
    assert [text.get_text() for text in ax.texts] == ["no slope: too alike"]
    with pytest.raises(InputError, match="nothing is held fixed as 'x'; there are species, amino acids"):
        plot_codon_bias(tables((NT,))["usage"], fixed="x")
