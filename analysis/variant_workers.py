"""Embedding the windows of variants with several processes or machines, by the arguments of `embedstore embed`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from embedstore.arguments import load_model, model_arguments
from embedstore.errors import WorkersError

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstore.embedding import EmbedReport
    from embedstore.models import Model
    from embedstore.store import Store
    from embedstore.workers import WorkersReport


def model_here(arguments: argparse.Namespace) -> Model:
    """Load the model that the arguments name, under the name that its embeddings get.

    Parameters
    ----------
    arguments
        Parsed, with what `embedstore.arguments.add_model_arguments` and `embedstore.workers.add_worker_arguments`
        added.

    Returns
    -------
    embedstore.models.Model
        On the CPU where other processes do the work: here it says how it reads sequences, and would only take memory
        of a device.
    """
    from embedstore.workers import asks_for_workers

    if "devices" in arguments and asks_for_workers(arguments):
        arguments = argparse.Namespace(**{**vars(arguments), "device": "cpu", "devices": None})
    model = load_model(arguments)
    model.name = arguments.name or model.name
    return model


def embedder(arguments: argparse.Namespace, model: Model) -> Callable[..., EmbedReport | WorkersReport]:
    """Return what embeds the windows of variants as a command line asks for.

    Parameters
    ----------
    arguments
        Parsed, with what `embedstore.workers.add_worker_arguments` added: ``--devices``, ``--scheduler``, ``--shard``.
    model
        From `model_here`.

    Returns
    -------
    callable
        For `analysis.scoring.embed_variants`.
    """
    from embedstore.embedding import embed
    from embedstore.models.letters import letter_model
    from embedstore.workers import asks_for_workers, run_workers

    def by_workers(_: Store, task: str, log_probabilities: str | None, **options: Any) -> WorkersReport:
        progress = options.pop("progress", True)
        told = {**model_arguments(arguments), "name": model.name, "log_probabilities": log_probabilities}
        wanted = argparse.Namespace(**{**vars(arguments), "task": task})
        report = run_workers(wanted, told, options, progress=progress)
        if report.exit_code:
            raise WorkersError(" ".join(report.lines()))
        return report

    def share(store: Store, task: str, log_probabilities: Any, **options: Any) -> EmbedReport:
        view = model if log_probabilities is None else letter_model(model, log_probabilities)
        return embed(store, task, view, shard=arguments.shard, **options)

    return by_workers if asks_for_workers(arguments) else share
