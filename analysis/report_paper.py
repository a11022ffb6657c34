"""The part of a report that stands beside the paper: our results, its tables, and what contradicts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.pages import NOTHING, Section, bullets, paragraph, table
from analysis.published_proteins import (
    MODELS,
    PAPER,
    TASKS,
    caveats,
    compare_with_published,
    conflicts,
    published_comparators,
    published_counts,
    regime,
)
from analysis.report_figures import input_figures
from analysis.report_tables import beside_published, table_two, worded

if TYPE_CHECKING:
    import pandas as pd

    from analysis.report import WrittenStudy

_WIDE = 4
"""More tasks than so many, and than models, stand below each other."""


def results_section(results: pd.DataFrame) -> Section:
    """Return the table of results, as `embedstore results` has it.

    Parameters
    ----------
    results
        From `probes.results_table`.

    Returns
    -------
    analysis.pages.Section
    """
    from probes.tables import pivot

    wide = pivot(results)
    # Of a task, whichever way the table lies.
    notes = [note.replace("best of a column", "best of a task") for note in wide.attrs.get("notes", [])]
    if wide.shape[1] > max(_WIDE, len(wide)):
        # Recodings make many tasks: below each other they can be read, side by side they run off the page.
        wide = wide.rename_axis(columns="task").T
    written = table(wide.replace("-", NOTHING), "95 % intervals over test samples.")
    return Section("Results", [*input_figures(results), written, *([bullets(notes)] if notes else [])])


def study_results(study: WrittenStudy) -> pd.DataFrame:
    """Return the total R2 of a study as results that can be held against published ones.

    Parameters
    ----------
    study
        From `analysis.report.read_study_folder`.

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


def comparable(study: WrittenStudy | None, results: pd.DataFrame | None) -> pd.DataFrame:
    """Return what there is of ours of the tasks and models of the paper.

    Parameters
    ----------
    study
        From `analysis.report.read_study_folder`.
    results
        From `probes.results_table`.

    Returns
    -------
    pandas.DataFrame
        Rows of `study_results` and of the results; empty where there are none.
    """
    import pandas as pd

    parts = [] if study is None else [study_results(study)]
    if results is not None:
        parts.append(results[[regime(str(name)).task in TASKS for name in results["task"]]])
    ours = pd.concat([part for part in parts if len(part)], ignore_index=True) if any(map(len, parts)) else None
    return pd.DataFrame() if ours is None else ours[ours["model"].isin(list(MODELS))]


def paper_sections(ours: pd.DataFrame, study: WrittenStudy | None) -> list[Section]:
    """Return the paper's tables, with our numbers beside them where there are any.

    Parameters
    ----------
    ours
        From `comparable`.
    study
        What else the report is about.

    Returns
    -------
    list of analysis.pages.Section
    """
    simulated = study is not None and bool((study.record.get("source") or {}).get("world"))
    blocks = []
    if ours.empty:
        why = "the samples are simulated" if simulated else "none of its models was run on its tasks"
        blocks.append(paragraph(f"No number of ours stands beside those of {PAPER}: {why}."))
    else:
        caption = f"Ours beside {PAPER}, and whether the published number lies inside our interval."
        blocks.append(table(beside_published(compare_with_published(ours)), caption))
    about = [bullets(f"{worded(str(row.about))}: {row.caveat}" for row in caveats().itertuples())]
    return [
        Section("Beside the paper", [*blocks, *about]),
        Section(
            "The paper's tables",
            [
                table(
                    _words(published_counts(), valid="validation", length="mean nucleotides", level="label for each"),
                    f"{PAPER}, Table 1: samples, and mean nucleotides of a coding sequence.",
                ),
                table(table_two(), f"{PAPER}, Table 2.", decimals=2),
            ],
        ),
        Section(
            "Where the paper contradicts itself or its sources", [table(_words(conflicts(), said="the paper says"))]
        ),
        Section(
            "What others published",
            [
                table(
                    _words(published_comparators(), highest="highest of a range"),
                    "Other splits, heads and metrics: for orientation.",
                )
            ],
        ),
    ]


def _words(frame: pd.DataFrame, **titles: str) -> pd.DataFrame:
    """Return a table of published things with words for the names of tasks, metrics and columns."""
    frame = frame.assign(**{name: frame[name].map(worded) for name in ("task", "about") if name in frame})
    return frame.rename(columns=lambda name: titles.get(name, worded(name)))
