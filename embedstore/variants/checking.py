"""Every variant held against the genome before any model runs: which can be scored, and why others cannot."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import InputError, ReferenceMismatchError
from embedstore.genome import contig_hint
from embedstore.sequences import decode, encode, reverse_complement
from embedstore.variants.alleles import change_kind, left_align, trim
from embedstore.variants.reasons import REASONS, Reasons
from embedstore.variants.reference import MATCHES, NOT_COMPARED, compare, read_refused

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.genome import Genome

__all__ = ["NEEDED", "REASONS", "check_variants", "match_rates", "mismatches"]

_log = logging.getLogger(__name__)

NEEDED = ("chromosome", "position", "ref", "alt")
"""The columns that every table of variants has."""

_ADDED = ("reason", "kind", "start", "removed", "added")
_LISTED = 5
_LONG = 30


def check_variants(variants: pd.DataFrame, genome: Genome, *, drop_mismatches: bool = False) -> pd.DataFrame:
    r"""Hold all variants against the genome and find what each changes.

    The case of letters means nothing, in the table and in the genome. Variants that are given twice stay twice. Where
    several reasons apply, the first is given: chromosome, reference allele, position, letters of the genome, alternate
    allele.

    Parameters
    ----------
    variants
        One row per variant: chromosome, position (0-based, of the first letter of ref), ref, alt; other columns are
        kept. Where they are missing, these are added: record (the row), allele (1), line (-1), id ("").
    genome
        The genome.
    drop_mismatches
        False (default): reference alleles that differ from the genome raise. True: these rows stay, with the reason,
        and the diagnosis is logged.

    Returns
    -------
    pandas.DataFrame
        All rows in their order, counted from 0, alleles in upper case, with these columns at the end (made anew where
        the table has them): reason (``""`` where the variant can be scored, else a sentence of `REASONS`); kind, start
        (0-based), removed and added: the change, trimmed and moved to its leftmost place, see
        :mod:`embedstore.variants.alleles`; ``""``, -1, ``""`` and ``""`` where there is a reason.

    Raises
    ------
    ReferenceMismatchError
        If reference alleles differ from the genome and `drop_mismatches` is false. The message lists the first few and
        says what `match_rates` makes of them; its attribute ``mismatches`` is a table of them all, ``checked`` of all
        rows.
    InputError
        If a column is missing or of another type, there is no row, no chromosome is known to the genome, or no variant
        can be scored.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import pandas as pd
    >>> from embedstore.genome import Genome
    >>> table = pd.DataFrame({"chromosome": "chr1", "position": [1, 2], "ref": ["CA", "A"], "alt": ["C", "<DEL>"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "tiny.fa")
    ...     _ = path.write_text(">chr1\nACAAT\n")
    ...     with Genome(path) as genome:
    ...         checked = check_variants(table, genome)
    >>> checked["reason"].tolist()
    ['', 'The alternate allele is symbolic: <DEL>.']
    >>> checked.loc[0, ["kind", "start", "removed", "added"]].tolist()
    ['deletion', np.int64(2), 'A', '']
    """
    table = _complete(variants)
    reason = Reasons(len(table))
    _check_places(table, genome, reason)
    compared = _check_genome(table, genome, reason)
    _check_alternates(table, reason)
    table["reason"] = reason.texts
    wrong = np.flatnonzero(reason.keys == "mismatch")
    if wrong.size:
        report = _mismatch_report(table, wrong, compared, genome)
        if not drop_mismatches:
            error = ReferenceMismatchError(
                f"{report} Nothing was run. Give the genome that the file was made for, or mend the file; "
                "drop_mismatches=True (--drop-mismatches) leaves these rows unscored, with the reason."
            )
            error.mismatches, error.checked = table.iloc[wrong], table
            raise error
        told = "reason" in variants  # by the check that gave the table
        _log.log(logging.INFO if told else logging.WARNING, "%s They are left unscored.", report)
    if not reason.none.any():
        raise InputError(f"{genome.path}: none of {len(table):,} variants can be scored: {reason.counts()}")
    if not reason.none.all():
        _log.info("%d of %d variants can be scored. Others: %s", reason.none.sum(), len(table), reason.counts())
    return _add_changes(table, genome, reason.none)


def mismatches(checked: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose reference allele differs from the genome.

    Parameters
    ----------
    checked
        As `check_variants` gives it with ``drop_mismatches=True``.

    Returns
    -------
    pandas.DataFrame
        Rows of the table.
    """
    return checked[checked["reason"].str.startswith(REASONS["mismatch"].partition("{")[0])]


def _complete(variants: pd.DataFrame) -> pd.DataFrame:
    """Copy a table of variants, its columns checked and the missing ones added."""
    missing = [column for column in NEEDED if column not in variants]
    if missing:
        raise InputError(f"the table of variants has no column {', '.join(map(repr, missing))}.")
    if not len(variants):
        raise InputError("the table of variants has no rows.")
    table = variants.drop(columns=list(_ADDED), errors="ignore").reset_index(drop=True)
    for column in NEEDED:
        empty = table[column].isna().to_numpy(bool)
        if empty.any():
            raise InputError(
                f"row {int(empty.argmax())} of the table of variants has no {column}; '' is an empty allele."
            )
    if table["position"].dtype.kind not in "iu":
        raise InputError(
            f"column 'position' of the table of variants is of type {table['position'].dtype}; integers are wanted."
        )
    table["position"] = table["position"].astype(np.int64)
    table["chromosome"] = table["chromosome"].astype(str)
    for column in ("ref", "alt"):
        text = table[column].astype(str)
        table[column] = text.where(text.str.contains(r"[<\[\]]"), text.str.upper())
    added: dict[str, Any] = {"record": np.arange(len(table)), "allele": 1, "line": -1, "id": ""}
    return table.assign(**{column: value for column, value in added.items() if column not in table})


def _letters_only(texts: pd.Series[str]) -> NDArray[np.bool_]:
    """Return which texts are made of A, C, G and T."""
    return np.asarray(texts.str.fullmatch("[ACGT]+"), bool)


def _odd(text: str) -> str:
    """List the letters of an allele that are none of A, C, G, T."""
    return ", ".join(sorted(set(text) - set("ACGT")))


def _check_places(table: pd.DataFrame, genome: Genome, reason: Reasons) -> None:
    """Give reasons to rows whose chromosome, reference allele or position cannot be looked up."""
    chromosome, ref, position = table["chromosome"], table["ref"], table["position"].to_numpy()
    known = chromosome.isin(list(genome.contigs)).to_numpy(bool)
    if not known.any():
        name = chromosome.iloc[0]
        raise InputError(
            f"{genome.path}: none of the chromosomes of the variants is in the genome, {name!r} for one."
            f"{contig_hint(name, genome.contigs)}"
        )
    hints = {name: contig_hint(name, genome.contigs) for name in chromosome[~known].unique()}
    # In a genome that has the other chromosomes, a name that merely looks alike is no hint.
    hints = {name: hint if "calls it" in hint else "" for name, hint in hints.items()}
    reason.give(~known, "chromosome", lambda row: {"name": chromosome[row], "hint": hints[chromosome[row]]})
    reason.give(ref.isin(["", "."]).to_numpy(bool), "no_reference")
    reason.give(~_letters_only(ref), "reference_letters", lambda row: {"letters": _odd(ref[row])})
    reason.give(position < 0, "before", lambda row: {"position": position[row]})
    size = chromosome.map(genome.contigs).fillna(0).to_numpy(np.int64)
    length = ref.str.len().to_numpy(np.int64)
    past = position > size - length
    reason.give(
        past, "past", lambda row: {"end": f"{int(position[row]) + int(length[row]):,}", "size": f"{size[row]:,}"}
    )


def _check_genome(table: pd.DataFrame, genome: Genome, reason: Reasons) -> int:
    """Give reasons to rows whose reference allele is not what the genome has; return how many could be compared."""
    rows = np.flatnonzero(reason.none)
    if not rows.size:
        return 0
    some = table.iloc[rows]
    given = {"": (some["position"].to_numpy(), some["ref"].tolist())}
    state = compare(genome, some["chromosome"].tolist(), given)[""]
    chromosomes, positions, refs = (some[column].tolist() for column in ("chromosome", "position", "ref"))
    for index in np.flatnonzero(state != MATCHES).tolist():
        chromosome, position, length = chromosomes[index], positions[index], len(refs[index])
        key = "unknown" if state[index] == NOT_COMPARED else "mismatch"
        letters = _letters(genome, chromosome, position, position + length)
        values = {"genome": _short(letters)}
        if key == "unknown" and "?" in letters:
            key, values = "refused", {"error": _refusal(genome, chromosome, position + letters.index("?"))}
        row = int(rows[index])
        reason.keys[row], reason.texts[row] = key, REASONS[key].format(**values)
    return int((state != NOT_COMPARED).sum())


def _refusal(genome: Genome, chromosome: str, position: int) -> str:
    """Return what the genome says of a letter that it does not give."""
    try:
        genome.fetch(chromosome, position, position + 1)
    except InputError as error:
        return str(error)
    raise AssertionError("a letter that was refused is given")


def _check_alternates(table: pd.DataFrame, reason: Reasons) -> None:
    """Give reasons to rows whose alternate allele is no change that has letters."""
    alt = table["alt"]

    def marks(pattern: str) -> NDArray[np.bool_]:
        return np.asarray(alt.str.fullmatch(pattern), bool)

    reason.give(marks(r"\.?"), "no_alternate")
    reason.give(marks(r"\*"), "spanning")
    # VCF 4.4, section 5.4: mated breakends have square brackets, single ones a point before or after their letters.
    breakend = marks(r".*[\[\]].*|\..+|.+\.")
    reason.give(breakend, "breakend", lambda row: {"alt": alt[row]})
    reason.give(marks(r".*<.*"), "symbolic", lambda row: {"alt": alt[row]})
    reason.give(~_letters_only(alt), "alternate_letters", lambda row: {"letters": _odd(alt[row])})
    reason.give((alt == table["ref"]).to_numpy(bool), "equal")


def _add_changes(table: pd.DataFrame, genome: Genome, scored: NDArray[np.bool_]) -> pd.DataFrame:
    """Add what each variant changes, in the one form that all ways of writing it share."""
    ref, alt = (table[column].to_numpy(object) for column in ("ref", "alt"))
    plain = scored & ((table["ref"].str.len() == 1) & (table["alt"].str.len() == 1)).to_numpy(bool)
    start = np.where(plain, table["position"], -1)
    kind, removed, added = (np.where(plain, values, "") for values in ("snv", ref, alt))
    kind = kind.astype(object)
    chromosome, position = table["chromosome"].tolist(), table["position"].tolist()
    for row in np.flatnonzero(scored & ~plain).tolist():
        change = left_align(trim(ref[row], alt[row], position[row]), partial(_letters, genome, chromosome[row]))
        start[row], removed[row], added[row] = change
        kind[row] = change_kind(change)
    table = table.assign(kind=kind, start=start, removed=removed, added=added)
    return table.astype(dict.fromkeys(("reason", "kind", "removed", "added"), str))


def _letters(genome: Genome, chromosome: str, start: int, end: int) -> str:
    """Return letters of the genome; question marks, which equal no letter of an allele, where it refuses to."""
    return decode(read_refused(genome, chromosome, start, end))


def match_rates(variants: pd.DataFrame, genome: Genome) -> pd.DataFrame:
    """Count how many variants fit the genome as they are given, and how many if one thing about them were otherwise.

    Parameters
    ----------
    variants
        chromosome, position (0-based), ref, alt. Rows with an unknown chromosome or an allele of other letters than A,
        C, G and T are not compared.
    genome
        The genome.

    Returns
    -------
    pandas.DataFrame
        One row per hypothesis: hypothesis (``as given``, ``one to the left``: the reference allele stands one
        nucleotide before the position, ``one to the right``, ``other strand``: its reverse complement stands there,
        ``ref and alt exchanged``); matches; compared (rows inside of their chromosome and not on N); rate (NaN where
        nothing is compared). With SNVs, about 1/4 match by chance.

    Raises
    ------
    InputError
        If a column is missing or of another type, or there is no row.
    """
    import pandas as pd

    states = _hypotheses(_complete(variants), genome)
    matches, compared = ([int(count(state)) for state in states.values()] for count in (_matches, _compared))
    rates = list(map(_rate, states.values()))
    return pd.DataFrame({"hypothesis": list(states), "matches": matches, "compared": compared, "rate": rates})


def _hypotheses(table: pd.DataFrame, genome: Genome) -> dict[str, NDArray[np.int8]]:
    """Compare the rows that have two alleles of letters with the genome, under each hypothesis."""
    known = table["chromosome"].isin(list(genome.contigs)).to_numpy(bool)
    table = table[known & _letters_only(table["ref"]) & _letters_only(table["alt"])]
    position, ref, alt = table["position"].to_numpy(), table["ref"].tolist(), table["alt"].tolist()
    other = {text: decode(reverse_complement(encode(text))) for text in set(ref)}
    hypotheses = {
        "as given": (position, ref),
        "one to the left": (position - 1, ref),
        "one to the right": (position + 1, ref),
        "other strand": (position, [other[text] for text in ref]),
        "ref and alt exchanged": (position, alt),
    }
    if not len(table):
        return dict.fromkeys(hypotheses, np.empty(0, np.int8))
    return compare(genome, table["chromosome"].tolist(), hypotheses)


def _matches(state: NDArray[np.int8]) -> int:
    """Count alleles that match."""
    return int((state == MATCHES).sum())


def _compared(state: NDArray[np.int8]) -> int:
    """Count alleles that could be compared."""
    return int((state != NOT_COMPARED).sum())


def _rate(state: NDArray[np.int8]) -> float:
    """Return the share of alleles that match among those that could be compared; NaN where there are none."""
    return _matches(state) / _compared(state) if _compared(state) else float("nan")


_CURES = {
    "one to the left": "positions seem to be one too large, as 1-based ones that are taken for 0-based: subtract 1",
    "one to the right": "positions seem to be one too small, as 0-based ones that are taken for 1-based: add 1",
    "other strand": "alleles seem to be written on the other strand: write the reverse complement of ref and alt",
    "ref and alt exchanged": "ref and alt seem to be exchanged: write each in the place of the other",
}
_FITS = 0.8  # a file that is right but for one thing may still have some wrong rows
_MORE = 0.1  # by which another reading must fit better: in repeats of one letter several fit equally well
_CHANCE = 0.5  # above what another genome gives: 1/4, more where alleles are transitions in common words
_MOSTLY = 0.9
_FEW = 8  # a wrong letter fits another hypothesis with a chance of 1/3: all of eight with 1/6,561


def _mismatch_report(table: pd.DataFrame, wrong: NDArray[np.int64], compared: int, genome: Genome) -> str:
    """List the first mismatches, say how many there are and what they look like."""
    first = wrong[:_LISTED]
    columns = [table[name].iloc[first].tolist() for name in ("line", *NEEDED)]
    shown = []
    for row, line, chromosome, position, ref, alt in zip(first.tolist(), *columns, strict=True):
        where = f"line {line}" if line > 0 else f"row {row}"
        letters = _short(_letters(genome, chromosome, position, position + len(ref)))
        shown.append(f"{where}: {chromosome}:{position} (0-based) {_short(ref)}>{_short(alt)}, genome {letters}")
    more = " and others" if wrong.size > _LISTED else ""
    return (
        f"{genome.path}: {wrong.size:,} of {compared:,} variants ({100 * wrong.size / compared:.3g} %) have a "
        f"reference allele that differs from the genome: {'; '.join(shown)}{more}. {_diagnosis(table, wrong, genome)}"
    )


def _diagnosis(table: pd.DataFrame, wrong: NDArray[np.int64], genome: Genome) -> str:
    """Say what mismatches look like, from the match rates of all rows and of those that differ."""
    states = _hypotheses(table, genome)
    rates = {name: _rate(state) for name, state in states.items()}
    given = rates["as given"]
    if _compared(states["as given"]) < _FEW:
        return "These are too few variants to say why."
    best = max(_CURES, key=lambda name: np.nan_to_num(rates[name]))
    if rates[best] >= max(_FITS, given + _MORE):
        return f"{_percent(rates[best])} match {best}, {_percent(given)} as given: {_CURES[best]}."
    these = _hypotheses(table.iloc[wrong], genome)
    best = max(_CURES, key=lambda name: np.nan_to_num(_rate(these[name])))
    if _compared(these[best]) >= _FEW and _rate(these[best]) >= _FITS:
        return f"Of those that differ, {_percent(_rate(these[best]))} match {best}: their {_CURES[best]}."
    listed = ", ".join(f"{_percent(rate)} {name}" for name, rate in rates.items())
    if np.nanmax(list(rates.values())) <= _CHANCE:
        return (
            f"No reading of the file fits better than by chance, about 25 % (matches: {listed}): it seems to be for "
            "another build, or another genome."
        )
    if given >= _MOSTLY:
        return f"{_percent(given)} match as given: build and positions fit, these rows seem to be wrong by themselves."
    return f"No other reading explains them (matches: {listed}): part of the file may be for another build or genome."


def _short(letters: str) -> str:
    """Cut a long allele."""
    return letters if len(letters) <= _LONG else f"{letters[:_LONG]}..."


def _percent(share: float) -> str:
    """Write a share so that 100 % means all."""
    return f"{np.floor(1000 * share) / 10:g} %"
