"""Labels of variants: 1 has an effect, 0 has none, NaN is not known."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_NAN = float("nan")
_WORDS = {"1": 1.0, "1.0": 1.0, "true": 1.0, "pathogenic": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0, "benign": 0.0}
_MISSING = ("", ".", "nan")
_CLINVAR = {"clnsig", "clin_sig", "clinicalsignificance"}
_ONE = {"pathogenic", "likely_pathogenic"}
_ZERO = {"benign", "likely_benign"}


def clinical_significance(text: str) -> float:
    """Read a label from ClinVar's words.

    Parameters
    ----------
    text
        As in the INFO field CLNSIG: classes joined by ``|``, ``/`` or ``,``.

    Returns
    -------
    float
        1 where a class is pathogenic or likely pathogenic, 0 where one is benign or likely benign, whatever stands
        beside (``drug_response``, ``low_penetrance``). NaN for anything else: uncertain, conflicting, both of the two,
        none of them.

    Raises
    ------
    ValueError
        If the text is made of numbers: the codes of ClinVar before 2017.

    Examples
    --------
    >>> [clinical_significance(text) for text in ("Pathogenic/Likely_pathogenic|other", "Benign", "not_provided")]
    [1.0, 0.0, nan]
    """
    terms = {term.strip(" _").replace(" ", "_").lower() for term in re.split(r"[|/,]", text)}
    if any(term.isdecimal() for term in terms):
        raise ValueError(text)
    if any(term.startswith(("conflicting", "uncertain")) for term in terms):
        return _NAN
    one, zero = bool(terms & _ONE), bool(terms & _ZERO)
    return _NAN if one == zero else float(one)


def label_values(texts: Sequence[str], name: str, where: Callable[[int], str]) -> NDArray[np.float64]:
    """Read labels from text.

    Parameters
    ----------
    texts
        One per row.
    name
        Of the column or INFO field. What is called CLNSIG, CLIN_SIG or ClinicalSignificance, in any case, is read by
        :func:`clinical_significance`.
    where
        Names the place of a row.

    Returns
    -------
    numpy.ndarray
        Shape (row,), float64: 0, 1, or NaN for an empty text, ``.`` and ``nan``.

    Raises
    ------
    InputError
        If a text is none of 0, 1, 0.0, 1.0, true, false, pathogenic, benign (in any case), or a number in CLNSIG.
    """
    clinvar = name.lower() in _CLINVAR
    known: dict[str, float] = {}
    for row, text in enumerate(texts):
        if text in known:
            continue
        word = text.strip().lower()
        if word in _MISSING:
            known[text] = _NAN
        elif clinvar:
            known[text] = _significance(text, name, where(row))
        elif word in _WORDS:
            known[text] = _WORDS[word]
        else:
            raise InputError(
                f"{where(row)}: {name} is {text!r}; a label is wanted: 0 or 1 (also true, false, pathogenic, benign), "
                "and nothing where there is none."
            )
    return np.array([known[text] for text in texts], np.float64)


def _significance(text: str, name: str, where: str) -> float:
    """Read ClinVar's words, or say that these are its old codes."""
    try:
        return clinical_significance(text)
    except ValueError:
        raise InputError(
            f"{where}: {name} is {text!r}: words such as Pathogenic are wanted, as ClinVar writes them since 2017. "
            "Fetch a newer file, or name another column or field by label=."
        ) from None
