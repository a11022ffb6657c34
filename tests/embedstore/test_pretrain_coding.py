"""Pretraining on coding sequences: frame, strand and sequences of windows, the codon yardstick, and what is learned."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embedstore.cli import main
from embedstore.errors import InputError
from embedstore.models import load
from embedstore.models.codon_yardstick import codon_counts, codon_perplexity
from embedstore.models.corpus import FIRST_LETTER, MASK, read_corpus
from embedstore.models.pretrain import pretrain

LETTERS = np.frombuffer(b"ACGTN", np.uint8)
TINY = {"hidden": 32, "layers": 2, "window": 60, "batch_size": 16, "learning_rate": 1e-2, "progress": False}


def random_genes(count, seed=0, shortest=20, longest=40, letters=4):
    random = np.random.default_rng(seed)
    sizes = 3 * random.integers(shortest, longest + 1, size=count)
    return {f"gene{i}": LETTERS[random.integers(letters, size=size)] for i, size in enumerate(sizes)}


def sticky_genes(count, seed=0):
    """The last letter of a codon is nearly always that of the codon before; all else is random."""
    random = np.random.default_rng(seed)
    genes = {}
    for i in range(count):
        codons = random.integers(4, size=(40, 3))
        new = random.random(40) < 0.05
        new[0] = True
        codons[:, 2] = codons[np.maximum.accumulate(np.where(new, np.arange(40), 0)), 2]
        genes[f"gene{i}"] = LETTERS[codons.ravel()]
    return genes


def text(letters):
    return LETTERS[letters].tobytes()


@given(st.integers(0, 1000), st.integers(2, 20), st.sampled_from([3, 30, 60]))
def test_windows_are_in_frame_on_the_strand_given_and_in_one_sequence(seed, count, window):
    genes = random_genes(count, seed)
    corpus = read_corpus(genes, window=window, held_out_share=0.2, seed=seed, coding=True)
    held_out = [text(letters) for letters in corpus.validation_windows()]
    inside = {
        name: {codes[i : i + window].tobytes() for i in range(0, len(codes) - window + 1, 3)}
        for name, codes in genes.items()
    }
    parts = {text(letters) for letters in corpus.training_parts()}
    trained = [name for name, codes in genes.items() if codes.tobytes() in parts]
    others = [name for name in genes if name not in trained]
    assert len(others) == max(1, round(0.2 * count))
    assert sum(map(len, parts)) == sum(len(genes[name]) for name in trained)
    batch = corpus.training_batch(50, seed, step=1, masked=False)
    assert all(
        any(text(row - FIRST_LETTER)[:-3] in piece for name in trained for piece in inside[name]) for row in batch.ids
    )
    whole = np.concatenate([batch.ids, batch.targets.reshape(50, -1)[:, -1:]], axis=1) - FIRST_LETTER
    assert all(any(text(row) in inside[name] for name in trained) for row in whole)
    assert all(any(piece in inside[name] for name in others) for piece in held_out)
    assert len(held_out) == sum(len(genes[name]) // window for name in others)


def test_every_window_is_drawn_about_as_often():
    genes = random_genes(12, seed=5)
    corpus = read_corpus(genes, window=30, held_out_share=0.1, seed=0, coding=True)
    starts = {text(part)[i : i + 29]: 0 for part in corpus.training_parts() for i in range(0, len(part) - 29, 3)}
    for step in range(20):
        for row in corpus.training_batch(500, 0, step, masked=False).ids:
            starts[text(row - FIRST_LETTER)] += 1
    mean = 10_000 / len(starts)
    assert abs(np.array(list(starts.values())) - mean).max() < 5 * np.sqrt(mean)


def test_the_yardstick_is_the_codon_posterior():
    genes = random_genes(40, seed=2, letters=5)
    # Uneven codons, so that the seen letters of a codon say something about the masked ones.
    for codes in genes.values():
        codes[codes == ord("T")] = ord("A")
    corpus = read_corpus(genes, window=60, held_out_share=0.3, seed=1, coding=True)
    counts = codon_counts(corpus.training_parts())
    words = [word for part in corpus.training_parts() for word in part.reshape(-1, 3).tolist() if max(word) < 4]
    assert counts.sum() == len(words)
    assert counts[16 * 0 + 4 * 1 + 2] == words.count([0, 1, 2]) > 0
    total, count, several = 0.0, 0, 0
    for batch in corpus.validation_batches(7, 3):
        answers = iter(batch.targets.tolist())
        for ids, chosen in zip(batch.ids, batch.chosen, strict=True):
            truth = {place: next(answers) - FIRST_LETTER for place in np.flatnonzero(chosen).tolist()}
            assert all(ids[place] == MASK for place in truth)
            for place, letter in truth.items():
                first = place - place % 3
                odds = np.zeros(4)
                several += sum(first <= other < first + 3 for other in truth) > 1
                for codon in np.ndindex(4, 4, 4):
                    seen = [int(ids[first + k]) - FIRST_LETTER for k in range(3)]
                    if all(s < 0 or s == c for s, c in zip(seen, codon, strict=True)):
                        odds[codon[place - first]] += counts[np.ravel_multi_index(codon, (4, 4, 4))] + 1
                total -= np.log(odds[letter] / odds.sum())
                count += 1
    assert several > 10
    found = codon_perplexity(counts, corpus.validation_batches(7, 3))
    assert found == pytest.approx(np.exp(total / count))
    assert 1 < found < 3.5
    assert np.isnan(codon_perplexity(counts, []))


def test_a_trained_model_reads_the_neighbouring_codons(tmp_path):
    genes = sticky_genes(400)
    result = pretrain(genes, tmp_path, coding=True, steps=150, evaluations=2, **TINY)
    # Single codons say nothing here; of a third of the letters both neighbours of distance 3 say nearly all.
    assert result.codon_perplexity == pytest.approx(4, abs=0.05)
    certain = 4 ** (2 / 3) * 1.3 ** (1 / 3)
    assert certain * 0.95 < result.perplexity < 3.3
    assert result.predicts.startswith("masked nucleotide")
    model = load(tmp_path)
    ids = torch.from_numpy(model.pieces(genes["gene0"])[0].ids)[None].clone()
    middle = 3 * 20 + 2
    letter = ids[0, middle].item()
    ids[0, middle] = MASK
    ids[0, [middle - 3, middle + 3]] = letter
    assert model.logits(ids)[0, middle].argmax().item() == letter


def test_a_left_to_right_model_has_no_codon_yardstick(tmp_path):
    settings = {**TINY, "hidden": 8, "layers": 1}
    result = pretrain(random_genes(20), tmp_path, coding=True, architecture="awd_lstm", steps=2, **settings)
    assert np.isnan(result.codon_perplexity)
    assert np.isfinite(result.perplexity)


def test_a_genome_has_no_codon_yardstick_and_other_windows(tmp_path):
    genome = random_genes(4, shortest=1000, longest=1000)
    result = pretrain(genome, tmp_path / "a", steps=2, evaluations=1, **TINY)
    assert np.isnan(result.codon_perplexity)
    with pytest.raises(InputError, match="other settings: coding was None, is True"):
        pretrain(genome, tmp_path / "a", steps=2, evaluations=1, coding=True, **TINY)
    pretrain(genome, tmp_path / "b", steps=1, evaluations=1, coding=True, **TINY)
    with pytest.raises(InputError, match="coding was True, is None"):
        pretrain(genome, tmp_path / "b", steps=1, evaluations=1, **TINY)


def test_short_sequences_are_left_out_with_a_warning(caplog):
    genes = random_genes(10) | {"short": LETTERS[np.zeros(57, int)]}
    with caplog.at_level(logging.WARNING):
        corpus = read_corpus(genes, window=60, held_out_share=0.1, seed=0, coding=True)
    assert "1 of 11 coding sequences are shorter than a window (60): left out" in caplog.text
    assert all(len(part) >= 60 for part in corpus.training_parts())


def test_what_is_refused(tmp_path):
    genes = random_genes(10)
    broken = genes | {"broken": LETTERS[np.zeros(61, int)]}
    with pytest.raises(InputError, match="1 of 11 coding sequences are no whole codons; the first is number 11, of 61"):
        pretrain(broken, tmp_path, coding=True, steps=1, **TINY)
    with pytest.raises(InputError, match="window=61: of coding sequences it must be whole codons"):
        pretrain(genes, tmp_path, coding=True, steps=1, **{**TINY, "window": 61})
    with pytest.raises(
        InputError,
        match=r"The input has .* in 10 coding sequences, that is 0 of a window \(150\) or more .* of which 1 would be",
    ):
        pretrain(genes, tmp_path, coding=True, steps=1, **{**TINY, "window": 150})
    assert not list(tmp_path.iterdir())


def test_the_command_trains_on_coding_sequences(tmp_path, capsys):
    fasta = tmp_path / "genes.fa"
    fasta.write_text("".join(f">{name}\n{codes.tobytes().decode()}\n" for name, codes in random_genes(20).items()))
    arguments = ["pretrain", str(fasta), "--out", str(tmp_path / "lm"), "--hidden", "8", "--layers", "1"]
    assert main([*arguments, "--coding", "--window", "60", "--steps", "2"]) == 0
    printed = capsys.readouterr().out
    assert "codon usage" in printed
    assert "per masked nucleotide (sees its codon)" in printed
    assert main([*arguments[:3], str(tmp_path / "other"), *arguments[4:], "--window", "6", "--steps", "1"]) == 0
    assert "codon usage" not in capsys.readouterr().out
