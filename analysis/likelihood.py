"""What a language model's head says of variants: log-likelihood ratios and entropies, read from a store.

The store holds embeddings made with `embedstore.models.letters.letter_model`. Logarithms are natural: ratios and
entropies are in nats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.variants import SCORES, float32_embedding, score_kinds
from embedstore.covering import by_block, covering
from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from analysis.variants import ScoreKind
    from embedstore.rows import Embedding
    from embedstore.store import Store

LETTERS = "ACGT"
"""The order of the letters of log probabilities."""

_NOTHING = np.float32(-np.log(len(LETTERS)))
"""Of each letter, where a causal model has read none before: what `embedstore.models.letters` gives for no value."""


def likelihood_scores(store: Store, task: str, model: str, scores: Iterable[str]) -> pd.DataFrame:
    """Score variants by the log probabilities that a store holds.

    Parameters
    ----------
    store
        An open store.
    task
        A task that `embedstore.variants.variant_task` made.
    model
        Name of an embedding of it with `embedstore.models.letters.letter_model`, computed and stored in float32.
    scores
        Among those of `analysis.variants.SCORES` that are of log probabilities: ``llr_masked`` and ``entropy_masked``
        where the windows of the task are masked, ``llr_wild_type`` and ``entropy_wild_type`` where they are not,
        ``llr_causal`` and ``entropy_causal`` of a causal model, all from an embedding of kind ``"letters"`` (see `llr`
        and `entropy`); ``llr_sequence`` from one of kind ``"sequence"`` (see `sequence_difference`).

    Returns
    -------
    pandas.DataFrame
        The table of variants, in their order, with a column per score: float64, NaN where ``reason`` says why.

    Raises
    ------
    InputError
        If a score is not of log probabilities, or not what this task and embedding give; and as `letters_at` and
        `sequence_difference` do.
    IncompleteError
        If a block that is needed is not embedded yet.
    """
    table = store.variants(task)
    kinds = score_kinds(scores)
    _check_scores(store, task, model, kinds)
    if any(kind.needs == "sequence" for kind in kinds.values()):
        found = {"llr": _sequence_difference(store, task, model, table)}
        silent = np.zeros(len(table), bool)
        why = "its windows have different flanks"
    else:
        log_probability = _letters_at(store, task, model, table)
        silent = (log_probability == _NOTHING).all(axis=1)
        log_probability[silent] = np.nan
        found = {"llr": llr(table, log_probability), "entropy": entropy(log_probability)}
        why = "only single nucleotides have this score"
    unread = ~_single(table) if "entropy" in found else ~_same_flanks(table, store.lengths(task))
    lost = (table["reason"] == "").to_numpy() & np.isnan(found["llr"])
    table.loc[lost & unread, "reason"] = why
    table.loc[lost & ~unread, "reason"] = "the model gave NaN or infinity for its window"
    table.loc[lost & silent, "reason"] = "the model reads no letter before the variant"
    return table.assign(**{name: found[name.partition("_")[0]] for name in kinds})


def letters_at(store: Store, task: str, model: str) -> NDArray[np.float64]:
    """Return the log probabilities of the four letters at the changed nucleotide of each single-nucleotide variant.

    Read from the reference (or masked) window of a variant, block by block with dask.

    Parameters
    ----------
    store, task, model
        As for `likelihood_scores`; the embedding is of kind ``"letters"``, and of all positions or of those that
        `embedstore.variants.variant_positions` names.

    Returns
    -------
    numpy.ndarray
        (variant, 4) float64, of A, C, G and T on the forward strand of the genome, also where the windows are of the
        reverse one. As the model gives them: over its whole vocabulary, so that the four need not add up to 1; those of
        a k-mer model are of the token with each letter in it. NaN for variants that are not scored, are none of single
        nucleotides, or whose window was quarantined.

    Raises
    ------
    InputError
        If the task is not one of variants or its windows do not hold them (``window="bend_left"``), the embedding is
        not of log probabilities of letters on one strand in float32, or the rows of other positions were kept.
    IncompleteError
        If a block that is needed is not embedded yet.
    """
    return _letters_at(store, task, model, store.variants(task))


def _letters_at(store: Store, task: str, model: str, table: pd.DataFrame) -> NDArray[np.float64]:
    """Return what `letters_at` does, given the table of variants."""
    embedding, source = _opened(store, task, model, "letters"), store.task_attributes(task)["source"]
    where = f"{store.path}: {task}/{model}"
    if source.get("window") == "bend_left":
        raise InputError(
            f"{where}: the windows of window='bend_left' end before the variant, so they say nothing of its letters. "
            "Use window='left' or 'centred'."
        )
    if embedding.fingerprint.get("strands") == "both":
        raise InputError(
            f"{where} is a mean over both strands, which exchange A with T and C with G. Embed a task of each strand "
            "(variant_task with strand='+' and with strand='-') and average the scores."
        )
    if embedding.resolution != "token" and embedding.width > len(LETTERS):
        raise InputError(
            f"{where} was stored with resolution='nucleotide', which does not say where in its token a nucleotide is: "
            "embed with resolution='token'."
        )
    scored = np.flatnonzero((table["reference"].to_numpy() >= 0) & _single(table))
    sample, place = (table[column].to_numpy(np.int64)[scored] for column in ("reference", "offset"))
    found = np.full((len(table), len(LETTERS)), np.nan)
    values = _by_block(_letters, embedding, sample, place, (len(LETTERS),))
    found[scored] = values[:, ::-1] if source.get("strand") == "-" else values  # complements, and ACGT is TGCA reversed
    return found


def llr(variants: pd.DataFrame, log_probability: ArrayLike) -> NDArray[np.float64]:
    """Return log-likelihood ratios: the log probability of the alternate letter less that of the reference letter.

    Parameters
    ----------
    variants
        Table of variants with ``removed`` and ``added``, letters of the forward strand.
    log_probability
        From `letters_at`, (variant, 4).

    Returns
    -------
    numpy.ndarray
        (variant,) float64, in nats; negative where the model prefers the reference. NaN where a variant is not of
        single nucleotides of A, C, G, T, or its log probabilities are NaN.

    Raises
    ------
    InputError
        If there are not four log probabilities of each variant.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"removed": ["A", "AC"], "added": ["G", "A"]})
    >>> llr(table, np.log([[0.5, 0.1, 0.25, 0.15]] * 2)).round(3)
    array([-0.693,    nan])

    References
    ----------
    Meier et al. 2021, Language models enable zero-shot prediction of the effects of mutations on protein function,
    section 3. Benegas et al. 2023, PNAS 120:e2311219120, for nucleotides.
    """
    values = np.asarray(log_probability, np.float64)
    if values.shape != (len(variants), len(LETTERS)):
        raise InputError(
            f"log_probability has the shape {values.shape}; wanted ({len(variants)}, {len(LETTERS)}): one row of A, C, "
            "G, T for each variant, as letters_at gives."
        )
    known = _single(variants)
    row = np.flatnonzero(known)
    reference, alternate = (
        np.array([LETTERS.index(letter) for letter in variants[column][known]], np.int64)
        for column in ("removed", "added")
    )
    ratio = np.full(len(values), np.nan)
    ratio[row] = values[row, alternate] - values[row, reference]
    return ratio


def entropy(log_probability: ArrayLike) -> NDArray[np.float64]:
    """Return the entropy of the four letters, whose probabilities are first made to add up to 1.

    Parameters
    ----------
    log_probability
        (..., 4), as `letters_at` gives.

    Returns
    -------
    numpy.ndarray
        (...) float64 in nats, 0 to log 4; NaN where a log probability is.

    Examples
    --------
    >>> entropy(np.log([[0.1, 0.1, 0.1, 0.1], [1, 1e-300, 1e-300, 1e-300]])).round(4)
    array([1.3863, 0.    ])
    """
    from scipy.special import log_softmax

    renormalised = log_softmax(np.asarray(log_probability, np.float64), axis=-1)
    return np.asarray(-(np.exp(renormalised) * renormalised).sum(axis=-1))


def sequence_difference(store: Store, task: str, model: str) -> NDArray[np.float64]:
    """Return how much more likely the alternate window is than the reference window, in the words of a causal model.

    The sum over the log probabilities of all letters of the alternate window, each given those before it, less that of
    the reference window; sums are taken in float64, block by block with dask. Where the task is of the reverse strand,
    the model reads the reverse complements.

    Parameters
    ----------
    store, task, model
        As for `likelihood_scores`; the embedding is of kind ``"sequence"`` with the rows of all positions
        (``keep="rows"``), the task has the windows of both alleles.

    Returns
    -------
    numpy.ndarray
        (variant,) float64 in nats; negative where the model prefers the reference. Insertions and deletions too, whose
        windows have the same flanks but not the same length. NaN for variants that are not scored, whose window was
        quarantined, or whose flanks differ.

    Raises
    ------
    InputError
        If the task is not one of variants or has no alternate windows, or the embedding is not of log probabilities of
        sequences, at all positions, in float32.
    IncompleteError
        If a block that is needed is not embedded yet.
    """
    return _sequence_difference(store, task, model, store.variants(task))


def _sequence_difference(store: Store, task: str, model: str, table: pd.DataFrame) -> NDArray[np.float64]:
    """Return what `sequence_difference` does, given the table of variants."""
    embedding = _opened(store, task, model, "sequence")
    if embedding.keeps_some:
        raise InputError(
            f"{store.path}: {task}/{model} holds the rows of some positions; the probability of a sequence needs all: "
            "embed without positions, under another name."
        )
    reference, alternate = (table[column].to_numpy(np.int64) for column in ("reference", "alternate"))
    if not (alternate >= 0).any():
        raise InputError(f"{store.path}: task {task!r} has no alternate windows: make it with alleles='both'.")
    pairs = np.flatnonzero(_same_flanks(table, store.lengths(task)))
    sample, number = np.unique(np.concatenate([reference[pairs], alternate[pairs]]), return_inverse=True)
    before, after = _by_block(_sums, embedding, sample, np.zeros_like(sample), ())[number].reshape(2, -1)
    found = np.full(len(table), np.nan)
    found[pairs] = after - before
    return found


# ---- reading ------------------------------------------------------------------------------------------------


def _about(store: Store, task: str, model: str) -> dict[str, Any]:
    """Return which log probabilities an embedding holds; empty where it holds something else."""
    about: dict[str, Any] = store.embedding(task, model).record.get("log_probabilities", {})
    return about


def _opened(store: Store, task: str, model: str, kind: str) -> Embedding:
    """Return an embedding after making sure that it holds rows of log probabilities of a kind."""
    seen = _about(store, task, model).get("kind")
    if seen != kind:
        what = f"log probabilities of kind {seen!r}" if seen else "hidden states, no log probabilities"
        raise InputError(
            f"{store.path}: {task}/{model} holds {what}: embed the task with embedstore.models.letters.letter_model("
            f"model, {kind!r})."
        )
    return float32_embedding(store, task, model)


def _check_scores(store: Store, task: str, model: str, kinds: dict[str, ScoreKind]) -> None:
    """Refuse scores that the windows of a task and the log probabilities of an embedding do not give."""
    masked = store.task_attributes(task)["source"].get("alleles") == "masked"
    about = _about(store, task, model)
    given = "masked" if masked else "reference"
    if about.get("kind") == "sequence":
        given = "sequence"
    elif about and about["mask_id"] is None:
        given = "left"
    wrong = [name for name, kind in kinds.items() if kind.needs != given]
    if wrong:
        own = ", ".join(name for name, kind in SCORES.items() if kind.needs == given)
        raise InputError(
            f"{store.path}: {task}/{model} does not give {', '.join(wrong)}. Log probabilities of this model and kind "
            f"in windows of this task ({'masked' if masked else 'not masked'}) give {own}."
        )


def _same_flanks(variants: pd.DataFrame, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which variants have two windows that differ in length by what is put in and taken out."""
    reference, alternate = (variants[column].to_numpy(np.int64) for column in ("reference", "alternate"))
    grown = (variants["added"].str.len() - variants["removed"].str.len()).to_numpy(np.int64)
    same: NDArray[np.bool_] = lengths[alternate] - lengths[reference] == grown
    return (reference >= 0) & (alternate >= 0) & same


