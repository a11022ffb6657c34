"""A report as one page of HTML: what a melting-point study found, and results beside those of the paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.pages import Section, bullets, figure, page, paragraph, table
from analysis.published_proteins import (
    MODELS,
    PAPER,
    TASKS,
    caveats,
    compare_with_published,
    conflicts,
    published_comparators,
    published_counts,
    published_table,
    regime,
)
from embedstore.errors import CorruptError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

STUDY = "study.json"
"""What makes a folder that of a study; see `analysis.melting_point.study_files`."""

_FIRST = ("evidence", "samples", "baselines")
"""Tables that stand before the others."""


class WrittenStudy(NamedTuple):
    """A study as its folder has it.

    Attributes
    ----------
    folder
        Where it is.
    record
        What ``study.json`` says: conclusion, verdict, rule, note, settings, source, missing.
    tables
        Name -> table.
    captions
        Name of a table -> what it is.
    figures
        File of a figure -> what can be seen.
    """

    folder: Path
    record: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    captions: dict[str, str]
    figures: dict[Path, str]


def read_study_folder(folder: str | Path) -> WrittenStudy:
    """Read the folder of a study.

    Parameters
    ----------
    folder
        As `embedstore melting-point --out` writes it.

    Returns
    -------
    WrittenStudy

    Raises
    ------
    InputError
        There is no study in it.
    CorruptError
        A file that ``study.json`` names is gone, or one cannot be read.
    """
    import pandas as pd

    place = Path(folder)
    file = place / STUDY
    if not file.is_file():
        raise InputError(f"{place} has no {STUDY}, so it is not the folder of a finished study.")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        files = {kind: {name: place / one["file"] for name, one in record[kind].items()} for kind in _KINDS}
        captions = {kind: {name: str(one["caption"]) for name, one in record[kind].items()} for kind in _KINDS}
        texts = {name: str(record[name]) for name in ("conclusion", "verdict", "rule", "note")}
        tables = {name: pd.read_csv(path) for name, path in files["tables"].items() if path.stat().st_size > 1}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(
            f"{file}: the study cannot be read ({type(error).__name__}: {error}). Run it again."
        ) from error
    gone = [str(path) for path in files["figures"].values() if not path.is_file()]
    if gone:
        raise CorruptError(f"{file} names figures that are not there: {', '.join(gone)}. Run the study again.")
    figures = {path: captions["figures"][name] for name, path in files["figures"].items()}
    return WrittenStudy(place, {**record, **texts}, tables, captions["tables"], figures)


_KINDS = ("tables", "figures")


def write_report(
    out: str | Path,
    *,
    study: WrittenStudy | None = None,
    results: pd.DataFrame | None = None,
    title: str = "",
) -> Path:
    """Write a report that stands alone: one file, opened by any browser, without network and without scripts.

    Parameters
    ----------
    out
        The file, ``.html``.
    study
        From `read_study_folder`.
    results
        From `probes.results_table`.
    title
        Of the page; default, what it is about.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        There is neither a study nor results, the file has another ending, or it is a folder.
    """
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{path}: a report is a page of HTML; name it {path.with_suffix('.html').name}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; a report is a file.")
    from probes.results import write_atomically

    text = report_page(study=study, results=results, title=title)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())
    return path


def report_page(*, study: WrittenStudy | None = None, results: pd.DataFrame | None = None, title: str = "") -> str:
    """Return a report as text; see `write_report`.

    Parameters
    ----------
    study, results, title
        As for `write_report`.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    InputError
        There is neither a study nor results.
    """
    if study is None and results is None:
        raise InputError("there is nothing to report: give a study, results, or both.")
    sections = [] if study is None else _of_study(study)
    compared = _comparable(study, results)
    if results is not None:
        sections.append(_of_results(results))
    if study is not None or not compared.empty:
        sections += _of_paper(compared, study)
    what = "Melting points: species, codon usage, or the order of codons" if study else "Results"
    return page(title or what, sections, lead=_lead(study))


def _lead(study: WrittenStudy | None) -> str:
    import embedstore

    made = f"Written by embedstore {embedstore.__version__}."
    return f"{made} {_source(study.record)}" if study else made


def _source(record: Mapping[str, Any]) -> str:
    """Say what a study was made from."""
    source, settings = record.get("source") or {}, record.get("settings") or {}
    if source.get("world"):
        where = f"Simulated world {source['world']!r}: the causes of the melting points are planted."
    else:
        where = f"Task {source.get('task', 'melting_point')!r} of {source.get('store', 'a study in memory')}."
    many = ("train", "test", "species")
    if not all(name in settings for name in many):
        return where
    train, test, species = (int(settings[name]) for name in many)
    return f"{where} {train:,} training and {test:,} test samples of {species:,} species."


# ---- the study -----------------------------------------------------------------------------------


def _of_study(study: WrittenStudy) -> list[Section]:
    """Return the parts that say what a study found."""
    record = study.record
    verdict = [
        paragraph(record["verdict"], style="said"),
        paragraph(record["note"]),
        paragraph(f"The rule, fixed before any number was seen: {record['rule']}", style="soft"),
    ]
    share = (record.get("settings") or {}).get("species_share")
    if share is not None:
        text = f"The mean of its species alone, without any sequence, predicts melting points with R2 {share:.3f}."
        verdict.append(paragraph(f"{text} Read total R2 against that number, and R2 within species first."))
    verdict += _tables(study, ["evidence"])
    drawn = [figure(path, caption) for path, caption in study.figures.items()]
    others = [name for name in study.tables if name not in _FIRST]
    missing = record.get("missing") or {}
    return [
        Section(f"Verdict: {record['conclusion']}", verdict),
        Section("Figures", drawn),
        Section("Samples and baselines", _tables(study, _FIRST[1:])),
        Section("Tables", _tables(study, others)),
        Section("Not in this study", [bullets(f"{name}: {why}" for name, why in missing.items())] if missing else []),
    ]


def _tables(study: WrittenStudy, names: list[str] | tuple[str, ...]) -> list[str]:
    return [
        table(study.tables[name], study.captions[name])
        for name in names
        if name in study.tables and len(study.tables[name])
    ]


# ---- results and the paper -----------------------------------------------------------------------


def _of_results(results: pd.DataFrame) -> Section:
    """Return the table of results, as `embedstore results` has it."""
    from probes.tables import pivot

    wide = pivot(results)
    return Section("Results", [table(wide, "95 % intervals over test samples."), bullets(wide.attrs.get("notes", []))])


def study_results(study: WrittenStudy) -> pd.DataFrame:
    """Return the total R2 of a study as results that can be held against published ones.

    Parameters
    ----------
    study
        From `read_study_folder`.

    Returns
    -------
    pandas.DataFrame
        task, model, metric, value, low, high, probe (``"ridge"``), added; without rows where the data was simulated,
        which no published number is about.
    """
    import pandas as pd

    columns = ["task", "model", "metric", "value", "low", "high", "probe", "added"]
    settings, source = study.record.get("settings") or {}, study.record.get("source") or {}
    if source.get("world") or "scores" not in study.tables:
        return pd.DataFrame(columns=columns)
    rows = []
    for row in study.tables["scores"].to_dict("records"):
        name, _, added = str(row["name"]).partition("+")
        if name not in ("protein", "true", "permuted", "uniform") or added not in ("", "species", "gc"):
            continue
        task = {"true": "melting_point"}.get(name, f"melting_point.{name}")
        model = settings.get("protein_model", "") if name == "protein" else row["model"]
        rows.append((task, model, "r2", row["r2"], row["low"], row["high"], "ridge", added))
    # Every model of coding sequences stands beside the same proteins.
    return pd.DataFrame(rows, columns=columns).drop_duplicates(["task", "model", "added"])


def _comparable(study: WrittenStudy | None, results: pd.DataFrame | None) -> pd.DataFrame:
    """Return what there is of ours of the tasks and models of the paper."""
    import pandas as pd

    parts = [] if study is None else [study_results(study)]
    if results is not None:
        parts.append(results[[regime(str(name)).task in TASKS for name in results["task"]]])
    ours = pd.concat([part for part in parts if len(part)], ignore_index=True) if any(map(len, parts)) else None
    return pd.DataFrame() if ours is None else ours[ours["model"].isin(list(MODELS))]


def _of_paper(ours: pd.DataFrame, study: WrittenStudy | None) -> list[Section]:
    """Return the paper's tables, with our numbers beside them where there are any."""
    simulated = study is not None and bool((study.record.get("source") or {}).get("world"))
    blocks = []
    if ours.empty:
        why = "the samples are simulated" if simulated else "none of its models was run on its tasks"
        blocks.append(paragraph(f"No number of ours stands beside those of {PAPER}: {why}."))
    else:
        found = compare_with_published(ours)
        kept = found[found["value"].notna()]
        known = [name for name in kept if not (kept[name].isna() | (kept[name].astype(str) == "")).all()]
        blocks.append(table(kept[known], f"Ours beside {PAPER}: published is theirs, value ours."))
    about = [bullets(f"{row.about}: {row.caveat}" for row in caveats().itertuples())]
    return [
        Section("Beside the paper", [*blocks, *about]),
        Section(
            "The paper's tables",
            [
                table(published_counts(), f"{PAPER}, Table 1: samples, and mean nucleotides of a coding sequence."),
                table(published_table(), f"{PAPER}, Table 2.", decimals=2),
            ],
        ),
        Section("Where the paper contradicts itself or its sources", [table(conflicts())]),
        Section(
            "What others published",
            [table(published_comparators(), "Other splits, heads and metrics: for orientation.")],
        ),
    ]


