"""Task records: what a task predicts, at which level, how it is scored and with which probe.

A published task is one short TOML file in this folder; a user's own task is a TOML file anywhere, or a
:class:`TaskRecord` built in code. The numbers of genome tasks are those of BEND (Marin et al. 2024), read from its
configuration files at commit ac6e80c; those of protein tasks are of Boshar et al. 2024. What else such a file says of
its publication is no part of the record, and is read by :mod:`embedstore.tasks.published`.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from embedstore.tokenizers.tokens import Alphabet

PUBLICATION_TABLES = ("columns", "labels", "coding", "samples", "published", "recipe", "download", "notes")
"""Tables of a file that are about the publication of a task and do not belong to its record."""

METRICS = {"class": ("mcc", "accuracy"), "multilabel": ("auroc", "auprc"), "value": ("r2", "spearman")}
"""Metrics that a task of each type can have."""

ALIASES = {"mpp": "melting_point", "ssp": "secondary_structure"}
"""Other names under which published tasks are known."""

_CHOICES = {
    "alphabet": ("dna", "protein"),
    "level": ("nucleotide", "bin", "sequence"),
    "type": ("class", "multilabel", "value"),
    "strand": ("forward", "given"),
    "metric": tuple(metric for metrics in METRICS.values() for metric in metrics),
}
_PROBE: dict[str, type] = {
    "hidden": int,
    "kernel": int,
    "learning_rate": float,
    "batch_size": int,
    "epochs": int,
    "weight_decay": float,
    "positive_weight": float,
}


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """What a task predicts, and how.

    Parameters
    ----------
    name
        Short name; also the default name of a task in a store.
    title
        One line for people.
    level
        What a label belongs to: a ``"nucleotide"``, a ``"bin"`` of nucleotides, or a whole ``"sequence"``. A probe
        averages over the nucleotides of a bin or a sequence.
    type
        ``"class"``: one of several classes, stored as its index; ``"multilabel"``: yes or no for each target;
        ``"value"``: a number for each target.
    names
        Names of the classes or targets, in the order of their indices. May be empty for ``"value"``, which then
        has one target.
    bin_size
        Nucleotides in a bin; 1 (default) unless ``level`` is ``"bin"``.
    strand
        ``"forward"`` (default): sequences are read from the forward strand, whatever the strand of a sample.
        ``"given"``: samples on ``-`` are reverse complemented, and labels along the sequence are turned with them.
    alphabet
        What the letters of a sequence are: nucleotides (``"dna"``, default) or amino acids (``"protein"``). What is
        said of nucleotides here and elsewhere holds for the residues of proteins.
    genome
        Name of the genome build that the coordinates refer to.
    metric
        ``"mcc"`` (Matthews correlation over all classes), ``"accuracy"`` (share of labelled positions whose class is
        right), ``"auroc"``, ``"auprc"`` (mean over targets), ``"r2"`` or ``"spearman"`` (correlation of ranks).
    probe
        Settings of the published probe: ``hidden`` (channels), ``kernel`` (nucleotides), ``learning_rate``,
        ``batch_size`` (samples), ``epochs``, ``weight_decay`` and ``positive_weight`` (of the positive class in the
        loss). Those that are left out keep the probe's own defaults.
    citation
        Where the task was published.

    Raises
    ------
    InputError
        If a field has the wrong type or value, or the fields do not fit each other.

    Examples
    --------
    >>> mine = TaskRecord(name="promoters", level="sequence", type="class", names=("no", "yes"), metric="mcc")
    >>> TaskRecord.from_dict(mine.to_dict()) == mine
    True
    """

    name: str
    title: str = ""
    level: Literal["nucleotide", "bin", "sequence"]
    type: Literal["class", "multilabel", "value"]
    names: tuple[str, ...] = ()
    bin_size: int = 1
    strand: Literal["forward", "given"] = "forward"
    alphabet: Alphabet = "dna"
    genome: str = ""
    metric: Literal["mcc", "accuracy", "auroc", "auprc", "r2", "spearman"]
    probe: dict[str, Any] = field(default_factory=dict)
    citation: str = ""

    def __post_init__(self) -> None:
        for key in ("name", "title", "genome", "citation"):
            _must_be(key, getattr(self, key), str)
        for key, choices in _CHOICES.items():
            if getattr(self, key) not in choices:
                hint = did_you_mean(str(getattr(self, key)), choices)
                raise InputError(f"{key} is {getattr(self, key)!r}; it must be one of {', '.join(choices)}.{hint}")
        if not isinstance(self.names, tuple) or not all(isinstance(name, str) and name for name in self.names):
            raise InputError(f"names is {self.names!r}; it must be a tuple of texts that are not empty.")
        _must_be("bin_size", self.bin_size, int)
        _must_be("probe", self.probe, dict)
        for key, value in self.probe.items():
            if key not in _PROBE:
                raise InputError(f"unknown key {key!r} in probe.{did_you_mean(key, _PROBE)}")
            _must_be(f"probe.{key}", value, _PROBE[key])
            if not 0 < value < float("inf") and (key, value) != ("weight_decay", 0):
                raise InputError(f"probe.{key} is {value}; it must be a finite number above 0.")
        self._check_fit()

    def _check_fit(self) -> None:
        """Refuse fields that contradict each other."""
        if not self.name:
            raise InputError("name is empty; a record needs one.")
        if len(set(self.names)) != len(self.names):
            raise InputError(f"names has the same name twice: {', '.join(self.names)}.")
        least = {"class": 2, "multilabel": 1, "value": 0}[self.type]
        if len(self.names) < least:
            raise InputError(f"names has {len(self.names)} entries; a record of type {self.type!r} needs {least}.")
        if (self.level == "bin") != (self.bin_size > 1):
            raise InputError(
                f"bin_size is {self.bin_size} with level {self.level!r}; a bin holds 2 nucleotides or more, and "
                "other levels have bin_size 1."
            )
        targets = 1 if self.type == "class" else len(self.names)
        if self.level == "nucleotide" and (self.type == "multilabel" or targets > 1):
            raise InputError(
                "level 'nucleotide' takes one class or one value for each nucleotide, not several targets."
            )
        if self.alphabet == "protein" and self.strand == "given":
            raise InputError("strand is 'given', but alphabet is 'protein': a protein has no other strand.")
        if (self.type == "value") != (self.metric in METRICS["value"]):
            raise InputError(
                f"metric {self.metric!r} does not fit type {self.type!r}; {' and '.join(map(repr, METRICS['value']))} "
                "are for values, and only those."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data that JSON can hold.

        Returns
        -------
        dict
            One entry per field; names as a list.
        """
        return {**asdict(self), "names": list(self.names)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskRecord:
        """Make a record of plain data, as read from TOML or JSON.

        Parameters
        ----------
        data
            One entry per field. ``names`` is a list, or a number: then the names are ``target_0``, ``target_1`` ...

        Returns
        -------
        TaskRecord
            The record.

        Raises
        ------
        InputError
            If a key is unknown or missing, or a value is wrong.
        """
        known = [one.name for one in fields(cls)]
        for key in data:
            if key not in known:
                raise InputError(f"unknown key {key!r}.{did_you_mean(key, known)}")
        missing = [key for key in ("name", "level", "type", "metric") if key not in data]
        if missing:
            raise InputError(f"{', '.join(missing)} missing; a record needs name, level, type and metric.")
        names = data.get("names", ())
        if isinstance(names, int) and not isinstance(names, bool):
            names = [f"target_{index}" for index in range(names)]
        return cls(**{**data, "names": tuple(names) if isinstance(names, list) else names})


def _must_be(key: str, value: object, kind: type) -> None:
    """Refuse a value of another type; an int will do for a float, a bool for neither."""
    kinds = (int, float) if kind is float else (kind,)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise InputError(f"{key} is {value!r}; it must be of type {kind.__name__}, not {type(value).__name__}.")


def names() -> list[str]:
    """List the published tasks.

    Returns
    -------
    list of str
        Names that :func:`record` knows, sorted.

    Examples
    --------
    >>> names()[0]
    'beta_lactamase_complete'
    """
    folder = resources.files(__package__)
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


class RecordFile(NamedTuple):
    """A TOML file as it was read.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    text : str
        All of it.
    data : dict
        What it says.
    """

    path: Path
    text: str
    data: dict[str, Any]

    def record(self) -> TaskRecord:
        """Return the record, without what is said of its publication.

        Returns
        -------
        TaskRecord
            The record.

        Raises
        ------
        InputError
            With file and line, if it is not a record.
        """
        known = [one.name for one in fields(TaskRecord)]
        for key in self.data:
            if key not in (*known, *PUBLICATION_TABLES):
                raise self.fault(f"unknown key {key!r}.{did_you_mean(key, [*known, *PUBLICATION_TABLES])}")
        try:
            return TaskRecord.from_dict({key: self.data[key] for key in known if key in self.data})
        except InputError as error:
            raise self.fault(str(error)) from None

    def fault(self, message: str) -> InputError:
        """Return an error that names the file and the line of the key that a message begins with.

        Parameters
        ----------
        message
            Begins ``key ...``, ``table.key ...``, ``'key' in table ...``, ``unknown key 'key' ...`` or
            ``unknown key 'key' in table ...``.

        Returns
        -------
        InputError
            To be raised.
        """
        return InputError(f"{self.path}{_line_of(message, self.text)}: {message}")


def read_record(name: str | Path) -> RecordFile:
    """Read the file of a published task, or any TOML file.

    Parameters
    ----------
    name
        A name from :func:`names`, one of :data:`ALIASES`, or the path of a ``.toml`` file.

    Returns
    -------
    RecordFile
        What the file says, not checked yet.

    Raises
    ------
    InputError
        If there is no such task, or the file cannot be read or is not TOML.
    """
    name = ALIASES.get(name, name) if isinstance(name, str) else name
    if isinstance(name, Path) or name.endswith(".toml"):
        path = Path(name)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read: {error}.") from error
    elif name in names():
        path = Path(f"{name}.toml")
        text = (resources.files(__package__) / path.name).read_text(encoding="utf-8")
    else:
        raise InputError(f"no published task {name!r}.{did_you_mean(name, names())} A .toml file is read as a record.")
    try:
        return RecordFile(path, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: is not TOML: {error}.") from error


def record(name: str | Path) -> TaskRecord:
    """Return the record of a published task, or read one from a TOML file.

    Parameters
    ----------
    name
        A name from :func:`names`, one of :data:`ALIASES`, or the path of a ``.toml`` file with the fields of
        :class:`TaskRecord`. Its tables about a publication (:func:`embedstore.tasks.publication`) are passed over.

    Returns
    -------
    TaskRecord
        The record.

    Raises
    ------
    InputError
        If there is no such task, or the file is not a record; the message names the file and, where one key is to
        blame, its line.

    Examples
    --------
    >>> record("gene_finding").names[:2]
    ('exon_forward', 'donor_forward')
    """
    return read_record(name).record()


def _line_of(message: str, text: str) -> str:
    """Return ``:line`` of the key that a message speaks of, or nothing."""
    quoted = re.match(r"(?:unknown key )?'(.+?)'(?: in (\w+(?:\.\w+)*))?", message)
    plain = re.match(r"(?:([\w.]+)\.)?(\w+)", message)
    key, wanted = (quoted[1], quoted[2] or "") if quoted else (plain[2], plain[1] or "") if plain else ("", "")
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+([^\]]+)\]", line)
        table = header[1].strip() if header else table
        heads = header is not None and table.split(".")[-1] == key
        if heads or (table == wanted and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line)):
            return f":{number}"
    return ""
