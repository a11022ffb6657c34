"""Codon strategies: other coding sequences for the same protein.

Every strategy keeps the translation and the length, and these codons, which are called pinned: stop codons wherever
they are (a stop codon inside is selenocysteine, pyrrolysine or a nonsense variant), the start codon, codons with other
letters than A, C, G, T, amino acids of a single codon (in most tables Met and Trp), and those the caller names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.coding.codons import codon_lengths, read_codons
from embedstore.coding.genetic_code import genetic_code
from embedstore.coding.rules import LETTERS, MOST_SEQUENCES, RULES, make_request, read_part, written
from embedstore.coding.usage import ALL
from embedstore.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray

_CHUNK_CODONS = 2**14  # arrays of 128 KiB: they fit in a core's cache, and are not fresh pages every time


class Strategy(NamedTuple):
    """What a codon strategy is.

    Attributes
    ----------
    name
        What it is called, before any parameter.
    text
        What it does, in one line.
    parameter
        What stands in the parentheses after the name, ``""`` where there are none.
    needs
        Arguments of `recode` that it cannot do without.
    """

    name: str
    text: str
    parameter: str = ""
    needs: tuple[str, ...] = ()


STRATEGIES = {
    one.name: one
    for one in (
        Strategy("true", "the sequence itself"),
        Strategy("permuted", "the codons of each amino acid shuffled among its places in the sequence"),
        Strategy("freq_cds", "codons drawn with their frequencies in the sequence"),
        Strategy("freq_species", "codons drawn with the usage of the sample's species", needs=("usage", "species")),
        Strategy("freq_global", "codons drawn with the usage of all train samples", needs=("usage",)),
        Strategy("uniform", "codons drawn evenly"),
        Strategy("permuted_shared", "the parent permuted once, for all its variants", needs=("parent",)),
        Strategy("uniform_shared", "the parent drawn evenly once, for all its variants", needs=("parent",)),
        Strategy("window_permuted", "as permuted, only within windows of so many codons", parameter="w"),
        Strategy("codonpair_preserving", "codons exchanged only where both their neighbours are the same codons"),
        Strategy("transplant", "codons drawn with the usage of another species", parameter="species", needs=("usage",)),
    )
}
"""The codon strategies by name."""


def parse_strategy(text: str) -> tuple[Strategy, str]:
    """Read a strategy as it is written, such as ``"permuted"`` or ``"window_permuted(8)"``.

    Parameters
    ----------
    text
        A name of `STRATEGIES`, with its parameter in parentheses where it has one.

    Returns
    -------
    tuple
        The strategy and its parameter, ``""`` where it has none.

    Raises
    ------
    InputError
        The name is unknown, or the parameter is missing, not wanted, or not a number where one is wanted.

    Examples
    --------
    >>> parse_strategy("window_permuted(8)")[1]
    '8'
    """
    found = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text)
    name, argument = (found[1], (found[2] or "").strip()) if found else (text, "")
    if name not in STRATEGIES:
        raise InputError(f"There is no codon strategy {text!r}.{did_you_mean(name, STRATEGIES)}")
    strategy = STRATEGIES[name]
    if bool(argument) != bool(strategy.parameter):
        wanted = f"{name}({strategy.parameter})" if strategy.parameter else name
        raise InputError(f"Codon strategy {text!r} is written {wanted!r}: {strategy.text}.")
    if strategy.parameter == "w":
        if not argument.isascii() or not argument.isdigit() or int(argument) < 1:
            raise InputError(f"Codon strategy {text!r}: the window is a number of codons from 1 on, not {argument!r}.")
        argument = str(int(argument))
    return strategy, argument


def recode(
    sequences: Sequence[NDArray[np.uint8]],
    strategy: str,
    *,
    ids: Sequence[str],
    seed: int = 0,
    table: int | Sequence[int] = 1,
    species: Sequence[str] | None = None,
    usage: pd.DataFrame | None = None,
    parent: NDArray[np.uint8] | None = None,
    has_start: Sequence[bool] | None = None,
    pinned: Sequence[Sequence[int]] | None = None,
) -> list[NDArray[np.uint8]]:
    """Recode coding sequences without changing their translation.

    Parameters
    ----------
    sequences
        Each (nucleotide,) uint8, upper-case ASCII letters, whole codons; see `clean_cds`.
    strategy
        See `STRATEGIES`; with its parameter in parentheses where it has one: ``"window_permuted(8)"``.
    ids
        One per sequence. The same id, sequence, strategy and seed always give the same result, whatever else is
        recoded in the same call; another id gives other random numbers.
    seed
        Default 0.
    table
        Genetic code of all sequences (default 1), or of each.
    species
        Species of each sequence, for ``freq_species``.
    usage
        Codon usage as `codon_usage` gives it: a row per species for ``freq_species`` and ``transplant``, a row
        ``"all"`` for ``freq_global``.
    parent
        The sequence of which all are variants, for ``permuted_shared`` and ``uniform_shared``; `consensus` finds it. It
        is recoded once per seed. Where a variant has its amino acid, it gets its new codon; where not, the codon is
        drawn once for all variants with this amino acid at this place: evenly (``uniform_shared``), or with the
        frequencies in the parent (``permuted_shared``; evenly if the parent lacks the amino acid). So variants that
        differ in one amino acid differ in one codon, and synonymous variants of the parent become the same.
    has_start
        Whether each sequence begins with its start codon, which is pinned then; a codon for Met in the first place
        always is. By default any codon that the genetic code lets start is pinned there.
    pinned
        Places of more codons (0-based) of each sequence that are not to change, such as those of ``transl_except``.

    Returns
    -------
    list of numpy.ndarray
        Each (nucleotide,) uint8, in the order given.

    Raises
    ------
    InputError
        The strategy is unknown or lacks an argument it needs, arguments differ in length, a sequence is not whole
        codons, a variant has not the parent's length, or the codon usage has no row for a species.

    Notes
    -----
    Random numbers come from Philox with a key that is the sha256 of ``strategy|seed|id|sequence``; see
    `embedstore.coding.drawing.random_words`. Number ``i`` of its stream belongs to codon ``i``.

    Examples
    --------
    >>> from embedstore.sequences import decode, encode
    >>> decode(recode([encode("ATGAAAGCTAAGGCC")], "permuted", ids=["a"], seed=2)[0])
    'ATGAAGGCTAAAGCC'
    """
    found, argument = parse_strategy(strategy)
    name = f"{found.name}({argument})" if argument else found.name
    given = {"usage": usage, "species": species, "parent": parent}
    for what in found.needs:
        if given[what] is None:
            cure = " (--parent FASTA, or consensus)" if what == "parent" else ""
            raise InputError(
                f"Codon strategy {name!r} ({found.text}) needs {what}=; see embedstore.coding.recode{cure}."
            )
    tables = np.full(len(sequences), table) if isinstance(table, int | np.integer) else np.asarray(table)
    lengths = {"ids": ids, "table": tables, "species": species, "has_start": has_start, "pinned": pinned}
    for what, values in lengths.items():
        if values is not None and len(values) != len(sequences):
            raise InputError(f"{what} has {len(values):,} entries for {len(sequences):,} coding sequences.")
    codon_lengths(sequences, ids)
    if found.name == "true":
        return [codes.copy() for codes in sequences]
    groups, row = _groups(found, argument, species, len(sequences))
    recoded: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * len(sequences)
    for one in np.unique(tables).tolist():
        code = genetic_code(one)
        request = make_request(found.name, argument, seed, code, groups=groups, usage=usage, parent=parent)
        for rows in _chunks(np.flatnonzero(tables == one).tolist(), sequences):
            part = read_part(
                [sequences[i] for i in rows],
                code,
                [ids[i] for i in rows],
                row[rows],
                None if has_start is None else [has_start[i] for i in rows],
                None if pinned is None else [pinned[i] for i in rows],
            )
            for i, letters in zip(rows, written(part, RULES[found.name](part, request)), strict=True):
                recoded[i] = letters
    return recoded


def _groups(
    strategy: Strategy, argument: str, species: Sequence[str] | None, count: int
) -> tuple[list[str], NDArray[np.int64]]:
    """Return the rows of codon usage that are needed, and which of them each sequence is drawn with."""
    if strategy.name == "freq_species" and species is not None:
        names = np.array(species, dtype=str)
        groups, row = np.unique(names, return_inverse=True)
        return groups.tolist(), row
    group = {"freq_global": ALL, "transplant": argument}.get(strategy.name)
    return [group] if group else [], np.zeros(count, np.int64)


def _chunks(rows: list[int], sequences: Sequence[NDArray[np.uint8]]) -> Iterator[list[int]]:
    """Cut rows into runs of sequences that are recoded together: few enough codons for a core's cache."""
    held: list[int] = []
    size = 0
    for row in rows:
        if held and (size + len(sequences[row]) > 3 * _CHUNK_CODONS or len(held) == MOST_SEQUENCES):
            yield held
            held, size = [], 0
        held.append(row)
        size += len(sequences[row])
    if held:
        yield held


