"""Coding sequences as codons: reading, translating, and checking them against their proteins."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.coding.genetic_code import STOP, genetic_code
from embedstore.errors import InputError
from embedstore.indices import offsets
from embedstore.sequences import AMINO_ACIDS, encode, reverse_complement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_DIGITS = bytes(b"ACGT".find(letter) % 64 for letter in range(256))  # 63 for other letters

# The nucleotides that a letter can stand for (IUPAC-IUB, Nucleic Acids Res. 13:3021, 1985).
_STANDS_FOR = {
    "A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip

_GAPS = b"-. \t\r\n"
_DNA_FOR_RNA = bytes.maketrans(b"U", b"T")

_CERTAIN = 5  # so many residues are not found in another frame by chance, within one coding sequence
_LITTLE = 6  # nucleotides beyond those of a protein: what frame and stop codon take


class Codons(NamedTuple):
    """Codons of some coding sequences, one sequence after another.

    Attributes
    ----------
    index
        (codon,) int16, 16 a + 4 b + c with A, C, G, T = 0 to 3; -1 where any letter is none of these.
    first
        (sequence + 1,) int64: sequence ``i`` has the codons ``first[i]`` to ``first[i + 1] - 1``.
    letters
        (codon, 3) uint8, the letters.
    """

    index: NDArray[np.int16]  # type: ignore[assignment]  # hides tuple.index, which has no use here
    first: NDArray[np.int64]
    letters: NDArray[np.uint8]


def clean_cds(text: str | NDArray[np.uint8]) -> NDArray[np.uint8]:
    r"""Bring a coding sequence into the form everything here takes: upper case, T for U, without gaps.

    Parameters
    ----------
    text
        Text or ASCII codes. ``-``, ``.``, blanks and ends of lines are gaps.

    Returns
    -------
    numpy.ndarray
        (nucleotide,) uint8, a new array. Other letters are left for `embedstore.coding.check_cds` to judge.

    Raises
    ------
    InputError
        If the text is not ASCII.

    Examples
    --------
    >>> clean_cds("aug-gcu\n").tobytes()
    b'ATGGCT'
    """
    raw = encode(text if isinstance(text, str) else text.tobytes()).tobytes()
    return np.frombuffer(bytearray(raw.translate(_DNA_FOR_RNA, _GAPS)), np.uint8)


def read_codons(sequences: Sequence[NDArray[np.uint8]], ids: Sequence[str] | None = None) -> Codons:
    """Cut coding sequences into codons.

    Parameters
    ----------
    sequences
        Each (nucleotide,) uint8, upper-case ASCII letters, from the first codon on; see `clean_cds`.
    ids
        Names of the sequences for messages; their numbers by default.

    Returns
    -------
    Codons
        All codons, one sequence after another.

    Raises
    ------
    InputError
        A length is not a multiple of 3 (``not_multiple_of_3``).

    Examples
    --------
    >>> from embedstore.sequences import AMINO_ACIDS, encode, reverse_complement
    >>> read_codons([encode("AACTTT"), encode("NAA")]).index
    array([ 1, 63, -1], dtype=int16)
    """
    length = codon_lengths(sequences, ids)
    letters = (np.concatenate(sequences) if len(sequences) else np.empty(0, np.uint8)).reshape(-1, 3)
    # Three times as fast as an index by the letters.
    digit = np.frombuffer(letters.tobytes().translate(_DIGITS), np.uint8).reshape(-1, 3)
    index = ((digit[:, 0] << 4) | (digit[:, 1] << 2) | digit[:, 2]).astype(np.int16)
    if digit.max(initial=0) > 3:
        index[(digit > 3).any(axis=1)] = -1
    return Codons(index, offsets(length), letters)


def codon_lengths(sequences: Sequence[NDArray[np.uint8]], ids: Sequence[str] | None = None) -> NDArray[np.int64]:
    """Return the number of codons of each sequence, (sequence,) int64; see `read_codons`."""
    length = np.array([len(one) for one in sequences], np.int64)
    wrong = np.flatnonzero(length % 3)
    if wrong.size:
        which = int(wrong[0])
        name = f"{which}" if ids is None else f"{ids[which]!r}"
        raise InputError(
            f"coding sequence {name}: not_multiple_of_3: it has {length[which]:,} nucleotides, which are not whole "
            "codons. Give sequences that begin with their first codon and end with their last."
        )
    return length // 3


def translate(codes: NDArray[np.uint8], table: int = 1, *, start: bool = False, stop: bool = False) -> str:
    """Translate a coding sequence.

    Parameters
    ----------
    codes
        (nucleotide,) uint8, upper-case ASCII letters, whole codons.
    table
        Genetic code, default 1.
    start
        Whether the first codon starts translation: if the table allows that codon to, it reads M, as it is in the
        cell and in protein databases. By default it is translated as any other.
    stop
        Whether a stop codon at the end is left out. Stop codons before it always stay, as ``*``: a truncated protein
        would look like one that ends there.

    Returns
    -------
    str
        One letter per codon. A codon with letters that stand for several nucleotides is translated where all of them
        give the same amino acid (GCN is A), else it is ``X``.

    Raises
    ------
    InputError
        The length is not a multiple of 3, or the table is unknown.

    Examples
    --------
    >>> from embedstore.sequences import AMINO_ACIDS, encode, reverse_complement
    >>> translate(encode("GTGGCNTAA")), translate(encode("GTGGCNTAA"), 11, start=True, stop=True)
    ('VA*', 'MA')
    """
    code = genetic_code(table)
    codons = read_codons([codes])
    letters = np.append(code.amino_acid, np.uint8(ord("X")))[codons.index]
    for place in np.flatnonzero(codons.index < 0).tolist():
        letters[place] = ord(_ambiguous(codons.letters[place], table))
    if start and len(codes) and codons.index[0] >= 0 and code.start[codons.index[0]]:
        letters[0] = ord("M")
    if stop and len(codes) and letters[-1] == STOP:
        letters = letters[:-1]
    return letters.tobytes().decode()


def _ambiguous(letters: NDArray[np.uint8], table: int) -> str:
    """Return the amino acid that a codon with any other letters stands for, X where there are several."""
    amino_acid = genetic_code(table).amino_acid
    first, second, third = (["ACGT".index(base) for base in _STANDS_FOR.get(chr(letter), "ACGT")] for letter in letters)
    found = {int(amino_acid[16 * a + 4 * b + c]) for a in first for b in second for c in third}
    return chr(found.pop()) if len(found) == 1 else "X"


class CdsCheck(NamedTuple):
    """What a check of one coding sequence found.

    Attributes
    ----------
    reason
        A key of `embedstore.coding.reasons.REASONS`, or None where the sequence is as it must be.
    detail
        What was seen and what was wanted, ``""`` where there is no reason.
    has_start
        Whether the first codon is a start codon of the table and, where the protein is known, reads M in it.
    has_stop
        Whether the last codon is a stop codon.
    n_codons
        Codons, a stop codon at the end included.
    n_ambiguous
        Codons with other letters than A, C, G, T.
    n_open
        Those of them that leave the amino acid open.
    """

    reason: str | None
    detail: str = ""
    has_start: bool = False
    has_stop: bool = False
    n_codons: int = 0
    n_ambiguous: int = 0
    n_open: int = 0


def check_cds(
    codes: NDArray[np.uint8],
    table: int = 1,
    *,
    protein: str | None = None,
    start: bool | None = None,
    stops: bool = False,
) -> CdsCheck:
    """Check a coding sequence, and hold its translation against a protein where there is one.

    Parameters
    ----------
    codes
        (nucleotide,) uint8 as `clean_cds` gives them.
    table
        Genetic code, default 1.
    protein
        What the sequence must encode, letter by letter, without a stop. A stop codon inside is taken for U or O
        (selenocysteine, pyrrolysine) where the protein has these. A codon that leaves its amino acid open reads X, and
        agrees with X only.
    start
        How the first codon is read if the table lets it start translation: True, as M; False, as any other; None
        (default), as M where the protein begins with M.
    stops
        Whether stop codons inside are as they must be, as in nonsense variants; default False.

    Returns
    -------
    CdsCheck
        With the first reason that was found.

    Raises
    ------
    InputError
        The table is unknown.

    Examples
    --------
    >>> check_cds(clean_cds("ATGGCATAAGCC"))[:2]
    ('internal_stop', 'codon 3 of 4 is the stop codon TAA')
    """
    genetic_code(table)
    wrong = _wrong_letters(codes)
    if wrong:
        return CdsCheck(*wrong)
    if len(codes) % 3:
        rest = f"{len(codes):,} nucleotides are {len(codes) // 3:,} codons and {len(codes) % 3} more"
        return CdsCheck(*(_elsewhere(codes, protein, table) or ("not_multiple_of_3", rest)))
    seen, begins, ends = _read(codes, table, protein, start)
    n_ambiguous = int((read_codons([codes]).index < 0).sum())
    n_open = translate(codes, table).count("X")
    reason, detail = _fault(codes, seen, protein, table, n_open, stops=stops) or (None, "")
    return CdsCheck(reason, detail, begins, ends, len(codes) // 3, n_ambiguous, n_open)


def _read(codes: NDArray[np.uint8], table: int, protein: str | None, start: bool | None) -> tuple[str, bool, bool]:
    """Translate as `check_cds` does; return also whether the sequence has a start and a stop codon."""
    plain = translate(codes, table)
    first = read_codons([codes[:3]]).index[0]
    begins = first >= 0 and bool(genetic_code(table).start[first]) and start is not False
    begins = begins and (start is True or protein is None or protein.startswith("M"))
    ends = plain.endswith("*")
    seen = ("M" if begins else plain[0]) + plain[1:]
    seen = seen[: len(plain) - ends]
    if protein is not None and len(seen) == len(protein):
        both = zip(seen, protein, strict=True)
        seen = "".join(wanted if one == "*" and wanted in "UO" else one for one, wanted in both)
    return seen, begins, ends


def _wrong_letters(codes: NDArray[np.uint8]) -> tuple[str, str] | None:
    """Return what is wrong with the letters, if anything."""
    if not len(codes):
        return "empty", "no letters are left"
    text = codes.tobytes().decode("ascii", "replace")
    found = next((place for place, letter in enumerate(text) if letter not in _STANDS_FOR), None)
    if found is None:
        return None
    detail = f"letter {found + 1} of {len(text):,} is {text[found]!r}, which stands for no nucleotide"
    protein = set(text) <= set(AMINO_ACIDS + "XBZUOJ*")
    return "protein_instead_of_nucleotide" if protein else "not_nucleotides", detail


def _fault(
    codes: NDArray[np.uint8], seen: str, protein: str | None, table: int, n_open: int, *, stops: bool
) -> tuple[str, str] | None:
    """Return what is wrong with a sequence of whole codons that reads as `seen`, if anything."""
    inside = seen.find("*")
    if inside >= 0 and not stops:
        codon = codes[3 * inside : 3 * inside + 3].tobytes().decode()
        detail = f"codon {inside + 1} of {len(codes) // 3} is the stop codon {codon}"
        return _elsewhere(codes, protein, table) or ("internal_stop", detail)
    if 100 * n_open > len(codes) // 3:
        return "ambiguous_codon", f"{n_open:,} of {len(codes) // 3:,} codons leave the amino acid open"
    if protein is None or seen == protein:
        return None
    lengths = f"{len(seen):,} residues, the protein {len(protein):,}"
    if seen and protein.endswith(seen):
        return "partial_5", f"the sequence encodes the last {lengths}"
    if seen and protein.startswith(seen):
        return "partial_3", f"the sequence encodes the first {lengths}"
    if protein and protein in seen:
        return "precursor", f"the sequence encodes {lengths}, which begin at residue {seen.index(protein) + 1}"
    elsewhere = _elsewhere(codes, protein, table)
    if elsewhere:
        return elsewhere
    differ = [place for place, (one, other) in enumerate(zip(seen, protein, strict=False)) if one != other]
    first = differ[0] if differ else min(len(seen), len(protein))
    there = f"{seen[first : first + 1] or 'the end'!s}, wanted {protein[first : first + 1] or 'the end'}"
    many = f"{len(differ):,} residues differ" if len(seen) == len(protein) else f"the sequence encodes {lengths}"
    return "translation_differs", f"{many}; the first difference is residue {first + 1}: {there}"


def _elsewhere(codes: NDArray[np.uint8], protein: str | None, table: int) -> tuple[str, str] | None:
    """Find a protein in other reading frames, or in a part between stop codons, or with a change of frame."""
    if protein is None or len(protein) <= _CERTAIN:
        return None
    beyond = len(codes) - 3 * len(protein)
    for strand, letters in (("forward", codes), ("reverse", reverse_complement(codes))):
        for frame in range(3):
            # The first residue is left out: whether a codon starts translation is not known here.
            place = _frame(letters, frame, table).find(protein[1:], 1)
            begins = frame + 3 * (place - 1)
            if place < 0 or (strand == "forward" and begins == 0 and beyond < _LITTLE):
                continue
            little = strand == "forward" and begins < 3 and beyond < _LITTLE
            detail = f"the protein is encoded from nucleotide {begins + 1:,} of {len(codes):,}, {strand} strand"
            return "wrong_frame" if little else "contig", detail
    start = 1 + _alike(_frame(codes, 0, table)[1:], protein[1:])
    ends = [_alike(_frame(codes, frame, table).removesuffix("*")[::-1], protein[::-1]) for frame in (1, 2)]
    if min(start, max(ends)) > _CERTAIN and start + max(ends) >= len(protein) - 1:
        frame = ends.index(max(ends)) + 2
        return (
            "frameshift",
            f"the first {start:,} residues are read in frame 1, the last {max(ends):,} in frame {frame}",
        )
    return None


def _frame(letters: NDArray[np.uint8], frame: int, table: int) -> str:
    """Translate the whole codons of a reading frame."""
    return translate(letters[frame : frame + (len(letters) - frame) // 3 * 3], table)


def _alike(one: str, other: str) -> int:
    """Return how many letters two texts begin with that are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def find_table(codes: NDArray[np.uint8], protein: str, tables: Sequence[int] = (1, 11, 2, 3, 5)) -> int | None:
    """Find the genetic code of a coding sequence whose protein is known, where nothing else says it.

    Parameters
    ----------
    codes
        (nucleotide,) uint8 as `clean_cds` gives them.
    protein
        What the sequence encodes.
    tables
        Genetic codes to try, by default those of nuclei, bacteria and plastids, and of the mitochondria of vertebrates,
        yeasts and invertebrates.

    Returns
    -------
    int or None
        The only one that gives exactly the protein. Codes that translate alike and differ in their start codons, such
        as 1 and 11, count as one, the first of them. None where none gives the protein, or several do: the codons that
        would tell them apart are not in the sequence, and recoding would depend on the choice.

    Examples
    --------
    >>> find_table(clean_cds("ATAGCCTGA"), "MAW"), find_table(clean_cds("GTGAGACTAATATAA"), "MRLI")
    (None, 11)
    """
    if not len(codes) or len(codes) % 3:
        return None
    fitting = [table for table in tables if _read(codes, table, protein, None)[0] == protein]
    different = {genetic_code(table).amino_acid.tobytes() for table in fitting}
    return fitting[0] if len(different) == 1 else None
