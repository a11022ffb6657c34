"""Tokenizers of learned words (DNABERT-2, GENA-LM, ModernGENA), which the ``tokenizers`` package runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from embedstore.errors import CheckpointError
from embedstore.tokenizers.tokens import Tokens

if TYPE_CHECKING:
    from pathlib import Path

    import tokenizers

    from embedstore.tokenizers.tokens import Alphabet


@dataclass(frozen=True)
class BpeTokenizer:
    """Cut nucleotide sequences as a tokenizer file says, and give every letter to a token.

    The offsets in a text that the package reports need not tile it: GENA-LM reads a run of ten or more N as one ``-``,
    whose offsets are those of the last N. So a token stands for all letters from the end of the token before it to its
    own end, and the last one for all that remain.

    Parameters
    ----------
    backend
        The tokenizer, without truncation and padding.
    unknown_id
        Id of the unknown token.
    prefix, suffix
        Ids of the special tokens before and after a sequence.

    Examples
    --------
    >>> import tokenizers
    >>> vocabulary = {"[UNK]": 0, "A": 1, "C": 2, "G": 3, "T": 4, "AC": 5}
    >>> model = tokenizers.models.BPE(vocabulary, [("A", "C")], unk_token="[UNK]")
    >>> tokenizer = BpeTokenizer(tokenizers.Tokenizer(model), unknown_id=0, prefix=(), suffix=())
    >>> tokenizer.encode(np.frombuffer(b"ACGN", np.uint8))
    Tokens(ids=array([5, 3, 0]), span=array([2, 1, 1], dtype=int32))

    References
    ----------
    Zhou et al. 2024, ICLR, arXiv:2306.15006 (DNABERT-2). Fishman et al. 2025, Nucleic Acids Research 53:gkae1310
    (GENA-LM).
    """

    alphabet: ClassVar[Alphabet] = "dna"
    regular: ClassVar[bool] = False
    frame: ClassVar[int] = 1

    backend: tokenizers.Tokenizer
    unknown_id: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @classmethod
    def from_folder(cls, folder: Path) -> BpeTokenizer:
        """Make the tokenizer from the ``tokenizer.json`` of a checkpoint folder.

        Parameters
        ----------
        folder
            The checkpoint. Which special tokens surround a sequence is seen by encoding a short one with and without
            them; truncation and padding that the file asks for are switched off.

        Returns
        -------
        BpeTokenizer

        Raises
        ------
        CheckpointError
            If the file cannot be read, has no unknown token, or gives a sequence no tokens.
        """
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        try:
            backend = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the package raises bare Exception
            raise CheckpointError(f"{path}: cannot read the tokenizer: {type(error).__name__}: {error}") from error
        backend.no_truncation()
        backend.no_padding()
        unknown = getattr(backend.model, "unk_token", None)
        unknown_id = backend.token_to_id(unknown or "")
        if unknown_id is None:
            raise CheckpointError(f"{path}: the unknown token is {unknown!r}; wanted: one of the vocabulary.")
        probe = backend.encode("ACGT")
        inner = [i for i, sequence in enumerate(probe.sequence_ids) if sequence is not None]
        if not inner:
            raise CheckpointError(
                f"{path}: the tokens of ACGT are {probe.tokens}; wanted: at least one of its letters."
            )
        return cls(backend, unknown_id, tuple(probe.ids[: inner[0]]), tuple(probe.ids[inner[-1] + 1 :]))

    @property
    def description(self) -> str:
        """What it does, in words."""
        return "words of tokenizer.json; a token stands for the letters from the end of the one before to its own end"

    @property
    def size(self) -> int:
        """One more than the largest id that can be given."""
        return 1 + max(self.backend.get_vocab().values())

    def encode(self, codes: np.ndarray) -> Tokens:
        """Cut a sequence into tokens.

        Parameters
        ----------
        codes
            Upper-case ASCII letters, shape (nucleotide,), uint8.

        Returns
        -------
        Tokens
            Ids and spans, without special tokens.

        Raises
        ------
        CheckpointError
            If a token would stand for no letter.
        """
        # latin-1 makes one character of every byte, so that offsets count bytes whatever they are.
        text = codes.tobytes().decode("latin-1")
        encoding = self.backend.encode(text, add_special_tokens=False)
        end = np.array([stop for _, stop in encoding.offsets], np.int32)
        end[-1:] = len(text)
        span = np.diff(end, prepend=np.int32(0))
        if span.sum() != len(text) or (span <= 0).any():
            bad = next((token for token, letters in zip(encoding.tokens, span, strict=True) if letters <= 0), None)
            raise CheckpointError(
                f"The tokens of tokenizer.json do not tile a sequence of {len(text):,} letters: "
                f"{f'{bad!r} stands for no letter' if bad else 'there are none'}; wanted: tokens that each end at a "
                "later letter than the one before. This tokenizer is not one of nucleotides and cannot be used."
            )
        return Tokens(np.array(encoding.ids, np.int64), span)
