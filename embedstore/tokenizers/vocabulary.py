"""What the tokenizers share: vocabulary files, and tables of all words of k nucleotides."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

NUCLEOTIDES = "ACGT"
_BASE = len(NUCLEOTIDES) + 1  # digit 4 is any other letter
_POWERS = float(_BASE) ** np.arange(13)[::-1]


def read_words(path: Path) -> list[str]:
    """Read a vocabulary file with one word per line.

    Parameters
    ----------
    path
        The file; the number of a line, from 0, is the id of its word.

    Returns
    -------
    list of str
        The words in the order of their ids.

    Raises
    ------
    CheckpointError
        If the file cannot be read as text.
    """
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot read the vocabulary: {error}") from error
    return [line.strip() for line in lines]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that describes a tokenizer.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict
        The object in it.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # a UnicodeDecodeError and a JSONDecodeError are ValueErrors
        raise CheckpointError(f"{path}: cannot read the tokenizer: {type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: cannot read the tokenizer: {type(content).__name__} seen, an object wanted.")
    return content


def number_words(words: Sequence[str], wanted: Iterable[str], source: str) -> dict[str, int]:
    """Return the id of every word.

    Parameters
    ----------
    words
        All words in the order of their ids.
    wanted
        Words that must be there.
    source
        Where the words come from, for error messages.

    Returns
    -------
    dict of str to int

    Raises
    ------
    CheckpointError
        If a word is there twice, or one that must be there is not.

    Examples
    --------
    >>> number_words(["<unk>", "A"], ["<unk>"], "the vocabulary")
    {'<unk>': 0, 'A': 1}
    """
    ids = {word: i for i, word in enumerate(words)}
    if len(ids) < len(words):
        twice = [word for i, word in enumerate(words) if ids[word] != i]
        raise CheckpointError(f"{source}: the words {twice[:5]} are there more than once.")
    missing = [word for word in wanted if word not in ids]
    if missing:
        raise CheckpointError(f"{source}: not a vocabulary of this model: it lacks the words {missing[:5]}.")
    return ids


def word_length(ids: Iterable[str]) -> int:
    """Return the length of the longest word of A, C, G and T; 0 when there is none.

    Parameters
    ----------
    ids
        The words of a vocabulary.

    Returns
    -------
    int

    Examples
    --------
    >>> word_length(["[CLS]", "ACG", "N"])
    3
    """
    return max((len(word) for word in ids if word and set(word) <= set(NUCLEOTIDES)), default=0)


def word_table(ids: dict[str, int], k: int, unknown_id: int, source: str) -> np.ndarray:
    """Return the ids of all words of k letters, to be looked up by the numbers that `pack` gives.

    Parameters
    ----------
    ids
        Id of every word of the vocabulary.
    k
        Letters of a word.
    unknown_id
        Id of words with another letter than A, C, G, T.
    source
        Where the words come from, for error messages.

    Returns
    -------
    ndarray
        Shape (5 ** k,), int64.

    Raises
    ------
    CheckpointError
        If a word of A, C, G and T is missing.
    """
    # Names of missing words are taken one by one: 4 ** k words are more than the memory holds when k is not meant.
    words = ("".join(letters) for letters in itertools.product(NUCLEOTIDES, repeat=k))
    missing = list(itertools.islice((word for word in words if word not in ids), 5))
    if missing or not k:
        raise CheckpointError(
            f"{source}: not a vocabulary of words of {k} nucleotides: it lacks {missing}; wanted: every word of the "
            "letters A, C, G, T with as many letters as the longest one."
        )
    table = np.full((_BASE,) * k, unknown_id, np.int64)
    known = [ids["".join(letters)] for letters in itertools.product(NUCLEOTIDES, repeat=k)]
    table[(slice(len(NUCLEOTIDES)),) * k] = np.reshape(known, (len(NUCLEOTIDES),) * k)
    return table.ravel()


def digit_table(letters: str) -> np.ndarray:
    """Return the place of every ASCII code in some letters.

    Parameters
    ----------
    letters
        Different ASCII letters.

    Returns
    -------
    ndarray
        Shape (256,), uint8; ``len(letters)`` for all other codes.

    Examples
    --------
    >>> digit_table("ACGT")[list(b"GATN")]
    array([2, 0, 3, 4], dtype=uint8)
    """
    table = np.full(256, len(letters), np.uint8)
    table[list(letters.encode())] = np.arange(len(letters))
    return table


def pack(digits: np.ndarray, k: int) -> np.ndarray:
    """Return, for every window of k letters, the number under which `word_table` has its id.

    Parameters
    ----------
    digits
        0 to 3 for A, C, G, T and 4 for others, shape (..., nucleotide), uint8.
    k
        Letters of a window, 1 to 13.

    Returns
    -------
    ndarray
        The digits of each window read in base 5, shape (..., nucleotide - k + 1) or (..., 0), int64.

    Examples
    --------
    >>> pack(np.array([0, 1, 4], np.uint8), 2)
    array([1, 9])
    """
    if digits.shape[-1] < k:
        return np.zeros((*digits.shape[:-1], 0), np.int64)
    # All sequences in one row; the windows across two of them, which end the rows of the result, are left out.
    numbers = np.zeros(digits.shape, np.int64)
    # float64 holds these whole numbers exactly, and its dot products are the fast ones.
    numbers.ravel()[: digits.size - k + 1] = np.correlate(digits.ravel(), _POWERS[-k:], "valid")
    return numbers[..., : digits.shape[-1] - k + 1]


def pack_words(digits: np.ndarray, k: int) -> np.ndarray:
    """Return, for every word of k letters, one after the other, the number under which `word_table` has its id.

    Parameters
    ----------
    digits
        0 to 3 for A, C, G, T and 4 for others, shape (..., k x word), uint8.
    k
        Letters of a word, 1 to 13.

    Returns
    -------
    ndarray
        The digits of each word read in base 5, shape (..., word), int64.

    Examples
    --------
    >>> pack_words(np.array([0, 1, 4, 4], np.uint8), 2)
    array([ 1, 24])
    """
    numbers: np.ndarray = digits.reshape(*digits.shape[:-1], -1, k) @ _POWERS[-k:]
    return numbers.astype(np.int64)
