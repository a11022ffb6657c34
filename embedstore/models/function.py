"""Encoders that are no checkpoint of a known architecture: one Python function, found by its entry point.

A distribution announces its encoder in the entry-point group ``embedstore.models``; the name is the model's id::

    [project.entry-points."embedstore.models"]
    my_encoder = "my_package.encoder:encode"

The function takes a list of sequences (upper-case text) and returns, for each of them, its rows, shape (row, channel),
float32, and the letters that each row stands for, shape (row,), whole numbers that add up to the sequence's length.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from embedstore.errors import InputError
from embedstore.models.model import Model
from embedstore.models.network import Network
from embedstore.models.records import encoder_name, installed, origin
from embedstore.models.windows import Piece, WindowRule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstore.models.layers import Layer
    from embedstore.tokenizers.tokens import Alphabet

    Answer = Sequence[tuple[np.ndarray, np.ndarray]]
    Encoder = Callable[[list[str]], Answer]

_BEGINS = 256  # added to the letter at which a row begins: the ids say what was sent and which rows were announced
# Letters that are both nucleotides and amino acids, whole codons without a stop, of two lengths.
_TRIAL = ["ATGGCCATTGTCATGGGCCGCGGA", "ATGTGGTACTCC"]


def load_function(encoder: str, *, name: str | None = None, device: str | torch.device = "cpu") -> Model:
    """Import an installed encoder and try it.

    Parameters
    ----------
    encoder
        Its name in `embedstore.models.records.installed`.
    name
        Under which embeddings are stored. Default: the encoder's name.
    device
        Where its rows are handed over; the function decides where it computes.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        If it cannot be imported, is no function, or fails its trial.
    """
    point = installed()[encoder]
    version = origin(point)
    try:
        function = point.load()
    except Exception as error:
        # Importing runs foreign code, which may raise anything.
        raise InputError(f"{encoder_name(encoder, version)}, cannot be imported: {_what(error)}") from error
    if not callable(function):
        raise InputError(f"{encoder_name(encoder, version)}, is a {type(function).__name__}; wanted a function.")
    return function_model(name or encoder, function, version=version, device=device)


def function_model(name: str, function: Encoder, *, version: str, device: str | torch.device = "cpu") -> Model:
    """Make a model of a function after trying it on two short sequences.

    Parameters
    ----------
    name
        Under which embeddings are stored.
    function
        Takes a list of sequences; returns for each a pair of arrays: rows, shape (row, channel), float32, and spans,
        shape (row,), the letters that each row stands for. Where it has an attribute ``spans``, a function of the same
        list that returns the spans alone, that one is asked where rows are only counted. Where it has an attribute
        ``alphabet = "protein"``, its sequences are proteins.
    version
        What says which function this is: embeddings of another version are not mixed with its own.
    device
        Where its rows are handed over.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        If an answer is not as described; the message names the function, the sequence and what was wanted.

    Examples
    --------
    >>> table = np.eye(128, dtype=np.float32)
    >>> def encode(sequences):
    ...     return [(table[list(text.encode())], np.ones(len(text), int)) for text in sequences]
    >>> function_model("letters", encode, version="1").width
    128
    """
    who = encoder_name(name, version)
    alphabet: Alphabet = getattr(function, "alphabet", "dna")
    if alphabet not in ("dna", "protein"):
        raise InputError(f"{who}, has the attribute alphabet = {alphabet!r}; wanted 'dna' or 'protein'.")
    rows, _ = _ask(who, function, _TRIAL)[0]
    model = Model(
        name,
        _FunctionNetwork(who, function, rows.shape[1]),
        _announced(who, function),
        alphabet=alphabet,
        layer=-1,
        precision="float32",
        device=device,
        record={"id": name, "architecture": "function", "tokenizer": version, "rules": "authors"},
        digest=hashlib.sha256(version.encode()).hexdigest(),
    )
    for text in _TRIAL:
        (piece,) = model.pieces(np.frombuffer(text.encode(), np.uint8))
        model.hidden(torch.from_numpy(piece.ids)[None].to(model.device))
    return model


class _FunctionNetwork(Network):
    """A function in the place of a network. Its ids are letters, marked where a row was announced to begin."""

    def __init__(self, who: str, function: Encoder, width: int) -> None:
        super().__init__()
        self.width = width
        self.layers = 0
        self._who = who
        self._function = function

    def forward(self, ids: Tensor, layer: Layer = -1, lengths: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Run the function on sequences with as many letters; see `Network.forward`."""
        marked = ids.cpu().numpy()
        texts = [row.astype(np.uint8).tobytes().decode("ascii") for row in marked % _BEGINS]
        answer = _ask(self._who, self._function, texts)
        for text, letters, (rows, span) in zip(texts, marked, answer, strict=True):
            announced = np.diff(np.append(np.flatnonzero(letters >= _BEGINS), len(letters)))
            if not np.array_equal(span, announced):
                raise _fault(
                    self._who, text, f"the spans {_short(span)}", f"those announced before: {_short(announced)}"
                )
            if rows.shape[1] != self.width:
                raise _fault(self._who, text, f"{rows.shape[1]} channels", f"{self.width}, as in its trial")
        # Sequences of one length may have different numbers of rows; those that a sequence lacks are zero and not read.
        hidden = np.zeros((len(answer), max(len(rows) for rows, _ in answer), self.width), np.float32)
        for here, (rows, _) in zip(hidden, answer, strict=True):
            here[: len(rows)] = rows
        return torch.from_numpy(hidden).to(ids.device)


