"""What a run of a probe is, as plain data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping


class Spec(NamedTuple):
    """One probe to train and test: all that decides its numbers, beside what the store holds.

    Attributes
    ----------
    store
        Path or address of the store.
    task
        Name of the task.
    model
        Name of an embedding in the store, or a baseline computed from the stored letters: ``"onehot"``, ``"kmer1"`` to
        ``"kmer6"``, ``"gc"``.
    probe
        Kind of probe, default ``"cnn"``; see `probes.kinds.PROBES`.
    recipe
        Where the settings of training come from, default ``"bend"``: those of the task's record.
    fold
        For tasks whose splits are part1, part2, ...: which of them is for testing, from 1. None (default) for others.
    seed
        Decides the first weights and the order of samples, default 0; None means that the probe draws one.
    settings
        Parameters of the probe that replace those of the recipe, by name.
    allow_partial
        Use the samples that are embedded where some are not yet; default False: refuse.
    predictions
        Write down what the probe predicts for each test sample, default False.
    test
        The split to test on, for tasks with several, such as ``"CASP12"``. None (default): the usual one, or the fold.

    Examples
    --------
    >>> Spec.from_dict({"store": "s.zarr", "task": "gene_finding", "model": "onehot"}).probe
    'cnn'
    """

    store: str
    task: str
    model: str
    probe: str = "cnn"
    recipe: str = "bend"
    fold: int | None = None
    seed: int | None = 0
    settings: Mapping[str, Any] = {}
    allow_partial: bool = False
    predictions: bool = False
    test: str | None = None

    def __str__(self) -> str:
        fold = "" if self.fold is None else f" fold {self.fold}"
        test = "" if self.test is None else f" test {self.test}"
        return f"{self.task}/{self.model} {self.probe} {self.recipe}{fold}{test} seed {self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON holds without loss; `from_dict` takes it back."""
        return {**self._asdict(), "settings": dict(self.settings)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Spec:
        """Make a spec of plain data, and check it.

        Parameters
        ----------
        fields
            Values by the name of the attribute; those with a default may be left out.

        Returns
        -------
        Spec

        Raises
        ------
        InputError
            A field is unknown, missing, or of another type than it must be.
        """
        for name in fields:
            if name not in cls._fields:
                raise InputError(f"a probe's spec has no field {name!r}.{did_you_mean(name, cls._fields)}")
        for name in cls._fields:
            if name not in fields and name not in cls._field_defaults:
                raise InputError(f"a probe's spec needs {name!r}; got only {', '.join(sorted(fields)) or 'nothing'}.")
        for name, value in fields.items():
            kinds, wanted = _TYPES[name]
            # Python counts True as an integer; a seed of true is a slip.
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise InputError(f"{name} of a probe's spec is {value!r}: {wanted} is wanted.")
        spec = cls(**fields)
        spec = spec._replace(settings=dict(spec.settings))
        try:
            json.dumps(spec.to_dict(), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"settings of a probe's spec are {spec.settings!r}: numbers, texts and lists are wanted ({error})."
            ) from error
        return spec


_TEXT = (str,), "text"
_NUMBER = (int, type(None)), "an integer, or None,"
_FLAG = (bool,), "True or False"
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("store", "task", "model", "probe", "recipe"), _TEXT),
    **dict.fromkeys(("fold", "seed"), _NUMBER),
    **dict.fromkeys(("allow_partial", "predictions"), _FLAG),
    "test": ((str, type(None)), "text, or None,"),
    "settings": ((dict,), "a mapping from names to values"),
}
