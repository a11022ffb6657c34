"""The whole way from variants to scores: check, cut windows, embed into a store, read and compare."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from analysis.variants import ScoreKind, average_tables, score_kinds, variant_scores
from embedstore.errors import FingerprintError, InputError
from embedstore.genome import Genome
from embedstore.variants.aligned import variant_positions
from embedstore.variants.windows import variant_task

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from embedstore.layout import Strands
    from embedstore.models import Model
    from embedstore.store import Store
    from embedstore.tasks import Task

_log = logging.getLogger(__name__)

CONTEXT, CONTEXT_CAUSAL = 256, 512
"""Nucleotides on either side of a variant, and on the left of one for models that read from the left; as in BEND."""

_STORED = ("chromosome", "position", "ref", "alt", "reason", "kind", "start", "removed", "added")
"""What of a table decides on windows and is kept with them. Labels and the like may change from one run to the next."""

_PLACES = ("window_start", "window_end", "window_n", "reference", "alternate", "offset")


class _Way(NamedTuple):
    """How the scores of one kind are got: which windows, what is stored of them, and what of a model."""

    task: str  # what is added to the task's name
    embedding: str  # what is added to the embedding's name
    window: dict[str, Any]
    keep: dict[str, Any]
    letters: Literal["letters", "sequence"] | None = None


def score_variants(
    variants: pd.DataFrame | str | Path,
    genome: Genome | str | Path,
    model: Model,
    store: Store | str | Path = "memory://",
    *,
    name: str = "variants",
    scores: Iterable[str] = ("cosine",),
    context: int | None = None,
    strands: Strands = "forward",
    frames: int = 1,
    around: int = 0,
    off_by_one: bool = False,
    stride: int = 1,
    edges: Literal["shift", "pad"] = "shift",
    drop_mismatches: bool = False,
    batch_tokens: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Score variants without training: what a model makes of the alternate allele in place of the reference.

    Every reference allele is checked against the genome before the model runs. Windows are embedded into the store,
    of which only what the scores need is kept; what is there already is not done again.

    Parameters
    ----------
    variants
        A table with ``chromosome``, ``position`` (0-based), ``ref`` and ``alt`` at least, or a file for
        `embedstore.variants.read_variants`.
    genome
        The genome, or its FASTA file.
    model
        From `embedstore.models.load`, with ``precision="float32"``.
    store
        A store opened with ``mode="a"``, or its path; by default one in memory, which is not kept.
    name
        Name of the task in the store; tasks of other windows get it with an ending such as ``.masked``.
    scores
        Names in `analysis.variants.SCORES`; default the cosine distance.
    context
        Nucleotides on either side of a variant, default 256; for models that read from the left (HyenaDNA, AWD-LSTM)
        on the left of it, itself included, default 512.
    strands
        ``"both"``: the mean of the scores that a variant has on either strand. (The mean of the two strands' rows, as
        ``embedstore.embed(strands="both")`` gives, blurs what one nucleotide changes.) Default ``"forward"``.
    frames
        Average over windows that begin 0, 1 ... nucleotides earlier, so that a variant has so many places in the
        tokens of a k-mer model; default 1.
    around
        Nucleotides on either side of the variant whose rows are compared too; default 0. Not for causal models.
    off_by_one
        For causal models: BEND's windows, which end before the variant and have the alternate letter written over
        the nucleotide before it. To compare with its published numbers, not to be used. Default False.
    stride
        Windows begin at multiples of so many nucleotides, so that variants near each other share a reference window;
        default 1: each variant is in the centre of its own.
    edges
        Windows that leave the chromosome are moved inside (``"shift"``, default) or filled with N (``"pad"``).
    drop_mismatches
        Do not score variants whose reference differs from the genome; by default any such is an error.
    batch_tokens
        Most tokens in a batch, found by `embedstore.embed` by default.
    progress
        Show progress bars.

    Returns
    -------
    pandas.DataFrame
        A row for every row of the input, in that order: its columns, how the allele was read (``kind``, ``start``,
        ``removed``, ``added``), its window, ``reason`` (why it is not scored, else empty), and a column per score
        (float64; `SCORES` says in which direction an effect lies). ``attrs["runs"]`` says what was embedded.

    Raises
    ------
    InputError
        If a variant, choice or score cannot be used, or no variant can be scored.
    ReferenceMismatchError
        If reference alleles differ from the genome.
    FingerprintError
        If the store holds other variants, or other windows, under this name.

    References
    ----------
    Marin et al. 2024, BEND, section 3.2 (cosine distance). Meier et al. 2021, "Language models enable zero-shot
    prediction of the effects of mutations on protein function" (masked and wild-type marginals).
    """
    from embedstore.models.letters import is_causal
    from embedstore.store import Store as OpenStore
    from embedstore.store import open_store
    from embedstore.variants.checking import check_variants
    from embedstore.variants.reading import read_variants

    kinds = score_kinds(scores)
    choices: dict[str, Any] = {"context": context, "strands": strands, "frames": frames, "around": around}
    choices |= {"off_by_one": off_by_one, "stride": stride, "edges": edges}
    ways = _ways(kinds, is_causal(model), **choices)
    views = _views(model, ways)
    with contextlib.ExitStack() as stack:
        reference = genome if isinstance(genome, Genome) else stack.enter_context(Genome(genome))
        table = read_variants(variants) if isinstance(variants, (str, Path)) else variants
        table = check_variants(table, reference, drop_mismatches=drop_mismatches)
        # A slip in what was given must not leave a new store.
        opened = store if isinstance(store, OpenStore) else open_store(store, mode="a")
        runs: list[dict[str, Any]] = []
        done = []
        for needs, group in ways.items():
            wanted = [score for score, kind in kinds.items() if _group(kind) == needs]
            parts = []
            for way in group:
                task = variant_task(table[list(_STORED)], reference, name=f"{name}{way.task}", **way.window)
                _add(opened, task)
                if way is group[0]:
                    _note_pieces(task, views[way.letters])
                runs.append(_embed(opened, task.name, views[way.letters], way, around, batch_tokens, progress))
                parts.append(_read(opened, task.name, runs[-1]["embedding"], wanted, around))
            done.append((wanted, average_tables(parts, wanted)))
    found = _together(table, done, list(kinds))
    found.attrs["runs"] = runs
    return found


