"""Megabases per second and core of the tokenizers, against those of Hugging Face that users run for the same models.

One sequence at a time, from a random one of A, C, G, T (or of the 20 amino acids) to token ids; ours gives the spans
too. The word files are those of tests/golden, so that the learned words are few. Then windows of 512 letters many at a
time (`Model.pieces_of`, `Model.row_counts`) against a loop over `Model.pieces`. Run: python benchmarks/tokenizing.py
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import machine, table, timed

from embedstore.models import load
from embedstore.tokenizers import (
    BpeTokenizer,
    CharacterTokenizer,
    CodonTokenizer,
    KmerTokenizer,
    LongestMatchTokenizer,
    OverlappingKmerTokenizer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstore.tokenizers import Tokenizer

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
LETTERS = {"dna": b"ACGT", "protein": b"ACDEFGHIKLMNPQRSTVWY"}
ODD = {"dna": ord("N"), "protein": ord("X")}
REPEATS = 5


def kmers(text: str) -> str:
    """Put blanks between 6-mers, as DNABERT wants them."""
    return " ".join(text[i : i + 6] for i in range(len(text) - 5))


def pairs() -> dict[str, tuple[Tokenizer, Callable[[str], Any] | None]]:
    """Return our tokenizers and what users run instead; T5Tokenizer needs more packages to read ProtT5's file."""
    import transformers as hf
    from sentencepiece import SentencePieceProcessor

    hf.logging.set_verbosity_error()  # they warn of sequences longer than the model
    esm = hf.EsmTokenizer(str(GOLDEN / "esm2" / "vocab.txt"))
    nt = hf.EsmTokenizer(str(GOLDEN / "nt_v2" / "vocab.txt"), eos_token=None)
    bert = hf.BertTokenizer(str(GOLDEN / "dnabert" / "vocab.txt"), do_lower_case=False)
    t5 = SentencePieceProcessor(model_file=str(GOLDEN / "prott5" / "spiece.model"))
    letters = hf.PreTrainedTokenizerFast(tokenizer_file=str(GOLDEN / "resnet_lm" / "tokenizer.json"))
    gena = hf.PreTrainedTokenizerFast(tokenizer_file=str(GOLDEN / "gena_bigbird" / "tokenizer.json"))
    return {
        "Nucleotide Transformer, EsmTokenizer": (KmerTokenizer.from_folder(GOLDEN / "nt_v2"), nt),
        "DNABERT k=6, BertTokenizer": (
            OverlappingKmerTokenizer.from_folder(GOLDEN / "dnabert"),
            lambda text: bert(kmers(text)),
        ),
        "BEND's letters, PreTrainedTokenizerFast": (CharacterTokenizer.from_folder(GOLDEN / "resnet_lm"), letters),
        "ESM-2, EsmTokenizer": (CharacterTokenizer.from_vocabulary(GOLDEN / "esm2"), esm),
        "ESM-C, EsmcTokenizer": (
            CharacterTokenizer.from_folder(GOLDEN / "esmc"),
            hf.EsmcTokenizer.from_pretrained(GOLDEN / "esmc"),
        ),
        "ProtT5, sentencepiece": (
            CharacterTokenizer.from_sentencepiece(GOLDEN / "prott5"),
            lambda text: t5.encode(" ".join(text)),
        ),
        "CaLM codons": (CodonTokenizer.from_folder(GOLDEN / "calm"), None),
        "GROVER longest match": (LongestMatchTokenizer.from_folder(GOLDEN / "grover"), None),
        "GENA-LM, PreTrainedTokenizerFast": (BpeTokenizer.from_folder(GOLDEN / "gena_bigbird"), gena),
    }


def inputs(alphabet: str) -> dict[str, list[np.ndarray]]:
    """Return sequences of each kind; lengths are whole codons."""
    rng = np.random.default_rng(0)

    def draw(count: int, length: int) -> list[np.ndarray]:
        return [rng.choice(np.frombuffer(LETTERS[alphabet], np.uint8), length) for _ in range(count)]

    plain, odd = draw(40, 510), draw(40, 510)
    for codes in odd:
        codes[200] = ODD[alphabet]
    return {"510": plain, f"510 with one {chr(ODD[alphabet])}": odd, "99,999": draw(1, 99_999)}


def seconds(run: Callable[[Any], object], sequences: list[Any]) -> float:
    """Return the seconds of one pass."""
    return timed(lambda: [run(sequence) for sequence in sequences], repeats=1)


def measure(ours: Tokenizer, theirs: Callable[[str], Any] | None, sequences: list[np.ndarray]) -> tuple[str, str, str]:
    """Return millions of letters per second of both, and their ratio; medians of runs that take turns."""
    texts = [codes.tobytes().decode() for codes in sequences]
    runs = [(seconds(ours.encode, sequences), seconds(theirs, texts) if theirs else np.nan) for _ in range(REPEATS)]
    fast, slow = sum(map(len, sequences)) / np.median(runs, axis=0) / 1e6
    return (f"{fast:.1f}", f"{slow:.2f}", f"{fast / slow:.1f}") if theirs else (f"{fast:.1f}", "", "")


def many(name: str, count: int) -> tuple[str, str, str, str, str, str]:
    """Return millions of letters per second of cutting 512 letters one by one, many at once, and of counting rows."""
    model = load(GOLDEN / name)
    length = 510 if name == "calm" else 512
    letters = np.frombuffer(LETTERS[model.alphabet], np.uint8)
    sequences = np.random.default_rng(0).choice(letters, (count, length))
    lengths = np.full(count, length)

    def repeated(run: Callable[[], object]) -> float:
        passes = max(1, 4096 // count)  # for one is too short to be timed
        return timed(lambda: [run() for _ in range(passes)], repeats=1) / passes

    runs = [
        (
            repeated(lambda: [model.pieces(codes) for codes in sequences]),
            repeated(lambda: model.pieces_of(sequences.ravel(), lengths)),
            repeated(lambda: model.row_counts(sequences.ravel(), lengths)),
        )
        for _ in range(REPEATS)
    ]
    loop, pieces, counts = sequences.size / np.median(runs, axis=0) / 1e6
    return name, str(count), f"{loop:.0f}", f"{pieces:.0f}", f"{pieces / loop:.1f}", f"{counts:.0f}"


def main() -> None:
    """Measure and print."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    rows: list[tuple[str, ...]] = [("", "letters", "ours", "theirs", "ratio")]
    for name, (ours, theirs) in pairs().items():
        for kind, sequences in inputs(ours.alphabet).items():
            rows.append((name, kind, *measure(ours, theirs, sequences)))
    print(machine())
    table(f"millions of letters per second, one core, medians of {REPEATS} paired runs", rows)
    rows = [("", "windows", "one by one", "at once", "ratio", "counting")]
    rows += [many(name, count) for name in ("nt_v2", "dnabert", "resnet_lm", "hyenadna", "esm2") for count in (64, 512)]
    table("millions of letters per second, windows of 512", rows)


if __name__ == "__main__":
    main()
