"""What was published of the protein tasks: counts, results, other methods on the same data, and contradictions.

Source: Boshar et al. 2024, "Are Genomic Language Models All You Need?" (the paper), its data card, and the named
publications of others. Numbers of others are for orientation: another split, head or metric makes them no comparison.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

PAPER = "Boshar et al. 2024"
"""How the source of the paper's numbers is named in tables."""

MODELS = {
    "nt_v2_500m_multi_species": "Nucleotide Transformer v2",
    "dnabert2": "DNABERT2",
    "esm2_650m": "ESM2",
    "esm1b_650m": "ESM1-b",
}
"""Row of the paper's Table 2 by the id of the model's record."""

_NT, _DNABERT2, _ESM2, _ESM1B = MODELS

TASKS = (
    "fluorescence",
    "beta_lactamase_complete",
    "beta_lactamase_unique",
    "stability",
    "melting_point",
    "secondary_structure",
)
"""The tasks of the paper in the order of its Table 2; their numbers stand in the records of these names."""

METRICS = {"spearman": "Spearman", "r2": "R2", "accuracy": "accuracy"}
"""What tables and figures call the metrics of the tasks."""

_TEST_SETS = ("CASP12", "CB513", "TS115")
_PROTEIN, _TRUE = "protein", "true"
_SAID = {
    # What follows a model's name in a record -> input (none: that of the model's kind), added, place
    "": ("", "", "Table 2"),
    "in the text": ("", "", "text"),
    "+ species": ("", "species", "text"),
    "+ GC": ("", "gc", "text"),
    "permuted": ("permuted", "", "text"),
}
_BOUNDS = (
    # task, metric, model, input, value, bound: what the text says without a number
    ("melting_point", "r2", _NT, "uniform", 0.72, "<"),
    # The paper does not say of which of the two sets of beta-lactamase.
    ("beta_lactamase_complete", "spearman", _NT, "uniform", 0.0, "~"),
    ("beta_lactamase_complete", "spearman", _DNABERT2, "uniform", 0.0, "~"),
)