def check_scoring(model: Model, scores: Iterable[str] = ("cosine",), **choices: Any) -> None:
    """Refuse what `score_variants` would, of what does not depend on the variants.

    Parameters
    ----------
    model, scores
        As for `score_variants`.
    **choices
        Its ``context``, ``strands``, ``frames``, ``around``, ``off_by_one``, ``stride`` and ``edges``.

    Raises
    ------
    InputError
        If a choice or score cannot be used with the model.
    """
    from embedstore.models.letters import is_causal

    choices.pop("batch_tokens", None)
    _views(model, _ways(score_kinds(scores), is_causal(model), **choices))


def _group(kind: ScoreKind) -> str:
    """Return which scores are read from the same embedding."""
    return "rows" if kind.needs == "pooled" else kind.needs


def _ways(
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
) -> dict[str, list[_Way]]:
    """Return, for each group of scores, the windows to embed and what to keep; several where scores are averaged."""
    _check(kinds, causal, strands, frames, around, off_by_one)
    pooled = any(kind.needs == "pooled" for kind in kinds.values())
    end = "bend_left" if off_by_one else "left"
    left = {"context": CONTEXT_CAUSAL if context is None else context, "edges": edges, "window": end}
    centred: dict[str, Any] = {"context": CONTEXT if context is None else context, "edges": edges, "stride": stride}
    if frames > centred["context"] > 0:
        raise InputError(f"frames is {frames}; it must be at most {centred['context']}, the context.")
    rows = {"keep": "both" if pooled else "rows"}
    letters = {"keep": "rows"}
    ending = _name(pooled and ".windows", around and f".around{around}")
    kinds_of_way = {
        "rows": _Way(f".{end}" if causal else "", ending, left if causal else centred, rows),
        "left": _Way(".left.reference", "", {**left, "alleles": "reference"}, letters, "letters"),
        "sequence": _Way("", "", centred, letters, "sequence"),
        "masked": _Way(".masked", "", {**centred, "alleles": "masked"}, letters, "letters"),
        "reference": _Way(".reference", "", {**centred, "alleles": "reference"}, letters, "letters"),
    }
    turned = ("+", "-") if strands == "both" else ("+",)
    ways: dict[str, list[_Way]] = {}
    for need in dict.fromkeys(_group(kind) for kind in kinds.values()):
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


