"""The partition of the melting-point study at full size, and its parts against scikit-learn.

12,000 samples of 13 species, 1,024 channels for proteins and for coding sequences, ten permutations, five seeds of
folds, 2,000 bootstrap draws, in a process of its own, whose peak memory is measured.
Run: python benchmarks/melting_point.py [--samples N] [--channels N]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from common import machine, realistic_rows, table, timed

from analysis.melting_point.data import WINDOWS, StudyData, check_study
from analysis.melting_point.inference import contrast_table, resample
from analysis.melting_point.measures import species_means
from analysis.melting_point.partition import (
    designs,
    fit_designs,
    partition_contrasts,
    score_table,
    window_curve,
)
from analysis.melting_point.regression import PENALTIES, RATIOS, Block, fit_ridge
from analysis.melting_point.shapley import shapley_table
from analysis.melting_point.study_tables import permutation_table

SPECIES, PERMUTATIONS, SEEDS, DRAWS = 13, 10, 5, 2000


def study(samples: int, channels: int) -> StudyData:
    """Return features as hard as those of language models: shared signal, own noise, a species in the codons."""
    rng = np.random.default_rng(0)
    species = rng.integers(0, SPECIES, samples)
    shape = np.full(-(-samples // 500), 500)

    def rows() -> np.ndarray:
        return np.concatenate(list(realistic_rows(rng, shape, channels)))[:samples]

    protein, base = rows(), rows()
    base += rng.normal(size=(SPECIES, channels)).astype(np.float32)[species]
    features = {"protein": protein, "true": base}
    seeds = [base + 0.3 * rng.normal(size=base.shape).astype(np.float32) for _ in range(PERMUTATIONS)]
    features["permuted"] = np.mean(seeds, axis=0)
    for name in ("uniform", *(f"window_permuted({width})" for width in WINDOWS)):
        features[name] = base + 0.3 * rng.normal(size=base.shape).astype(np.float32)
    signal = protein[:, :40].sum(1) + base[:, :40].sum(1)
    y = 50 + 8 * rng.normal(size=SPECIES)[species] + 4 * signal / signal.std() + 4 * rng.normal(size=samples)
    table = pd.DataFrame(
        {
            "id": [f"p{number}" for number in range(samples)],
            "split": np.where(np.arange(samples) % 7 == 0, "test", "train"),
            "species": [f"species {number}" for number in species],
            "y": y,
        }
    )
    return check_study(StudyData(table.assign(group=table["id"]), features, {"permuted": seeds}))


def child(samples: int, channels: int) -> None:
    """Measure in a process of its own; print the numbers as JSON."""
    data, seconds = study(samples, channels), {}
    made = designs(data)
    began = time.perf_counter()
    fitted = fit_designs(data, made, seeds=range(SEEDS))
    two = sum(sum(block.penalised for block in blocks) > 1 for blocks in made.values())
    size = f"{SEEDS} seeds x 5 folds x {len(PENALTIES)} penalties"
    seconds[f"{len(made)} regressions x {size}, x {len(RATIOS)} ratios in {two}"] = time.perf_counter() - began
    began = time.perf_counter()
    centre = species_means(data.y, data.species, data.train)[data.test]
    drawn = resample(data.y[data.test], fitted.predictions, species_mean=centre, draws=DRAWS)
    seconds[f"{DRAWS:,} draws of all"] = time.perf_counter() - began
    began = time.perf_counter()
    contrast_table(drawn, partition_contrasts(drawn)), shapley_table(drawn), window_curve(drawn)
    score_table(data, fitted, drawn)
    seconds["tables, sign flips"] = time.perf_counter() - began
    began = time.perf_counter()
    permutation_table(data)
    seconds[f"{PERMUTATIONS} permutations, each alone"] = time.perf_counter() - began
    # Not ru_maxrss of getrusage: a process inherits that of the one that started it.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    features = [*data.features.values(), *data.by_seed["permuted"]]
    found = {"peak": int(peak.split()[1]) * 1024, "features": sum(part.nbytes for part in features), "seconds": seconds}
    print(json.dumps(found))


def scikit(samples: int, channels: int) -> tuple[float, float, float]:
    """Return the seconds of one regression and one seed, ours and scikit-learn's, and how far coefficients differ."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.preprocessing import StandardScaler

    data = study(samples, channels)
    x, y, group = data.features["true"][data.train].astype(np.float64), data.y[data.train], data.group[data.train]
    fits: list = []
    ours = timed(lambda: fits.extend(fit_ridge([Block(x)], y, groups=group)), 1)
    scaler = StandardScaler().fit(x)
    folds = list(GroupKFold(5, shuffle=True, random_state=0).split(x, groups=group))
    search = GridSearchCV(Ridge(), {"alpha": PENALTIES}, cv=folds, scoring="neg_mean_squared_error")
    theirs = timed(lambda: search.fit(scaler.transform(x), y), 1)
    wanted = Ridge(float(fits[0].penalty)).fit(scaler.transform(x), y).coef_
    return ours, theirs, float(np.abs(fits[0].coefficient * scaler.scale_ - wanted).max() / np.abs(wanted).max())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=12_000)
    parser.add_argument("--channels", type=int, default=1024)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = (arguments.samples, arguments.channels)
    if arguments.child:
        child(*size)
        return
    command = [sys.executable, __file__, "--child", "--samples", str(size[0]), "--channels", str(size[1])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    ours, theirs, difference = scikit(*size)
    print(f"{machine()}; {size[0]:,} samples, {size[1]:,} channels for each embedding")
    rows = [("", "s")] + [(name, f"{seconds:.1f}") for name, seconds in found["seconds"].items()]
    table("the study of one model", [*rows, ("all", f"{sum(found['seconds'].values()):.1f}")])
    memory = [
        ("", "MB"),
        ("peak memory", f"{found['peak'] / 1e6:.0f}"),
        ("  of it features", f"{found['features'] / 1e6:.0f}"),
    ]
    table("memory", memory)
    table(
        f"one regression, one seed, 5 folds, {len(PENALTIES)} penalties",
        [
            ("", "s", "share of ours"),
            ("ours", f"{ours:.2f}", "1"),
            ("scikit-learn, GridSearchCV of Ridge", f"{theirs:.2f}", f"{theirs / ours:.1f}"),
        ],
    )
    print(f"largest difference to scikit-learn's coefficients, relative to the largest: {difference:.1e}")


if __name__ == "__main__":
    main()
