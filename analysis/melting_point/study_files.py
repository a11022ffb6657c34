"""A melting-point study in a folder: its tables as CSV, its figures, and what it says as JSON."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from analysis.melting_point.figures import (
    SHOWN,
    plot_partition,
    plot_strategies,
    plot_total_and_within,
    plot_window_curve,
)
from analysis.melting_point.inference import MEASURES
from analysis.melting_point.species_figures import SPECIES_FIGURES
from analysis.melting_point.study import CAPTIONS, Study
from analysis.melting_point.verdict import NOTE, RULE, Verdict
from embedstore.errors import CorruptError, InputError, NotInStoreError
from embedstore.outputs import check_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STUDY_FILE = "study.json"
"""What the verdict is, and which tables and figures there are; written last."""


def write_study(study: Study, out: str | Path, *, source: dict[str, Any] | None = None) -> Path:
    """Write a study: tables as CSV, figures as PNG with their numbers beside them, ``study.json`` last.

    Parameters
    ----------
    study
        From `analysis.melting_point.study.melting_point_study`.
    out
        Folder, made where it is not there; tables and figures of a former study are replaced or removed.
    source
        What the study was made from, to be kept beside it.

    Returns
    -------
    pathlib.Path
        The folder.
    """
    folder = Path(out)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    (folder / STUDY_FILE).unlink(missing_ok=True)
    for name, table in study.tables.items():
        table.to_csv(folder / "tables" / f"{name}.csv", index=False)
    figures = _draw(study, folder / "figures")
    # A table that only a former study had would be taken for one of this.
    for name in set(CAPTIONS) - set(study.tables):
        (folder / "tables" / f"{name}.csv").unlink(missing_ok=True)
    for name in {"window_curve", *(one.table for one in SPECIES_FIGURES)} - set(figures):
        for ending in (".png", ".csv"):
            (folder / "figures" / f"{name}{ending}").unlink(missing_ok=True)
    record = {
        "kind": "melting_point_study",
        "conclusion": study.verdict.conclusion,
        "verdict": study.verdict.text,
        "rule": RULE,
        "note": NOTE,
        "settings": study.settings,
        "source": source or {},
        "tables": {name: {"file": f"tables/{name}.csv", "caption": CAPTIONS[name]} for name in study.tables},
        "figures": {name: {"file": f"figures/{name}.png", "caption": caption} for name, caption in figures.items()},
        "missing": study.missing,
    }
    write_atomically(folder / STUDY_FILE, (json.dumps(record, indent=1) + "\n").encode())
    return folder


def check_out(out: str | Path, source: dict[str, Any]) -> None:
    """Refuse a folder that has the study of something else, which would be replaced.

    Parameters
    ----------
    out
        Where a study is to be written; it need not be there.
    source
        What it is made from, as for `write_study`.

    Raises
    ------
    InputError
        It is a file or may not be written to, or its study was made from something else.
    """
    folder = check_folder(out, option="the folder of a study (--out)")
    try:
        record = dict(json.loads((folder / STUDY_FILE).read_text(encoding="utf-8")))
        former = dict(record.get("source") or {})
    except (OSError, ValueError, TypeError):
        # What is no study, or can no longer be read, is not lost when it is replaced.
        return
    differ = [f"{name} {former.get(name)}, now {value}" for name, value in source.items() if former.get(name) != value]
    if differ:
        raise InputError(
            f"{folder} holds another study: {'; '.join(differ)}. Give another folder (--out), or move that study away."
        )


def read_written_study(folder: str | Path) -> Study:
    """Read a study that `write_study` wrote.

    Parameters
    ----------
    folder
        The folder.

    Returns
    -------
    Study

    Raises
    ------
    NotInStoreError
        There is no finished study.
    CorruptError
        A table that ``study.json`` names is gone, or the file itself is damaged.
    """
    file = Path(folder) / STUDY_FILE
    if not file.exists():
        raise NotInStoreError(
            f"{folder} holds no finished study ({STUDY_FILE}); `embedstore melting-point` writes one."
        )
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        paths = {name: Path(folder) / one["file"] for name, one in record["tables"].items()}
        tables = {name: _table(path) for name, path in paths.items()}
        verdict = Verdict(record["conclusion"], record["verdict"], tables["evidence"])
        return Study(tables, verdict, record["missing"], record["settings"])
    except (OSError, ValueError, KeyError) as error:
        raise CorruptError(
            f"{file}: the study cannot be read: {error!r}. Delete the folder and run it again."
        ) from error


def _table(path: Path) -> pd.DataFrame:
    """Read a table; a column of texts that are all empty would come back as numbers."""
    import pandas as pd

    table = pd.read_csv(path)
    texts = [name for name in ("flag", "missing", "note", "remark") if name in table]
    return table.assign(**{name: table[name].astype(object).mask(table[name].isna(), "") for name in texts})


def _draw(study: Study, folder: Path) -> dict[str, str]:
    """Draw and write all figures; return their names and captions."""
    from matplotlib import pyplot as plt

    from analysis.plots import save_figure

    tables, first = study.tables, str(study.tables["scores"]["model"].iloc[0])
    shown = tables["scores"][tables["scores"]["model"] == first].set_index("name")
    shown = shown.reindex([name for name in SHOWN if name in shown.index]).reset_index()
    wanted = {"total_and_within": _Figure(_CAPTIONS["total_and_within"], shown, plot_total_and_within)}
    for measure, where in zip(MEASURES, ("within species", "in total"), strict=True):
        bars, terms = partial(plot_strategies, measure=measure), partial(plot_partition, measure=measure)
        for name, table, draw in (("partition", "partition", terms), ("strategies", "scores", bars)):
            caption = _CAPTIONS[name].format(where=where)
            wanted[f"{name}_{measure}"] = _Figure(caption, tables[table], draw)
    if len(tables["window_curve"]):
        wanted["window_curve"] = _Figure(_CAPTIONS["window_curve"], tables["window_curve"], plot_window_curve)
    for one in SPECIES_FIGURES:
        if one.table in tables and len(tables[one.table]):
            own = tables[one.table][tables[one.table]["model"] == first].drop(columns="model").reset_index(drop=True)
            wanted[one.table] = _Figure(one.caption, own, one.draw)
    of_one = {"total_and_within", *(one.table for one in SPECIES_FIGURES)}
    train, test = (int(study.settings[name]) for name in ("train", "test"))
    # Codon usage needs no prediction, so its correlations are of all samples.
    many = {name: f"{train + test:,} samples" if name == "usage" else f"{test:,} test samples" for name in wanted}
    notes = {name: f"Model: {first}; n = {many[name]}." if name in of_one else f"n = {many[name]}." for name in wanted}
    for name, each in wanted.items():
        figure = cast("Figure", each.draw(each.table).figure)
        save_figure(figure, folder / f"{name}.png", each.table)
        plt.close(figure)
    return {name: f"{each.caption} {notes[name]}" for name, each in wanted.items()}


_CAPTIONS = {
    "total_and_within": "R2 of melting points predicted from each input. In total it rewards knowing the species; "
    "within species their mean has 0, and an input that does not know them lies below. What lies further left than the "
    "axis has its number beside it.",
    "partition": "What each part adds to R2 {where}; one whose interval holds 0 adds nothing that these samples show.",
    "strategies": "R2 {where} with true, permuted and uniform codons, species beside the embedding. Equal bars: order "
    "and usage of codons say nothing beyond amino acids and species. Dashed: protein and species, without codons.",
    "window_curve": "R2 within species lost when codons are permuted inside windows, species beside the embedding. "
    "Where their order matters, the loss rises smoothly from 0; a band that holds 0 shows no loss.",
}
"""What can be seen in the figures of all models, and in that of total R2."""


class _Figure(NamedTuple):
    """A figure that is to be drawn."""

    caption: str
    table: pd.DataFrame
    draw: Callable[[pd.DataFrame], Axes]
