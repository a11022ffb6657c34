"""What a small language model trained on coding sequences knows of the order of their codons.

A masked ResNet is trained on the genes of a simulated world (`embedstore.simulated_coding`). Its embeddings of these
genes, and of genes with their synonymous codons permuted, are stored, pooled and probed, as are those of the same
network before training. The gain of the true order over the permuted one, beside the species, is what a model knows of
order:

    python benchmarks/coding_language_model.py --seed 0
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import embedstore
from embedstore import tasks
from embedstore.coding import recode
from embedstore.models import load
from embedstore.models.pretrain import pretrain
from embedstore.sequences import encode
from embedstore.simulated_coding import MEAN, SPREAD, WORLDS, coding_world
from embedstore.tasks.coding import coding_task

_UNTRAINED = 1e-12  # a learning rate that changes nothing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    world = coding_world("mixed", seed=arguments.seed, samples=arguments.samples, test=arguments.samples // 3)
    sizes = {"hidden": arguments.hidden, "layers": arguments.layers, "seed": arguments.seed}
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for name, steps, rate in (("untrained", 1, _UNTRAINED), ("trained", arguments.steps, 2e-3)):
            train(world, Path(folder) / name, steps=steps, learning_rate=rate, **sizes)
            true, permuted = embeddings(world, Path(folder), name)
            rows += [{"model": name, **reached(world, shares, true, permuted)} for shares in ("mixed", "local_only")]
    print(pd.DataFrame(rows).round(3).to_string(index=False))


def train(world, out, **settings) -> None:
    """Train on the genes of a world, those of its test samples included, without any label."""
    genes = {name: encode(cds) for name, cds in world.data.table.set_index("id")["cds"].items()}
    result = pretrain(genes, out, coding=True, window=240, evaluations=2, progress=False, **settings)
    print(
        f"{out.name}: {result.steps} steps, {result.seconds:.0f} s; perplexity {result.perplexity:.4f}, codon usage "
        f"{result.codon_perplexity:.4f}, order-5 Markov {result.markov_perplexity:.4f}",
        flush=True,
    )


def embeddings(world, folder, name):
    """Return the pooled embeddings of genes and of permuted genes, read from a store."""
    model, task = load(folder / name), coding_task(world.data)
    genes, ids = task.sequences(0, len(task.samples)), list(task.samples["id"])
    permuted = tasks.from_sequences("permuted", recode(genes, "permuted", ids=ids), ids=ids)
    store = embedstore.open_store(folder / "store.zarr", mode="a")
    found = []
    for one in (task, permuted):
        if name == "untrained":
            store.add_task(one)
        start = time.monotonic()
        embedstore.embed(store, one.name, model, keep="pooled", progress=False)
        print(f"{name}: {one.name} embedded in {time.monotonic() - start:.0f} s", flush=True)
        found.append(store.embedding(one.name, model.name).pooled())
    return found


def reached(world, name, true, permuted):
    """Return R2 on the test samples, with the labels that the world of this name has."""
    label = MEAN + SPREAD * (world.truth @ np.sqrt(pd.Series(WORLDS[name])[list(world.truth)])).to_numpy()
    train = (world.data.table["split"] == "train").to_numpy()
    species = pd.get_dummies(world.data.table["species"]).to_numpy(float)

    def r2(*blocks) -> float:
        X = np.hstack(blocks)
        probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 4, 15))).fit(X[train], label[train])
        return probe.score(X[~train], label[~train])

    found = {"world": name, "true": r2(true), "permuted": r2(permuted)}
    found |= {"true+S": r2(true, species), "permuted+S": r2(permuted, species)}
    return {**found, "d_local": found["true+S"] - found["permuted+S"]}


if __name__ == "__main__":
    main()
