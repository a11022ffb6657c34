"""Log probabilities of nucleotides in place of hidden states: the scores of a language model's head, to be embedded.

What `letter_model` gives is a model like any other: a store keeps its rows, of all positions or some, and goes on after
an interruption as it does with hidden states.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch.nn import functional

from embedstore.errors import CheckpointError, InputError
from embedstore.models.model import Model
from embedstore.models.network import Network
from embedstore.models.windows import Piece, WindowRule
from embedstore.tokenizers import CharacterTokenizer, CodonTokenizer, KmerTokenizer, OverlappingKmerTokenizer
from embedstore.tokenizers.vocabulary import NUCLEOTIDES, read_json, read_words

if TYPE_CHECKING:
    from torch import Tensor

    from embedstore.models.layers import Layer
    from embedstore.tokenizers import Tokenizer

Kind = Literal["letters", "sequence"]

UNKNOWN = math.log(1 / len(NUCLEOTIDES))
"""Log probability of a letter where the model says nothing: log 1/4."""

_CAUSAL = ("hyenadna", "awd_lstm")
_TRIAL = b"ACGTACGTACGT"  # whole codons, and longer than any k-mer
_MASKS = ("<mask>", "[MASK]")
# The letter N is read as one of these: tokens that differ between the two readings hold an N.
_READINGS = (ord("A"), ord("C"))


class _Words(NamedTuple):
    """What the tokens of a model are.

    Attributes
    ----------
    letters
        Nucleotides of a full token, k.
    candidates
        Id of the token with another letter in it, shape (id, 4 * k): with A, C, G, T as its first letter, then as its
        second, ...; -1 where there is none.
    whole
        Whether an id is of a full token, shape (id,), bool.
    before
        Special tokens before a sequence.
    mask
        Id of the mask token; None where the model has none.
    """

    letters: int
    candidates: np.ndarray
    whole: np.ndarray
    before: int
    mask: int | None


def is_causal(model: Model) -> bool:
    """Tell whether a model predicts each letter from those before it alone.

    Parameters
    ----------
    model
        From `embedstore.models.load`.

    Returns
    -------
    bool
        False for models that see both sides.
    """
    return model.record["architecture"] in _CAUSAL


def letter_model(model: Model, kind: Kind = "letters") -> Model:
    """Make a model whose rows are log probabilities of nucleotides, to be given to `embedstore.embed`.

    They are the logarithms of the softmax over the whole vocabulary, special tokens included, in float32 on the
    device. Embed with ``dtype="float32"``. `analysis.likelihood` makes scores of variants from the rows.

    Of models that see both sides (trained on masks), the letter N in a sequence is a mask: tokens that hold one are
    replaced by the mask token, whether the N was planted or is the genome's; row t says what the model makes of token
    t (masked marginal). The other letters of a masked k-mer still name its candidates, a further N among them counts as
    A, and k-mers keep their frame across it. Without N the model sees every token, the one in question too (wild-type
    marginal).

    Of causal models, row t says what the model expects after the letters before t. The first letter of a sequence, and
    of every later piece where a sequence is longer than the model's context, has nothing before it. N is what the
    tokenizer makes of it.

    Parameters
    ----------
    model
        From `embedstore.models.load`, with a head; of nucleotides, whose tokens are single letters, k-mers side by side
        or codons. The last layer is used, whichever the model was loaded for.
    kind
        ``"letters"`` (default): the row of a token of k nucleotides has 4 * k channels: the log probability of the
        token with A, C, G, T as its first letter and the others as they are, then as its second letter, ... Where a
        token is a single letter (the tail of a sequence), the first four are those of its letter.
        ``"sequence"``, for causal models: one channel, the log probability of the token that is there.

    Returns
    -------
    Model
        Named ``<model>.letters`` or ``<model>.sequence``. Every row is finite: log 1/4 stands for what has no value
        (what nothing precedes; channels beyond the letters of a token; tokens that hold other letters than A, C, G, T).

    Raises
    ------
    InputError
        If the model has no such probabilities: it has no head or no mask token, is of proteins, its tokens have no
        fixed letters (byte pairs) or overlap (DNABERT), or it is not causal where that is wanted. The message says
        which.

    References
    ----------
    Masked and wild-type marginals: Meier et al. 2021, Language models enable zero-shot prediction of the effects of
    mutations on protein function, section 3. k-mers: Dalla-Torre et al. 2024, Nucleotide Transformer.
    """
    if kind not in get_args(Kind):
        raise InputError(f"kind is {kind!r}; it must be one of {', '.join(get_args(Kind))}.")
    causal = is_causal(model)
    if kind == "sequence" and not causal:
        raise InputError(
            f"Model {model.name!r} ({model.record['architecture']}) sees both sides of a letter, so its probabilities "
            f"do not multiply to that of a sequence: kind='sequence' is for {' and '.join(_CAUSAL)}. Use 'letters'."
        )
    words = _words(model)
    if words.mask is None and not causal:
        raise InputError(
            f"Model {model.name!r} ({model.record['architecture']}) has no mask token ({' or '.join(_MASKS)}) in the "
            "files of its tokenizer, so no letter can be masked."
        )
    rows = f"log probabilities ({kind}), softmax over the whole vocabulary"
    of = {"kind": kind, "letters": words.letters, "mask_id": None if causal else words.mask}
    network = _Causal(model, words, kind) if causal else _Masked(model, words)
    return Model(
        f"{model.name}.{kind}",
        network,
        _rule(model, words, causal=causal),
        alphabet=model.alphabet,
        layer=-1,
        precision=model.precision,
        device=model.device,
        record={**model.record, "rules": f"{model.record['rules']}; {rows}", "log_probabilities": of},
        digest=model.digest,
    )


# ---- networks: scores of the head to log probabilities ------------------------------------------------------


class _Masked(Network):
    """A network whose state at a token is the log probabilities of its candidates there.

    Ids above the vocabulary are masked: less the size of the vocabulary they name the candidates.
    """

    candidates: Tensor

    def __init__(self, model: Model, words: _Words) -> None:
        super().__init__()
        self.pads, self.layers = model.pads, model.record["layers"]
        self.width = words.candidates.shape[1]
        self.register_buffer("candidates", torch.from_numpy(words.candidates), persistent=False)
        assert words.mask is not None  # refused before
        self._scores, self._mask = model.logits, words.mask

    def forward(self, ids: Tensor, layer: Layer = -1, lengths: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return the log probabilities of the candidates at each token; see `Network.forward`."""
        own, seen = self._read(ids)
        return self._probabilities(self._scores(seen, lengths), own)

    def kept(self, ids: Tensor, rows: Tensor, layer: Layer = -1, lengths: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return the log probabilities of the candidates at some tokens; see `Network.kept`."""
        own, seen = self._read(ids)
        return self._probabilities(self._scores(seen, lengths, rows), own.gather(1, rows))

    def _read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ids that name candidates, and those that the model sees."""
        own = ids % len(self.candidates)
        return own, own.where(ids == own, self._mask)

    def _probabilities(self, scores: Tensor, own: Tensor) -> Tensor:
        """Return the log probabilities of the candidates of ids."""
        wanted = self.candidates[own]
        probability = functional.log_softmax(scores, -1, dtype=torch.float32)
        return probability.gather(-1, wanted.clamp(min=0)).where(wanted >= 0, UNKNOWN)


class _Causal(Network):
    """A network whose state at a token is the log probabilities, after what is before it, of letters or of itself."""

    wanted: Tensor

    def __init__(self, model: Model, words: _Words, kind: Kind) -> None:
        super().__init__()
        self.pads, self.layers = model.pads, model.record["layers"]
        letters = words.candidates[words.whole][:1]  # the same four at each letter
        own = np.arange(len(words.candidates))[:, None]
        wanted = own if kind == "sequence" else letters.repeat(len(own), 0)
        self.width = wanted.shape[1]
        self.register_buffer("wanted", torch.from_numpy(wanted), persistent=False)
        self._scores, self._first = model.logits, words.before

    def forward(self, ids: Tensor, layer: Layer = -1, lengths: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return the log probabilities at each token, given those before; see `Network.forward`."""
        before = functional.log_softmax(self._scores(ids, lengths)[:, :-1], -1, dtype=torch.float32)
        found = before.gather(-1, self.wanted[ids[:, 1:]])
        state = functional.pad(found, (0, 0, 1, 0), value=UNKNOWN)
        state[:, : self._first + 1] = UNKNOWN
        return state

    def kept(self, ids: Tensor, rows: Tensor, layer: Layer = -1, lengths: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return the log probabilities at some tokens; see `Network.kept`."""
        before = functional.log_softmax(self._scores(ids, lengths, (rows - 1).clamp(min=0)), -1, dtype=torch.float32)
        found = before.gather(-1, self.wanted[ids.gather(1, rows)])
        return found.where((rows > self._first)[..., None], UNKNOWN)


# ---- pieces: masked tokens are marked -----------------------------------------------------------------------


def _rule(model: Model, words: _Words, *, causal: bool) -> WindowRule:
    """Return the model's own rule, with tokens that hold an N marked where N is a mask."""
    rule = model._windows  # noqa: SLF001 - the same sequences are cut in the same way
    if causal:
        return WindowRule(rule.description, rule.cut, rule.regular)
    size = len(words.candidates)

    def cut(codes: np.ndarray) -> list[Piece]:
        masked = codes == ord("N")
        if not masked.any():
            return rule.cut(codes)
        one, other = (rule.cut(np.where(masked, letter, codes).astype(np.uint8)) for letter in _READINGS)
        return [
            piece._replace(ids=piece.ids + size * (piece.ids != twin.ids))
            for piece, twin in zip(one, other, strict=True)
        ]

    return WindowRule(f"{rule.description}; tokens that hold an N are masked (id {words.mask})", cut, rule.regular)


# ---- what the tokens of a model are -------------------------------------------------------------------------


def _words(model: Model) -> _Words:
    """Read what the tokens of a model are from its tokenizer; refuse models whose head or tokens do not fit."""
    if model.alphabet != "dna":
        raise InputError(f"Model {model.name!r} is of proteins: its tokens are no nucleotides.")
    ids = model.pieces(np.frombuffer(_TRIAL, np.uint8))[0].ids
    with torch.inference_mode():
        model.logits(torch.from_numpy(ids)[None].to(model.device))  # refuses where there is no head
    tokenizer, folder = _tokenizer(model)
    tables: list[np.ndarray] = []
    if isinstance(tokenizer, CharacterTokenizer):
        tables = [tokenizer.table[list(NUCLEOTIDES.encode())]]
        mask = tokenizer.mask_id
    elif isinstance(tokenizer, KmerTokenizer | CodonTokenizer):
        k = tokenizer.frame
        tables = [tokenizer.word_ids.reshape((len(NUCLEOTIDES) + 1,) * k)[(slice(len(NUCLEOTIDES)),) * k]]
        if isinstance(tokenizer, KmerTokenizer):
            tables.append(tokenizer.letter_ids[: len(NUCLEOTIDES)])
        mask = _mask_id(folder)
    else:
        raise InputError(
            f"Model {model.name!r} ({model.record['architecture']}): {_why_not(tokenizer)} Models of single letters, "
            "of k-mers side by side and of codons have probabilities of letters."
        )
    size = max(tokenizer.size, 1 + (mask or 0))
    candidates = np.full((size, len(NUCLEOTIDES) * tables[0].ndim), -1, np.int64)
    for table in reversed(tables):
        for place in range(table.ndim):
            same = np.moveaxis(table, place, 0)  # the letter at this place first, then the others
            columns = slice(len(NUCLEOTIDES) * place, len(NUCLEOTIDES) * (place + 1))
            candidates[same, columns] = np.moveaxis(same, 0, -1)
    whole = np.zeros(size, bool)
    whole[tables[0]] = True
    return _Words(tables[0].ndim, candidates, whole, len(tokenizer.prefix), mask)


def _tokenizer(model: Model) -> tuple[Tokenizer, Path]:
    """Return the tokenizer of a model's checkpoint, and the folder that it was read from."""
    from embedstore.models.architectures import architecture

    record = model.record
    if record.get("revision"):
        from embedstore.models.hub import fetch

        folder = fetch(record["checkpoint"], record["revision"])
    else:
        folder = Path(record["checkpoint"])
    return architecture(record["architecture"], record["rules"]).tokenizer(folder), folder


def _mask_id(folder: Path) -> int | None:
    """Return the id of the mask token by the vocabulary file, or by the config where there is none."""
    path = folder / "vocab.txt"
    if path.is_file():
        return next((i for i, word in enumerate(read_words(path)) if word in _MASKS), None)
    mask = read_json(folder / "config.json").get("mask_token_id")
    if not isinstance(mask, int | None):
        raise CheckpointError(f"{folder}/config.json: mask_token_id is {mask!r}; wanted an id or null.")
    return mask


def _why_not(tokenizer: Tokenizer) -> str:
    """Say why tokens have no probabilities of their letters."""
    if isinstance(tokenizer, OverlappingKmerTokenizer):
        return (
            f"each nucleotide is in {tokenizer.k} overlapping k-mers, so that masking one of them hides nothing, and "
            "another letter changes all."
        )
    return "its tokens have no fixed number of letters, so that another letter changes the tokens around it."