def _announced(who: str, function: Encoder) -> WindowRule:
    """Return the rule that makes one piece of a sequence: its letters, marked where a row begins."""
    announce = getattr(function, "spans", None)

    def cut(codes: np.ndarray) -> list[Piece]:
        text = codes.tobytes().decode("ascii")
        if announce is None:
            ((_, span),) = _ask(who, function, [text])
        else:
            asked = f"{who}, attribute spans"
            span = _spans(asked, text, _call(asked, announce, [text])[0])
        ids = codes.astype(np.int64)
        ids[np.cumsum(span) - span] += _BEGINS
        return [Piece(ids, 0, span)]

    return WindowRule("whole sequences", cut)


# ---- asking a function, and checking what it says ------------------------------------------------


def _ask(who: str, function: Encoder, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rows (row, channel) float32 and spans (row,) int32 of each sequence."""
    found = []
    for text, pair in zip(texts, _call(who, function, texts), strict=True):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise _fault(who, text, _form(pair), "a pair: rows and spans")
        rows, span = pair[0], _spans(who, text, pair[1])
        if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind != "f" or not rows.shape[1]:
            raise _fault(who, text, f"{_form(rows)} as rows", "a numpy array (row, channel) of float32")
        if len(rows) != len(span):
            raise _fault(who, text, f"{len(rows)} rows and {len(span)} spans", "one span for each row")
        found.append((rows.astype(np.float32), span))
    return found


def _call(who: str, function: Callable[[list[str]], Any], texts: list[str]) -> Sequence[Any]:
    """Call a function that must answer with a list, one entry for each sequence."""
    try:
        answer = function(list(texts))
    except Exception as error:
        # It is foreign code, which may raise anything.
        raise InputError(
            f"{who}, failed on {len(texts)} sequences, the first {_cut(texts[0])}: {_what(error)}"
        ) from error
    if not isinstance(answer, tuple | list) or len(answer) != len(texts):
        raise InputError(
            f"{who}, gave {_form(answer)} for {len(texts)} sequences; wanted a list with one entry for each."
        )
    return answer


def _spans(who: str, text: str, span: object) -> np.ndarray:
    """Return spans, shape (row,) int32, after making sure that they tile a sequence."""
    wanted = f"a numpy array (row,) of whole numbers above 0 that add up to {len(text)}"
    if not isinstance(span, np.ndarray) or span.ndim != 1 or span.dtype.kind not in "iu":
        raise _fault(who, text, f"{_form(span)} as spans", wanted)
    if not len(span) or span.min() < 1 or span.sum() != len(text):
        raise _fault(who, text, f"the spans {_short(span)} (sum {span.sum()})", wanted)
    return span.astype(np.int32)


def _fault(who: str, text: str, seen: str, wanted: str) -> InputError:
    return InputError(f"{who}, gave {seen} for the sequence {_cut(text)}; wanted {wanted}.")


def _cut(text: str) -> str:
    """Return a sequence short enough for a message."""
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}... ({len(text):,} letters)"


def _short(span: np.ndarray) -> str:
    """Return spans short enough for a message."""
    return np.array2string(span, threshold=12)


def _form(thing: object) -> str:
    """Return what kind of thing something is."""
    if isinstance(thing, np.ndarray):
        return f"an array {list(thing.shape)} of {thing.dtype}"
    return f"a {type(thing).__name__}" + (f" of {len(thing)}" if isinstance(thing, tuple | list) else "")


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