def _single(variants: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which variants are of single nucleotides of A, C, G, T."""
    letters = list(LETTERS)
    return (variants["removed"].isin(letters) & variants["added"].isin(letters)).to_numpy(bool)


def _by_block(
    function: Callable[..., NDArray[np.float64]],
    embedding: Embedding,
    sample: NDArray[np.int64],
    place: NDArray[np.int64],
    shape: tuple[int, ...],
) -> NDArray[np.float64]:
    """Apply a function to samples and places, block by block in parallel; return what it gives in their order."""
    order = np.argsort(sample, kind="stable")
    found: NDArray[np.float64] = np.empty((len(sample), *shape))
    found[order] = by_block(function, embedding, sample[order], place[order], shape, np.float64).compute()
    return found


def _letters(embedding: Embedding, sample: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the log probabilities of the four letters at a place of each sample, all of one block."""
    wanted, number = np.unique(sample, return_inverse=True)
    rows = embedding.read(wanted, quarantined=True)
    row, within = covering(embedding, rows, number, place)
    # A k-mer has four channels for each of its nucleotides.
    channel = within[:, None] * len(LETTERS) + np.arange(len(LETTERS))
    found: NDArray[np.float64] = rows.vector[row[:, None], channel].astype(np.float64)
    return found


def _sums(embedding: Embedding, sample: NDArray[np.int64], _: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum over the rows of each sample, all of one block."""
    rows = embedding.read(sample, quarantined=True)
    return np.asarray(np.add.reduceat(rows.vector[:, 0].astype(np.float64), rows.first_row[:-1]))
