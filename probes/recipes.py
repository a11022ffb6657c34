"""Where the settings of training come from: the published recipe of a task, or what we would advise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.errors import InputError, did_you_mean
from probes.kinds import probe_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedstore.tasks import TaskRecord


class Recipe(NamedTuple):
    """A way to train.

    Attributes
    ----------
    title
        One line for people.
    changes
        What it sets beside the numbers in a task's record.
    notes
        What is done otherwise than in BEND's code, and why.
    """

    title: str
    changes: dict[str, Any]
    notes: tuple[str, ...]


FIXES = (
    (
        "padding: a position without a label counts neither in the loss nor in the metric; in BEND's binary "
        "cross-entropy it does (the bitwise complement of a label stands for its mask)."
    ),
    (
        "ends: outside a sequence there are zeros. BEND pads one-hot letters with A, and a sequence's last positions "
        "depend on what else is in its batch."
    ),
    (
        "order: blocks are drawn, and the samples of eight blocks shuffled among each other, anew in each epoch. BEND "
        "shuffles 100 to 1,000 neighbouring samples of files read in a fixed order."
    ),
    (
        "selection: the epoch with the highest validation metric is tested, once: what BEND's code does, while its "
        "documentation says the lowest loss."
    ),
    "labels: a single number and a missing label are read as what they are; BEND reads both as zeros.",
    "folds: a fold is a split, however many files it was written to; BEND takes one file for one fold.",
    "validation loss: a mean over labels; BEND takes a mean over batches, of which the last is smaller.",
    (
        "initial weights: those that torch gives its layers; BEND draws the weights of the ResNet's encoder from a "
        "normal distribution of deviation 0.02."
    ),
    "precision: float32. BEND trains in float16 with loss scaling, forward and backward pass.",
    "seeds: every run has one and names it; BEND sets none.",
)
"""What recipe ``"bend"`` does otherwise than the code of BEND at commit ac6e80c."""

RECIPES = {
    "bend": Recipe("the published recipe of the task, BEND's defects mended", {}, FIXES),
    "best": Recipe(
        "what we would advise: small steps on a falling rate, stopped early",
        {
            "schedule": "cosine",
            "decay": "weights",
            "clip": 1.0,
            "patience": 15,
            "batch_size": 16,
            "learning_rate": 2e-3,
        },
        (
            "schedule: the rate rises over the first 5 % of the steps, then falls to 0 along half a cosine.",
            "decay: weights only; a bias that decays is drawn to an output that means nothing.",
            "stopping: after 15 epochs without a better validation metric.",
            "batch: 16 samples at most, so that small tasks get enough steps; the gradient's norm is at most 1.",
            "width: 64 hidden channels for every task; BEND gives the enhancer task two.",
            "precision: float32; what products in bfloat16 change and save is in docs/results.md.",
        ),
    ),
}
"""Recipes by name."""

_WIDTH = 64  # of the convolutional probe, in all recipes but BEND's for enhancers
_OF_THE_CNN = ("hidden", "kernel")
_OF_NETWORKS = ("learning_rate", "weight_decay", "batch_size", "epochs", "positive_weight")


def recipe_settings(name: str, record: TaskRecord, probe: str) -> dict[str, Any]:
    """Return the parameters that a recipe gives a probe of a task.

    Parameters
    ----------
    name
        One of `RECIPES`.
    record
        The task's record, whose ``probe`` holds the published numbers.
    probe
        Kind of probe, see `probes.kinds.PROBES`. Probes that are solved and not trained take nothing from a recipe.

    Returns
    -------
    dict
        Parameters by name.

    Raises
    ------
    InputError
        There is no such recipe or probe.

    Examples
    --------
    >>> from embedstore import tasks
    >>> recipe_settings("bend", tasks.record("enhancer_annotation"), "cnn")["hidden"]
    2
    """
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r}.{did_you_mean(name, RECIPES)}")
    kind = probe_kind(probe)
    if "network" not in kind.parameters:
        return {}
    published: Mapping[str, Any] = record.probe
    settings = {key: value for key, value in published.items() if key in _OF_NETWORKS}
    if probe == "cnn":
        settings |= {key: published[key] for key in _OF_THE_CNN if key in published}
    if probe == "resnet":  # BEND's has 64 channels before its output for every task
        settings |= {key: published[key] for key in ("kernel",) if key in published} | {"hidden": _WIDTH}
    if name == "best":
        settings |= RECIPES[name].changes
        settings["batch_size"] = min(settings["batch_size"], published.get("batch_size", settings["batch_size"]))
        if probe == "cnn":
            settings["hidden"] = max(_WIDTH, published.get("hidden", _WIDTH))
    return settings