_SCHMIRLER = "Schmirler et al. 2024, source data"
_ANKH, _PROTTRANS, _TAPE, _SAPROT = "Ankh, README", "ProtTrans, README", "Rao et al. 2019 (TAPE)", "SaProt, README"
_OTHERS = (
    # task, test set, metric, method, setting, value, highest of a range, source
    ("melting_point", "FLIP mixed", "spearman", "ESM2-650M", "frozen", 0.656, None, _SCHMIRLER),
    ("melting_point", "FLIP mixed", "spearman", "ESM2-650M", "fine-tuned", 0.664, None, _SCHMIRLER),
    ("melting_point", "FLIP mixed", "spearman", "ESM2-3B", "frozen", 0.677, None, _SCHMIRLER),
    ("melting_point", "FLIP mixed", "spearman", "ESM2-3B", "fine-tuned", 0.699, None, _SCHMIRLER),
    ("melting_point", "FLIP mixed", "spearman", "ProtT5", "frozen", 0.694, None, _SCHMIRLER),
    ("melting_point", "FLIP mixed", "spearman", "ProtT5", "fine-tuned", 0.726, None, _SCHMIRLER),
    ("melting_point", "FLIP mixed", "spearman", "random weights", "fine-tuned", 0.51, 0.53, _SCHMIRLER),
    ("melting_point", "FLIP human cell", "spearman", "ESM2-650M", "", 0.680, None, _SAPROT),
    ("melting_point", "FLIP human cell", "spearman", "SaProt", "", 0.724, None, _SAPROT),
    ("fluorescence", "", "spearman", "ESM2-650M", "frozen", 0.648, None, _SCHMIRLER),
    ("fluorescence", "", "spearman", "ESM2-650M", "fine-tuned", 0.688, None, _SCHMIRLER),
    ("fluorescence", "", "spearman", "ProtT5", "frozen", 0.614, None, _SCHMIRLER),
    ("fluorescence", "", "spearman", "ProtT5", "fine-tuned", 0.680, None, _SCHMIRLER),
    ("fluorescence", "", "spearman", "ESM2-8M, random weights", "fine-tuned", 0.689, None, _SCHMIRLER),
    ("fluorescence", "", "spearman", "homology baseline", "", 0.641, None, _SCHMIRLER),
    ("fluorescence", "", "spearman", "ESM2-650M", "head of Ankh", 0.48, None, _ANKH),
    ("fluorescence", "", "spearman", "TAPE transformer", "", 0.68, None, _TAPE),
    ("fluorescence", "", "spearman", "LSTM", "", 0.67, None, _TAPE),
    ("fluorescence", "", "spearman", "one-hot", "", 0.14, None, _TAPE),
    ("stability", "", "spearman", "ESM2-650M", "frozen", 0.664, None, _SCHMIRLER),
    ("stability", "", "spearman", "ESM2-650M", "fine-tuned", 0.743, None, _SCHMIRLER),
    ("stability", "", "spearman", "ProtT5", "frozen", 0.778, None, _SCHMIRLER),
    ("stability", "", "spearman", "ProtT5", "fine-tuned", 0.824, None, _SCHMIRLER),
    ("stability", "", "spearman", "TAPE transformer", "", 0.73, None, _TAPE),
    ("stability", "", "spearman", "LSTM", "", 0.69, None, _TAPE),
    ("stability", "", "spearman", "one-hot", "", 0.19, None, _TAPE),
    ("beta_lactamase_unique", "PEER", "spearman", "SaProt-650M", "LoRA", 0.906, None, _SAPROT),
    ("secondary_structure", "CASP12", "accuracy", "ESM2-650M", "head of Ankh", 0.705, None, _ANKH),
    ("secondary_structure", "TS115", "accuracy", "ESM2-650M", "head of Ankh", 0.777, None, _ANKH),
    ("secondary_structure", "CB513", "accuracy", "ESM2-650M", "head of Ankh", 0.759, None, _ANKH),
    ("secondary_structure", "CASP12", "accuracy", "ESM1b", "head of Ankh", 0.660, None, _ANKH),
    ("secondary_structure", "TS115", "accuracy", "ESM1b", "head of Ankh", 0.738, None, _ANKH),
    ("secondary_structure", "CB513", "accuracy", "ESM1b", "head of Ankh", 0.716, None, _ANKH),
    ("secondary_structure", "CASP12", "accuracy", "ProtT5", "head of Ankh", 0.705, None, _ANKH),
    ("secondary_structure", "TS115", "accuracy", "ProtT5", "head of Ankh", 0.769, None, _ANKH),
    ("secondary_structure", "CB513", "accuracy", "ProtT5", "head of Ankh", 0.748, None, _ANKH),
    ("secondary_structure", "CASP12", "accuracy", "ProtT5", "", 0.70, None, _PROTTRANS),
    ("secondary_structure", "TS115", "accuracy", "ProtT5", "", 0.77, None, _PROTTRANS),
    ("secondary_structure", "CB513", "accuracy", "ProtT5", "", 0.74, None, _PROTTRANS),
    ("secondary_structure", "", "accuracy of 3 classes", "ESM2-650M", "frozen", 0.847, None, _SCHMIRLER),
    ("secondary_structure", "", "accuracy of 3 classes", "ESM2-650M", "fine-tuned", 0.855, None, _SCHMIRLER),
    ("localisation", "", "accuracy of 10 classes", "ProtT5", "IA3", 0.630, 0.636, _SCHMIRLER),
    ("localisation", "", "accuracy of 10 classes", "ProtT5", "LoRA", 0.636, 0.654, _SCHMIRLER),
)

_CONFLICTS = (
    # about, the paper says, what contradicts it
    ("melting_point", "R2 of Nucleotide Transformer 0.82 (Table 2)", "0.81 in the text; which one is compared is open"),
    (
        "all tasks",
        "genomic models outperform protein models on three of five tasks (introduction)",
        "'match or outperform' (conclusion); by Table 2 strictly better on melting point only, equal on two",
    ),
    (
        "beta_lactamase_unique",
        "3,457 training samples (Table 1)",
        "3,417 on the data card; 3,457 + 865 + 1,080 = 5,402 makes 64 / 16 / 20 %, so the card's looks like a slip",
    ),
    (
        "beta_lactamase_complete",
        "11,252 training and 2,814 validation samples (Table 1)",
        "the sizes of the hosted files suit about 9,200 and 2,300",
    ),
    ("beta_lactamase", "sequences and fitness credited to Rocklin et al. 2017", "they are of Firnberg et al. 2014"),
    ("beta_lactamase", "'this original fluorescence dataset' in its paragraph", "beta-lactamase is meant"),
    ("melting_point", "protein ids credited to TAPE", "they are of Meltome, as split by FLIP"),
    ("secondary_structure", "called a multi-label task", "each residue has exactly one of eight classes"),
    (
        "codon strategies",
        "'permuting synonymous codons' (Figure 1)",
        (
            "'sampling codons from their natural frequencies' (text); the first keeps a sequence's codons exactly, the "
            "second only on average"
        ),
    ),
    ("melting_point", "R2, without a formula", "1 - SSE / SST and the squared correlation differ where bias is left"),
    ("melting_point", "0.81 against 0.79 read as a difference", "no seeds and no intervals are given"),
    (
        "other models",
        "CaLM and CodonBERT released neither data nor weights",
        "out of date: both have published data sets and weights since",
    ),
)

