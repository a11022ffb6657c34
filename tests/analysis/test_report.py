"""The report: read back by the standard library's parser, and by the eyes of a hostile caption."""

from __future__ import annotations

import base64
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
from analysis.report import find_sources, read_study_folder, report_page, study_results, write_report
from embedstore.cli import main
from embedstore.errors import CorruptError, InputError

PAGE = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
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
    figure.savefig(folder / "figures" / "partition.png", dpi=20)
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
        "figures": {"partition": {"file": "figures/partition.png", "caption": "Terms < all"}},
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
    path = write_report(tmp_path / "new" / "report.html", study=read_study_folder(folder))
    html = path.read_text(encoding="utf-8")
    found = read(html)
    texts = found.text
    sections = ["Verdict: species only", "Figures", "Tables", "Not in this study", "Beside the paper"]
    assert all(texts.count(name) == 2 for name in sections)  # once in the contents
    assert "Species only: nothing else." in texts
    assert "conditions: the study has no column run or condition" in texts
    assert any("0.740" in text for text in texts)
    assert any("1,000 training and 500 test samples of 13 species" in text for text in texts)
    pictures = named(found, "img")
    assert len(pictures) == 1
    for picture in pictures:
        assert base64.b64decode(picture["src"].partition(",")[2]).startswith(b"\x89PNG")
        assert picture["alt"]
    assert pictures[0]["alt"] == "Terms < all"
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
    assert "Ours beside Boshar et al. 2024: published is theirs, value ours." in found.text
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
    frame = study.tables["evidence"].assign(criterion=HOSTILE)
    study = study._replace(tables={**study.tables, "evidence": frame}, captions={**study.captions, "evidence": HOSTILE})
    html = report_page(study=study, title=HOSTILE)
    assert "<script" not in html
    assert read(html).text.count(HOSTILE) == 5


def test_a_report_of_results(tmp_path):
    found = read(report_page(results=results()))
    assert "Results" in found.text
    assert any("0.750 [0.700, 0.800]" in text or "0.750" in text for text in found.text)
    assert "Ours beside Boshar et al. 2024: published is theirs, value ours." in found.text
    other = results().assign(task="gene_finding", record="gene_finding", metric="mcc")
    found = read(report_page(results=other))
    assert not any("Boshar" in text for text in found.text)


def test_a_report_needs_something_and_a_name(folder, tmp_path):
    with pytest.raises(InputError, match="there is nothing to report"):
        report_page()
    with pytest.raises(InputError, match=r"a report is a page of HTML; name it report\.html"):
        write_report(tmp_path / "report.pdf", study=read_study_folder(folder))
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match=r"report\.html is a folder; a report is a file"):
        write_report(tmp_path / "report.html", study=read_study_folder(folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "study"]


def test_damaged_studies_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="has no study.json, so it is not the folder of a finished study"):
        read_study_folder(tmp_path)
    (folder / "figures" / "partition.png").unlink()
    with pytest.raises(CorruptError, match=r"names figures that are not there: .*partition\.png"):
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
    with pytest.raises(InputError, match="no folder of a finished study .*and neither it nor .*has results"):
        find_sources([str(tmp_path / "other.zarr")])


def test_the_command(folder, tmp_path, capsys):
    out = tmp_path / "report.html"
    assert main(["report", str(folder), "--out", str(out), "--title", "Mine"]) == 0
    said = capsys.readouterr().out
    assert "Verdict: species only" in said
    assert str(out) in said
    assert "Mine" in read(out.read_text(encoding="utf-8")).text
    assert main(["report", str(tmp_path / "nothing.zarr"), "--out", str(out)]) != 0
    assert "no folder of a finished study" in capsys.readouterr().err


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
    assert missing == ["Verdict", "Samples and baselines"]  # the first goes on with its conclusion
    exec(next(text for kind, text in blocks if kind == "python"), {})


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
    assert [text.get_text() for text in ax.texts] == ["no slope:\ntoo alike"]
    with pytest.raises(InputError, match="nothing is held fixed as 'x'; there are species, amino acids"):
        plot_codon_bias(tables((NT,))["usage"], fixed="x")
