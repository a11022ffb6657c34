"""The encoders that installed distributions announce, without importing any of them."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from embedstore.errors import InputError
from embedstore.models.records import ModelRecord, records

GROUP = "embedstore.models"
"""The entry-point group of encoders."""


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
