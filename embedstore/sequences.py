"""Nucleotide sequences as numpy arrays of upper-case ASCII letters.

Every sequence in embedstore is a one-dimensional ``uint8`` array: the bytes of its letters. That is what a store
holds, what a tokenizer reads and what costs one byte per nucleotide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from numpy.typing import NDArray

    from embedstore.tokenizers.tokens import Alphabet

# IUPAC-IUB nomenclature for incompletely specified bases (Nucleic Acids Res. 13:3021, 1985). U pairs with A;
# A becomes T, since embedstore writes DNA. A letter that is not in the table is its own complement.
_COMPLEMENT = np.arange(256, dtype=np.uint8)
_COMPLEMENT[np.frombuffer(b"ACGTURYSWKMBDHVN", np.uint8)] = np.frombuffer(b"TGCAAYRSWMKVHDBN", np.uint8)

_PLAIN = np.zeros(256, bool)
_PLAIN[list(b"ACGTN")] = True

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
"""The letters of the twenty amino acids."""

_LONG = 30
_NOT_NUCLEOTIDE = np.ones(256, bool)
_NOT_NUCLEOTIDE[list(b"ACGTUN")] = False
# What a sequence of an alphabet must not hold.
_NOT_IN = {"dna": np.ones(256, bool), "protein": np.ones(256, bool)}
_NOT_IN["dna"][list(b"ACGTURYSWKMBDHVN")] = False
_NOT_IN["protein"][list(AMINO_ACIDS.encode() + b"XBZUOJ")] = False

# Row i is the one-hot vector of the byte i.
_ONE_HOT = np.zeros((256, 4), np.float32)
_ONE_HOT[np.frombuffer(b"ACGT", np.uint8), np.arange(4)] = 1


def encode(text: str | bytes) -> NDArray[np.uint8]:
    """Turn text into a sequence: an array of upper-case ASCII letters.

    Parameters
    ----------
    text
        The letters; lower case (a soft mask) becomes upper case. Nothing else is changed or checked.

    Returns
    -------
    numpy.ndarray
        Shape (nucleotide,), dtype uint8, a new writeable array.

    Raises
    ------
    InputError
        If the text holds anything outside ASCII.

    Examples
    --------
    >>> encode("acgN")
    array([65, 67, 71, 78], dtype=uint8)
    """
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
        raw.decode("ascii")
    except (UnicodeEncodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"sequence: letter {error.start + 1} is not ASCII; a sequence is written in the letters A to Z."
        ) from None
    return np.frombuffer(bytearray(raw.upper()), np.uint8)


def decode(codes: NDArray[np.uint8]) -> str:
    """Turn a sequence back into text.

    Parameters
    ----------
    codes
        Shape (nucleotide,), dtype uint8, ASCII letters.

    Returns
    -------
    str
        The letters.

    Examples
    --------
    >>> decode(encode("acgN"))
    'ACGN'
    """
    return codes.tobytes().decode("ascii")


def reverse_complement(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the opposite strand, read 5' to 3'.

    Parameters
    ----------
    codes
        Shape (nucleotide,), dtype uint8, upper-case ASCII letters. IUPAC letters become their complements.

    Returns
    -------
    numpy.ndarray
        Shape (nucleotide,), dtype uint8, a new array.

    Examples
    --------
    >>> decode(reverse_complement(encode("AACGR")))
    'YCGTT'
    """
    return _COMPLEMENT[codes[::-1]]


