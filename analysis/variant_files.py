"""Files that the commands of `embedstore variants` read and write, and names that are asked for, checked at once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from embedstore.errors import InputError, NotInStoreError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

_log = logging.getLogger(__name__)

VARIANT_FILES = (".vcf", ".vcf.gz", ".bcf")
"""Suffixes of scores that are written as a copy of a VCF or BCF file."""

TABLES = (".parquet", ".csv", ".tsv")
"""Suffixes of scores that are written as a table."""

_SEPARATOR = {".csv": ",", ".tsv": "\t"}
_NO_SCORES = {"record", "allele", "line", "position", "label", "start", "reference", "alternate", "offset"}
_NO_SCORES |= {"window_start", "window_end", "window_n"}


def suffix(path: Path, known: Sequence[str]) -> str:
    """Return the suffix of a file's name that is one of some known ones.

    Parameters
    ----------
    path
        The file.
    known
        Suffixes, with their dots; the longest that fits is taken.

    Returns
    -------
    str
        Empty where none fits.

    Examples
    --------
    >>> suffix(Path("a.b.vcf.gz"), VARIANT_FILES), suffix(Path("a.txt"), TABLES)
    ('.vcf.gz', '')
    """
    return max((one for one in known if path.name.endswith(one) and path.name != one), key=len, default="")


def check_source(out: Path, source: str | Path, scores: Sequence[str]) -> None:
    """Refuse a copy of a VCF or BCF file where the input is neither, or has such scores already.

    Raises
    ------
    InputError
        If the output's suffix is one of `VARIANT_FILES` and the input cannot be copied.
    """
    from embedstore.variants import writing

    if not suffix(out, VARIANT_FILES):
        return
    try:
        writing.check_source(source, scores)
    except InputError as error:
        raise InputError(
            f"--out {out} would be a copy of the input with scores added, which must be VCF or BCF without them for "
            f"that; mend it, or write a table ({', '.join(TABLES)}) instead. {error}"
        ) from error


def set_aside(table: pd.DataFrame, scores: Sequence[str], path: str | Path) -> pd.DataFrame:
    """Rename columns of a file that have the name of a score which is about to be added, and log that.

    Parameters
    ----------
    table
        From `embedstore.variants.read_variants`.
    scores
        Their names.
    path
        The file.

    Returns
    -------
    pandas.DataFrame
        The table; such columns have ``_input`` behind their names.
    """
    renamed = {name: f"{name}_input" for name in scores if name in table}
    for name, free in renamed.items():
        _log.warning("%s: the name of column %r is taken by a score; it is kept as %r.", path, name, free)
    return table.rename(columns=renamed)


def beside(path: Path, ending: str) -> Path:
    """Return the path of a file that belongs to another.

    Examples
    --------
    >>> beside(Path("out/scores.vcf.gz"), ".roc.png").as_posix()
    'out/scores.roc.png'
    """
    return path.with_name(path.name.removesuffix(suffix(path, (*TABLES, *VARIANT_FILES)) or path.suffix) + ending)


def _checked_names(asked: Iterable[str], known: Iterable[str], what: str) -> tuple[str, ...]:
    """Refuse names that are not known, or none at all."""
    asked, known = tuple(asked), list(known)
    for name in asked:
        if name not in known:
            raise InputError(f"There is no {what} {name!r}.{did_you_mean(name, known)}")
    if not asked:
        raise InputError(f"No {what} is named.{did_you_mean('', known)}")
    return tuple(dict.fromkeys(asked))


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read a table that `embedstore variants score` wrote.

    Parameters
    ----------
    path
        ``.parquet``, ``.csv`` or ``.tsv``.

    Returns
    -------
    pandas.DataFrame
        All rows and columns. Empty texts of a CSV or TSV file stay texts.

    Raises
    ------
    InputError
        If there is no such file, it is not one of these, or lacks the columns of variants.
    """
    import pandas as pd

    path = Path(path)
    ending = suffix(path, TABLES)
    if not ending:
        raise InputError(
            f"{path}: a table of scores ends in {', '.join(TABLES)}; `embedstore variants score --out` writes it."
        )
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; `embedstore variants score ... --out {path}` writes it.")
    try:
        table = pd.read_parquet(path) if ending == ".parquet" else _read_text(path, _SEPARATOR[ending])
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as a {ending[1:]} table: {error}") from error
    missing = [name for name in ("chromosome", "position", "ref", "alt", "reason") if name not in table]
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(missing)}: it is not what `embedstore variants score` wrote."
        )
    return table


