"""A report as one page of HTML: what a melting-point study found, and results beside those of the paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.pages import Section, answer, bullets, figure, folded, page, paragraph, table
from analysis.report_paper import comparable, paper_sections, results_section
from analysis.report_tables import evidence_by_model, readable
from embedstore.errors import CorruptError, InputError
from embedstore.outputs import check_file, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

ENDINGS = (".html", ".htm")
"""Of a report."""

STUDY = "study.json"
"""What makes a folder that of a study; see `analysis.melting_point.study_files`."""

_KEY = "partition_within"
"""The figure that stands beside the verdict."""


class _Part(NamedTuple):
    """Figures and tables of a study that are about one thing."""

    heading: str
    figures: tuple[str, ...]
    tables: tuple[str, ...]


_PARTS = (
    _Part("What each part adds", ("partition_total",), ("partition", "shapley", "joint", "augmentations")),
    _Part(
        "True, permuted and uniform codons",
        ("total_and_within", "strategies_within", "strategies_total", "window_curve"),
        ("scores", "window_curve", "permutations"),
    ),
    _Part("Species in the embeddings", ("decodability", "erased", "left_out"), ("decodability", "erased", "left_out")),
    _Part("Within each species", ("by_species", "usage"), ("by_species", "usage", "mesophiles")),
    _Part("Codons of another species", ("transplant",), ("transplant",)),
    _Part("Controls", ("controls",), ("controls", "conditions")),
    _Part("Samples and baselines", (), ("samples", "baselines")),
)
"""What a study has, in the order in which it is read; other figures and tables follow at the end."""

_TERMS = {
    "R2 within species": "1 - squared error / squared deviation from the mean of each species; that mean itself has 0.",
    "d_comp": "gain when permuted coding sequences are added to protein and species: codon usage within species.",
    "d_local": "gain when true coding sequences take the place of permuted ones there: the order of codons.",
    "S, window_permuted(w)": "species beside the embedding; codons permuted inside windows of w codons.",
    "lower CI": "lower end of the 95 % interval, by paired bootstrap over test samples.",
}
"""What the words of the rule mean."""


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


def check_report(out: str | Path) -> Path:
    """Return where a report is to be written, if it can be.

    Parameters
    ----------
    out
        As for `write_report`.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        As `write_report` does.
    """
    return check_file(out, option="the report (--out)", suffixes=ENDINGS)


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
        The file, ``.html`` or ``.htm``, in a folder that exists; one that is there is replaced, whole or not at all.
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
        There is neither a study nor results, the file has another ending, is a folder, or may not be written, or its
        folder is not there.
    DiskSpaceError
        The disk is full; a report that was there stays.
    """
    path = check_report(out)
    write_atomically(path, report_page(study=study, results=results, title=title).encode())
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
    sections, opening = ([], []) if study is None else (_of_study(study), _opening(study))
    compared = comparable(study, results)
    if results is not None:
        sections.append(results_section(results))
    if study is not None or not compared.empty:
        sections += paper_sections(compared, study)
    what = "Melting points: species, codon usage, or the order of codons" if study else "Results"
    return page(title or what, sections, lead=_lead(study), opening=opening)


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
    text = f"{where} {train:,} training and {test:,} test samples of {species:,} species."
    models = settings.get("models")
    if not models:
        return text
    return f"{text} Coding sequences: {', '.join(models)}; proteins: {settings.get('protein_model', 'not named')}."


# ---- the study -----------------------------------------------------------------------------------