_CAVEATS = (
    (
        "melting_point",
        (
            "On 52,387 public Meltome measurements the mean of the species alone, without any sequence, has R2 = 0.79 "
            "(0.74 counting every measurement): total R2 near these says nothing about proteins. Read R2 within them."
        ),
    ),
    (
        "fluorescence",
        (
            "ESM2-8M with random weights reaches 0.689 and a homology baseline 0.641 on the same data (Schmirler et "
            "al. 2024): 0.68 for all four models is where this data ends, not a sign that they are equal."
        ),
    ),
    (
        "beta_lactamase",
        (
            "Near-zero correlation with uniformly sampled codons is expected of any model: drawing some 286 synonymous "
            "codons anew for every variant buries a difference of one codon. One recoding shared by all does not."
        ),
    ),
    (
        "all tasks",
        "Others report that they could not reproduce the paper's numbers for genomic models from the released data.",
    ),
    (
        "all tasks",
        "The paper fine-tunes with IA3. A frozen probe beside a published number is another experiment.",
    ),
)

_FACTS = ("task", "test_set", "metric", "model", "input", "added")
_HOW = ("layer", "probe", "recipe", "settings")
_NUMBERS = ("value", "low", "high")
_ROUNDING = 0.005
"""Half the last digit of the paper's numbers."""


class Regime(NamedTuple):
    """What is put into a model, as the name of a task says it."""

    task: str
    input: str


def published_counts() -> pd.DataFrame:
    """Return the paper's Table 1.

    Returns
    -------
    pandas.DataFrame
        task, level (what has a label: ``"sequence"`` or ``"residue"``), train, valid, test (samples; for secondary
        structure its three test sets together), length (mean nucleotides).
    """
    import pandas as pd

    from embedstore.tasks.published import publication

    rows = []
    for name in TASKS:
        found = publication(name)
        level = "sequence" if found.record.level == "sequence" else "residue"
        rows.append({"task": name, "level": level, **found.counts["paper"], "length": found.coding.nucleotides})
    return pd.DataFrame(rows)


def published_results() -> pd.DataFrame:
    """Return every number of the paper's Table 2 and of its text, one per row.

    Returns
    -------
    pandas.DataFrame
        task, test_set (of secondary structure; else empty), metric, model (id of the model's record), input
        (``"protein"``, or the codon strategy), added (what is appended to the embedding: ``"gc"``, ``"species"`` or
        nothing), value, bound (``"<"``, ``"~"`` or nothing), place (``"Table 2"`` or ``"text"``). Figure 1 has no
        numbers.
    """
    import pandas as pd

    from embedstore.tasks.published import PAPER_NAMES, publication

    names = {str(PAPER_NAMES[model]): model for model in MODELS}
    rows: list[tuple[Any, ...]] = []
    for task in TASKS:
        found = publication(task)
        for text, value in found.values.items():
            name = next(known for known in names if text.startswith(known))
            rest = text.removeprefix(name).strip()
            test_set = rest if rest in _TEST_SETS else ""
            given, added, place = _SAID["" if test_set else rest]
            usual = _PROTEIN if names[name] in (_ESM2, _ESM1B) else _TRUE
            rows.append((task, test_set, found.record.metric, names[name], given or usual, added, value, "", place))
    rows += [(task, "", metric, *what, "", value, bound, "text") for task, metric, *what, value, bound in _BOUNDS]
    table = pd.DataFrame(rows, columns=[*_FACTS, "value", "bound", "place"])
    return table.sort_values("place", kind="stable", ignore_index=True)