def find_sources(places: list[str]) -> tuple[WrittenStudy | None, Path | None]:
    """Tell which of some places is a study, and which holds results.

    Parameters
    ----------
    places
        The folder of a study, a folder of results, or a store, whose results are beside it; one of each kind at most.

    Returns
    -------
    study : WrittenStudy or None
    results : pathlib.Path or None
        Folder of results.

    Raises
    ------
    InputError
        A place is none of these, or there are two of a kind.
    """
    from probes.results import RESULT, results_folder

    study: WrittenStudy | None = None
    results: Path | None = None
    for place in places:
        path = Path(place)
        if (path / STUDY).is_file():
            if study is not None:
                raise InputError(f"{place} and {study.folder} are both studies: a report is about one.")
            study = read_study_folder(path)
            continue
        folder = path if any(path.glob(f"*/*/*/{RESULT}")) else results_folder(place)
        if not any(folder.glob(f"*/*/*/{RESULT}")):
            raise InputError(
                f"{place} is no folder of a finished study ({STUDY}), and neither it nor {folder} has results. "
                "`embedstore melting-point --out DIR` makes the one, `embedstore probe` the other."
            )
        if results is not None:
            raise InputError(f"{folder} and {results} both hold results: a report is about one.")
        results = folder
    return study, results