def clean_letters(
    codes: NDArray[np.uint8],
    other_letters: Literal["refuse", "N"],
    where: Callable[[int], str],
    alphabet: Alphabet = "dna",
) -> NDArray[np.uint8]:
    """Apply the rule for letters other than A, C, G, T and N, or for those that are no amino acids.

    Parameters
    ----------
    codes
        Shape (nucleotide,), dtype uint8, upper-case ASCII letters.
    other_letters
        ``"refuse"`` raises; ``"N"`` reads them as N. For proteins they can only be refused.
    where
        Says where the nucleotide of an index came from (file and line), for the message.
    alphabet
        ``"dna"`` (default), or ``"protein"``: the twenty amino acids, X, B, Z, U, O and J.

    Returns
    -------
    numpy.ndarray
        Shape (nucleotide,), dtype uint8: the input itself where nothing had to change.

    Raises
    ------
    InputError
        If there is such a letter and the rule is to refuse it.

    Examples
    --------
    >>> decode(clean_letters(encode("ACRT"), "N", str))
    'ACNT'
    """
    odd = np.flatnonzero(~_PLAIN[codes] if alphabet == "dna" else _NOT_IN["protein"][codes])
    if not odd.size:
        return codes
    letter, place = chr(codes[odd[0]]), where(int(odd[0]))
    if alphabet == "protein":
        stop = " Translate without the stop codon, or remove it." if letter == "*" else ""
        raise InputError(f"{place}: letter {letter!r} is no amino acid, and none of X, B, Z, U, O, J.{stop}")
    if other_letters == "refuse":
        hint = " For RNA, write T for U first." if letter == "U" else ""
        if set(b"EFILPQ") & set(codes[odd].tolist()):  # amino acids whose letters stand for no nucleotides
            hint = " If these are proteins, pass alphabet='protein'."
        raise InputError(
            f"{place}: letter {letter!r} is none of A, C, G, T, N. Pass other_letters='N' to read "
            f"such letters as N.{hint}"
        )
    codes = codes.copy()
    codes[odd] = ord("N")
    return codes


def gc_fraction(codes: NDArray[np.uint8]) -> float:
    """Return the share of G and C among the letters A, C, G and T.

    Parameters
    ----------
    codes
        Shape (nucleotide,), dtype uint8, upper-case ASCII letters.

    Returns
    -------
    float
        Between 0 and 1; NaN where the sequence has none of the four letters.

    Examples
    --------
    >>> gc_fraction(encode("GGCAN"))
    0.75
    """
    counts = np.bincount(codes, minlength=256)
    strong, weak = counts[[ord("C"), ord("G")]].sum(), counts[[ord("A"), ord("T")]].sum()
    return float(strong / (strong + weak)) if strong + weak else float("nan")


def one_hot(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the one-hot form of a sequence.

    Parameters
    ----------
    codes
        Shape (nucleotide,), dtype uint8, upper-case ASCII letters.

    Returns
    -------
    numpy.ndarray
        Shape (nucleotide, 4), dtype float32, channels in the order A, C, G, T. Any other letter, N among them,
        is all zero, so that it is never taken for an A.

    Examples
    --------
    >>> one_hot(encode("CN"))
    array([[0., 1., 0., 0.],
           [0., 0., 0., 0.]], dtype=float32)
    """
    return _ONE_HOT[codes]


def check_letters(codes: NDArray[np.uint8], alphabet: Alphabet, what: str) -> None:
    """Raise where a sequence cannot be of an alphabet.

    Parameters
    ----------
    codes
        Shape (letter,), dtype uint8, upper-case ASCII letters.
    alphabet
        ``"dna"``: the letters must be IUPAC nucleotide codes. ``"protein"``: they must be amino acids, X, B, Z, U, O or
        J, and a sequence of thirty letters or more must not be made of nucleotide letters alone, with all of A, C, G
        and T (or U) among them: no protein known is.
    what
        Begins the message.

    Raises
    ------
    InputError
        Naming the first wrong letter and its position.
    """
    wrong = _NOT_IN[alphabet][codes]
    if wrong.any():
        place = int(wrong.argmax())
        letter = chr(codes[place])
        looks = " The sequence looks like a protein." if letter in AMINO_ACIDS else ""
        wanted = "nucleotides (IUPAC codes)" if alphabet == "dna" else "amino acids"
        raise InputError(f"{what} takes {wanted}; letter {place + 1} of the sequence is {letter!r}.{looks}")
    if alphabet == "protein" and len(codes) >= _LONG and not _NOT_NUCLEOTIDE[codes].any():
        seen = set(np.flatnonzero(np.bincount(codes)).tolist())
        if seen >= set(b"ACG") and seen & set(b"TU"):
            raise InputError(
                f"{what} takes amino acids; a sequence of {len(codes):,} letters, all of them A, C, G, T, U or N, "
                "looks like DNA. Translate it first."
            )