def _read_text(path: Path, separator: str) -> pd.DataFrame:
    """Read text: cells of a column of texts that are empty stay empty texts, in columns of numbers they are NaN."""
    import pandas as pd

    # A chromosome called 1 is a text, and an alternate may be spelt NA.
    texts = dict.fromkeys(("chromosome", "ref", "alt", "id", "consequence", "reason", "kind", "removed", "added"), str)
    table = pd.read_csv(path, sep=separator, keep_default_na=False, dtype=texts)
    for name in table.columns:
        if name not in texts and not pd.api.types.is_numeric_dtype(table[name]):
            table[name] = _numbers(table[name])
    return table


def _numbers(column: pd.Series[str]) -> pd.Series[str] | pd.Series[float]:
    """Turn texts that are all numbers or empty into numbers."""
    import pandas as pd

    full = column != ""
    found = pd.to_numeric(column.where(full), errors="coerce")
    return found if full.any() and found[full].notna().all() else column


def score_columns(table: pd.DataFrame, asked: Sequence[str], path: str | Path) -> tuple[str, ...]:
    """Return the columns of a table that are to be evaluated.

    Parameters
    ----------
    table
        From `read_scores`.
    asked
        Names of columns of numbers; none for all that are scores of `analysis.variants.SCORES`.
    path
        Of the table, for messages.

    Raises
    ------
    InputError
        If a name is not a column of numbers, or there are no scores.
    """
    import pandas as pd

    from analysis.variants import SCORES

    numbers = [str(name) for name in table if pd.api.types.is_numeric_dtype(table[name]) and name not in _NO_SCORES]
    if asked:
        return _checked_names(asked, numbers, f"column of numbers in {path} called")
    found = tuple(name for name in SCORES if name in table)
    if not found:
        raise InputError(f"{path} has no scores; name columns of numbers with --scores.{did_you_mean('', numbers)}")
    return found


def task_name(given: str | None, file: str | Path, store: str) -> str:
    """Return the name of the task that holds the windows of a file of variants.

    Parameters
    ----------
    given
        The name asked for; by default that of the file without its endings.
    file
        The file.
    store
        Path of the store.

    Raises
    ------
    InputError
        If the name cannot be one, or the store has a task of this name that is not one of variants.
    """
    from embedstore.layout import check_name
    from embedstore.store import open_store

    task = given or _without_endings(Path(file).name)
    try:
        check_name(task, "task")
    except InputError as error:
        raise InputError(f"{error} Name it with --task.") from None
    try:
        opened = open_store(store)
    except NotInStoreError:
        return task
    if task in opened.tasks() and "variants" not in opened.task_digests(task):
        raise InputError(
            f"{store} has a task {task!r} that is not one of variants; give these another name with --task."
        )
    return task


def _without_endings(name: str) -> str:
    """Return the name of a file without what says its format."""
    for ending in (".gz", ".bgz", ".vcf", ".bcf", ".bed", ".tsv", ".txt"):
        name = name.removesuffix(ending)
    return name


def groups_column(table: pd.DataFrame, asked: str | None, path: str | Path) -> str | None:
    """Return the column of the groups: the one asked for, else ``consequence`` where it says something, else None.

    Raises
    ------
    InputError
        If there is no such column; the closest name is given.
    """
    if asked is None:
        return "consequence" if "consequence" in table and (table["consequence"] != "").any() else None
    if asked not in table:
        raise InputError(f"{path} has no column {asked!r}.{did_you_mean(asked, map(str, table.columns))}")
    return asked
