"""Sweeps written down in a TOML file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.errors import InputError, did_you_mean
from probes.combine import Asked, LeftOut, combine

if TYPE_CHECKING:
    from probes.specs import Spec

_RUN = re.compile(r"\s*\[\[\s*run\s*\]\]")
_TOP = ("store", "out", "run")
_LISTS = {"tasks": str, "models": str, "probes": str, "recipes": str, "folds": int, "tests": str, "seeds": int}
_KINDS = {str: "texts", int: "integers"}


class Sweep(NamedTuple):
    """What a file asks for.

    Attributes
    ----------
    store
        Path or address of the store.
    out
        Folder for results.
    specs
        The probes, each once.
    left_out
        What was asked for and cannot be.
    """

    store: str
    out: Path
    specs: list[Spec]
    left_out: list[LeftOut]


def read_sweep(path: str | Path) -> Sweep:
    """Read what to run from a TOML file, and check it against the store.

    ``store`` and, if wanted, ``out`` stand at the top; each ``[[run]]`` has ``tasks`` and, if wanted, the other

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Sweep

    Raises
    ------
    InputError
        The file cannot be read or asks for something that does not exist; the message begins with file and line.
    NotInStoreError
        The store has no such task or model.
    IncompleteError
        An embedding has blocks that are not embedded yet.
    """
    from probes.results import results_folder

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not TOML: {error}.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from error

    def where(number: int, field: str, value: object) -> str:
        return f"{path}:{_line(text, number, field, value)}: "

    for key in content:
        if key not in _TOP:
            raise InputError(f"{where(-1, key, None)}unknown key {key!r}.{did_you_mean(key, _TOP)}")
    for key in ("store", "out"):
        if not isinstance(content.get(key, ""), str):
            raise InputError(f"{where(-1, key, None)}{key} is {content[key]!r}: a path or an address is wanted.")
    runs = content.get("run", [])
    if "store" not in content or not isinstance(runs, list) or not runs:
        raise InputError(f'{path}: a sweep needs store = "..." and one or more tables [[run]].')
    asked = [_asked(number, run, where) for number, run in enumerate(runs)]
    store = _beside(path, content["store"])
    out = Path(_beside(path, content["out"])) if "out" in content else results_folder(store)
    return Sweep(store, out, *combine(store, asked, where))


def _asked(number: int, run: dict[str, Any], where: Any) -> Asked:
    """Check the types of what stands in a [[run]]."""
    if not isinstance(run, dict):
        raise InputError(f"{where(-1, 'run', None)}run is {run!r}: tables [[run]] are wanted.")
    if "tasks" not in run:
        raise InputError(f"{where(number, '', None)}this [[run]] names no tasks.")
    fields: dict[str, Any] = {}
    for key, value in run.items():
        place = where(number, key, None)
        if key not in Asked._fields:
            raise InputError(f"{place}unknown key {key!r}.{did_you_mean(key, Asked._fields)}")
        if key in _LISTS:
            kind = _LISTS[key]
            several = [value] if type(value) is kind else value
            if not isinstance(several, list) or any(type(one) is not kind for one in several):
                raise InputError(f"{place}{key} is {value!r}: a list of {_KINDS[kind]} is wanted.")
            fields[key] = several
        elif type(value) is not type(Asked._field_defaults[key]):
            wanted = "a table [run.settings]" if key == "settings" else "true or false"
            raise InputError(f"{place}{key} is {value!r}: {wanted} is wanted.")
        else:
            fields[key] = value
    return Asked(**fields)


def _beside(path: Path, name: str) -> str:
    """Return a path relative to the file that names it; an address as it is."""
    return name if "://" in name else str(path.absolute().parent / Path(name).expanduser())


def _line(text: str, number: int, field: str, value: object) -> int:
    """Find the line of a field, or of a value in it; the parser keeps no lines.

    The `number`-th [[run]] is searched, or for -1 what stands before the first; where the field is not written, its
    first line is returned.
    """
    lines = [line.split("#")[0] for line in text.splitlines()]
    starts = [0, *(place for place, line in enumerate(lines) if _RUN.match(line)), len(lines)]
    if len(starts) <= number + 2:  # an array of inline tables, or none
        starts = [0] * (number + 2) + [len(lines)]
    first, last = starts[number + 1], starts[number + 2]

    def find(pattern: str, begin: int) -> int | None:
        return next((place for place in range(begin, last) if re.search(pattern, lines[place])), None)

    # Settings stand in a table of their own: there the value is the name of one.
    table = r"|^\s*\[\s*run\s*\.\s*settings\s*\]" if field == "settings" else ""
    key = find(rf"(?:^|[\s{{,.])[\"']?{re.escape(field)}[\"']?\s*(?:=|\.){table}", first) if field else None
    if key is None:
        return first + 1
    place = None if value is None else find(rf"(?<![\w.-]){re.escape(str(value))}(?![\w-])", key)
    return (key if place is None else place) + 1
