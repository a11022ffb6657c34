"""The INFO column of a VCF record: its fields, what belongs to which alternate, and numbers in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.errors import InputError
from embedstore.text import typed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd


class Field(NamedTuple):
    """An INFO field, as its header line describes it; all ``""`` where there is no such line."""

    number: str = ""
    type: str = ""
    description: str = ""


def split_info(text: str, wanted: set[str], where: str) -> dict[str, str]:
    """Read the wanted fields of an INFO column.

    Parameters
    ----------
    text
        The cell.
    wanted
        Names of fields.
    where
        Place of the record.

    Returns
    -------
    dict of str to str
        Value of each field that is there; ``"True"`` for a flag.

    Raises
    ------
    InputError
        If a wanted field is there twice.
    """
    found: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if name not in wanted:
            continue
        if name in found:
            raise InputError(f"{where}: INFO holds {name} twice ({text[:80]!r}); once is wanted. Remove one of them.")
        found[name] = value if equals else "True"
    return found


def per_alternate(value: str, number: str, alternates: int, what: str) -> list[str]:
    """Share the value of an INFO field out among the alternates of a record.

    Parameters
    ----------
    value
        As it stands, or ``""``.
    number
        Of the header line: ``"A"`` (a value per alternate), ``"R"`` (one per allele, ref first); for any other the
        whole value goes to every alternate.
    alternates
        How many there are.
    what
        Place and name, for the message.

    Returns
    -------
    list of str
        One per alternate; ``""`` where it is missing (``.``).

    Raises
    ------
    InputError
        If the number of values is wrong.
    """
    if value in {"", "."} or number not in {"A", "R"}:
        return ["" if value == "." else value] * alternates
    values, before = value.split(","), int(number == "R")
    if len(values) != alternates + before:
        raise InputError(
            f"{what} is {value[:80]!r}: {len(values)} value(s), {alternates + before} are wanted (Number={number}, "
            f"{alternates} alternate(s)). Mend the record, or the header line of the field."
        )
    return ["" if one == "." else one for one in values[before:]]


def info_column(texts: Sequence[str], field: Field, name: str, where: Callable[[int], str]) -> pd.Series[Any]:
    """Give the values of an INFO field the type that its header line names.

    Parameters
    ----------
    texts
        One per row, ``""`` for missing.
    field
        The header line.
    name
        Of the field.
    where
        Names the place of a row.

    Returns
    -------
    pandas.Series
        bool for a flag; float64 for one number per row (NaN: missing), or int64 where all are whole and there; else
        text. Without a header line: what all texts allow (:func:`embedstore.text.typed`).

    Raises
    ------
    InputError
        If a number is none.
    """
    import pandas as pd

    if field.type == "Flag":
        return pd.Series([text == "True" for text in texts], name=name, dtype=bool)
    column = pd.Series(list(texts), name=name, dtype=str)
    if not field.type:
        return typed(column.to_frame())[name]
    if field.type not in {"Integer", "Float"} or field.number not in {"1", "A", "R"}:
        return column
    whole = field.type == "Integer"
    if whole and column.str.fullmatch(r"-?\d{1,18}").all():
        return column.astype(np.int64)
    numbers = np.empty(len(column), np.float64)
    for row, text in enumerate(texts):
        try:
            numbers[row] = float("nan") if not text else int(text) if whole else float(text)
        except ValueError:
            raise InputError(
                f"{where(row)}: {name} is {text!r}; {'a whole number' if whole else 'a number'} is wanted, as the "
                f"header says (Type={field.type})."
            ) from None
    return pd.Series(numbers, name=name)
