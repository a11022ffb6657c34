"""What is known of a model before its checkpoint is read: published models, a user's own, installed functions."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

from embedstore.errors import InputError, did_you_mean

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
"""Form of a repository's name on the Hugging Face hub."""

COMMIT = re.compile(r"[0-9a-f]{40}")
"""Form of a commit: branches and tags can move, so nothing else is a revision."""

_CHOICES = {
    "alphabet": ("dna", "protein"),
    "drop": ("none", "first", "last", "first and last"),
    "rules": ("", "authors", "bend", "kernels"),
}
GROUP = "embedstore.models"
"""The entry-point group of encoders."""

_NO_CHECKPOINT = ("onehot", "function")


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """What is known of a model before its checkpoint is read.

    Parameters
    ----------
    id
        Name under which embeddings are stored.
    title
        Name in words.
    architecture
        Name in `embedstore.models.architectures`; ``"onehot"``, which is computed by the store; or ``"function"``, an
        installed encoder (`installed`).
    hub
        Repository on the Hugging Face hub, ``"organisation/name"``; empty when there is none.
    revision
        Commit of the hub repository, 40 hexadecimal digits; empty when the user must give one.
    checkpoint
        Absolute path of a local checkpoint folder, in a user's own record; empty in the others.
    tokenizer
        What a row stands for, in words.
    alphabet
        What its letters are: ``"dna"`` (default) or ``"protein"``.
    stride
        Letters per row; 0 (default) where it varies or is not known.
    mean_stride
        Letters per row on average, about, where they vary; 0 (default) where that is not known.
    context
        Longest input in letters, of A, C, G, T where these make longer words than others; about, where the limit is a
        number of tokens that vary in length; 0 (default) means no limit, or not known.
    width, layers
        Channels of a row and number of blocks; 0 (default) means that the checkpoint decides.
    parameters
        Their number as published, such as ``"498M"``; empty where not known.
    drop
        Which rows of an input stand for special tokens and are not stored: ``"first"``, ``"last"``,
        ``"first and last"`` or ``"none"`` (default).
    rules
        How `load` runs it where nobody says otherwise; empty (default) for what its authors publish.
    licence
        Terms of the weights; empty where their repository states none.
    paper
        Where the model was published.
    note
        What to know before using it, in one line.
    """

    id: str
    title: str = ""
    architecture: str
    hub: str = ""
    revision: str = ""
    checkpoint: str = ""
    tokenizer: str = ""
    alphabet: str = "dna"
    stride: int = 0
    mean_stride: float = 0.0
    context: int = 0
    width: int = 0
    layers: int = 0
    parameters: str = ""
    drop: str = "none"
    rules: str = ""
    licence: str = ""
    paper: str = ""
    note: str = ""

    @property
    def bytes_per_megabase(self) -> int:
        """Bytes of the float16 rows of a million letters; about, where rows vary; 0 where none are stored or known."""
        letters = 0 if self.architecture == "onehot" else self.stride or self.mean_stride
        return round(1e6 / letters * self.width * 2) if letters else 0

    def to_dict(self) -> dict[str, str | int | float]:
        """Return the fields as a dict that JSON can hold."""
        return asdict(self)


@cache
def _catalogue() -> dict[str, Any]:
    """Return what ``models.toml`` says."""
    return tomllib.loads(files("embedstore.models").joinpath("models.toml").read_text(encoding="utf-8"))


@cache
def records() -> dict[str, ModelRecord]:
    """Return the records of all published models known by name.

    Returns
    -------
    dict of str to ModelRecord
        Keyed by id, in the order of ``models.toml``.

    Examples
    --------
    >>> records()["nt_v2_50m_multi_species"].width
    512
    """
    found = {}
    for family in _catalogue()["family"].values():
        shared = _catalogue()["architecture"][family["architecture"]] | family
        models = shared.pop("models")
        for name, own in models.items():
            title = f"{shared['title']} {own['title']}"
            found[name] = ModelRecord(id=name, **shared | own | {"title": title})
    return found


def installed() -> dict[str, EntryPoint]:
    """Return the encoders of all installed distributions.

    Returns
    -------
    dict of str to EntryPoint
        Keyed by name, sorted. Nothing is imported.

    Raises
    ------
    InputError
        If two distributions offer one name, or one offers that of a published model.
    """
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name in found or point.name in records():
            other = origin(found[point.name]) if point.name in found else "a published model"
            raise InputError(
                f"{encoder_name(point.name, origin(point))}, has the name of {other}; uninstall one of them, or "
                f"rename it in the entry-point group {GROUP!r} of its distribution."
            )
        found[point.name] = point
    return found


def origin(point: EntryPoint) -> str:
    """Return where an encoder comes from: what a fingerprint must hold.

    Parameters
    ----------
    point
        From `installed`.

    Returns
    -------
    str
        Module and function, and the name and version of the distribution.
    """
    return f"{point.value} of {point.dist.name} {point.dist.version}" if point.dist else point.value


def function_record(point: EntryPoint) -> ModelRecord:
    """Return the record of an installed encoder.

    Parameters
    ----------
    point
        From `installed`.

    Returns
    -------
    ModelRecord
        Nothing is imported, so what only a run can tell (width, stride) is not known.

    Examples
    --------
    >>> function_record(EntryPoint("mine", "my_package:encode", GROUP)).title
    'my_package:encode'
    """
    return ModelRecord(id=point.name, title=origin(point), architecture="function")


def encoder_name(name: str, version: str) -> str:
    """Return how messages name an encoder.

    Parameters
    ----------
    name
        Its name in the entry-point group.
    version
        Where it comes from, as `origin` says.

    Returns
    -------
    str
    """
    return f"The encoder {name!r}, {version}"


