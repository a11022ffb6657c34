"""The sequences a language model is trained on: held-out blocks, random windows, what is to be predicted."""

from __future__ import annotations

import hashlib
import itertools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedstore.errors import InputError
from embedstore.genome import Genome
from embedstore.models.markov import MARKOV_ORDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Literal

_log = logging.getLogger(__name__)

# Ids of the tokenizer of BEND's and GPN's models: a 3, c 4, g 5, t 6. They are the letters 0 to 3 plus 3.
PAD, MASK, UNKNOWN, FIRST_LETTER = 0, 1, 2, 3
_LETTER = np.full(256, 4, np.uint8)
_LETTER[np.frombuffer(b"ACGT", np.uint8)] = np.arange(4)
_ID = np.array([3, 4, 5, 6, UNKNOWN], np.int64)
_MASKED_SHARE = 0.15
_BLOCK_WINDOWS = 16
CODON = 3
"""Nucleotides of a codon."""
_MOST_VALIDATION_WINDOWS = 512


class Batch(NamedTuple):
    """Inputs and targets of a language model.

    Attributes
    ----------
    ids
        What the network sees, shape (window, token), int64.
    chosen
        The positions whose output is to predict an id, shape (window, token), bool.
    targets
        The ids to predict, in order, shape (chosen,), int64: those at the chosen positions of a masked language model,
        those that follow them of one that reads from left to right.
    """

    ids: np.ndarray
    chosen: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class Corpus:
    """All contigs in one array, with what is for training and what is held out.

    Attributes
    ----------
    letters
        0, 1, 2, 3 for A, C, G, T and 4 for other letters, shape (nucleotide,), uint8.
    stretches
        Start and end of the parts for training, each at least a window long, shape (stretch, 2), int64.
    held_out
        Starts of the validation windows, shape (window,), int64.
    window
        Nucleotides of a window.
    digest
        sha256 of the sequences, hexadecimal.
    coding
        Whether these are coding sequences: windows begin with a codon, and are of the strand given.
    """

    letters: np.ndarray
    stretches: np.ndarray
    held_out: np.ndarray
    window: int
    digest: str
    coding: bool = False

    def training_parts(self) -> Iterator[np.ndarray]:
        """Yield the letters of each part for training."""
        for start, end in self.stretches:
            yield self.letters[start:end]

    def validation_windows(self) -> np.ndarray:
        """Return the letters of the validation windows, shape (window, nucleotide), uint8."""
        return self.letters[self.held_out[:, None] + np.arange(self.window)]

    def training_batch(self, size: int, seed: int, step: int, *, masked: bool = True) -> Batch:
        """Draw a batch; it depends on seed and step alone, so that a resumed run sees what it would have seen.

        Windows are drawn uniformly from the parts for training, half of them as reverse complements; those of coding
        sequences begin with a codon, and none is turned. For a masked language model 15 % of the positions are chosen,
        of which 80 % are masked, 10 % get a random nucleotide and 10 % stay (Devlin et al. 2019, arXiv:1810.04805),
        because the frozen model will see sequences without masks. Otherwise every known nucleotide after a known one is
        to be predicted.

        Parameters
        ----------
        size
            Windows.
        seed, step
            Of the run.
        masked
            For a masked language model (default), or one that reads from left to right.

        Returns
        -------
        Batch
        """
        random = np.random.default_rng([seed, 1, step])
        stride = CODON if self.coding else 1
        starts = (np.diff(self.stretches, axis=1)[:, 0] - self.window) // stride + 1
        choices = np.cumsum(starts)
        drawn = random.integers(choices[-1], size=size)
        stretch = np.searchsorted(choices, drawn, side="right")
        start = self.stretches[stretch, 0] + stride * (drawn - choices[stretch] + starts[stretch])
        letters = self.letters[start[:, None] + np.arange(self.window)]
        if not self.coding:
            flip = random.random(size) < 0.5
            back = letters[flip, ::-1]
            letters[flip] = np.where(back < 4, 3 - back, 4)
        if not masked:
            return _next(letters, context=1)
        batch = _mask(letters, random)
        fate = random.random(batch.ids.shape)
        swapped = batch.chosen & (fate >= 0.8) & (fate < 0.9)
        batch.ids[swapped] = random.integers(FIRST_LETTER, FIRST_LETTER + 4, int(swapped.sum()))
        stays = batch.chosen & (fate >= 0.9)
        batch.ids[stays] = _ID[letters[stays]]
        return batch

    def validation_batches(self, size: int, seed: int, *, masked: bool = True) -> Iterator[Batch]:
        """Yield the held-out windows, always the same.

        For a masked language model all chosen positions are masked. Otherwise the nucleotides to predict are those that
        the Markov model predicts: five known ones are to the left of them.

        Parameters
        ----------
        size
            Windows of a batch.
        seed
            Of the run.
        masked
            For a masked language model (default), or one that reads from left to right.

        Yields
        ------
        Batch
        """
        random = np.random.default_rng([seed, 2])
        windows = self.validation_windows()
        for first in range(0, len(windows), size):
            part = windows[first : first + size]
            yield _mask(part, random) if masked else _next(part, context=MARKOV_ORDER)


