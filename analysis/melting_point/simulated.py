"""The melting-point study on a simulated world: from genes to the store to the studies of several models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.melting_point.data import PERMUTED, STRATEGIES, TRUE, UNIFORM
from analysis.melting_point.reading import read_studies
from embedstore.errors import CorruptError, InputError
from probes.results import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from analysis.melting_point.data import StudyData
    from embedstore.simulated_coding import CodingWorld
    from embedstore.store import Store

TASK = "melting_point"
PROTEIN_MODEL = "amino_acid"
CODING_MODELS = ("codon_composition", "codon_pair")
"""Encoders without weights that read which codons are neighbours: by their third bases, and whole."""

LANGUAGE_MODEL = "coding_lm"
SETTINGS, STORE = "world.json", "store.zarr"
_TRAINING: dict[str, Any] = {"hidden": 64, "layers": 8, "batch_size": 16, "learning_rate": 2e-3, "evaluations": 4}


def simulate_studies(
    world: str,
    out: str | Path,
    *,
    seed: int = 0,
    samples: int = 1500,
    test: int = 500,
    permutations: int = 5,
    strategies: Sequence[str] = STRATEGIES,
    coding_models: Sequence[str] = CODING_MODELS,
    language_model: bool = False,
    steps: int = 1000,
    progress: bool = False,
) -> dict[str, StudyData]:
    """Simulate a world and carry it all the way to a study for each model of coding sequences.

    Everything is kept in ``store.zarr``: the coding sequences and the proteins, the coding sequences recoded, and their
    embeddings. What a former run left there is used again.

    Parameters
    ----------
    world
        One of `embedstore.simulated_coding.WORLDS`.
    out
        Folder.
    seed
        Of the world and of the language model.
    samples, test
        Genes in all, and test samples among them. Default 1,500 and 500.
    permutations
        Seeds of ``permuted`` and ``uniform``, default 5; other strategies have two at most.
    strategies
        Codon strategies, default all that the study looks at.
    coding_models
        Names of models that can be loaded, default `CODING_MODELS`.
    language_model
        Train a small convolutional network on the training samples' coding sequences, too, and study it.
    steps
        Of its training, default 1,000.
    progress
        Show progress bars.

    Returns
    -------
    dict of str to StudyData
        By the name of the model.

    Raises
    ------
    InputError
        The folder holds another world or what is no world, there is no such world or model, or a number is too small.
    CorruptError
        The folder's own record of its world cannot be read.
    """
    from embedstore import embed, open_store
    from embedstore.models import load
    from embedstore.simulated_coding import coding_world
    from embedstore.tasks.coding import coding_task, protein_task

    folder = Path(out)
    settings = {"world": world, "seed": seed, "samples": samples, "test": test, "permutations": permutations}
    for name, value, least in (("test", test, 2), ("permutations", permutations, 1)):
        if value < least:
            raise InputError(f"{name}={value}: a study needs {least} or more.")
    # Before anything is written, so that a mistyped name leaves nothing behind.
    made = coding_world(world, seed=seed, samples=samples, test=test)
    models = {name: load(name) for name in coding_models}
    _check_folder(folder, settings)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SETTINGS, settings)
    store = open_store(folder / STORE, mode="a")
    task = coding_task(made.data, TASK)
    store.add_task(task)
    store.add_task(protein_task(made.data, f"{TASK}.protein"))
    names = _add_recoded(store, task, strategies, permutations)
    if language_model:
        trained = _language_model(folder, made, seed, steps, progress)
        models[LANGUAGE_MODEL] = load(trained, name=LANGUAGE_MODEL)
    embed(store, f"{TASK}.protein", load(PROTEIN_MODEL), keep="pooled", progress=False)
    for model in models.values():
        for name in names:
            embed(store, name, model, keep="pooled", progress=progress)
    return read_studies(store, TASK, coding_models=list(models), protein_model=PROTEIN_MODEL, strategies=strategies)


def transplanted(studies: Mapping[str, StudyData], *, recodings: int = 10) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Give the test samples of simulated studies the codons of every species, and embed them.

    Parameters
    ----------
    studies
        From `simulate_studies`. Those of encoders in `embedstore.models.composition_models` are embedded, which is
        quick; others are left out.
    recodings
        See `analysis.melting_point.transplant.transplant_features`.

    Returns
    -------
    dict
        Name of the model -> donor -> (test sample, channel) float64.
    """
    from analysis.melting_point.transplant import transplant_features
    from embedstore.models import composition_models

    def encoder(name: str) -> Any:
        function = getattr(composition_models, name)

        def encode(sequences: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
            rows = function([codes.tobytes().decode("ascii") for codes in sequences])
            return np.stack([np.average(values, axis=0, weights=spans) for values, spans in rows])

        return encode

    return {
        name: transplant_features(study, encoder(name), recodings=recodings)
        for name, study in studies.items()
        if hasattr(composition_models, name)
    }


def _check_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder of another world, and one with a store of which it is not known whose it is."""
    file = folder / SETTINGS
    if not file.exists():
        if (folder / STORE).exists():
            raise InputError(
                f"{folder / STORE} is a store that was not made for a simulated world ({SETTINGS} is not beside it); "
                "nothing is added to it. Give another folder (--out)."
            )
        return
    try:
        former = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CorruptError(f"{file} cannot be read ({error}). Delete {folder} and run the study again.") from error
    differ = [
        f"{name} {former.get(name)}, now {value}" for name, value in settings.items() if former.get(name) != value
    ]
    if differ:
        raise InputError(
            f"{folder} holds another simulated world: {'; '.join(differ)}. Give another folder (--out), or delete "
            "this one."
        )


def _add_recoded(store: Store, task: Any, strategies: Sequence[str], permutations: int) -> list[str]:
    """Add the task recoded by every strategy and seed; return the names of all, its own first."""
    from embedstore.coding.recoding import recoded_name, recoded_task

    names, known = [task.name], set(store.tasks())
    for strategy in strategies:
        if strategy == TRUE:
            continue
        for seed in range(permutations if strategy in (PERMUTED, UNIFORM) else min(permutations, 2)):
            name = recoded_name(task.name, strategy, seed)
            if name not in known:
                store.add_task(recoded_task(task, strategy, seed=seed))
            names.append(name)
    return names


def _language_model(folder: Path, world: CodingWorld, seed: int, steps: int, progress: bool) -> Path:
    """Train a language model on the coding sequences of the training samples."""
    from embedstore.models.pretrain import pretrain

    table = world.data.table
    train = table[table["split"] == "train"]
    sequences = {
        name: np.frombuffer(cds.encode("ascii"), np.uint8) for name, cds in zip(train["id"], train["cds"], strict=True)
    }
    training = {**_TRAINING, "steps": steps, "seed": seed, "progress": progress}
    run = pretrain(sequences, folder / LANGUAGE_MODEL, coding=True, window=240, **training)
    return Path(run.path)
