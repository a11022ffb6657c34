"""Sequences for the tests of tokenizers."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


def codes_of(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def stretches(*alphabets: str, shortest: int = 0) -> st.SearchStrategy[str]:
    """Join stretches of letters, so that long words, runs of N and runs of other letters all come up."""
    stretch = st.sampled_from(alphabets).flatmap(lambda letters: st.text(letters, min_size=1, max_size=25))
    return st.lists(stretch, max_size=8).map("".join).filter(lambda text: len(text) >= shortest)


def nucleotides(shortest: int = 0) -> st.SearchStrategy[str]:
    return stretches("ACGT", "N", "RYSWKMB", "ACGTN", shortest=shortest)


def residues() -> st.SearchStrategy[str]:
    return stretches("ACDEFGHIKLMNPQRSTVWY", "XBUZO", "J*", "ACJX")
