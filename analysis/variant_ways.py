"""Which windows of variants scores are read from, what is stored of them, and what a model gives for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from embedstore.errors import InputError

if TYPE_CHECKING:
    from analysis.variants import ScoreKind
    from embedstore.models import Model

CONTEXT, CONTEXT_CAUSAL = 256, 512
"""Nucleotides on either side of a variant, and on the left of one for models that read from the left; as in BEND."""

# Whole codons without a stop, for models that refuse others; learned words of it have several lengths.
_TRIAL = 8 * b"ATGGCCATTGTCATGGGCCGCGGAATGTGGTACTCCGTCACCAAGGACTTGCTTAACCGTCATGGCGAGTTC"


class Way(NamedTuple):
    """How the scores of one kind are got.

    Attributes
    ----------
    task, embedding
        What is added to the name of the task, and to that of the embedding.
    window
        Arguments of `embedstore.variants.variant_task`.
    keep
        Arguments of `embedstore.embed`.
    letters
        Which log probabilities are wanted (`embedstore.models.letters.letter_model`); None for hidden states.
    """

    task: str
    embedding: str
    window: dict[str, Any]
    keep: dict[str, Any]
    letters: Literal["letters", "sequence"] | None = None


def ways_of(
    kinds: dict[str, ScoreKind],
    causal: bool,
    *,
    context: int | None = None,
    strands: str = "forward",
    frames: int = 1,
    around: int = 0,
    off_by_one: bool = False,
    stride: int = 1,
    edges: str = "shift",
    word: int = 1,
) -> dict[str, list[Way]]:
    """Return, for each group of scores, the windows to embed and what to keep; several where scores are averaged.

    Parameters
    ----------
    kinds
        The scores.
    causal
        Whether the model reads from the left.
    context, strands, frames, around, off_by_one, stride, edges
        As for `analysis.score_variants`.
    word
        Letters of the model's words, from `letters_of_word`; default 1.

    Returns
    -------
    dict of str to list of Way
        By what `group_of` says of scores.

    Raises
    ------
    InputError
        If choices do not go together, or the model has no such score.
    """
    _check(kinds, causal, strands, frames, around, off_by_one, stride)
    pooled = any(kind.needs == "pooled" for kind in kinds.values())
    end = "bend_left" if off_by_one else "left"
    left = {"context": CONTEXT_CAUSAL if context is None else context, "edges": edges, "window": end}
    centred: dict[str, Any] = {"context": CONTEXT if context is None else context, "edges": edges}
    centred |= {"stride": stride, "word": word}
    if frames > centred["context"] > 0:
        raise InputError(f"frames is {frames}; it must be at most {centred['context']}, the context.")
    rows = {"keep": "both" if pooled else "rows"}
    letters = {"keep": "rows"}
    ending = _name(pooled and ".windows", around and f".around{around}")
    kinds_of_way = {
        "rows": Way(f".{end}" if causal else "", ending, left if causal else centred, rows),
        "left": Way(".left.reference", "", {**left, "alleles": "reference"}, letters, "letters"),
        "sequence": Way("", "", centred, letters, "sequence"),
        "masked": Way(".masked", "", {**centred, "alleles": "masked"}, letters, "letters"),
        "reference": Way(".reference", "", {**centred, "alleles": "reference"}, letters, "letters"),
    }
    turned = ("+", "-") if strands == "both" else ("+",)
    ways: dict[str, list[Way]] = {}
    for need in dict.fromkeys(group_of(kind) for kind in kinds.values()):
        way = kinds_of_way[need]
        ways[need] = [
            way._replace(
                task=_name(way.task, frame and f".frame{frame}", strand == "-" and ".reverse"),
                window={**way.window, "strand": strand, "frame": frame},
            )
            for frame in range(frames)
            for strand in turned
        ]
    return ways


def group_of(kind: ScoreKind) -> str:
    """Return a name for the scores that are read from the same embedding.

    Parameters
    ----------
    kind
        A score.

    Returns
    -------
    str
    """
    return "rows" if kind.needs == "pooled" else kind.needs


def letters_of_word(model: Model) -> int:
    """Return how many letters the words of a model have, where they follow each other.

    Parameters
    ----------
    model
        From `embedstore.models.load`.

    Returns
    -------
    int
        1 where rows are of single letters, words overlap or have several lengths, and for models of proteins.
    """
    if model.alphabet != "dna":
        return 1
    span = model.pieces(np.frombuffer(_TRIAL, np.uint8))[0].span
    word = int(span[0])
    whole = int(span.sum()) // word  # what is left at the end makes no word
    return word if whole > 1 and (span[:whole] == word).all() else 1


def views_of(model: Model, ways: dict[str, list[Way]]) -> dict[str | None, Model]:
    """Return the model, and what its head gives, where it is wanted.

    Parameters
    ----------
    model
        From `embedstore.models.load`.
    ways
        From `ways_of`.

    Returns
    -------
    dict
        By `Way.letters`.

    Raises
    ------
    InputError
        If the model cannot give it, is not of DNA, or does not compute in float32.
    """
    from embedstore.models.letters import letter_model

    if model.precision != "float32":
        raise InputError(
            f"Model {model.name!r} computes in {model.precision}, whose errors are as large as what variants change: "
            'load it with precision="float32".'
        )
    if model.alphabet != "dna":
        raise InputError(f"Model {model.name!r} reads {model.alphabet}: variants of a genome need a model of DNA.")
    wanted = {way.letters for group in ways.values() for way in group}
    return {letters: model if letters is None else letter_model(model, letters) for letters in wanted}


def _check(
    kinds: dict[str, ScoreKind], causal: bool, strands: str, frames: int, around: int, off_by_one: bool, stride: int
) -> None:
    """Refuse choices that do not go together, and scores that a model does not have."""
    if strands not in ("forward", "both"):
        raise InputError(f"strands is {strands!r}: it must be one of forward, both.")
    if frames < 1 or around < 0:
        raise InputError(f"frames is {frames} and around is {around}: at least 1 and 0 are wanted.")
    foreign = ("masked", "reference") if causal else ("left", "sequence")
    wrong = [name for name, kind in kinds.items() if kind.needs in foreign]
    if wrong:
        what = "reads from the left and has no masks" if causal else "sees both sides of a nucleotide"
        own = "llr_causal, llr_sequence, entropy_causal" if causal else "llr_masked, llr_wild_type, entropy_..."
        raise InputError(f"There is no {', '.join(wrong)} of a model that {what}; it has {own}.")
    if off_by_one and not (causal and all(kind.needs == "rows" for kind in kinds.values())):
        raise InputError(
            "off_by_one repeats BEND's windows for models that read from the left (HyenaDNA, AWD-LSTM), and has "
            "cosine, l2 and inner_product only."
        )
    if off_by_one and strands == "both":
        raise InputError("off_by_one repeats BEND's script, which reads the forward strand only.")
    if causal and (around or frames > 1):
        raise InputError(
            "around and frames are for models that see both sides: rows of a causal model before a variant are the "
            "same for both alleles, and its window ends with the variant."
        )
    ending = [name for name, kind in kinds.items() if kind.needs != "sequence"]
    if causal and stride > 1 and ending:
        raise InputError(
            f"stride is {stride}: variants cannot share the windows of {', '.join(ending)} of a model that reads "
            "from the left, for each ends with its variant. Leave it at 1; those of llr_sequence alone can be shared."
        )


def _name(*parts: str | int | bool) -> str:
    """Join the endings that apply."""
    return "".join(part for part in parts if isinstance(part, str))
