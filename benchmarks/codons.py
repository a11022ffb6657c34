"""Megabytes of coding sequence per second and core of every codon strategy, against a loop in plain Python.

4,000 simulated coding sequences of 1,176 nucleotides, the mean of the melting-point task, then ten times as many of
135, that of the stability task. The loop is what one writes without arrays: `random.shuffle` for each amino acid, or
`random.choices` for each codon. Seconds are those of the processor, so that what else a machine does counts less; on a
busy machine they still come out longer. Run: python benchmarks/codons.py
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from common import machine, table

from embedstore.coding import CODONS, STRATEGIES, codon_usage, genetic_code, recode

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

REPEATS = 5
LETTERS = np.frombuffer("".join(CODONS).encode(), np.uint8).reshape(64, 3)
AMINO_ACID = {codon: chr(letter) for codon, letter in zip(CODONS, genetic_code(1).amino_acid, strict=True)}
SYNONYMS = defaultdict(list)
for _codon, _letter in AMINO_ACID.items():
    SYNONYMS[_letter].append(_codon)


def simulate(count: int, nucleotides: int, parent: bool) -> list[np.ndarray]:
    """Return sequences of random codons, or variants of one with a substitution each."""
    rng = np.random.default_rng(0)
    sense = np.flatnonzero(genetic_code(1).family)
    codons = rng.choice(sense, (1 if parent else count, nucleotides // 3)).repeat(count if parent else 1, axis=0)
    if parent:
        codons[np.arange(count), rng.integers(0, codons.shape[1], count)] = rng.choice(sense, count)
    return [LETTERS[one].ravel() for one in codons]


def shuffled(text: str, window: int) -> str:
    """Shuffle the codons of each amino acid within windows, in plain Python."""
    codons = [text[i : i + 3] for i in range(0, len(text), 3)]
    places = defaultdict(list)
    for place, codon in enumerate(codons):
        places[place // window, AMINO_ACID[codon]].append(place)
    new = list(codons)
    for own in places.values():
        mixed = [codons[place] for place in own]
        random.shuffle(mixed)
        for place, codon in zip(own, mixed, strict=True):
            new[place] = codon
    return "".join(new)


def drawn(text: str, weights: dict[str, float] | None) -> str:
    """Draw each codon given its amino acid, in plain Python; without weights with those of the sequence."""
    codons = [text[i : i + 3] for i in range(0, len(text), 3)]
    if weights is None:
        weights = defaultdict(float)
        for codon in codons:
            weights[codon] += 1
    families = {letter: [weights[codon] for codon in own] for letter, own in SYNONYMS.items()}
    return "".join(random.choices(SYNONYMS[AMINO_ACID[codon]], families[AMINO_ACID[codon]])[0] for codon in codons)


def loop(name: str, usage: pd.DataFrame) -> Callable[[str], str] | None:
    """Return the plain loop of a strategy, where it is a few lines."""
    if name.startswith(("permuted", "window")) and "shared" not in name:
        return lambda text: shuffled(text, 8 if name.startswith("window") else len(text))
    if name.startswith(("freq", "transplant", "uniform")) and "shared" not in name:
        weights = None if name == "freq_cds" else usage.loc["all"].to_dict()
        return lambda text: drawn(text, weights)
    return None


def rate(run: Callable[[], object], megabytes: float, repeats: int = REPEATS) -> float:
    """Return the megabytes per second of the fastest of some runs."""
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        seconds.append(time.process_time() - began)
    return megabytes / min(seconds)


def measure(name: str, count: int, nucleotides: int) -> tuple[str, ...]:
    """Return a row: what our code and the loop do per second, and the ratio."""
    sequences = simulate(count, nucleotides, parent="shared" in name)
    species = ["one", "two"] * (count // 2)
    usage = codon_usage(sequences * 2, [*species, *["all"] * count])
    ids = [f"sample{i}" for i in range(count)]
    megabytes = count * nucleotides / 1e6

    def ours() -> object:
        return recode(sequences, name, ids=ids, species=species, usage=usage, parent=sequences[0])

    fast = rate(ours, megabytes)
    plain = loop(name, usage)
    if plain is None:
        return name, f"{nucleotides:,}", f"{fast:.0f}", "", ""
    texts = [codes.tobytes().decode() for codes in sequences[: max(1, count // 20)]]
    slow = rate(lambda: [plain(text) for text in texts], megabytes * len(texts) / count, 2)
    return name, f"{nucleotides:,}", f"{fast:.0f}", f"{slow:.2f}", f"{fast / slow:.0f}"


def main() -> None:
    """Measure and print."""
    names = [name + {"w": "(8)", "species": "(one)"}.get(one.parameter, "") for name, one in STRATEGIES.items()]
    rows: list[tuple[str, ...]] = [("", "nucleotides", "ours", "loop", "ratio")]
    rows += [measure(name, count, length) for count, length in ((4000, 1176), (40_000, 135)) for name in names]
    print(machine())
    table(f"megabytes per second of one core, the best of {REPEATS} runs", rows)


if __name__ == "__main__":
    main()
