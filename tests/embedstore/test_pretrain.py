"""Pretraining: what it learns against the exact optimum, resuming, held-out blocks, and its files."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import embedstore
from embedstore.cli import main
from embedstore.errors import CheckpointError, InputError, NonFiniteError
from embedstore.models import load
from embedstore.models import pretrain as module
from embedstore.models.awd_lstm import build_awd_lstm
from embedstore.models.checkpoints import read_checkpoint
from embedstore.models.convnet import build_convnet
from embedstore.models.corpus import FIRST_LETTER, MASK, UNKNOWN, Corpus, read_corpus
from embedstore.models.markov import markov_counts, markov_perplexity
from embedstore.models.pretrain import pretrain

GOLDEN = Path(__file__).parents[1] / "golden" / "resnet_lm"
TINY = {
    "hidden": 32,
    "layers": 2,
    "kernel": 9,
    "window": 64,
    "batch_size": 16,
    "learning_rate": 1e-2,
    "progress": False,
}
# A source of order 1: the next letter given this one.
NEXT = np.array([[0.05, 0.85, 0.05, 0.05], [0.05, 0.15, 0.7, 0.1], [0.02, 0.04, 0.04, 0.9], [0.4, 0.05, 0.05, 0.5]])


@pytest.fixture(scope="module")
def source():
    random = np.random.default_rng(1)
    letters = [0]
    steps = np.cumsum(NEXT, axis=1)
    for u in random.random(60_000):
        letters.append(int(np.searchsorted(steps[letters[-1]], u)))
    return {"chr1": np.frombuffer(b"ACGT", np.uint8)[np.minimum(letters, 3)]}


def stationary() -> np.ndarray:
    return np.linalg.matrix_power(NEXT, 1000)[0]


def best_perplexity(corpus: Corpus, seed: int) -> float:
    """Perplexity of the exact posterior given the letters that are not masked (forward and backward recursions)."""
    total, count = 0.0, 0
    for batch in corpus.validation_batches(16, seed):
        truth = batch.ids.copy()
        truth[batch.chosen] = batch.targets
        for ids, chosen, letters in zip(batch.ids, batch.chosen, truth - FIRST_LETTER, strict=True):
            seen = np.where((ids == MASK)[:, None], 1.0, np.eye(4)[letters])
            forward, backward = np.empty(seen.shape), np.ones(seen.shape)
            forward[0] = stationary() * seen[0]
            for i in range(1, len(seen)):
                forward[i] = forward[i - 1] @ NEXT * seen[i]
                forward[i] /= forward[i].sum()
            for i in range(len(seen) - 2, -1, -1):
                backward[i] = NEXT @ (seen[i + 1] * backward[i + 1])
                backward[i] /= backward[i].sum()
            posterior = forward * backward
            posterior /= posterior.sum(1, keepdims=True)
            total -= np.log(posterior[chosen, letters[chosen]]).sum()
            count += int(chosen.sum())
    return float(np.exp(total / count))


@pytest.fixture(scope="module")
def trained(source, tmp_path_factory):
    return pretrain(source, tmp_path_factory.mktemp("lm"), steps=250, evaluations=5, **TINY)


def test_perplexity_comes_near_the_exact_optimum(source, trained):
    best = best_perplexity(read_corpus(source, window=64, held_out_share=0.05, seed=0), seed=0)
    assert best * 0.99 < trained.perplexity < best * 1.06
    # The Markov model comes near the entropy of the source, which is that of one side only.
    entropy = np.exp(-(stationary()[:, None] * NEXT * np.log(NEXT)).sum())
    assert entropy * 0.95 < trained.markov_perplexity < entropy * 1.05
    assert trained.perplexity < trained.markov_perplexity


def test_result_and_history(trained):
    history = trained.history
    assert history.step.tolist() == [50, 100, 150, 200, 250]
    assert history.nucleotides.tolist() == [step * 16 * 64 for step in history.step]
    assert trained.steps == 250
    assert history.perplexity.iloc[-1] == trained.perplexity
    assert history.loss.iloc[-1] < history.loss.iloc[0]
    rates = history.learning_rate.to_numpy()
    assert (np.diff(rates) < 0).all()
    assert 0 < rates[-1] < 1e-4 < rates[0] <= 1e-2
    lines = (trained.path / "training" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == history.to_dict("records")


def test_checkpoint_is_in_the_official_layout(trained):
    for name in ("tokenizer.json", "special_tokens_map.json"):
        assert json.loads((trained.path / name).read_text()) == json.loads((GOLDEN / name).read_text())
    ours, golden = (json.loads((folder / "config.json").read_text()) for folder in (trained.path, GOLDEN))
    assert set(golden) - set(ours) == {"initializer_range", "transformers_version"}
    assert {k: ours[k] for k in ("architectures", "model_type", "torch_dtype", "vocab_size", "dilation_max")} == {
        k: golden[k] for k in ("architectures", "model_type", "torch_dtype", "vocab_size", "dilation_max")
    }
    # Ours has two blocks, the golden one seven.
    keys = {
        key for key in load_file(GOLDEN / "model.safetensors") if not key.startswith("model.encoder.") or key[14] < "2"
    }
    assert keys == set(load_file(trained.path / "model.safetensors"))
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(trained.path)
    assert tokenizer("ACGTNR")["input_ids"] == [3, 4, 5, 6, 2, 2]
    assert tokenizer.mask_token_id == MASK


def test_the_loaded_model_predicts_what_was_trained(source, trained):
    model = load("resnet_lm", checkpoint=trained.path)
    assert (model.width, model.record["layers"]) == (32, 2)
    corpus = read_corpus(source, window=64, held_out_share=0.05, seed=0)
    total, count = 0.0, 0
    for batch in corpus.validation_batches(64, 0):
        scores = model.logits(torch.from_numpy(batch.ids)).log_softmax(-1).numpy()[batch.chosen]
        total -= scores[np.arange(len(scores)), batch.targets].sum()
        count += len(scores)
    assert np.exp(total / count) == pytest.approx(trained.perplexity, rel=1e-4)


def interrupt_after(monkeypatch, step):
    """Send Ctrl-C in the middle of a step."""
    train_step = module._Run._train_step

    def interrupted(self, rate):
        if self.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(self, rate)

    monkeypatch.setattr(module._Run, "_train_step", interrupted)


@pytest.mark.parametrize(("architecture", "layers"), [("convnet", 1), ("awd_lstm", 2)])
def test_an_interrupted_run_goes_on_to_the_same_weights(source, tmp_path, monkeypatch, caplog, architecture, layers):
    options = TINY | {"steps": 12, "evaluations": 3, "architecture": architecture, "layers": layers}
    whole = pretrain(source, tmp_path / "whole", **options)
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 6)
        with pytest.raises(KeyboardInterrupt, match="Stopped after step 7; the same call goes on"):
            pretrain(source, tmp_path / "parts", **options)
    assert signal.getsignal(signal.SIGINT) is handler
    # What is there already can be loaded.
    build = build_convnet if architecture == "convnet" else build_awd_lstm
    assert build(read_checkpoint(tmp_path / "parts")).width == 32
    caplog.set_level(logging.INFO)
    parts = pretrain(source, tmp_path / "parts", **options)
    assert "going on after step 7" in caplog.text
    assert "order-5 Markov model" in caplog.text
    ours, theirs = (load_file(result.path / "model.safetensors") for result in (parts, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert parts.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))
    assert parts.perplexity == whole.perplexity
    # A finished run gives its result again, without a step.
    monkeypatch.setattr(module._Run, "_train_step", None)
    assert pretrain(source, tmp_path / "parts", **options)[1:4] == parts[1:4]


def test_settings_and_genome_must_be_the_same(source, trained):
    with pytest.raises(
        InputError, match=r"begun with other settings: learning_rate was 0.01, is 0.02; seed was 0, is 1"
    ):
        pretrain(source, trained.path, steps=250, evaluations=5, **TINY | {"seed": 1, "learning_rate": 0.02})
    other = {"chr1": source["chr1"][::-1].copy()}
    with pytest.raises(InputError, match="begun with other settings: genome was"):
        pretrain(other, trained.path, steps=250, evaluations=5, **TINY)
    with pytest.raises(InputError, match="layers was 2, is 3"):
        pretrain(source, trained.path, steps=250, evaluations=5, **TINY | {"layers": 3})


def test_nothing_is_overwritten(source, trained):
    with pytest.raises(InputError, match="holds a training run"):
        pretrain(source, trained.path, steps=250, evaluations=5, resume=False, **TINY)
    with pytest.raises(InputError, match="not trained here"):
        pretrain(source, GOLDEN, steps=1, **TINY)


def test_damaged_state(source, trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "run")
    state = tmp_path / "run" / "training" / "state.safetensors"
    whole = state.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\x80\x04pickle"):
        state.write_bytes(content)
        with pytest.raises(CheckpointError, match="the state of the run is damaged"):
            pretrain(source, tmp_path / "run", steps=250, evaluations=5, **TINY)
    state.write_bytes(whole)
    with safe_open(state, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(state)
    tensors.pop("network.blocks.0.linear.weight")
    save_file(tensors, state, metadata)
    with pytest.raises(CheckpointError, match="the state of the run is damaged"):
        pretrain(source, tmp_path / "run", steps=250, evaluations=5, **TINY)


def test_minutes_and_progress(source, tmp_path, capsys):
    result = pretrain(source, tmp_path / "lm", minutes=0.01, evaluations=2, **TINY | {"progress": True})
    assert 0.6 <= result.seconds < 20
    assert 1 <= len(result.history) <= 2
    shown = capsys.readouterr().err
    assert "pretrain" in shown
    assert "Markov" in shown


def test_in_another_thread(source, tmp_path):
    # Signals can only be handled in the main thread.
    results = []
    thread = threading.Thread(
        target=lambda: results.append(pretrain(source, tmp_path / "lm", steps=1, evaluations=1, **TINY))
    )
    thread.start()
    thread.join()
    assert results[0].steps == 1


def test_a_loss_that_is_not_finite(source, tmp_path, monkeypatch):
    monkeypatch.setattr(module._Run, "_loss", lambda self, hidden, batch: hidden.sum() * float("nan"))
    with pytest.raises(NonFiniteError, match="the loss is nan at step 0.*lower learning_rate"):
        pretrain(source, tmp_path / "lm", steps=5, **TINY)


def test_batches_of_n_only(tmp_path):
    # Nearly all windows of this genome have nothing to predict: steps without a target must not give 0 / 0.
    letters = np.frombuffer(b"N" * 20_000 + b"ACGT" * 1000, np.uint8)
    result = pretrain({"chr1": letters}, tmp_path, steps=3, evaluations=1, **TINY | {"seed": 3, "batch_size": 1})
    assert np.isfinite(result.history.loss.iloc[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "either steps= or minutes="),
        ({"steps": 1, "minutes": 1}, "either steps= or minutes="),
        ({"steps": 0}, "steps=0: wanted a value of at least 1"),
        ({"steps": 1, "hidden": 6}, "hidden=6: wanted a value of at least 7"),
        ({"steps": 1, "kernel": 4}, "wanted an odd number"),
        ({"steps": 1, "architecture": "lstm"}, "architecture='lstm': wanted one of convnet, awd_lstm"),
        ({"steps": 1, "architecture": "awd_lstm", "dropout": 1.5}, "dropout=1.5: wanted a value of at least 0"),
        ({"steps": 1, "architecture": "awd_lstm", "hidden": 0}, "hidden=0: wanted a value of at least 1"),
        ({"steps": 1, "held_out_share": 0.9}, "held_out_share=0.9"),
        ({"steps": 1, "window": 5}, "window=5"),
        ({"steps": 1, "window": 4096}, "0 whole blocks of 65,536"),
    ],
)
def test_refused(source, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        pretrain(source, tmp_path, **TINY | changes)


def test_the_command_takes_batch_size_and_learning_rate_and_writes_them_down(source, tmp_path, capsys):
    fasta, out = tmp_path / "g.fa", tmp_path / "lm"
    fasta.write_text(f">chr1\n{source['chr1'].tobytes().decode()}\n")
    words = ["pretrain", str(fasta), "--out", str(out), "--hidden", "8", "--layers", "1", "--window", "64"]
    assert main([*words, "--steps", "3", "--batch-size", "4", "--learning-rate", "0.02"]) == 0
    capsys.readouterr()
    run = json.loads((out / "training" / "run.json").read_text())
    assert {"batch_size": 4, "learning_rate": 0.02, "hidden": 8, "steps": 3}.items() <= run["settings"].items()
    assert (run["step"], run["device"], run["embedstore"]) == (3, "cpu", embedstore.__version__)
    rows = [json.loads(line) for line in (out / "training" / "history.jsonl").read_text().splitlines()]
    assert rows[0]["nucleotides"] == 4 * 64
    assert run["perplexity"] == rows[-1]["perplexity"]
    assert max(row["learning_rate"] for row in rows) == pytest.approx(0.02 * module._schedule(1 / 3))
    assert main([*words, "--steps", "3", "--batch-size", "5", "--learning-rate", "0.02"]) == 1
    assert "begun with other settings: batch_size was 4, is 5." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--batch-size 0", "batch_size=0: wanted a value of at least 1, at most 65536."),
        ("--batch-size 65537", "batch_size=65537: wanted a value of at least 1, at most 65536."),
        ("--learning-rate 0", "learning_rate=0.0: wanted a value of at least 1e-12, at most 1."),
        ("--learning-rate 1.5", "learning_rate=1.5: wanted a value of at least 1e-12, at most 1."),
        ("--learning-rate nan", "learning_rate=nan: wanted a value of at least 1e-12, at most 1."),
        ("--seed 4294967296", "seed=4294967296: wanted a value of at least 0, at most 4294967295."),
        ("--device cudda", "Cannot use the device 'cudda'"),
    ],
)
def test_the_command_refuses_before_it_reads(tmp_path, capsys, words, message):
    assert main(["pretrain", "nowhere.fa", "--out", str(tmp_path / "lm"), "--steps", "1", *words.split()]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "lm").exists()


def test_the_length_of_a_run_must_be_given(tmp_path, capsys):
    base = ["pretrain", "nowhere.fa", "--out", str(tmp_path / "lm")]
    for more, message in (
        ([], "one of the arguments --steps --minutes is required"),
        (["--steps", "1", "--minutes", "1"], "argument --minutes: not allowed with argument --steps"),
    ):
        with pytest.raises(SystemExit) as caught:
            main([*base, *more])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err
    assert main([*base, "--minutes", "inf"]) == 1
    assert "minutes=inf: wanted a value of at least 1e-06, at most 10000000." in capsys.readouterr().err


def test_fasta_file(tmp_path, source):
    text = source["chr1"].tobytes().decode()
    (tmp_path / "g.fa").write_text(f">one\n{text[:20000]}\n>two\n{text[20000:45000]}R\n")
    options = {"window": 64, "held_out_share": 0.05, "seed": 0}
    with pytest.raises(InputError, match="R"):
        read_corpus(tmp_path / "g.fa", **options)
    corpus = read_corpus(tmp_path / "g.fa", other_letters="N", **options)
    assert len(corpus.letters) == 45_001
    assert corpus.letters[-1] == 4
    np.testing.assert_array_equal(
        corpus.letters[:45_000], np.searchsorted(np.frombuffer(b"ACGT", np.uint8), source["chr1"][:45_000])
    )


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 900), min_size=1, max_size=6),
    seed=st.integers(0, 5),
    share=st.sampled_from([0.05, 0.3]),
)
def test_training_and_validation_do_not_overlap(lengths, seed, share):
    window = 8
    random = np.random.default_rng(seed)
    contigs = {f"c{i}": np.frombuffer(b"ACGT", np.uint8)[random.integers(0, 4, n)] for i, n in enumerate(lengths)}
    whole = sum(n // 128 for n in lengths)
    if whole < 2:
        with pytest.raises(InputError, match="whole blocks"):
            read_corpus(contigs, window=window, held_out_share=share, seed=seed)
        return
    corpus = read_corpus(contigs, window=window, held_out_share=share, seed=seed)
    contig = np.repeat(np.arange(len(lengths)), lengths)
    trained, held = np.zeros(len(contig), bool), np.zeros(len(contig), bool)
    for start, end in corpus.stretches:
        assert end - start >= window
        assert len(set(contig[start:end])) == 1
        assert not trained[start:end].any()
        trained[start:end] = True
    for start in corpus.held_out:
        assert contig[start] == contig[start + window - 1]
        held[start : start + window] = True
    assert not (trained & held).any()
    assert held.sum() == max(1, round(share * whole)) * 128
    # What is neither is the rest of a contig too short for a window.
    assert (~trained & ~held).sum() < window * (2 * len(lengths) + whole)


def test_windows_masks_and_strands():
    random = np.random.default_rng(0)
    codes = np.frombuffer(b"ACGTN", np.uint8)[np.minimum(random.integers(0, 40, 40_000) // 9, 4)]
    corpus = read_corpus({"c": codes}, window=50, held_out_share=0.1, seed=0)
    batch = corpus.training_batch(400, seed=7, step=3)
    again = corpus.training_batch(400, seed=7, step=3)
    assert all(np.array_equal(a, b) for a, b in zip(batch, again, strict=True))
    assert not np.array_equal(batch.ids, corpus.training_batch(400, seed=7, step=4).ids)
    assert not np.array_equal(batch.ids, corpus.training_batch(400, seed=8, step=3).ids)
    truth = batch.ids.copy()
    truth[batch.chosen] = batch.targets
    text = "".join("ACGTN"[i] for i in corpus.letters)
    back = text[::-1].translate(str.maketrans("ACGT", "TGCA"))
    found = ["".join("??NACGT"[i] for i in row) for row in truth]
    forward = np.array([row in text for row in found])
    assert all(f or row in back for f, row in zip(forward, found, strict=True))
    assert 0.4 < forward.mean() < 0.6
    known = truth != UNKNOWN
    assert not batch.chosen[~known].any()
    n = batch.chosen.sum()
    assert n / known.sum() == pytest.approx(0.15, abs=0.01)
    assert (batch.ids[batch.chosen] == MASK).sum() / n == pytest.approx(0.8, abs=0.03)
    # A tenth is replaced, by the same letter in one case of four; a tenth stays.
    assert (batch.ids[batch.chosen] == batch.targets).sum() / n == pytest.approx(0.125, abs=0.03)
    assert set(np.unique(batch.ids[~batch.chosen])) == {2, 3, 4, 5, 6}
    validation = list(corpus.validation_batches(7, seed=7))
    assert sum(len(b.ids) for b in validation) == len(corpus.held_out)
    assert all((b.ids[b.chosen] == MASK).all() for b in validation)
    whole = next(corpus.validation_batches(10_000, seed=7))
    np.testing.assert_array_equal(np.concatenate([b.ids for b in validation]), whole.ids)


def test_all_windows_are_drawn():
    corpus = read_corpus(
        {"c": np.frombuffer(b"ACGT", np.uint8)[np.arange(400) % 4]}, window=8, held_out_share=0.4, seed=1
    )
    marked = Corpus(np.arange(400, dtype=np.int64) % 4, corpus.stretches, corpus.held_out, 8, "")
    starts = {start for a, b in corpus.stretches for start in range(a, b - 7)}
    # Letters 0 to 3 cannot tell places apart, so look at the places themselves.
    seen: set[int] = set()

    class Places(np.ndarray):
        def __getitem__(self, index):
            if isinstance(index, np.ndarray) and index.ndim == 2:
                seen.update(index[:, 0].tolist())
            return np.asarray(self)[index]

    object.__setattr__(marked, "letters", marked.letters.view(Places))
    for step in range(30):
        marked.training_batch(100, seed=0, step=step)
    assert seen == starts


def test_many_validation_windows_are_thinned():
    codes = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(0).integers(0, 4, 200_000)]
    corpus = read_corpus({"c": codes}, window=6, held_out_share=0.5, seed=0)
    assert 256 < len(corpus.held_out) <= 512


def test_a_genome_without_letters():
    with pytest.raises(InputError, match="that is 0 whole blocks"):
        read_corpus({"c": np.frombuffer(b"N" * 5000, np.uint8)}, window=8, held_out_share=0.1, seed=0)


@given(text=st.text("ACGTN", min_size=0, max_size=60), order=st.integers(0, 3))
def test_markov_counts(text, order):
    letters = np.array(["ACGTN".index(letter) for letter in text], np.uint8)
    counts = markov_counts([letters, letters[:5]], order)
    slow = np.zeros((4**order, 4), int)
    for part in (text, text[:5]):
        for i in range(len(part) - order):
            word = part[i : i + order + 1]
            if "N" not in word:
                slow[
                    sum(4 ** (order - 1 - j) * "ACGT".index(word[j]) for j in range(order)), "ACGT".index(word[-1])
                ] += 1
    np.testing.assert_array_equal(counts, slow)


def test_markov_perplexity():
    counts = np.array([[3, 1, 0, 0]])
    letters = np.array([0, 0, 1, 4, 3], np.uint8)
    p = (np.array([3, 1, 0, 0]) + 1) / 8
    expected = np.exp(-np.log([p[0], p[0], p[1], p[3]]).mean())
    assert markov_perplexity(counts, [letters]) == pytest.approx(expected)
    assert markov_perplexity(np.zeros((16, 4)), [letters[:3]]) == pytest.approx(4)
    assert np.isnan(markov_perplexity(counts, []))
