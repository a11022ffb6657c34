"""The demonstration: the whole way from a genome to figures, on a simulated genome, in a few minutes on two cores."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedstore.errors import InputError
from embedstore.outputs import check_folder

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from embedstore.simulate import Simulation
    from embedstore.store import Store

TASK, VARIANT_TASK = "gene_finding", "splice_variants"
TRAINED, UNTRAINED, ONE_HOT = "resnet_lm", "resnet_untrained", "onehot"
STEPS = 2000
"""Steps of pretraining, about two minutes on two cores. A number of steps gives the same weights on every run."""

_HIDDEN, _LAYERS = 64, 8
# So few nucleotides are best spent on many small steps.
_TRAINING: dict[str, Any] = {"batch_size": 8, "learning_rate": 2e-3, "evaluations": 5}
_PROBE: dict[str, Any] = {"batch_size": 8, "epochs": 15, "seed": 0}
_VARIANTS = 200
_INPUTS = ("genome.fa", "gene_finding.bed", "gene_finding.hdf5", "pretraining.fa", "variants.csv")
_SETTINGS = "demo.json"
SWEEP = "sweep.toml"
"""File that asks for more probes of the demonstration, for ``embedstore sweep``."""


class DemoResult(NamedTuple):
    """What the demonstration found, and where it is.

    Attributes
    ----------
    gene_finding : pandas.DataFrame
        model, value (MCC on test genes), low, high (95 % interval), n_train, n_test, best_epoch.
    variants : pandas.DataFrame
        model, then the columns of `analysis.variant_tables.auroc_table`.
    perplexity : float
        Of the language model on held-out windows.
    markov_perplexity : float
        Of an order-5 Markov model on the same windows.
    folder : pathlib.Path
        Everything that was written.
    store : pathlib.Path
        The store.
    figures : list of pathlib.Path
        Pictures; the numbers of each are beside it as CSV.
    """

    gene_finding: pd.DataFrame
    variants: pd.DataFrame
    perplexity: float
    markov_perplexity: float
    folder: Path
    store: Path
    figures: list[Path]


def run_demo(
    out: str | Path = "demo",
    *,
    seed: int = 0,
    minutes: float | None = None,
    steps: int | None = None,
    length: int = 1_000_000,
    progress: bool = True,
) -> DemoResult:
    """Simulate a genome, pretrain a language model on it, embed, probe, score variants and draw.

    The language model is trained on the training chromosomes only and never sees a label. It is compared with one-hot
    letters and with the same network before training. What a former run left in `out` is used again.

    Parameters
    ----------
    out
        Folder for everything.
    seed
        Of the genome and of the language model.
    minutes, steps
        How long to pretrain: one or the other; default 2,000 steps, two minutes on two cores. With `minutes` the
        numbers depend on the speed of the machine.
    length
        Nucleotides of the genome, default one million.
    progress
        Show progress bars.

    Returns
    -------
    DemoResult
        Tables and paths.

    Raises
    ------
    InputError
        If `out` holds another demonstration, or other things.
    """
    from embedstore import open_store
    from embedstore.models.pretrain import pretrain
    from embedstore.simulate import simulate_genome
    from probes.results import results_folder

    if minutes is None and steps is None:
        steps = STEPS
    # Checked before anything is written, so that a slip does not leave a folder of other settings.
    if (minutes is None) == (steps is None) or not 0 < (minutes or steps or 0) < float("inf"):
        raise InputError(f"minutes={minutes}, steps={steps}: give one of them, above 0, or neither.")
    folder = check_folder(out, option="the folder of the demonstration (--out)")
    sim = simulate_genome(length, seed=seed)
    _write_inputs(folder, sim, {"seed": seed, "length": length, "steps": steps, "minutes": minutes})
    run = pretrain(
        folder / "pretraining.fa",
        folder / TRAINED,
        hidden=_HIDDEN,
        layers=_LAYERS,
        steps=steps,
        minutes=minutes,
        seed=seed,
        progress=progress,
        **_TRAINING,
    )
    _write_untrained(folder / UNTRAINED, seed)
    store = open_store(folder / "store.zarr", mode="a")
    _embed(store, folder, progress)
    gene_finding, predicted = _probe(store, results_folder(store), progress)
    (folder / SWEEP).write_text(_sweep(), encoding="utf-8")
    variants, scores = _score(store, folder, progress)
    figures = [
        _draw_gene(folder / "figures", store, predicted),
        _draw_mcc(folder / "figures", gene_finding),
        _draw_variants(folder / "figures", scores),
    ]
    return DemoResult(gene_finding, variants, run.perplexity, run.markov_perplexity, folder, Path(store.path), figures)


def _write_inputs(folder: Path, sim: Simulation, settings: dict[str, Any]) -> None:
    """Write genome, regions, labels and variants, unless a former run with the same settings did."""
    from embedstore.simulate import splice_variants, splits, write_fasta, write_gene_finding

    genome = hashlib.sha256(b"".join(codes.tobytes() for codes in sim.contigs.values()))
    settings = {**settings, "genome": genome.hexdigest()[:16]}
    done = folder / _SETTINGS
    if done.exists():
        former = json.loads(done.read_text(encoding="utf-8"))
        differ = [
            f"{key} {former.get(key)}, now {value}" for key, value in settings.items() if former.get(key) != value
        ]
        if differ:
            raise InputError(
                f"{folder} holds a demonstration of other settings: {'; '.join(differ)}. Give another folder (--out), "
                "or delete this one."
            )
        return
    others = sorted({path.name for path in folder.glob("*")} - set(_INPUTS))
    if others:
        raise InputError(
            f"{folder} holds other things ({', '.join(others[:5])}). Give a new or an empty folder (--out)."
        )
    write_gene_finding(sim, folder)
    split = splits(sim)
    training = {name: codes for name, codes in sim.contigs.items() if split[name] == "train"}
    write_fasta(folder / "pretraining.fa", training)
    splice_variants(sim, _VARIANTS).to_csv(folder / "variants.csv", index=False)
    done.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _write_untrained(folder: Path, seed: int) -> None:
    """Write the network as it is before the first step of training."""
    import torch

    from embedstore.models.convnet import ConvNet, ConvNetSpec
    from embedstore.models.corpus import FIRST_LETTER
    from embedstore.models.training_state import save_checkpoint

    spec = ConvNetSpec(FIRST_LETTER + 4, _HIDDEN, _LAYERS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ConvNet(spec)
    folder.mkdir(exist_ok=True)
    save_checkpoint(folder, network, spec)


def _embed(store: Store, folder: Path, progress: bool) -> None:
    """Embed gene finding with both networks; what is in the store is not done again."""
    from embedstore import embed
    from embedstore.models import load
    from embedstore.tasks import from_bed

    fasta, bed, labels = (folder / name for name in _INPUTS[:3])
    store.add_task(from_bed(bed, fasta, record=TASK, labels=labels))
    for name in (TRAINED, UNTRAINED):
        embed(store, TASK, load(folder / name, name=name), progress=progress)


def _probe(store: Store, out: Path, progress: bool) -> tuple[pd.DataFrame, dict[str, NDArray[np.int64]]]:
    """Train the same probe on each; return how good they are, and the classes they give the test windows."""
    import pandas as pd

    from probes.dataset import ProbeData
    from probes.experiment import run_probe

    rows, predicted = [], {}
    for name in (TRAINED, UNTRAINED, ONE_HOT):
        result = run_probe(store, TASK, name, out=out, device="cpu", progress=progress, **_PROBE)
        kept = {key: result.row[key] for key in ("low", "high", "n_train", "n_test", "best_epoch")}
        rows.append({"model": name, "value": result.row["test"], **kept})
        predicted[name] = result.probe.predict(ProbeData.from_store(store, TASK, name, "test", progress=False))
    return pd.DataFrame(rows), predicted


def _sweep() -> str:
    """Return a sweep of the probes that were trained, which are found again, and of baselines."""
    models = json.dumps([TRAINED, UNTRAINED, ONE_HOT])
    settings = ", ".join(f"{name} = {value}" for name, value in _PROBE.items() if name != "seed")
    return f"""# embedstore sweep {SWEEP} trains what is asked for here and is not there yet, and prints one table.
