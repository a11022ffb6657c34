"""Pretraining of the AWD-LSTM: a planted source, the Markov model's task, dropout and penalties written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embedstore.cli import main
from embedstore.models.awd_lstm import build_awd_lstm
from embedstore.models.checkpoints import read_checkpoint
from embedstore.models.corpus import FIRST_LETTER, UNKNOWN, _next, read_corpus
from embedstore.models.markov import markov_counts, markov_perplexity
from embedstore.models.objectives import NextAwdLstm
from embedstore.models.pretrain import pretrain

TINY = {"hidden": 32, "window": 64, "batch_size": 16, "learning_rate": 1e-2, "progress": False}


@pytest.fixture(scope="module")
def order_three():
    """A source in which only the letter three to the left says something of the next one, on both strands alike."""
    random = np.random.default_rng(2)
    letters = list(random.integers(0, 4, 3))
    for noise, other in zip(random.random(60_000), random.integers(0, 4, 60_000), strict=True):
        letters.append((letters[-3] + 1) % 4 if noise < 0.85 else int(other))
    return {"chr1": np.frombuffer(b"ACGT", np.uint8)[np.array(letters)]}


@pytest.fixture(scope="module")
def trained_lstm(order_three, tmp_path_factory):
    options = TINY | {"architecture": "awd_lstm", "layers": 1}
    return pretrain(order_three, tmp_path_factory.mktemp("lstm"), steps=300, evaluations=3, **options)


def test_lstm_finds_the_order_of_the_source(order_three, trained_lstm):
    corpus = read_corpus(order_three, window=64, held_out_share=0.05, seed=0)
    windows = corpus.validation_windows()
    # Without the letter three to the left nothing is gained: order 0, 1 and 2 are at four letters.
    for order in (0, 2):
        counts = markov_counts(corpus.training_parts(), order)
        assert markov_perplexity(counts, windows) > 3.98
    share = np.array([0.85 + 0.15 / 4, *[0.15 / 4] * 3])
    entropy = np.exp(-(share * np.log(share)).sum())
    assert entropy * 0.97 < trained_lstm.perplexity < entropy * 1.15
    assert entropy * 0.97 < trained_lstm.markov_perplexity < entropy * 1.1
    assert "left side only, as the Markov model does" in trained_lstm.predicts


def test_lstm_and_markov_model_predict_the_same_nucleotides(order_three, trained_lstm):
    corpus = read_corpus(order_three, window=64, held_out_share=0.05, seed=0)
    network = build_awd_lstm(read_checkpoint(trained_lstm.path))
    total, count = 0.0, 0
    for letters in corpus.validation_windows():
        with torch.inference_mode():
            scores = network.logits(network(torch.from_numpy(letters.astype(np.int64) + FIRST_LETTER)[None]))[0]
        surprise = -scores.log_softmax(-1).numpy()
        for i in range(5, len(letters)):
            total += surprise[i - 1, FIRST_LETTER + letters[i]]
            count += 1
    assert count == markov_counts(corpus.validation_windows(), 5).sum()
    assert np.exp(total / count) == pytest.approx(trained_lstm.perplexity, rel=1e-5)


@given(rows=st.lists(st.text("ACGTN", min_size=8, max_size=8), min_size=1, max_size=3), context=st.integers(1, 6))
def test_next_letters(rows, context):
    batch = _next(np.array([["ACGTN".index(letter) for letter in row] for row in rows], np.uint8), context)
    targets = []
    for i, row in enumerate(rows):
        for j in range(7):
            wanted = j + 1 >= context and "N" not in row[j + 1 - context : j + 2]
            assert batch.chosen[i, j] == wanted
            targets += [FIRST_LETTER + "ACGT".index(row[j + 1])] if wanted else []
        assert batch.ids[i].tolist() == [UNKNOWN if c == "N" else FIRST_LETTER + "ACGT".index(c) for c in row[:7]]
    assert batch.targets.tolist() == targets


def lstm_in_training(dropout, seed=0, **rates):
    torch.manual_seed(0)
    objective = NextAwdLstm({"hidden": 64, "layers": 2, "dropout": dropout})
    for name, rate in rates.items():
        object.__setattr__(objective.spec, name, rate)
    ids = torch.randint(3, 7, (8, 30))
    output, penalty = objective.run(ids, np.random.default_rng(seed))
    return objective, ids, output.detach(), penalty.item()


def test_penalties():
    objective, ids, output, penalty = lstm_in_training(0.0)
    hidden = objective.network(ids).detach()
    torch.testing.assert_close(output, hidden, rtol=0, atol=1e-6)
    expected = 2 * (hidden**2).mean() + ((hidden[:, 1:] - hidden[:, :-1]) ** 2).mean()
    assert penalty == pytest.approx(float(expected), rel=1e-5)


def test_dropout():
    # All rates at once: what is left of the output is the same at all positions of a window.
    objective, ids, output, _ = lstm_in_training(1.0)
    zero = output == 0
    assert (zero == zero[:, :1]).all()
    assert zero[:, 0].float().mean() == pytest.approx(1 - 0.7 * 0.6, abs=0.06)
    assert len({tuple(row) for row in zero[:, 0].tolist()}) == 8
    assert torch.equal(output, lstm_in_training(1.0)[2])
    assert not torch.equal(output, lstm_in_training(1.0, seed=1)[2])
    # Nothing of it outside training.
    assert torch.equal(objective.network(ids), lstm_in_training(0.0)[0].network(ids))
    # What is kept is scaled up, each rate where it belongs.
    hidden = objective.network(ids).detach()
    left = lstm_in_training(0.0, dropout_prob=0.4)[2]
    torch.testing.assert_close(left, torch.where(left == 0, 0, hidden / 0.6), rtol=1e-4, atol=1e-6)
    # The penalty on changes is taken before, that on size after the dropout of the output.
    size, changes = float((left**2).mean()), float(((hidden[:, 1:] - hidden[:, :-1]) ** 2).mean())
    assert lstm_in_training(0.0, dropout_prob=0.4)[3] == pytest.approx(2 * size + changes, rel=1e-4)


def test_dropout_of_the_input():
    objective, ids, output, _ = lstm_in_training(0.0, input_dropout_prob=0.65)
    keep = torch.from_numpy(np.random.default_rng(0).random((8, 1, 64)) >= 0.65)
    x = objective.network.embedding(ids) * keep / 0.35
    for lstm in objective.network.lstms:
        x = lstm(x)[0]
    torch.testing.assert_close(output, x.detach(), rtol=0, atol=1e-6)


def test_the_reported_loss_is_without_penalties(order_three, tmp_path):
    options = TINY | {"architecture": "awd_lstm", "layers": 1, "dropout": 0.0}
    result = pretrain(order_three, tmp_path, steps=1, evaluations=1, **options)
    torch.manual_seed(0)
    network = NextAwdLstm({"hidden": 32, "layers": 1, "dropout": 0.0}).network
    corpus = read_corpus(order_three, window=64, held_out_share=0.05, seed=0)
    batch = corpus.training_batch(16, 0, 0, masked=False)
    scores = network.logits(network(torch.from_numpy(batch.ids))).log_softmax(-1).detach().numpy()[batch.chosen]
    loss = -scores[np.arange(len(scores)), batch.targets].mean()
    assert result.history.loss[0] == pytest.approx(loss, rel=1e-5)


def test_dropout_of_recurrent_weights():
    objective, ids, output, _ = lstm_in_training(0.0, weight_dropout_prob=0.5)
    # The generator gives the masks of channels first, which keep everything here.
    random = np.random.default_rng(0)
    random.random((8, 1, 64))
    for lstm in objective.network.lstms:
        keep = torch.from_numpy(random.random((256, 64)) >= 0.5)
        random.random((8, 1, 64))
        with torch.no_grad():
            lstm.weight_hh_l0.copy_(torch.where(keep, 2 * lstm.weight_hh_l0, 0))
    torch.testing.assert_close(output, objective.network(ids).detach(), rtol=0, atol=1e-6)
    assert (output - lstm_in_training(0.0)[2]).abs().max() > 0.01


def test_dropout_is_drawn_anew_at_every_step(order_three, tmp_path, monkeypatch):
    seen, run = [], NextAwdLstm.run

    def noted(self, ids, random):
        seen.append(random.bit_generator.state["state"]["state"])
        return run(self, ids, random)

    monkeypatch.setattr(NextAwdLstm, "run", noted)
    options = TINY | {"architecture": "awd_lstm", "layers": 1, "evaluations": 1}
    for seed in (0, 0, 1):
        pretrain(order_three, tmp_path / str(len(seen)), steps=3, **options, seed=seed)
    assert len(set(seen)) == 6
    assert seen[:3] == seen[3:6]


def test_lstm_from_the_command_line(order_three, tmp_path, capsys):
    fasta = tmp_path / "g.fa"
    fasta.write_text(f">chr1\n{order_three['chr1'].tobytes().decode()}\n")
    words = ["pretrain", str(fasta), "--out", str(tmp_path / "lm"), "--steps", "1", "--hidden", "8"]
    assert main([*words, "--architecture", "awd-lstm"]) == 0
    assert "per next nucleotide (sees the left side only, as the Markov model does)" in capsys.readouterr().out
    network = build_awd_lstm(read_checkpoint(tmp_path / "lm"))
    assert (network.width, network.layers) == (8, 1)


def test_learning_rates_unless_one_is_given(tmp_path):
    sequence = {"a": np.frombuffer(b"ACGTTGCA" * 400, np.uint8)}
    small = {key: value for key, value in TINY.items() if key != "learning_rate"} | {"hidden": 8, "layers": 1}
    for architecture, rate in (("convnet", 1e-3), ("awd_lstm", 5e-3)):
        result = pretrain(
            sequence, tmp_path / architecture, architecture=architecture, steps=40, evaluations=40, **small
        )
        assert result.history["learning_rate"].max() == pytest.approx(rate, rel=1e-3)
