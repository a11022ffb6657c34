"""Windows around variants: the sequences that a model sees, and where in them the changed nucleotides are."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from embedstore.errors import InputError
from embedstore.sequences import encode, reverse_complement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.genome import Genome
    from embedstore.tasks import Task

Window = Literal["centred", "left", "bend_left"]
Alleles = Literal["both", "reference", "masked"]
Edges = Literal["shift", "pad"]

_STRETCH = 2**13  # letters read at a time: variants are near each other more often than not
_SHOWN = 20  # letters of an allele in the id of a sample
_N = ord("N")


def variant_task(
    variants: pd.DataFrame,
    genome: Genome,
    *,
    name: str = "variants",
    context: int = 256,
    window: Window = "centred",
    alleles: Alleles = "both",
    strand: Literal["+", "-"] = "+",
    frame: int = 0,
    stride: int = 1,
    word: int = 1,
    edges: Edges = "shift",
) -> Task:
    """Make a task of the windows around variants; variants with the same window share it.

    Both windows of a variant are the same stretch of the genome, as it is and with the change put in. The alternate
    window of an insertion is longer, that of a deletion shorter.

    Parameters
    ----------
    variants
        From `check_variants`; or any table with ``chromosome``, ``position`` (0-based), ``ref`` and ``alt``, which is
        checked first.
    genome
        The genome.
    name
        Name of the task in a store.
    context
        Nucleotides on either side, or on the left; default 256.
    window
        ``"centred"`` (default): ``[p - context, p + context)`` around the first changed nucleotide p, as in BEND.
        ``"left"``, for models that read from the left: `context` nucleotides that end with the last changed one; an
        insertion or deletion has no nucleotide there that both windows share and is not scored. ``"bend_left"``:
        ``[p - context, p)`` with the alternate letter written over the nucleotide *before* the variant, the slip of
        BEND's script, to compare with its numbers; single nucleotides only.
    alleles
        ``"both"`` (default) makes reference and alternate windows. ``"reference"`` makes those of the reference only;
        ``"masked"`` the same with N at the changed nucleotide, for `embedstore.models.letters`. In either, variants
        other than of single nucleotides are not scored.
    strand
        ``"-"``: windows are reverse complemented. Those of ``"left"`` then hold what is right of the variant.
    frame
        Centred windows begin so many nucleotides earlier (later, where the chromosome begins): the variant has another
        place in the tokens of a k-mer model. Default 0.
    stride
        Variants share a reference window where they lie in one of the stretches of so many nucleotides that a
        chromosome is cut into; they are at most half a stride and half a word off the centre. Default 1: each variant
        is in the centre.
    word
        Letters of the model's words where they follow each other, such as 6 for the Nucleotide Transformer; windows are
        then shared by variants at the same place in their words, and each is there as it would be in the centre of a
        window of its own. Default 1: for models of letters, convolutions and words of any length. Without effect where
        nothing is shared, except on frames near the beginning of a chromosome.
    edges
        What to do about centred windows that leave the chromosome: ``"shift"`` (default) moves them inside, ``"pad"``
        fills them with N. A left window is cut at the end of the chromosome, or filled.

    Returns
    -------
    embedstore.tasks.Task
        Samples are unique windows, sorted by chromosome and place, a reference window before its alternates. Columns
        ``allele`` (``ref``, ``alt`` or ``masked``) and ``offset`` (place of the changed nucleotide; -1 in a reference
        window). ``Task.variants`` is the table of all variants with ``reference`` and ``alternate`` (sample index, -1
        where there is none), ``offset`` (place of the first changed nucleotide in both windows), ``window_start``,
        ``window_end`` (of the reference window on the genome, -1 where the place is not known), ``window_n`` (its
        letters N) and ``reason`` (why a variant is not scored, else empty).

    Raises
    ------
    InputError
        If a choice is none, choices do not go together, or no variant can be scored.
    ReferenceMismatchError
        If variants that were not checked yet do not fit the genome.
    """
    from embedstore.tasks import Task, TaskRecord

    _check_choices(context, window, alleles, strand, frame, stride, word, edges)
    table = _checked(variants, genome)
    size = np.asarray(table["chromosome"].map(genome.contigs).fillna(0), np.int64)
    if window == "centred":
        table = _centred(table, size, context, frame, stride, word, edges)
    else:
        table = _left(table, size, context, window, strand, edges)
    _refuse_kinds(table, size, context, window, alleles)
    letters = _Letters(genome, edges)
    table["window_n"] = _count_n(table, letters)
    _need_some(table)
    windows, table["reference"], table["alternate"] = _windows(table, alleles, window)
    turned = strand == "-"
    table["offset"] = _offsets(table, window, turned)
    table.loc[table["start"] < 0, ["window_start", "window_end"]] = -1
    record = TaskRecord(
        name=name, title="Windows around variants, reference and alternate", level="sequence", type="value", metric="r2"
    )
    source: dict[str, object] = {
        "kind": "variants",
        "fasta": genome.path.name,
        "genome_digest": genome.digest,
        "context": context,
        "window": window,
        "alleles": alleles,
        "strand": strand,
        "frame": frame,
        "stride": stride,
        "word": word,
        "edges": edges,
    }
    samples = _sample_table(windows, genome.contigs, turned)
    return Task(name, record, samples, None, _reader(windows, letters, turned), source, _plain(table))


# ---- where windows lie --------------------------------------------------------------------------


def _check_choices(
    context: int, window: str, alleles: str, strand: str, frame: int, stride: int, word: int, edges: str
) -> None:
    """Refuse what is no choice, and what does not go together."""
    for what, value, choices in (
        ("window", window, get_args(Window)),
        ("alleles", alleles, get_args(Alleles)),
        ("strand", strand, ("+", "-")),
        ("edges", edges, get_args(Edges)),
    ):
        if value not in choices:
            raise InputError(f"{what} is {value!r}; it must be one of {', '.join(choices)}.")
    for what, number, least in (("context", context, 1), ("frame", frame, 0), ("word", word, 1)):
        if number < least:
            raise InputError(f"{what} is {number}; it must be {least} or more nucleotides.")
    if frame >= context:
        raise InputError(f"frame is {frame}; it must be below {context}, the context, to keep the variant inside.")
    if not 1 <= stride <= context:
        raise InputError(f"stride is {stride}; it must be 1 to {context}, the context.")
    behind = ((stride - 1) // 2 + word // 2) // word * word  # the farthest that a variant is behind the centre
    if frame + behind >= context:
        raise InputError(
            f"frame is {frame} and stride is {stride}: with context {context} some variants are not in their windows. "
            "Take a smaller stride."
        )
    if window != "centred" and (frame or stride > 1):
        raise InputError(f"window={window!r} ends with the variant: frame and stride are for window='centred'.")
    if window == "bend_left" and (strand == "-" or alleles == "masked"):
        raise InputError("window='bend_left' repeats BEND's script, which knows neither strands nor masks.")


def _checked(variants: pd.DataFrame, genome: Genome) -> pd.DataFrame:
    """Return a table that was checked against the genome."""
    from embedstore.variants.checking import check_variants

    table = variants.reset_index(drop=True)
    return table.copy() if "reason" in table else check_variants(table, genome)


def _centred(
    table: pd.DataFrame, size: NDArray[np.int64], context: int, frame: int, stride: int, word: int, edges: str
) -> pd.DataFrame:
    """Add where the reference window around each variant lies on the genome."""
    start = table["start"].to_numpy(np.int64)
    # A window that begins there holds the variant, and is inside of the chromosome.
    first, last = start - 2 * context + 1, start
    if edges == "shift":
        first, last = np.maximum(first, 0), np.minimum(last, np.maximum(size - 2 * context, 0))

    def begin_around(middle: NDArray[np.int64]) -> NDArray[np.int64]:
        begin = middle - context
        if edges == "pad":
            return begin - frame
        begin = np.clip(begin, 0, np.maximum(size - 2 * context, 0))
        # All frames of a word go the same way, so that each puts the variant at another place of it.
        return np.where(begin < max(frame, word - 1), np.minimum(begin + frame, last), begin - frame)

    own, shared = begin_around(start), begin_around(start // stride * stride + stride // 2)
    # A model's words begin where its window does: only whole words further is a variant at the same place in its own.
    words = (shared - own + (word - 1) // 2) // word
    begin = own + word * np.clip(words, -((own - np.minimum(own, first)) // word), (last - own) // word)
    end = begin + 2 * context
    return table.assign(window_start=begin, window_end=np.minimum(end, size) if edges == "shift" else end)


def _left(
    table: pd.DataFrame, size: NDArray[np.int64], context: int, window: str, strand: str, edges: str
) -> pd.DataFrame:
    """Add where the reference window that ends with or before each variant lies on the genome."""
    start = table["start"].to_numpy(np.int64)
    last = start + (table["removed"].str.len().to_numpy(np.int64) if window == "left" else 0)
    begin, end = (last - context, last) if strand == "+" else (start, start + context)
    if edges == "shift":
        begin, end = np.maximum(begin, 0), np.minimum(end, size)
    return table.assign(window_start=begin, window_end=end)


def _refuse_kinds(table: pd.DataFrame, size: NDArray[np.int64], context: int, window: str, alleles: str) -> None:
    """Say why variants that a kind of window cannot show are not scored."""
    removed, added = (table[column].str.len() for column in ("removed", "added"))
    longest, most = np.maximum(removed, added), max(1, context // 2)
    _refuse(table, longest > most, f"alleles longer than {most} letters, half the context")
    if window == "centred":
        past = table["start"] + removed > table["window_end"]
        _refuse(table, past | (table["start"] < table["window_start"]), "its alleles do not fit into its window")
    if alleles != "both" or window == "bend_left":
        _refuse(table, longest * np.minimum(removed, added) != 1, "only single nucleotides have this score")
    if window == "left":
        _refuse(table, removed != added, "an insertion or deletion has no aligned nucleotide at the end of its window")
    empty = np.minimum(table["window_end"], size) <= np.maximum(table["window_start"], 0)
    _refuse(table, empty, "no nucleotide of the chromosome is before the variant")


def _refuse(table: pd.DataFrame, bad: Any, reason: str) -> None:
    """Give rows a reason that have none yet."""
    table.loc[np.asarray(bad, bool) & (table["reason"] == "").to_numpy(), "reason"] = reason


def _need_some(table: pd.DataFrame) -> None:
    """Refuse a table of which nothing can be scored."""
    if not (table["reason"] == "").any():
        counts = "; ".join(f"{count:,}: {reason}" for reason, count in table["reason"].value_counts().items())
        raise InputError(f"None of {len(table):,} variants can be scored: {counts or 'there are none'}.")


# ---- unique windows and their letters -----------------------------------------------------------


class _Letters:
    """Reads stretches of a genome that lie near each other; what is outside of a chromosome is N."""

    def __init__(self, genome: Genome, edges: str) -> None:
        self._genome, self._pad = genome, edges == "pad"
        self._held: tuple[str, int, NDArray[np.uint8]] = ("", 0, np.empty(0, np.uint8))

    def read(self, chromosome: str, start: int, end: int) -> NDArray[np.uint8]:
        """Return the letters [start, end) of a chromosome."""
        size = self._genome.contigs[chromosome]
        first, last = max(start, 0), min(end, size)
        where, begin, codes = self._held
        if where != chromosome or first < begin or last > begin + len(codes):
            begin = first
            try:
                codes = self._genome.fetch(chromosome, first, min(max(last, first + _STRETCH), size))
            except InputError:  # of a letter that is refused, perhaps after the end
                codes = self._genome.fetch(chromosome, first, last)
            self._held = (chromosome, begin, codes)
        found = codes[first - begin : last - begin]
        if self._pad and len(found) < end - start:
            found = np.pad(found, (first - start, end - last), constant_values=_N)
        return found


def _count_n(table: pd.DataFrame, letters: _Letters) -> NDArray[np.int64]:
    """Count the letters N of each reference window; windows with letters that the genome refuses get a reason."""
    counts = np.full(len(table), -1, np.int64)
    scored = table[table["reason"] == ""]
    keys = ["chromosome", "window_start", "window_end"]
    number = scored.groupby(keys, sort=True).ngroup().to_numpy()
    first = np.unique(number, return_index=True)[1]
    per_window = np.empty(len(first), np.int64)
    refused: dict[int, str] = {}
    for window, (chromosome, start, end) in enumerate(scored[keys].iloc[first].itertuples(index=False)):
        try:
            per_window[window] = (letters.read(chromosome, start, end) == _N).sum()
        except InputError as error:
            per_window[window], refused[window] = -1, f"the window holds a letter that is refused: {error}"
    counts[scored.index] = per_window[number]
    for window, reason in refused.items():
        table.loc[scored.index[number == window], "reason"] = reason
    return counts


def _windows(
    table: pd.DataFrame, alleles: str, window: str
) -> tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.int64]]:
    """Return the unique windows, sorted, and those of each variant, -1 for none."""
    import pandas as pd

    scored = np.flatnonzero(table["reason"] == "")
    kept = table.iloc[scored]
    where = kept[["chromosome", "window_start", "window_end"]].reset_index(drop=True)
    change = kept[["start", "removed", "added"]].reset_index(drop=True)
    if window == "bend_left":
        change = change.assign(start=change["start"] - 1)
    plain = where.assign(start=-1, removed="", added="", allele="ref")
    if alleles == "masked":
        plain = where.join(change).assign(added="N", allele="masked")
    parts = [plain, where.join(change).assign(allele="alt")] if alleles == "both" else [plain]
    every = pd.concat(parts, ignore_index=True)
    keys = ["chromosome", "window_start", "window_end", "start", "removed", "added", "allele"]
    number = every.groupby(keys, sort=True).ngroup().to_numpy()
    windows = every.iloc[np.unique(number, return_index=True)[1]].reset_index(drop=True)
    found = np.full((2, len(table)), -1, np.int64)
    found[: len(parts), scored] = number.reshape(len(parts), -1)
    return windows, found[0], found[1]


def _offsets(table: pd.DataFrame, window: str, turned: bool) -> NDArray[np.int64]:
    """Return the place of the first changed nucleotide in the windows of each variant, -1 where not scored."""
    start, begin, end = (table[column].to_numpy(np.int64) for column in ("start", "window_start", "window_end"))
    removed = table["removed"].str.len().to_numpy(np.int64)
    # The slip of BEND's script changes the last letter of a window, which ends before the variant.
    place = (end - 1 if window == "bend_left" else start) - begin
    place = end - begin - place - removed if turned else place
    return np.where(table["reason"] == "", place, -1)


def _sample_table(windows: pd.DataFrame, contigs: Mapping[str, int], turned: bool) -> pd.DataFrame:
    """Return the sample table of windows."""
    from embedstore.regions import sample_table

    begin, end = (windows[column].to_numpy(np.int64) for column in ("window_start", "window_end"))
    removed, added = (windows[column].str.len().to_numpy(np.int64) for column in ("removed", "added"))
    changed = windows["allele"] != "ref"
    place = windows["chromosome"] + ":" + begin.astype(str) + "-" + end.astype(str)
    change = windows["start"].astype(str) + windows["removed"].map(_short) + ">" + windows["added"].map(_short)
    length, size = end - begin + added - removed, windows["chromosome"].map(contigs).to_numpy(np.int64)
    offset = windows["start"].to_numpy(np.int64) - begin
    offset = end - begin - offset - removed if turned else offset
    where = windows[["chromosome"]].assign(
        start=np.maximum(begin, 0), end=np.minimum(end, size), strand="-" if turned else "+", split="", length=length
    )
    others = windows[["allele"]].assign(offset=np.where(changed, offset, -1))
    return sample_table(place + (":" + change).where(changed, ""), where, others, lambda row: f"window {row}")


def _short(allele: str) -> str:
    """Return an allele, or the beginning of a long one with what tells it from others."""
    if len(allele) <= _SHOWN:
        return allele
    return f"{allele[:_SHOWN]}..{hashlib.sha256(allele.encode()).hexdigest()[:12]}"


def _reader(windows: pd.DataFrame, letters: _Letters, turned: bool) -> Callable[[int, int], list[NDArray[np.uint8]]]:
    """Return the function that reads the sequences of windows."""
    chromosome, removed, added = (windows[column].tolist() for column in ("chromosome", "removed", "added"))
    begin, end, start = (windows[column].tolist() for column in ("window_start", "window_end", "start"))

    def sequences(first: int, last: int) -> list[NDArray[np.uint8]]:
        found = []
        for row in range(first, last):
            codes = letters.read(chromosome[row], begin[row], end[row])
            if added[row] or removed[row]:
                left = start[row] - begin[row]
                right = codes[left + len(removed[row]) :]
                codes = np.concatenate([codes[:left], encode(added[row]), right])
            found.append(reverse_complement(codes) if turned else codes.copy())
        return found

    return sequences


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table as a store can hold it: no missing texts, no types of pandas alone."""
    import pandas as pd

    plain = {}
    for column, values in table.items():
        if values.dtype.kind in "iufb" and isinstance(values.dtype, np.dtype):
            plain[column] = values.to_numpy()
        elif pd.api.types.is_numeric_dtype(values):
            plain[column] = values.to_numpy(np.float64, na_value=np.nan)
        else:
            plain[column] = values.fillna("").astype(str).to_numpy(object)
    return pd.DataFrame(plain)
