"""Variants per second of `analysis.score_variants` against loops as BEND's script has them, with equal scores.

A loop embeds one sequence at a time, reference and then alternate, takes the whole hidden state to nucleotides and
compares two rows with scipy: once through the ESM class and the tokenizer of transformers where the model is such an
encoder, once through our network. All arithmetic is float32 with the same weights; the loops get the very windows that
are scored, and a difference above 1e-5, or above a thousandth of the median score, ends the run. They are timed on some
of the variants, for each takes them the same time; `score_variants` is timed as a whole, checks and store included.
Rounds are interleaved. Ratios are of wall time, and of the CPU time of the process, which other processes disturb less.
Last, how far windows that neighbours share (stride 64) change the scores, and how many windows there are of a position:
shared by variants at the same place in the model's words, as `score_variants` does, and by all of a stretch.
Models: a 6-mer encoder of 6 layers x 320 channels with random weights, and the ResNet of the demonstration before
training; `--large` takes one of the shape of the Nucleotide Transformer v2 500M.
Run: python benchmarks/variants.py [--region 1000] [--scattered 1000] [--vcf 10000] [--device cuda] [--large]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
from common import esm_checkpoint, machine, random_checkpoint, table
from scipy.spatial.distance import cosine

from analysis import demo
from analysis.scoring import score_variants
from analysis.variant_ways import letters_of_word
from analysis.variants import variant_scores
from embedstore import embed, models, open_store
from embedstore.genome import Genome
from embedstore.simulate import random_variants, simulate_genome, write_fasta, write_vcf
from embedstore.variants import variant_task

if TYPE_CHECKING:
    from collections.abc import Callable

    Embed = Callable[[str], np.ndarray]  # letters to rows, one for each nucleotide

TOLERANCE = 1e-5
LARGE = {"layers": 29, "hidden": 1024, "heads": 16, "inner": 4096}


class Case(NamedTuple):
    """Variants, and how windows are laid over them."""

    name: str
    variants: pd.DataFrame
    stride: int = 1


def our_loop(model: models.Model) -> Embed:
    """Return a function that embeds one sequence with our network."""

    def embed_one(text: str) -> np.ndarray:
        parts = []
        for piece in model.pieces(np.frombuffer(text.encode(), np.uint8)):
            hidden = model.hidden(torch.from_numpy(piece.ids)[None].to(model.device))[0].cpu()
            parts.append(np.repeat(hidden[piece.first :].numpy(), piece.span, axis=0))
        return np.concatenate(parts)

    return embed_one


def native_loop(folder: Path, device: str) -> Embed:
    """Return a function that embeds one sequence with the tokenizer and the ESM class of transformers."""
    from transformers import EsmModel, EsmTokenizer

    tokenizer = EsmTokenizer(str(folder / "vocab.txt"), eos_token=None)
    network = EsmModel.from_pretrained(folder, add_pooling_layer=False).eval().to(device)

    def embed_one(text: str) -> np.ndarray:
        ids = tokenizer(text, return_tensors="pt")["input_ids"].to(device)
        with torch.no_grad():
            hidden = network(ids).last_hidden_state[0, 1:].cpu().numpy()
        return np.repeat(hidden, [6] * (len(text) // 6) + [1] * (len(text) % 6), axis=0)

    return embed_one


def loop(embed_one: Embed, genome: Genome, scored: pd.DataFrame) -> np.ndarray:
    """Score variants one at a time."""
    scores = []
    for row in scored.itertuples():
        window = genome.fetch(row.chromosome, row.window_start, row.window_end)
        reference = embed_one(window.tobytes().decode())
        window[row.offset] = ord(row.alt)
        alternate = embed_one(window.tobytes().decode())
        scores.append(cosine(reference[row.offset].astype(np.float64), alternate[row.offset].astype(np.float64)))
    return np.array(scores)


def seconds(run: Callable[[], object]) -> tuple[np.ndarray, object]:
    """Return the wall time and the CPU time of a run, and what it gave."""
    began = np.array([time.perf_counter(), time.process_time()])
    found = run()
    return np.array([time.perf_counter(), time.process_time()]) - began, found


def compare(
    folder: Path,
    model: models.Model,
    loops: dict[str, Embed],
    genome: Genome,
    case: Case,
    looped: int,
    rounds: int,
) -> tuple[list[str], pd.DataFrame]:
    """Return a row of the table (rates, ratios, largest difference of median score, bytes each), and the scores."""

    def ours() -> pd.DataFrame:
        store = Path(tempfile.mkdtemp(dir=folder)) / "store.zarr"
        return score_variants(case.variants, genome, model, store, stride=case.stride, progress=False)

    scored = score_variants(case.variants[:16], genome, model, stride=case.stride, progress=False)  # set-up
    times: dict[str, list[np.ndarray]] = {name: [] for name in [*loops, "ours"]}
    difference = 0.0
    for _ in range(rounds):
        spent, scored = seconds(ours)
        times["ours"].append(spent / len(case.variants))
        some = scored.iloc[np.linspace(0, len(scored) - 1, min(looped, len(scored))).astype(int)]
        for name, embed_one in loops.items():
            loop(embed_one, genome, some[:3])
            spent, found = seconds(lambda: loop(embed_one, genome, some))  # noqa: B023
            times[name].append(spent / len(some))
            difference = max(difference, np.abs(found - some["cosine"]).max())
    most = min(TOLERANCE, scored["cosine"].median() / 1000)
    if not difference < most:
        raise SystemExit(f"{case.name}: scores differ by {difference:.1e}; less than {most:.1e} is wanted.")
    middle = {name: np.median(values, axis=0) for name, values in times.items()}
    stored = sum(run["bytes"] for run in scored.attrs["runs"]) / len(scored)
    rates = ["-" if name not in middle else compared(middle[name], middle["ours"]) for name in LOOPS]
    shown = f"{difference:.0e} of {scored['cosine'].median():.0e}"
    return [case.name, *rates, f"{1 / middle['ours'][0]:.1f}", shown, f"{stored:,.0f}"], scored


def compared(loop: np.ndarray, ours: np.ndarray) -> str:
    """Write the rate of a loop, and how much faster we are: wall time, CPU time."""
    wall, cpu = loop / ours
    return f"{1 / loop[0]:.1f} ({wall:.2f}, CPU {cpu:.2f})"


LOOPS = ("transformers", "our network")
HEAD = ("case", *(f"loop, {name} (ours is faster by)" for name in LOOPS), "score_variants", "difference", "bytes each")


def cases(contigs: dict[str, np.ndarray], region: int, scattered: int) -> list[Case]:
    """Return all changes of a region, with windows of their own and with shared ones, and scattered variants."""
    (name, codes), *_ = contigs.items()
    position = np.repeat(np.arange(region) + len(codes) // 2, 4)
    letters = np.frombuffer(codes.tobytes(), "S1").astype("U1")
    every = pd.DataFrame(
        {"chromosome": name, "position": position, "ref": letters[position], "alt": np.tile(list("ACGT"), region)}
    ).astype({"ref": object, "alt": object})
    every = every[every["ref"] != every["alt"]].reset_index(drop=True)
    return [
        Case(f"{region} nt x 3", every),
        Case(f"{region} nt x 3, stride 64", every, 64),
        Case(f"{scattered} scattered", random_variants(contigs, scattered)),
    ]


def sharing(model: models.Model, genome: Genome, case: Case, own: pd.DataFrame, shared: pd.DataFrame) -> None:
    """Print how many windows a position has, and how well scores agree with those of windows that are not shared."""
    word = letters_of_word(model)
    store = open_store("memory://", mode="a")
    store.add_task(variant_task(case.variants, genome, name="stretches", stride=case.stride))
    embed(store, "stretches", model, positions="variants", keep="rows", dtype="float32", progress=False)
    rows = []
    for name, scored in (
        ("not shared", own),
        (f"shared in words of {word}", shared),
        ("shared whatever the words", variant_scores(store, "stretches", model.name)),
    ):
        windows = len(np.unique(scored[["reference", "alternate"]]))
        agreement = scored["cosine"].rank().corr(own["cosine"].rank())
        rows.append((name, f"{windows / case.variants['position'].nunique():.2f}", f"{agreement:.4f}"))
    table(f"Windows of {case.name}", [("windows", "each position", "Spearman with those not shared"), *rows])


def tested(folder: Path, device: str, large: bool) -> list[tuple[str, models.Model, dict[str, Embed]]]:
    """Return models with the loops that are possible with each."""
    if large:
        model = models.load(random_checkpoint(folder / "large", **LARGE), device=device)
        return [("NT v2 500M, random weights", model, {"our network": our_loop(model)})]
    encoder = models.load(esm_checkpoint(folder / "encoder"), device=device)
    loops = {"transformers": native_loop(folder / "encoder", device), "our network": our_loop(encoder)}
    demo._write_untrained(folder / "resnet", 0)  # noqa: SLF001
    resnet = models.load(folder / "resnet", device=device)
    return [("6-mer encoder, 6 x 320", encoder, loops), ("ResNet, 8 x 64", resnet, {"our network": our_loop(resnet)})]


def whole_file(folder: Path, model: models.Model, fasta: Path, contigs: dict[str, np.ndarray], count: int) -> None:
    """Print how long a VCF takes from file to scores."""
    path = write_vcf(folder / "variants.vcf", random_variants(contigs, count), contigs)
    (spent, _), scored = seconds(lambda: score_variants(path, fasta, model, folder / "vcf.zarr", progress=False))
    print(
        f"\nVCF of {count:,} variants on {sum(map(len, contigs.values())) / 1e6:g} Mb, {model.name}: {spent:.1f} s, "
        f"{len(scored) / spent:.0f} variants/s, {int((scored['reason'] != '').sum())} not scored"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--large", action="store_true", help="the shape of NT v2 500M in place of the small models")
    parser.add_argument("--region", type=int, default=300, help="nucleotides of saturation mutagenesis (300)")
    parser.add_argument("--scattered", type=int, default=300, help="scattered variants (300)")
    parser.add_argument("--vcf", type=int, default=1000, help="variants of the VCF, 0 for none (1000)")
    parser.add_argument("--looped", type=int, default=60, help="variants that each loop is timed on (60)")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    what = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{machine()}; {arguments.device}, {what}, torch {torch.__version__}, float32")
    with tempfile.TemporaryDirectory(prefix="embedstore-benchmark-", dir=".") as name:
        folder = Path(name)
        contigs = simulate_genome(1_000_000, chromosomes=1).contigs
        fasta = write_fasta(folder / "genome.fa", contigs)
        for title, model, loops in tested(folder, arguments.device, arguments.large):
            with Genome(fasta) as genome:
                every = cases(contigs, arguments.region, arguments.scattered)
                found = [
                    compare(folder, model, loops, genome, case, arguments.looped, arguments.rounds) for case in every
                ]
                rows = [tuple(row) for row, _ in found]
                table(f"{title}: variants/s, medians of {arguments.rounds} rounds", [HEAD, *rows])
                sharing(model, genome, every[1], found[0][1], found[1][1])
        if arguments.vcf:
            whole_file(folder, model, fasta, contigs, arguments.vcf)


if __name__ == "__main__":
    main()