def read_corpus(
    source: str | Path | Mapping[str, np.ndarray],
    *,
    window: int,
    held_out_share: float,
    seed: int,
    other_letters: Literal["refuse", "N"] = "refuse",
    coding: bool = False,
) -> Corpus:
    """Read a genome, or coding sequences, and hold out part of it.

    The contigs are cut into blocks of 16 windows; a random choice of the whole blocks with any A, C, G, T is held out,
    so that validation windows do not overlap with training windows. A coding sequence is one block, and one that is
    shorter than a window is in neither part. All is held in memory, a byte per nucleotide.

    Parameters
    ----------
    source
        FASTA file, or sequences by name, each uint8 ASCII.
    window
        Nucleotides of a window.
    held_out_share
        Share of the blocks to hold out, above 0 and below 1; at least one block is.
    seed
        Decides which.
    other_letters
        As for `embedstore.genome.Genome`.
    coding
        Whether each sequence is a coding sequence: whole codons from the first letter on.

    Returns
    -------
    Corpus

    Raises
    ------
    InputError
        If the genome is too short to have a block with A, C, G, T for each of the two parts, or a coding sequence is
        not made of whole codons.
    """
    contigs, digest = _contigs(source, other_letters)
    letters = np.concatenate([_LETTER[codes] for codes in contigs])
    block = _longest(contigs, window) if coding else _BLOCK_WINDOWS * window
    least = window if coding else block
    edges = np.cumsum([0, *(len(codes) for codes in contigs)])
    blocks = np.array(
        [
            (start, min(start + block, end))
            for first, end in itertools.pairwise(edges)
            for start in range(first, end, block)
        ]
    )
    fit = [i for i, (start, end) in enumerate(blocks) if end - start >= least and (letters[start:end] < 4).any()]
    count = max(1, round(held_out_share * len(fit)))
    if count >= len(fit):
        blocks_of = f"whole blocks of {block:,} nucleotides (16 windows of {window})"
        raise InputError(
            f"The {'input' if coding else 'genome'} has {len(letters):,} nucleotides in {len(contigs)} "
            f"{'coding sequences' if coding else 'contigs'}, that is {len(fit)} "
            f"{f'of a window ({window}) or more' if coding else blocks_of} with A, C, G or T in them, of which {count} "
            f"would be held out; at least one must be left for training. Give "
            f"{'more sequences' if coding else 'a longer genome'} or a shorter window."
        )
    chosen = np.sort(np.random.default_rng([seed, 0]).permutation(fit)[:count])
    held = np.concatenate([np.arange(start, end - window + 1, window) for start, end in blocks[chosen]])
    thin = -(-len(held) // _MOST_VALIDATION_WINDOWS)
    stretches = _stretches(np.delete(blocks, chosen, axis=0), edges, window)
    return Corpus(letters, stretches, held[::thin], window, digest, coding)


def _longest(sequences: list[np.ndarray], window: int) -> int:
    """Return the length of the longest coding sequence, after making sure that all are whole codons."""
    lengths = np.array([len(codes) for codes in sequences])
    broken = np.flatnonzero(lengths % CODON)
    if broken.size:
        raise InputError(
            f"{len(broken):,} of {len(lengths):,} coding sequences are no whole codons; the first is number "
            f"{broken[0] + 1}, of {lengths[broken[0]]:,} nucleotides. Remove them, or train on them as a genome: "
            "coding=False."
        )
    if short := int((lengths < window).sum()):
        _log.warning("%d of %d coding sequences are shorter than a window (%d): left out", short, len(lengths), window)
    return int(lengths.max())


def _contigs(
    source: str | Path | Mapping[str, np.ndarray], other_letters: Literal["refuse", "N"]
) -> tuple[list[np.ndarray], str]:
    """Return the sequences and their digest."""
    if isinstance(source, str | Path):
        with Genome(source, other_letters=other_letters) as genome:
            return [genome.fetch(name, 0, length) for name, length in genome.contigs.items()], genome.digest
    digest = hashlib.sha256()
    for name, codes in source.items():
        digest.update(f"{name}\t{len(codes)}\n".encode() + codes.tobytes())
    return list(source.values()), digest.hexdigest()


def _stretches(blocks: np.ndarray, edges: np.ndarray, window: int) -> np.ndarray:
    """Join neighbouring blocks of one contig; leave out what is shorter than a window."""
    joins = (blocks[1:, 0] == blocks[:-1, 1]) & ~np.isin(blocks[1:, 0], edges)
    starts = blocks[np.concatenate([[True], ~joins]), 0]
    ends = blocks[np.concatenate([~joins, [True]]), 1]
    long = ends - starts >= window
    return np.stack([starts[long], ends[long]], axis=1)


def _mask(letters: np.ndarray, random: np.random.Generator) -> Batch:
    """Choose positions among the known nucleotides and mask them."""
    chosen = (random.random(letters.shape) < _MASKED_SHARE) & (letters < 4)
    ids = _ID[letters]
    targets = ids[chosen]
    ids[chosen] = MASK
    return Batch(ids, chosen, targets)


def _next(letters: np.ndarray, context: int) -> Batch:
    """Let each token predict the next one, where that and `context` letters before it are known."""
    ids = _ID[letters]
    known = np.lib.stride_tricks.sliding_window_view(letters, context + 1, axis=1).max(-1) < 4
    chosen = np.zeros((len(ids), ids.shape[1] - 1), bool)
    chosen[:, context - 1 :] = known
    return Batch(ids[:, :-1], chosen, ids[:, 1:][chosen])