def record(name: str | os.PathLike[str]) -> ModelRecord:
    """Return the record of one model.

    Parameters
    ----------
    name
        The id of a published model, the name of an installed encoder, or the path of a ``.toml`` file: a record of your
        own. Such a file holds one table, named like the model, with `architecture` and either `checkpoint`, a folder
        (relative to the file), or `hub` and `revision`; the other fields are those of `ModelRecord`, and have defaults.

    Returns
    -------
    ModelRecord

    Raises
    ------
    InputError
        If there is none of that name, and the message names the closest one; or if the file is not such a record.

    Examples
    --------
    >>> record("resnet_lm").architecture
    'convnet'
    """
    text = os.fspath(name)
    if text.endswith(".toml"):
        return _read(Path(text))
    if text in records():
        return records()[text]
    functions = installed()
    if text in functions:
        return function_record(functions[text])
    raise InputError(
        f"No model is called {text!r}.{did_you_mean(text, [*records(), *functions])} A .toml file is read as a record."
    )


def summary(model: ModelRecord) -> dict[str, str]:
    """Return what a table of models shows of one.

    Parameters
    ----------
    model
        Its record.

    Returns
    -------
    dict of str to str
        Text by column; ``"-"`` where a field is empty, ``"~"`` before what is approximate.

    Examples
    --------
    >>> summary(record("dnabert2"))["stride"], summary(record("dnabert2"))["per Mb"]
    ('~5', '~293.0 MiB')
    """
    from embedstore.describe import human_bytes

    about = "" if model.stride else "~"
    columns = {
        "id": model.id,
        "architecture": model.architecture,
        "stride": f"{about}{model.stride or model.mean_stride:g}",
        "context": f"{model.context:,}",
        "width": f"{model.width:,}",
        "layers": str(model.layers),
        "params": model.parameters,
        "per Mb": about + human_bytes(model.bytes_per_megabase),
        "licence": model.licence,
    }
    return {name: "-" if text in ("", "0", "~0", "0 B", "~0 B") else text for name, text in columns.items()}


def _read(path: Path) -> ModelRecord:
    """Read a user's own record."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: is not TOML: {error}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}.") from error
    try:
        name, given = _only_table(tables)
        return _own_record(name, given, path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _only_table(tables: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the one table of a record file and its name."""
    from embedstore.layout import check_name

    loose = [name for name, table in tables.items() if not isinstance(table, dict)]
    if loose or len(tables) != 1:
        found = f"{', '.join(loose)} outside of a table" if loose else f"{len(tables)} tables"
        raise InputError(f"found {found}; wanted one table, named like the model: [my_model], and its fields below.")
    ((name, given),) = tables.items()
    check_name(name, "model")
    return name, given


def _own_record(name: str, given: dict[str, Any], path: Path) -> ModelRecord:
    """Make a record of the fields that a user gave, on top of what its architecture says."""
    for field, value in given.items():
        _check_field(field, value)
    known = [architecture for architecture in _catalogue()["architecture"] if architecture not in _NO_CHECKPOINT]
    architecture = given.get("architecture")
    if architecture not in known:
        seen = "architecture is missing" if architecture is None else f"architecture is {architecture!r}"
        hint = did_you_mean(architecture, known) if architecture else ""
        raise InputError(f"{seen}; wanted one of {', '.join(known)}.{hint}")
    if ("checkpoint" in given) == ("hub" in given):
        seen = "both" if "hub" in given else "neither"
        raise InputError(
            f"found {seen} of checkpoint and hub; wanted one of them: checkpoint = a folder, or hub = "
            "'organisation/name' with revision."
        )
    own = dict(given)
    if "parameters" in given:
        own["parameters"] = str(given["parameters"])
    if "hub" in given:
        _check_hub(given["hub"], given.get("revision", ""))
    elif "revision" in given:
        raise InputError("found revision beside checkpoint; a revision is for repositories on the hub.")
    else:
        own["checkpoint"] = str(_folder(given["checkpoint"], path))
    return ModelRecord(id=name, **_catalogue()["architecture"][architecture] | own)


def _folder(checkpoint: str, path: Path) -> Path:
    """Return the checkpoint folder that a record file names."""
    folder = (path.parent / checkpoint).resolve()
    if not folder.is_dir():
        raise InputError(f"checkpoint is {checkpoint!r}; wanted a folder, and there is no {folder}.")
    return folder


def _check_field(name: str, value: object) -> None:
    """Refuse a field that a record does not have, or a value that it cannot hold."""
    kinds = {field.name: str(field.type) for field in fields(ModelRecord) if field.name != "id"}
    if name not in kinds:
        raise InputError(f"unknown field {name!r}.{did_you_mean(name, kinds)}")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise InputError(f"{name} is {value!r}; wanted one of {', '.join(_CHOICES[name])}.")
    if name == "parameters" and isinstance(value, int) and not isinstance(value, bool):
        return
    number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    fits, wanted = {
        "str": (isinstance(value, str), "a text"),
        "int": (number and isinstance(value, int), "a whole number, 0 or more"),
        "float": (number, "a number, 0 or more"),
    }[kinds[name]]
    if not fits:
        raise InputError(f"{name} is {value!r}; wanted {wanted}.")


def _check_hub(hub: str, revision: str) -> None:
    """Refuse what is no repository at a commit."""
    if not HUB_NAME.fullmatch(hub):
        raise InputError(f"hub is {hub!r}; wanted 'organisation/name'.")
    if not COMMIT.fullmatch(revision):
        raise InputError(
            f"revision is {revision!r}; wanted the commit of {hub} to use, 40 hexadecimal digits. Branches and tags "
            "can move, so they are not taken."
        )
