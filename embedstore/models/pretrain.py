"""Pretraining of BEND's two language models, the dilated ResNet and the AWD-LSTM, on a genome or coding sequences."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from embedstore.errors import InputError, NonFiniteError
from embedstore.models.codon_yardstick import codon_counts, codon_perplexity
from embedstore.models.corpus import Batch, Corpus, read_corpus
from embedstore.models.interrupt import noted_interrupt
from embedstore.models.markov import MARKOV_ORDER, markov_counts, markov_perplexity
from embedstore.models.model import usable_device
from embedstore.models.objectives import OBJECTIVES, Objective
from embedstore.models.pretrain_checks import check_run, check_settings
from embedstore.models.training_state import load_state, save_checkpoint, save_record, save_state
from embedstore.outputs import remove_unfinished, write_atomically
from embedstore.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    import pandas as pd

_log = logging.getLogger(__name__)

# BEND's sizes.
_CHANNELS = {"convnet": 256, "awd_lstm": 64}
_LAYERS = {"convnet": 30, "awd_lstm": 1}
_RATES = {"convnet": 1e-3, "awd_lstm": 5e-3}
_WARM_UP = 0.05
_WEIGHT_DECAY = 0.01
_GRADIENT_NORM = 1.0


class PretrainResult(NamedTuple):
    """What a training run gave.

    Attributes
    ----------
    path
        Folder with the checkpoint; `embedstore.models.load` reads it.
    steps
        Optimizer steps done, over all runs into this folder.
    perplexity
        On the held-out windows. The ResNet predicts masked nucleotides from both sides, the AWD-LSTM from the left side
        every nucleotide that the Markov model predicts.
    markov_perplexity
        Of an order-5 Markov model, which sees the five nucleotides to the left only, on the same windows.
    seconds
        Time spent, over all runs.
    history
        One row per evaluation: step, seconds, nucleotides (seen in training), learning_rate, loss (mean since the last
        row, nats per predicted nucleotide, without penalties), perplexity.
    predicts
        What `perplexity` is of, in words.
    codon_perplexity
        Of codon usage alone, for masked nucleotides of coding sequences
        (`embedstore.models.codon_yardstick.codon_perplexity`), on the same windows and masks; NaN otherwise.
    """

    path: Path
    steps: int
    perplexity: float
    markov_perplexity: float
    seconds: float
    history: pd.DataFrame
    predicts: str
    codon_perplexity: float = math.nan


def pretrain(
    fasta: str | Path | Mapping[str, np.ndarray],
    out: str | Path,
    *,
    architecture: Literal["convnet", "awd_lstm"] = "convnet",
    hidden: int | None = None,
    layers: int | None = None,
    kernel: int = 9,
    dilation_cycle: int = 6,
    dropout: float = 0.2,
    window: int = 512,
    batch_size: int = 32,
    learning_rate: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    held_out_share: float = 0.05,
    evaluations: int = 20,
    seed: int = 0,
    other_letters: Literal["refuse", "N"] = "refuse",
    coding: bool = False,
    device: str = "cpu",
    resume: bool = True,
    progress: bool = True,
) -> PretrainResult:
    """Train a language model on DNA: a dilated ResNet on masked nucleotides, or an AWD-LSTM on each next one.

    Random windows of either strand. For the ResNet 15 % of the nucleotides are to be predicted (80 % of them masked,
    10 % replaced, 10 % left). AdamW, the rate rising over the first 5 % of the run and falling to zero along a cosine.
    Held-out blocks give the perplexity, set beside that of an order-5 Markov model fitted on the training blocks. With
    the ResNet the two are not the same task: it sees both sides of a nucleotide, the Markov model the left one. With
    the AWD-LSTM they are: both see the left side only, and the same nucleotides are predicted.

    The state is saved at every evaluation and on Ctrl-C. The same call then goes on; a run of so many `steps` that was
    interrupted gives the same weights as one that was not.

    Parameters
    ----------
    fasta
        Genome in FASTA format, or sequences by name, each uint8 ASCII, upper case. Held in memory, a byte per
        nucleotide.
    out
        Folder for the checkpoint (in the layout of BEND's ConvNetForMaskedLM or AWDLSTMForLM) and, in ``training/``,
        the state and the history of the run, and its record, ``run.json``: every setting, steps done, perplexities.
    architecture
        ``"convnet"`` (default), the ResNet, or ``"awd_lstm"``.
    hidden, layers
        Channels, and blocks or LSTM layers. The default is BEND's model: 256 and 30, or 64 and 1. That ResNet wants a
        GPU; 64 channels and 8 blocks train on a CPU in minutes.
    kernel, dilation_cycle
        Of the ResNet: nucleotides under a convolution (odd, default 9), and blocks until the dilation (1, 2, 4, ... 32)
        begins anew (default 6).
    dropout
        Of the AWD-LSTM: its dropout rates as a share of BEND's (input 0.65, between layers 0.3, output 0.4, recurrent
        weights 0.5), 0 to 1. Default 0.2.
    window
        Nucleotides of a training window. Default 512.
    batch_size
        Windows per step. Default 32.
    learning_rate
        Highest rate. Default 1e-3, and 5e-3 for ``"awd_lstm"``, which learns little in minutes at the lower one.
    steps, minutes
        Length of the run, over all calls: exactly one of the two. With `minutes` the rate follows the clock, so the
        weights of two runs differ.
    held_out_share
        Share of the genome's blocks (16 windows each) held out for validation. Default 0.05.
    evaluations
        How often to evaluate and save, evenly over the run. Default 20.
    seed
        Decides initial weights, blocks, windows and masks.
    other_letters
        ``"refuse"`` (default) or ``"N"``: what to do about letters other than A, C, G, T, N.
    coding
        Whether each sequence is a coding sequence, whole codons. Windows then begin with a codon and lie in one
        sequence, none is turned to the other strand, whole sequences are held out, and those shorter than `window`,
        which must be whole codons too, are left out with a warning. Default False.
    device
        As torch names it. Default the CPU.
    resume
        Whether to go on with a run that is in `out`. Default True; False raises where there is one.
    progress
        Whether to show a progress bar.

    Returns
    -------
    PretrainResult

    Raises
    ------
    InputError
        If an argument is out of range, the genome is too short, there is no such device, or `out` is a file, or holds
        a run with other settings or a checkpoint that was not trained here.
    CheckpointError
        If the saved state is damaged.
    NonFiniteError
        If the loss is no longer finite; what was saved before stays.
    """
    if architecture not in OBJECTIVES:
        raise InputError(f"architecture={architecture!r}: wanted one of {', '.join(OBJECTIVES)}.")
    settings = {
        "architecture": architecture,
        "hidden": _CHANNELS[architecture] if hidden is None else hidden,
        "layers": _LAYERS[architecture] if layers is None else layers,
        "kernel": kernel,
        "dilation_cycle": dilation_cycle,
        "dropout": dropout,
        "window": window,
        "batch_size": batch_size,
        "learning_rate": _RATES[architecture] if learning_rate is None else learning_rate,
        "steps": steps,
        "minutes": minutes,
        "held_out_share": held_out_share,
        "evaluations": evaluations,
        "seed": seed,
        "other_letters": other_letters,
        "coding": coding or None,  # as in runs that were begun before there was a choice
    }
    run = _prepared(fasta, Path(out), settings, resume, device)
    run.train(progress)
    return run.result()


def _prepared(
    fasta: str | Path | Mapping[str, np.ndarray], folder: Path, settings: dict[str, Any], resume: bool, device: str
) -> _Run:
    """Check everything, read the sequences, and take up the run that is in the folder, if there is one."""
    check_settings(settings)
    state = folder / "training" / "state.safetensors"
    check_run(folder, state, resume)
    place = usable_device(device)
    named = {name: settings[name] for name in ("window", "held_out_share", "seed", "other_letters")}
    corpus = read_corpus(fasta, coding=bool(settings["coding"]), **named)
    run = _Run(corpus, {**settings, "genome": corpus.digest}, folder, state, place)
    if state.exists():
        run.restore()
    return run


class _Run:
    """A run in progress: network, optimizer, and how far it has come."""

    def __init__(
        self,
        corpus: Corpus,
        settings: dict[str, Any],
        folder: Path,
        state: Path,
        device: torch.device,
    ) -> None:
        self.corpus = corpus
        self.settings = settings
        self.folder = folder
        self.state = state
        self.device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings["seed"])
            self.objective: Objective = OBJECTIVES[settings["architecture"]](settings)
        self.network = self.objective.network.to(device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), weight_decay=_WEIGHT_DECAY, fused=True)
        self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []
        self.losses: list[float] = []  # since the last evaluation
        counts = markov_counts(corpus.training_parts(), MARKOV_ORDER)
        self.markov = markov_perplexity(counts, corpus.validation_windows())
        self.codons = math.nan
        if corpus.coding and self.objective.masked:
            batches = corpus.validation_batches(settings["batch_size"], settings["seed"])
            self.codons = codon_perplexity(codon_counts(corpus.training_parts()), batches)

    def restore(self) -> None:
        """Take up a saved run."""
        remove_unfinished(self.state)
        run = load_state(self.state, self.network, self.optimizer, self.settings)
        self.step, self.seconds = run["step"], run["seconds"]
        self.history, self.losses = run["history"], run["losses"]
        _log.info("%s: going on after step %d", self.folder, self.step)

    def save(self) -> None:
        """Write the checkpoint and the state."""
        run = {
            "settings": self.settings,
            "step": self.step,
            "seconds": self.seconds,
            "markov_perplexity": self.markov,
            "history": self.history,
            "losses": self.losses,
        }
        self.state.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(self.folder, self.network, self.objective.spec)
        lines = "".join(json.dumps(row) + "\n" for row in self.history)
        write_atomically(self.state.parent / "history.jsonl", lines.encode())
        last = self.history[-1]["perplexity"] if self.history else None
        save_record(self.state.parent / "run.json", {**run, "device": str(self.device), "perplexity": last})
        save_state(self.state, self.network, self.optimizer, run)

    def fraction(self) -> float:
        """Return how much of the run is done, 0 to 1."""
        if self.settings["steps"] is not None:
            return float(self.step / self.settings["steps"])
        return float(self.seconds / (60 * self.settings["minutes"]))

    def train(self, progress: bool) -> None:
        """Train to the end; save at evaluations and on Ctrl-C."""
        evaluations = self.settings["evaluations"]
        by_steps = self.settings["steps"] is not None
        total = self.settings["steps"] if by_steps else round(60 * self.settings["minutes"])
        bar = progress_bar(None, "pretrain", show=progress, total=total, unit="step" if by_steps else "s")
        with bar, noted_interrupt() as interrupted:
            start = time.monotonic() - self.seconds
            while (done := self.fraction()) < 1:
                rate = self.settings["learning_rate"] * _schedule(done)
                self.losses.append(self._train_step(rate))
                self.seconds = time.monotonic() - start
                if int(self.fraction() * evaluations) > int(done * evaluations):
                    self._evaluate(rate)
                    self.save()
                bar.update(min(total, self.step if by_steps else int(self.seconds)) - bar.n)
                bar.set_postfix(self._status(), refresh=False)
                if interrupted.is_set():
                    self.save()
                    raise KeyboardInterrupt(f"Stopped after step {self.step}; the same call goes on from {self.state}.")

    def result(self) -> PretrainResult:
        """Sum up."""
        import pandas as pd

        perplexity = self.history[-1]["perplexity"]
        _log.info(
            "%s: held-out perplexity %.3f per %s; order-%d Markov model %.3f (sees the left side only)",
            self.folder,
            perplexity,
            self.objective.predicts,
            MARKOV_ORDER,
            self.markov,
        )
        history = pd.DataFrame(self.history)
        predicts = self.objective.predicts
        return PretrainResult(
            self.folder, self.step, perplexity, self.markov, self.seconds, history, predicts, self.codons
        )

    def _status(self) -> dict[str, str]:
        """Return what stands beside the bar."""
        status = {"loss": f"{self.losses[-1]:.3f}"} if self.losses else {}
        if self.history:
            status["perplexity"] = f"{self.history[-1]['perplexity']:.3f}"
        return status | {"Markov": f"{self.markov:.3f}"}

    def _train_step(self, rate: float) -> float:
        """Do one step and return its loss."""
        size, seed = self.settings["batch_size"], self.settings["seed"]
        batch = self.corpus.training_batch(size, seed, self.step, masked=self.objective.masked)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        hidden, penalty = self.objective.run(self._ids(batch), np.random.default_rng([seed, 3, self.step]))
        # A batch of nothing but N has no targets; its loss is then zero, not 0 / 0.
        loss = self._loss(hidden, batch) / max(1, len(batch.targets))
        self.optimizer.zero_grad()
        (loss + penalty).backward()  # type: ignore[no-untyped-call]  # not annotated in torch
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _GRADIENT_NORM)
        value = loss.item()
        if not math.isfinite(value):
            raise NonFiniteError(
                f"{self.folder}: the loss is {value} at step {self.step}. Begin anew with a lower learning_rate (now "
                f"{self.settings['learning_rate']})."
            )
        self.optimizer.step()
        self.step += 1
        return value

    def _evaluate(self, rate: float) -> None:
        """Add a row to the history."""
        self.network.eval()
        total, count = 0.0, 0
        with torch.inference_mode():
            size, seed = self.settings["batch_size"], self.settings["seed"]
            for batch in self.corpus.validation_batches(size, seed, masked=self.objective.masked):
                total += self._loss(self.network(self._ids(batch)), batch).item()
                count += len(batch.targets)
        self.history.append(
            {
                "step": self.step,
                "seconds": self.seconds,
                "nucleotides": self.step * self.settings["batch_size"] * self.corpus.window,
                "learning_rate": rate,
                "loss": sum(self.losses) / len(self.losses),
                "perplexity": math.exp(total / max(1, count)),
            }
        )
        self.losses.clear()

    def _ids(self, batch: Batch) -> torch.Tensor:
        """Return what the network sees of a batch."""
        return torch.from_numpy(batch.ids).to(self.device)

    def _loss(self, hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the summed negative log likelihood of a batch's targets, in nats."""
        chosen = torch.from_numpy(batch.chosen).to(self.device)
        targets = torch.from_numpy(batch.targets).to(self.device)
        return functional.cross_entropy(self.network.logits(hidden[chosen]), targets, reduction="sum")


def _schedule(done: float) -> float:
    """Return the learning rate as a share of the highest: a linear rise, then a cosine to zero."""
    if done < _WARM_UP:
        return (done + 1e-3) / (_WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))
