"""Tokenizers of single letters as a lookup table: convolutional, long-context and protein models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from embedstore.errors import CheckpointError
from embedstore.tokenizers.tokens import Tokens
from embedstore.tokenizers.vocabulary import number_words, read_json, read_words

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from embedstore.tokenizers.tokens import Alphabet

_RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
# The code of HyenaDNA and Caduceus numbers these, then the letters; no file of the checkpoint lists them.
_SPECIAL = ("[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]")


@dataclass(frozen=True)
class CharacterTokenizer:
    """One token per letter.

    Parameters
    ----------
    table
        Id of every ASCII code, shape (256,), int64; letters outside the vocabulary have the id `unknown_id`.
    unknown_id
        Id of ``[UNK]`` or ``<unk>``.
    mask_id
        Id of ``[MASK]`` or ``<mask>``; None (default) where the model has none.
    prefix, suffix
        Ids of the special tokens before and after a sequence; default: none.
    alphabet
        ``"dna"`` (default) or ``"protein"``.
    description
        What it does, in words.

    Examples
    --------
    >>> import numpy as np
    >>> table = np.full(256, 2)
    >>> table[list(b"ACGT")] = [3, 4, 5, 6]
    >>> CharacterTokenizer(table, unknown_id=2, mask_id=1).encode(np.frombuffer(b"GATN", np.uint8)).ids
    array([5, 3, 6, 2])
    """

    regular: ClassVar[bool] = True
    frame: ClassVar[int] = 1

    table: np.ndarray
    unknown_id: int
    mask_id: int | None = None
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    alphabet: Alphabet = "dna"
    description: str = "single letters"

    @classmethod
    def from_folder(cls, folder: Path) -> CharacterTokenizer:
        """Make the tokenizer from ``tokenizer.json``: the models of BEND and GPN, and ESM-C.

        Parameters
        ----------
        folder
            The checkpoint. The vocabulary must hold single letters (of either case, with a lower-casing normalizer)
            and special tokens in brackets, without merges. It is one of proteins when it has all 20 amino acids.

        Returns
        -------
        CharacterTokenizer

        Raises
        ------
        CheckpointError
            If the file cannot be read or does more than map single letters and put special tokens around them.
        """
        path = folder / "tokenizer.json"
        spec = read_json(path)
        try:
            ids = {str(word): int(i) for word, i in spec["model"]["vocab"].items()}
            unknown = ids[spec["model"]["unk_token"]]
            lower = (spec.get("normalizer") or {}).get("type") == "Lowercase"
            prefix, suffix = _template(spec.get("post_processor"))
            problems = _not_letters(spec, ids)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: cannot read the tokenizer: {type(error).__name__}: {error}") from error
        if problems:
            raise CheckpointError(f"{path}: not a tokenizer of single letters: {'; '.join(problems)}.")
        table = _letter_table(ids, unknown)
        if lower:
            table[ord("A") : ord("Z") + 1] = table[ord("a") : ord("z") + 1]
        alphabet: Alphabet = "protein" if ids.keys() >= set(_RESIDUES) else "dna"
        return cls(table, unknown, ids.get("[MASK]", ids.get("<mask>")), prefix, suffix, alphabet)

    @classmethod
    def from_characters(
        cls, folder: Path, prefix: Iterable[str] = (), suffix: Iterable[str] = ()
    ) -> CharacterTokenizer:
        """Make the tokenizer from the list of letters in ``tokenizer_config.json``: HyenaDNA and Caduceus.

        Seven special tokens have the ids 0 to 6, the letters those from 7 in the order of the list.

        Parameters
        ----------
        folder
            The checkpoint. Its ``tokenizer_config.json`` has the field ``characters``.
        prefix, suffix
            The special tokens before and after a sequence; default: none, as for Caduceus. HyenaDNA on the hub has the
            suffix ``["[SEP]"]``; with its original code there is the prefix ``["[CLS]"]`` too.

        Returns
        -------
        CharacterTokenizer

        Raises
        ------
        CheckpointError
            If the file cannot be read or the field is not a list of different ASCII letters.
        """
        path = folder / "tokenizer_config.json"
        letters = read_json(path).get("characters")
        if not isinstance(letters, list) or not all(
            isinstance(c, str) and len(c) == 1 and c.isascii() for c in letters
        ):
            raise CheckpointError(f"{path}: characters is {letters!r}; wanted: a list of ASCII letters.")
        ids = number_words([*_SPECIAL, *letters], (), str(path))
        unknown, mask = ids["[UNK]"], ids["[MASK]"]
        before, after = (tuple(ids[word] for word in words) for words in (prefix, suffix))
        return cls(_letter_table(ids, unknown), unknown, mask, before, after)

    @classmethod
    def from_vocabulary(cls, folder: Path) -> CharacterTokenizer:
        """Make the tokenizer from ``vocab.txt``: ESM-1b and ESM-2.

        Every letter outside the vocabulary is an ``<unk>`` of its own. `EsmTokenizer` of transformers makes one of a
        whole run of them, so that the rows after it no longer belong to the residues of the same number.

        Parameters
        ----------
        folder
            The checkpoint. Its ``vocab.txt`` has one word per line; the line number, from 0, is the id.

        Returns
        -------
        CharacterTokenizer

        Raises
        ------
        CheckpointError
            If the file cannot be read, has a word of several letters, or lacks an amino acid, ``<unk>``, ``<cls>`` or
            ``<eos>``.
        """
        path = folder / "vocab.txt"
        ids = number_words(read_words(path), ["<unk>", "<cls>", "<eos>", *_RESIDUES], str(path))
        words = [word for word in ids if len(word) > 1 and not _is_special(word)]
        if words:
            raise CheckpointError(f"{path}: not a vocabulary of single residues: it has the words {words[:5]}.")
        unknown = ids["<unk>"]
        table = _letter_table(ids, unknown)
        return cls(table, unknown, ids.get("<mask>"), (ids["<cls>"],), (ids["<eos>"],), alphabet="protein")

    @classmethod
    def from_sentencepiece(cls, folder: Path) -> CharacterTokenizer:
        """Make the tokenizer from ``spiece.model``: ProtT5.

        The rare residues U, Z, O and B are read as X, as the authors of the model do. Every letter that has no piece
        is an ``<unk>`` of its own, where the ``sentencepiece`` package makes one of a whole run of them.

        Parameters
        ----------
        folder
            The checkpoint. Its ``spiece.model`` has one piece per residue, with the mark of a word's beginning.

        Returns
        -------
        CharacterTokenizer

        Raises
        ------
        CheckpointError
            If the file cannot be read, or lacks a piece for an amino acid or X, or ``</s>``.

        References
        ----------
        Elnaggar et al. 2022, IEEE TPAMI 44:7112.
        """
        from sentencepiece import SentencePieceProcessor

        path = folder / "spiece.model"
        try:
            pieces = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{path}: cannot read the tokenizer: {error}") from error
        unknown, end = pieces.unk_id(), pieces.eos_id()
        table = np.array([pieces.piece_to_id(f"\u2581{chr(code)}") for code in range(256)], np.int64)
        missing = [letter for letter in _RESIDUES + "X" if table[ord(letter)] == unknown] + ["</s>"] * (end < 0)
        if missing:
            raise CheckpointError(f"{path}: not a tokenizer of single residues: it lacks pieces for {missing[:5]}.")
        table[list(b"UZOB")] = table[ord("X")]
        words = "single letters; U, Z, O and B are read as X"
        return cls(table, unknown, None, (), (end,), alphabet="protein", description=words)

    @property
    def size(self) -> int:
        """One more than the largest id that can be given."""
        mask = () if self.mask_id is None else (self.mask_id,)
        return 1 + int(max(self.table.max(), *mask, *self.prefix, *self.suffix, self.unknown_id))

    def encode(self, codes: np.ndarray) -> Tokens:
        """Give every letter its id.

        Parameters
        ----------
        codes
            Upper-case ASCII letters, shape (letter,) or (sequence, letter), uint8.

        Returns
        -------
        Tokens
            One token per letter, without special tokens.
        """
        return Tokens(self.table.take(codes), np.ones(codes.shape[-1], np.int32))


def _letter_table(ids: dict[str, int], unknown: int) -> np.ndarray:
    """Return the id of every ASCII code."""
    return np.array([ids.get(chr(code), unknown) for code in range(256)], np.int64)


def _is_special(word: str) -> bool:
    return word[:1] + word[-1:] in ("[]", "<>")


def _template(processor: dict[str, Any] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids that a tokenizer file puts before and after one sequence."""
    if processor is None:
        return (), ()
    if processor["type"] != "TemplateProcessing":
        raise ValueError(f"post_processor {processor['type']!r} is not known here")
    before: list[int] = []
    after: list[int] = []
    now = before
    for part in processor["single"]:
        if "Sequence" in part:
            now = after
        else:
            now += processor["special_tokens"][part["SpecialToken"]["id"]]["ids"]
    return tuple(before), tuple(after)


def _not_letters(spec: dict[str, Any], ids: dict[str, int]) -> list[str]:
    """Name what a tokenizer file does beyond mapping single letters."""
    problems = []
    long = [word for word in ids if len(word) != 1 and not _is_special(word)]
    if long or spec["model"].get("merges"):
        problems.append(f"it has words of several letters or merges ({long[:5]})")
    if any(len(word) == 1 and ord(word) > 127 for word in ids):
        problems.append("it has letters outside ASCII")
    if (spec.get("normalizer") or {"type": "Lowercase"})["type"] != "Lowercase":
        problems.append(f"normalizer {spec['normalizer']['type']!r} is not known here")
    if spec.get("pre_tokenizer") is not None:
        problems.append("it has a pre_tokenizer")
    return problems
