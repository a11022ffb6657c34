"""The whole way from variants to scores: check, cut windows, embed into a store, read and compare."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from analysis.variant_ways import group_of, letters_of_word, views_of, ways_of
from analysis.variants import average_tables, score_kinds, variant_scores
from embedstore.errors import FingerprintError
from embedstore.genome import Genome
from embedstore.variants.windows import variant_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd

    from analysis.variant_ways import Way
    from analysis.variants import ScoreKind
    from embedstore.embedding import EmbedReport
    from embedstore.layout import Strands
    from embedstore.models import Model
    from embedstore.store import Store
    from embedstore.tasks import Task
    from embedstore.workers import WorkersReport

    EmbedWith = Callable[..., EmbedReport | WorkersReport]

_log = logging.getLogger(__name__)

_STORED = ("chromosome", "position", "ref", "alt", "reason", "kind", "start", "removed", "added")
"""What of a table decides on windows and is kept with them. Labels and the like may change from one run to the next."""

_PLACES = ("window_start", "window_end", "window_n", "reference", "alternate", "offset")


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
        Variants in the same stretch of so many nucleotides share a reference window, up to about half of it off the
        centre; where a model reads words of k letters, those at the same place in their words do, so that this place
        is what it is in the centre. Default 1: each variant is in the centre of its own. Not for windows that end with
        the variant (causal models, all scores but ``llr_sequence``).
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
    windows: dict[str, Any] = {"context": context, "strands": strands, "frames": frames, "around": around}
    windows |= {"off_by_one": off_by_one, "stride": stride, "edges": edges}
    options: dict[str, Any] = {"drop_mismatches": drop_mismatches, "batch_tokens": batch_tokens, "progress": progress}
    return embed_variants(variants, genome, model, store, name=name, scores=scores, **windows, **options).scores()


class EmbeddedVariants(NamedTuple):
    """Variants whose windows are in a store, and what of them scores are read from.

    Attributes
    ----------
    table
        The variants, checked.
    store
        Where the windows are.
    kinds
        The scores, by name.
    around
        Nucleotides on either side whose rows are compared too.
    read
        For each group of scores their names, and the task and embedding of each of its windows.
    runs
        What was done for each embedding: ``task``, ``embedding``, ``blocks``, ``blocks_before``, ``blocks_left`` (of
        other shares), ``samples``, ``bytes`` (None where several processes embedded) and ``seconds``.
    """

    table: pd.DataFrame
    store: Store
    kinds: dict[str, ScoreKind]
    around: int
    read: list[tuple[list[str], list[tuple[str, str]]]]
    runs: list[dict[str, Any]]

    @property
    def blocks_left(self) -> int:
        """Blocks that others are still to embed before there are scores."""
        return sum(run["blocks_left"] for run in self.runs)

    def scores(self) -> pd.DataFrame:
        """Read the scores.

        Returns
        -------
        pandas.DataFrame
            As `score_variants` returns it.

        Raises
        ------
        IncompleteError
            If blocks are left.
        """
        done = []
        for wanted, places in self.read:
            parts = [_read(self.store, task, embedding, wanted, self.around) for task, embedding in places]
            done.append((wanted, average_tables(parts, wanted)))
        found = _together(self.table, done, list(self.kinds))
        found.attrs["runs"] = self.runs
        return found


def embed_variants(
    variants: pd.DataFrame | str | Path,
    genome: Genome | str | Path,
    model: Model,
    store: Store | str | Path = "memory://",
    *,
    name: str = "variants",
    scores: Iterable[str] = ("cosine",),
    drop_mismatches: bool = False,
    batch_tokens: int | None = None,
    progress: bool = True,
    embed_with: EmbedWith | None = None,
    **windows: Any,
) -> EmbeddedVariants:
    """Embed what scores are read from, perhaps by other processes, or a share of it.

    Parameters
    ----------
    variants, genome, model, store, name, scores, drop_mismatches, batch_tokens, progress
        As for `score_variants`.
    embed_with
        Called in place of `embedstore.embed` for each task of windows, with the store, the name of the task, which log
        probabilities are wanted (``"letters"``, ``"sequence"``, or None for hidden states) and further arguments of
        `embedstore.embed`; `analysis.variant_workers` makes such. By default this process embeds all.
    **windows
        ``context``, ``strands``, ``frames``, ``around``, ``off_by_one``, ``stride``, ``edges``, as for
        `score_variants`.

    Returns
    -------
    EmbeddedVariants

    Raises
    ------
    InputError, ReferenceMismatchError, FingerprintError
        As for `score_variants`.
    """
    from embedstore.models.letters import is_causal
    from embedstore.store import Store as OpenStore
    from embedstore.store import open_store
    from embedstore.variants.checking import check_variants
    from embedstore.variants.reading import read_variants

    kinds = score_kinds(scores)
    ways = ways_of(kinds, is_causal(model), word=letters_of_word(model), **windows)
    views = views_of(model, ways)
    around = windows.get("around", 0)
    options = {"batch_tokens": batch_tokens, "progress": progress}
    with contextlib.ExitStack() as stack:
        reference = genome if isinstance(genome, Genome) else stack.enter_context(Genome(genome))
        table = read_variants(variants) if isinstance(variants, (str, Path)) else variants
        table = check_variants(table, reference, drop_mismatches=drop_mismatches)
        # A slip in what was given must not leave a new store.
        opened = store if isinstance(store, OpenStore) else open_store(store, mode="a")
        found = EmbeddedVariants(table, opened, kinds, around, [], [])
        for needs, group in ways.items():
            for way in group:
                task = variant_task(table[list(_STORED)], reference, name=f"{name}{way.task}", **way.window)
                _add(opened, task)
                if way is group[0]:
                    _note_pieces(task, views[way.letters])
                found.runs.append(
                    _embed(opened, task.name, views[way.letters], way, around=around, embed_with=embed_with, **options)
                )
            wanted = [score for score, kind in kinds.items() if group_of(kind) == needs]
            found.read.append((wanted, [(run["task"], run["embedding"]) for run in found.runs[-len(group) :]]))
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
    views_of(model, ways_of(score_kinds(scores), is_causal(model), word=letters_of_word(model), **choices))


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
    store: Store, task: str, model: Model, way: Way, *, around: int, embed_with: EmbedWith | None, **options: Any
) -> dict[str, Any]:
    """Embed the windows of a task; return what was done."""
    from embedstore.embedding import embed

    if way.letters != "sequence":
        # Log probabilities are of the variant itself.
        options["positions"] = f"variants+{0 if way.letters else around}"
    options |= {"name": f"{model.name}{way.embedding}", "dtype": "float32", **way.keep}
    if embed_with is None:
        report: EmbedReport | WorkersReport = embed(store, task, model, **options)
    else:
        report = embed_with(store, task, way.letters, **options)
    left = report.blocks_left + getattr(report, "blocks_others", 0)
    kept = ("blocks", "blocks_before", "seconds")
    run = {"task": task, "embedding": report.model, "blocks_left": left, **{key: getattr(report, key) for key in kept}}
    # Workers do not say what each of them wrote.
    return run | {key: getattr(report, key, None) for key in ("samples", "bytes")}


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