def consensus(sequences: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return the commonest codon at each place: the parent of variants with few substitutions each.

    Parameters
    ----------
    sequences
        Variants, all of one length, whole codons.

    Returns
    -------
    numpy.ndarray
        (nucleotide,) uint8.

    Raises
    ------
    InputError
        There are no sequences, they differ in length, or at some place no codon is in more than half of them: such
        sequences are not variants of one parent.

    Examples
    --------
    >>> from embedstore.sequences import decode, encode
    >>> decode(consensus([encode("AAACCC"), encode("AAGCCC"), encode("AAACCT")]))
    'AAACCC'
    """
    sizes = sorted({len(codes) for codes in sequences})
    if len(sizes) != 1:
        raise InputError(
            f"variants of one parent have one length; these {len(sequences):,} sequences have {sizes[:5]}. "
            "Recode sequences that are not variants with another strategy."
        )
    index = read_codons(sequences).index.reshape(len(sequences), -1)
    counts = np.stack([(index == codon).sum(axis=0) for codon in range(64)])
    common = counts.argmax(axis=0)
    rare = np.flatnonzero(2 * counts.max(axis=0) <= len(sequences))
    if rare.size:
        raise InputError(
            f"at codon {rare[0]} (0-based) no codon is in more than half of the {len(sequences):,} sequences: they are "
            "not variants of one parent. Pass parent= yourself (--parent FASTA)."
        )
    letters: NDArray[np.uint8] = LETTERS.take(common, axis=0)
    return letters.ravel()