def _opening(study: WrittenStudy) -> list[str]:
    """Return what is to be seen first: the conclusion and what it rests on."""
    record = study.record
    evidence, share = study.tables.get("evidence"), (record.get("settings") or {}).get("species_share")
    blocks = [answer(f"Verdict: {record['conclusion']}", _sentences(record))]
    if evidence is not None and len(evidence):
        caption = "What the rule wants, and whether each model shows it (R2 within species, 95 % interval)."
        blocks.append(table(evidence_by_model(evidence), caption))
    blocks += [figure(path, caption, alt=_alt(path, caption)) for path, caption in _figures(study, (_KEY,))]
    if share is not None:
        text = f"The mean of its species alone, without any sequence, predicts melting points with R2 {share:.3f}."
        blocks.append(paragraph(f"{text} Read total R2 against that number, and R2 within species first."))
    blocks.append(paragraph(record["note"]))
    rule = [paragraph(record["rule"]), bullets(f"{word}: {meaning}" for word, meaning in _TERMS.items())]
    return [*blocks, folded("The rule, fixed before any number was seen, and what its words mean", rule)]


def _sentences(record: Mapping[str, Any]) -> str:
    """Return the verdict without the numbers at its end, which the table of evidence has."""
    text, models = str(record["verdict"]), (record.get("settings") or {}).get("models") or []
    said, found, _ = text.partition(f" {models[0]}: d_local ") if models else (text, "", "")
    return said if found else text


def _of_study(study: WrittenStudy) -> list[Section]:
    """Return the parts that say what a study found."""
    drawn = {_KEY, *(name for part in _PARTS for name in part.figures)}
    known = {"evidence", *(name for part in _PARTS for name in part.tables)}
    rest = _Part(
        "Other figures and tables",
        tuple(path.stem for path in study.figures if path.stem not in drawn),
        tuple(name for name in study.tables if name not in known),
    )
    sections = []
    for part in (*_PARTS, rest):
        blocks = [figure(path, caption, alt=_alt(path, caption)) for path, caption in _figures(study, part.figures)]
        blocks += [
            table(readable(name, study.tables[name]), study.captions[name])
            for name in part.tables
            if name in study.tables and len(study.tables[name])
        ]
        sections.append(Section(part.heading, blocks))
    missing = study.record.get("missing") or {}
    lacking = [bullets(f"{name}: {why}" for name, why in missing.items())] if missing else []
    where = "Every column, unrounded, is in the folder tables of the study; the numbers of each figure are in figures."
    return [*sections, Section("Not in this study", lacking), Section("Files", [paragraph(where)])]


def _figures(study: WrittenStudy, names: tuple[str, ...]) -> list[tuple[Path, str]]:
    return [(path, caption) for name in names for path, caption in study.figures.items() if path.stem == name]


def _alt(path: Path, caption: str) -> str:
    """Return what is read aloud in place of a figure; its caption is read anyway."""
    return f"Figure: {caption.partition('.')[0]}. Its numbers are in the file {path.stem}.csv of the study."


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
            raise InputError(_why_nothing(place, folder))
        if results is not None:
            raise InputError(f"{folder} and {results} both hold results: a report is about one.")
        results = folder
    return study, results


def _why_nothing(place: str, results: Path) -> str:
    """Say why there is nothing to report in a place, and what to do."""
    path, cure = Path(place), "`embedstore melting-point --out DIR` writes one"
    above = next((parent for parent in path.parents if (parent / STUDY).is_file()), None)
    if above is not None:
        return f"{place} is a part of the study in {above}: give that folder."
    if path.is_file():
        return f"{place} is a file; the folder of a study, a store or a folder of results is wanted."
    if not place or not (path.exists() or "://" in place):
        return f"there is no {place!r}: the folder of a study ({cure}), a store or a folder of results is wanted."
    if any((path / name).exists() for name in ("tables", "figures", "world.json")):
        return (
            f"{place} has a study that is not finished: {STUDY}, which is written last, is not there. Run the same "
            "`embedstore melting-point` command again; it goes on from the store that the first run left."
        )
    return (
        f"{place} is no folder of a finished study ({STUDY}), and neither it nor {results} has results. "
        "`embedstore melting-point --out DIR` makes the one, `embedstore probe` the other."
    )