def _check(kinds: dict[str, ScoreKind], causal: bool, strands: str, frames: int, around: int, off_by_one: bool) -> None:
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


def _views(model: Model, ways: dict[str, list[_Way]]) -> dict[str | None, Model]:
    """Return the model, and what its head gives, where it is wanted; refuse models that cannot give it."""
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


def _name(*parts: str | int | bool) -> str:
    """Join the endings that apply."""
    return "".join(part for part in parts if isinstance(part, str))


def _add(store: Store, task: Task) -> None:
    """Add a task, or make sure that the one that is there is the same; say in words what differs."""
    try:
        store.add_task(task)
    except FingerprintError as error:
        if task.name not in store.tasks():
            raise
        before, now = store.task_attributes(task.name)["source"], task.source
        changed = [f"{key} was {before.get(key)!r}, now {now[key]!r}" for key in now if before.get(key) != now[key]]
        raise FingerprintError(
            f"{store.path}: task {task.name!r} holds other windows than those wanted now: "
            f"{'; '.join(changed) or 'the variants are others, or in another order'}. Give these another name (name=, "
            "--task), or another store."
        ) from error


def _note_pieces(task: Task, model: Model) -> None:
    """Log where windows are longer than what a model reads at once, so that a variant is seen with part of its own."""
    longest = int(task.samples["length"].to_numpy().argmax())
    codes = task.sequences(longest, longest + 1)[0]
    pieces = len(model.pieces(codes))
    if pieces > 1:
        _log.warning(
            "Windows of %d letters are longer than the context of %s, which reads them in %d pieces: it sees a variant "
            "with the letters of its own piece only, which may be few. Give a smaller context.",
            len(codes),
            model.name,
            pieces,
        )


def _embed(
    store: Store, task: str, model: Model, way: _Way, around: int, batch_tokens: int | None, progress: bool
) -> dict[str, Any]:
    """Embed the windows of a task; return what was done."""
    from embedstore.embedding import embed

    near = 0 if way.letters else around  # log probabilities are of the variant itself
    positions = None if way.letters == "sequence" else variant_positions(store, task, around=near)
    report = embed(
        store,
        task,
        model,
        name=f"{model.name}{way.embedding}",
        positions=positions,
        dtype="float32",
        batch_tokens=batch_tokens,
        progress=progress,
        **way.keep,
    )
    kept = ("samples", "blocks", "blocks_before", "bytes", "seconds")
    return {"task": task, "embedding": report.model, **{key: getattr(report, key) for key in kept}}


def _read(store: Store, task: str, embedding: str, scores: list[str], around: int) -> pd.DataFrame:
    """Return the table of variants with the scores of one embedding."""
    from analysis.likelihood import likelihood_scores

    if score_kinds(scores)[scores[0]].needs in ("rows", "pooled"):
        return variant_scores(store, task, embedding, scores, around=around)
    return likelihood_scores(store, task, embedding, scores)


def _together(table: pd.DataFrame, done: list[tuple[list[str], pd.DataFrame]], scores: list[str]) -> pd.DataFrame:
    """Return a table with all its scores; where a variant lacks only some of them, its reason names these."""
    reasons = np.stack([part["reason"].to_numpy(object) for _, part in done])
    missing = reasons != ""
    reason = np.where(missing.all(axis=0), reasons[0], "").astype(object)
    for row in np.flatnonzero(missing.any(axis=0) & ~missing.all(axis=0)):
        lacking: dict[str, list[str]] = {}
        for (names, _), why in zip(done, reasons[:, row], strict=True):
            lacking.setdefault(why, []).extend(names)
        reason[row] = "; ".join(f"{', '.join(names)}: {why}" for why, names in lacking.items() if why)
    first = done[0][1]
    places = {name: first[name] for name in _PLACES}
    found = {name: part[name] for names, part in done for name in names}
    return table.assign(reason=reason, **places, **{name: found[name] for name in scores})
