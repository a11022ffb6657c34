"""What is refused before a training run begins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from embedstore.errors import InputError
from embedstore.models.corpus import CODON
from embedstore.models.markov import MARKOV_ORDER
from embedstore.models.objectives import VOCABULARY

if TYPE_CHECKING:
    from pathlib import Path


def check_settings(settings: dict[str, Any]) -> None:
    """Raise where a setting makes no sense.

    Parameters
    ----------
    settings
        Of a run, by the names of the arguments of `embedstore.models.pretrain.pretrain`.

    Raises
    ------
    InputError
        Naming the setting, its value and its limits.
    """
    if (settings["steps"] is None) == (settings["minutes"] is None):
        raise InputError("Give either steps= or minutes=, the length of the run.")
    limits = {
        "hidden": (VOCABULARY if settings["architecture"] == "convnet" else 1, math.inf),
        "layers": (1, math.inf),
        "kernel": (1, math.inf),
        "dilation_cycle": (1, math.inf),
        "dropout": (0, 1),
        "window": (MARKOV_ORDER + 1, math.inf),
        "batch_size": (1, math.inf),
        "learning_rate": (1e-12, 1),
        "steps": (1, math.inf),
        "minutes": (1e-6, math.inf),
        "held_out_share": (1e-9, 0.5),
        "evaluations": (1, math.inf),
        "seed": (0, math.inf),
    }
    for name, (low, high) in limits.items():
        if settings[name] is not None and not low <= settings[name] <= high:
            raise InputError(f"{name}={settings[name]!r}: wanted a value of at least {low}, at most {high}.")
    if settings["coding"] and settings["window"] % CODON:
        raise InputError(f"window={settings['window']}: of coding sequences it must be whole codons, a multiple of 3.")
    if settings["kernel"] % 2 == 0:
        raise InputError(f"kernel={settings['kernel']}: wanted an odd number, so that a nucleotide is at its centre.")


def check_folder(folder: Path, state: Path, resume: bool) -> None:
    """Raise where a run would overwrite something.

    Parameters
    ----------
    folder
        Of the checkpoint.
    state
        File with the state of a run.
    resume
        Whether to go on with a run that is there.

    Raises
    ------
    InputError
        If there is a run that is not to go on, or a checkpoint without one.
    """
    if state.exists() and not resume:
        raise InputError(f"{folder} holds a training run; give resume=True to go on with it, or another folder.")
    if not state.exists() and (folder / "model.safetensors").exists():
        raise InputError(
            f"{folder} holds a checkpoint that was not trained here, or lost its state; give another folder."
        )