def published_table() -> pd.DataFrame:
    """Return the paper's Table 2 as it is printed.

    Returns
    -------
    pandas.DataFrame
        A row per model, as the paper names it; columns task, test set and metric; NaN where the paper has none.

    Examples
    --------
    >>> float(published_table().loc["ESM2", ("melting_point", "", "r2")])
    0.72
    """
    rows = published_results().query("place == 'Table 2'")
    wide = rows.pivot_table(index="model", columns=list(_FACTS[:3]), values="value", sort=False)
    return wide.reindex(list(MODELS)).rename(index=MODELS)


def published_comparators() -> pd.DataFrame:
    """Return what others published on the same or nearly the same data.

    Returns
    -------
    pandas.DataFrame
        task, test_set, metric, method, setting, value (or the lowest of a range), highest (of a range, else NaN),
        source.
    """
    import pandas as pd

    columns = ["task", "test_set", "metric", "method", "setting", "value", "highest", "source"]
    return pd.DataFrame(list(_OTHERS), columns=columns).astype({"highest": float})


def conflicts() -> pd.DataFrame:
    """Return where the paper contradicts itself, its data card or its sources.

    Returns
    -------
    pandas.DataFrame
        about, said, against.
    """
    import pandas as pd

    return pd.DataFrame(list(_CONFLICTS), columns=["about", "said", "against"])


def caveats() -> pd.DataFrame:
    """Return what a reader must know before comparing with the published numbers.

    Returns
    -------
    pandas.DataFrame
        about, caveat.
    """
    import pandas as pd

    return pd.DataFrame(list(_CAVEATS), columns=["about", "caveat"])


def regime(task: str) -> Regime:
    """Split the name of a stored task into the published task and what the models are given.

    Parameters
    ----------
    task
        Such as ``melting_point``, ``melting_point.protein`` or ``melting_point.permuted.seed0``.

    Returns
    -------
    Regime
        ``input`` is ``"protein"`` or the codon strategy.

    Examples
    --------
    >>> regime("melting_point.window_permuted-8.seed3")
    Regime(task='melting_point', input='window_permuted-8')
    """
    name, _, rest = task.partition(".")
    return Regime(name, rest.partition(".seed")[0] or _TRUE)


def compare_with_published(results: pd.DataFrame) -> pd.DataFrame:
    """Set our numbers beside the paper's, one row per published number.

    Parameters
    ----------
    results
        Such as `probes.results_table` gives: task (see `regime`), model (id of its record), metric, value; where there
        are, low and high (95 % interval), layer, probe, recipe, settings, ``added`` (see `published_results`) and
        ``test_set``.

    Returns
    -------
    pandas.DataFrame
        task, test_set, metric, model, input, added, place, published (with ``bound``); of each result of ours layer,
        probe, recipe, settings, value, low, high (of recodings with several seeds, the means of each), recodings (how
        many), difference (ours minus published, NaN where the paper gives a bound only), and agrees: whether the
        published number lies within our interval widened by its rounding (NA without an interval or with a bound).
        Published numbers without any of ours have one row with NaN.

    Raises
    ------
    InputError
        A column is missing.
    """
    missing = [name for name in ("task", "model", "metric", "value") if name not in results]
    if missing:
        raise InputError(f"the results have no column {', '.join(missing)}: rows of probes.results_table are wanted.")
    ours = results.assign(**{name: "" for name in ("added", "test_set", *_HOW) if name not in results})
    ours = ours.assign(**{name: float("nan") for name in _NUMBERS if name not in ours})
    said = [regime(str(task)) for task in ours["task"]]
    ours = ours.assign(task=[one.task for one in said], input=[one.input for one in said])
    groups = ours.groupby([*_FACTS, *_HOW])
    numbers = groups[list(_NUMBERS)].mean().assign(recodings=groups.size()).reset_index()
    table = published_results().rename(columns={"value": "published"}).merge(numbers, how="left", on=list(_FACTS))
    exact = table["bound"] == ""
    table["difference"] = (table["value"] - table["published"]).where(exact)
    within = table["published"].between(table["low"] - _ROUNDING, table["high"] + _ROUNDING).astype("boolean")
    table["agrees"] = within.where(exact & table["low"].notna())
    order = [*_FACTS, "place", "published", "bound", *_HOW, *_NUMBERS, "recodings", "difference", "agrees"]
    return table[order]
