"""The one-letter tokenizer of BEND's and GPN's convolutional models, read from ``tokenizer.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import CheckpointError
from embedstore.tokenizers.tokens import Tokens

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class CharacterTokenizer:
    """One token per letter.

    Parameters
    ----------
    table
        Id of every ASCII code, shape (256,), int64; letters outside the vocabulary have the id `unknown_id`.
    unknown_id, mask_id
        Ids of ``[UNK]`` and ``[MASK]``.

    Examples
    --------
    >>> import numpy as np
    >>> table = np.full(256, 2)
    >>> table[list(b"ACGT")] = [3, 4, 5, 6]
    >>> CharacterTokenizer(table, unknown_id=2, mask_id=1).encode(np.frombuffer(b"GATN", np.uint8)).ids
    array([5, 3, 6, 2])
    """

    table: np.ndarray
    unknown_id: int
    mask_id: int

    @classmethod
    def from_folder(cls, folder: Path) -> CharacterTokenizer:
        """Make the tokenizer from the ``tokenizer.json`` of a checkpoint folder.

        Parameters
        ----------
        folder
            The checkpoint. The vocabulary must hold single letters (of either case, with a lower-casing normalizer)
            and bracketed special tokens, without merges and without tokens that are added around a sequence.

        Returns
        -------
        CharacterTokenizer

        Raises
        ------
        CheckpointError
            If the file cannot be read or does more than map single letters.
        """
        path = folder / "tokenizer.json"
        try:
            spec = json.loads(path.read_text(encoding="utf-8"))
            vocabulary = {str(word): int(i) for word, i in spec["model"]["vocab"].items()}
            lower = (spec.get("normalizer") or {}).get("type") == "Lowercase"
            problems = _not_letters(spec, vocabulary)
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: cannot read the tokenizer: {type(error).__name__}: {error}") from error
        if problems:
            raise CheckpointError(f"{path}: not a tokenizer of single letters: {'; '.join(problems)}.")
        table = np.full(256, vocabulary["[UNK]"], np.int64)
        for word, i in vocabulary.items():
            if len(word) == 1:
                table[ord(word)] = i
        if lower:
            table[ord("A") : ord("Z") + 1] = table[ord("a") : ord("z") + 1]
        return cls(table, vocabulary["[UNK]"], vocabulary["[MASK]"])

    @property
    def description(self) -> str:
        """What it does, in words."""
        return "single letters"

    @property
    def size(self) -> int:
        """One more than the largest id that can be given."""
        return 1 + int(max(self.table.max(), self.mask_id))

    def encode(self, codes: np.ndarray) -> Tokens:
        """Give every letter its id.

        Parameters
        ----------
        codes
            Upper-case ASCII letters, shape (nucleotide,), uint8.

        Returns
        -------
        Tokens
            One token per nucleotide.
        """
        return Tokens(self.table[codes], np.ones(len(codes), np.int32))


def _not_letters(spec: dict[str, Any], vocabulary: dict[str, int]) -> list[str]:
    """Name what a tokenizer file does beyond mapping single letters."""
    problems = []
    long = [word for word in vocabulary if len(word) != 1 and not (word[:1] == "[" and word[-1:] == "]")]
    if long or spec["model"].get("merges"):
        problems.append(f"it has words of several letters or merges ({long[:5]})")
    if any(len(word) == 1 and ord(word) > 127 for word in vocabulary):
        problems.append("it has letters outside ASCII")
    problems += [f"it lacks {word}" for word in ("[UNK]", "[MASK]") if word not in vocabulary]
    if (spec.get("normalizer") or {"type": "Lowercase"})["type"] != "Lowercase":
        problems.append(f"normalizer {spec['normalizer']['type']!r} is not known here")
    problems += [f"it has a {part}" for part in ("pre_tokenizer", "post_processor") if spec.get(part) is not None]
    return problems