store = "store.zarr"

[[run]]
tasks = ["{TASK}"]
models = {models}
probes = ["cnn"]
seeds = [{_PROBE["seed"]}]
settings = {{ {settings} }}

[[run]]
tasks = ["{TASK}"]
models = ["{TRAINED}", "{UNTRAINED}", "kmer4", "gc"]
probes = ["ridge"]

[[run]]
tasks = ["{TASK}"]
models = ["{ONE_HOT}"]
probes = ["majority"]
"""


def _score(store: Store, folder: Path, progress: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the variants; return AUROCs by model and controls, and the scores of the trained model."""
    import pandas as pd

    from analysis.scoring import score_variants
    from analysis.variant_tables import auroc_table
    from embedstore.models import load

    variants = pd.read_csv(folder / "variants.csv")
    scores = {
        name: score_variants(
            variants,
            folder / _INPUTS[0],
            load(folder / name, name=name),
            store,
            name=VARIANT_TASK,
            scores=["cosine"],
            strands="both",
            progress=progress,
        )
        for name in (TRAINED, UNTRAINED)
    }
    tables = {name: auroc_table(table) for name, table in scores.items()}
    return pd.concat(tables, names=["model"]).reset_index("model").reset_index(drop=True), scores[TRAINED]


def _draw_gene(folder: Path, store: Store, predicted: dict[str, NDArray[np.int64]]) -> Path:
    """Draw the test window in which the language model's probe is right as often as in the median window."""
    import pandas as pd

    from analysis.plots import plot_gene_tracks, save_figure

    samples, labels = store.samples(TASK), store.labels(TASK)
    assert labels is not None
    test = (samples["split"] == "test").to_numpy()
    length = samples["length"].to_numpy()
    truth = labels.values[np.repeat(test, length)].astype(np.int64)
    first = np.cumsum(length[test]) - length[test]
    right = np.add.reduceat(truth == predicted[TRAINED], first) / length[test]
    chosen = int(np.argsort(right, kind="stable")[len(right) // 2])
    window = samples[test].iloc[chosen]
    at = slice(first[chosen], first[chosen] + window["length"])
    tracks = {"annotation": truth[at], **{name: classes[at] for name, classes in predicted.items()}}
    figure = _new_figure(10, 4)
    ax = plot_gene_tracks(tracks, figure.subplots(), start=int(window["start"]), chromosome=window["chromosome"])
    name = f"{window['transcript_id']} ({window['strand']})"
    title = f"{name}, the median test window: {right[chosen]:.1%} right by {TRAINED}"
    ax.set_title(title, loc="left", fontsize="medium", pad=22)
    table = pd.DataFrame({"position": np.arange(window["start"], window["end"]), **tracks})
    return save_figure(figure, folder / "gene.png", table)


def _draw_mcc(folder: Path, gene_finding: pd.DataFrame) -> Path:
    """Draw the scores of the probes."""
    from analysis.plots import plot_metric_bars, save_figure

    figure = _new_figure(5.5, 2.2)
    plot_metric_bars(gene_finding, figure.subplots())
    return save_figure(figure, folder / "mcc.png", gene_finding)


def _draw_variants(folder: Path, scores: pd.DataFrame) -> Path:
    """Draw the scores of the variants."""
    from analysis.plots import save_figure
    from analysis.variant_distributions import plot_score_distributions
    from analysis.variant_plots import plot_roc

    figure = _new_figure(12, 4)
    left, right = figure.subplots(1, 2)
    plot_roc(scores, left, controls=True)
    plot_score_distributions(scores, right)
    return save_figure(figure, folder / "variants.png", scores)


def _new_figure(width: float, height: float) -> Figure:
    """Return a figure of so many inches that belongs to no window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
