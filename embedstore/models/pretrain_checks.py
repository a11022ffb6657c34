"""What is refused before a training run begins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from embedstore.errors import InputError
from embedstore.models.corpus import CODON
from embedstore.models.markov import MARKOV_ORDER
from embedstore.models.objectives import VOCABULARY
from embedstore.outputs import check_folder

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
        raise InputError("Give either steps= or minutes=, the length of the run (--steps or --minutes).")
    limits = {
        "hidden": (VOCABULARY if settings["architecture"] == "convnet" else 1, math.inf),
        "layers": (1, math.inf),
        "kernel": (1, math.inf),
        "dilation_cycle": (1, math.inf),
        "dropout": (0, 1),
        "window": (MARKOV_ORDER + 1, math.inf),
        "batch_size": (1, 65536),  # windows; more is a slip, and would end for want of memory
        "learning_rate": (1e-12, 1),
        "steps": (1, math.inf),
        "minutes": (1e-6, 10_000_000),  # twenty years; infinity would never end and has no schedule
        "held_out_share": (1e-9, 0.5),
        "evaluations": (1, math.inf),
        "seed": (0, 2**32 - 1),
    }
    for name, (low, high) in limits.items():
        if settings[name] is not None and not low <= settings[name] <= high:
            wanted = f"a value of at least {low}" + (f", at most {high}" if math.isfinite(high) else "")
            raise InputError(f"{name}={settings[name]!r}: wanted {wanted}.")
    if settings["coding"] and settings["window"] % CODON:
        raise InputError(f"window={settings['window']}: of coding sequences it must be whole codons, a multiple of 3.")
    if settings["kernel"] % 2 == 0:
        raise InputError(f"kernel={settings['kernel']}: wanted an odd number, so that a nucleotide is at its centre.")


def check_run(folder: Path, state: Path, resume: bool) -> None:
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
        If there is a run that is not to go on, a checkpoint without one, or a file in place of the folder.
    """
    check_folder(folder, option="the checkpoint folder (--out)")
    if state.exists() and not resume:
        raise InputError(f"{folder} holds a training run; give resume=True to go on with it, or another folder.")
    if not state.exists() and (folder / "model.safetensors").exists():
        raise InputError(
            f"{folder} holds a checkpoint that was not trained here, or lost its state; give another folder."
        )
