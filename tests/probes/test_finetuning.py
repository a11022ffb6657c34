"""Tuning by IA3: what the head reads, what is trained, and that a run can be stopped, resumed and found again."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from encoders import GOLDEN
from peft_ia3 import OLD_NAMES, peft_model, peft_vectors
from safetensors.torch import load_file
from stops import stop_after
from toys import random_sequences
from tuning import AMINO_ACIDS, hidden_folder, hidden_store, residue_store, splits_of, value_store

import embedstore
from embedstore import tasks
from embedstore.errors import CheckpointError, InputError, NotInStoreError
from embedstore.models import load
from embedstore.models.model import Model
from embedstore.models.transformer import Encoder, EncoderSpec
from embedstore.models.windows import WindowRule
from embedstore.tasks import TaskRecord
from probes import IA3Probe, ProbeData, compare, finetune, read_results, results_table, run_probe, training
from probes.outcome import CHECKPOINT, HISTORY, STATE
from probes.results import RESULT
from probes.token_data import read_tokens
from probes.tuned import Shape, TunedNetwork

SHORT = {"steps": 12, "evaluate_every": 4, "progress": False}


@cache
def family(name, **options):
    return load(GOLDEN / name, **options)


@pytest.fixture
def shares(tmp_path):
    return value_store(f"memory://{tmp_path}")


@pytest.fixture
def residues(tmp_path):
    return residue_store(f"memory://{tmp_path}")


# ---- what is trained -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "outputs", "letters", "ia3", "head"),
    [
        ((29, 1024, 4096), 1, 0, 178_176, 1025),
        ((29, 1024, 4096), 8, 3, 178_176, 16 * 1025),
        ((33, 1280, 5120), 1, 0, 253_440, 1281),
        ((33, 1280, 5120), 8, 1, 253_440, 8 * 1281),
        ((12, 768, 3072), 1, 0, 55_296, 769),
    ],
)
def test_parameters_at_the_published_sizes(spec, outputs, letters, ia3, head):
    layers, width, inner = spec
    sizes = {"vocabulary": 33, "width": width, "layers": layers, "heads": 16, "inner": inner, "epsilon": 1e-5}
    with torch.device("meta"):
        encoder = Encoder(EncoderSpec(**sizes, positions="rotary"))
    record = {"architecture": "a", "tokenizer": "t", "rules": "authors"}
    options = {"alphabet": "dna", "layer": -1, "precision": "float32", "device": "meta", "record": record}
    model = Model("m", encoder, WindowRule("whole", list), **options, digest="0")
    with torch.device("meta"):
        network = TunedNetwork(model, Shape(outputs, None, letters=letters, slots=2 if letters == 3 else 1))
    assert network.ia3.count == ia3
    assert sum(weight.numel() for weight in network.parameters()) == ia3 + head


def test_only_vectors_and_head_are_trained_and_the_model_stays_as_it_is(shares):
    model = load(GOLDEN / "nt_v2")
    before = {key: weight.clone() for key, weight in model.network.state_dict().items()}
    data = read_tokens(shares, "share", model, ["train"])
    probe = IA3Probe(**SHORT).fit(data)
    names = [name for name, _ in probe.network_.named_parameters()]
    assert len(names) == 3 * 2 + 2
    assert {name.split(".")[0] for name in names} == {"ia3", "head"}
    assert set(probe.weights()) == set(names)
    assert all((vector != 1).any() for vector in probe.network_.ia3.parameters())
    assert all(torch.equal(weight, before[key]) for key, weight in model.network.state_dict().items())
    assert all(weight.grad is None for weight in model.network.parameters())
    assert probe.columns()["parameters_ia3"] == 2 * (2 * 24 + model.network.spec.inner)
    assert not hasattr(probe.history_, "valid")
    assert probe.best_epoch_ == 3


def test_what_frozen_rows_hide_is_found(tmp_path):
    """The label is not in the mean of the frozen rows, whatever is fitted to it."""
    model, store = load(hidden_folder(tmp_path), name="hider"), hidden_store(f"memory://{tmp_path}")
    embedstore.embed(store, "hidden", model, dtype="float32", progress=False)
    assert run_probe(store, "hidden", "hider", probe="ridge", progress=False).row["test"] < 0.1
    result = finetune(store, "hidden", model, steps=100, evaluate_every=20, learning_rate=2e-2, progress=False)
    assert result.tests["test"].row["test"] > 0.8
    key = result.probe.vectors_of(model).inner[0].detach()
    assert abs(key[0] - key[1]) > 0.1
    assert (key[2:] == 1).all()  # units that read nothing


@pytest.mark.parametrize("alphabet", ["dna", "protein"])
def test_a_class_for_each_residue(tmp_path, alphabet):
    splits = ["train"] * 60 + ["valid"] * 6 + ["CASP12"] * 3 + ["CB513"] * 3
    store = residue_store(f"memory://{tmp_path}", 72, splits=splits, alphabet=alphabet)
    model = family("nt_v2" if alphabet == "dna" else "esm2", layer=1)
    settings = {"steps": 160, "evaluate_every": 40, "learning_rate": 2e-2, "progress": False}
    result = finetune(store, "residues", model, **settings)
    slots = 2 if alphabet == "dna" else 1
    assert result.parameters["head"] == slots * 3 * (model.width + 1)
    assert list(result.tests) == ["CASP12", "CB513"]
    assert min(test.row["test"] for test in result.tests.values()) > 0.9
    assert result.predictions.empty
    history = result.history
    assert result.best_step == history["step"][history["valid_loss"].idxmin()]
    assert history["step"].tolist() == list(range(40, 161, 40))
    # The loss of a residue counts once, whatever its letters are: the mean is over equal copies.
    data = read_tokens(store, "residues", model, ["CB513"])
    out = torch.cat([output for _, output in result.probe.outputs(data)])
    target = data.targets.of(data.samples)
    step = 3 if alphabet == "dna" else 1
    loss = torch.nn.functional.cross_entropy(out[::step], target[::step])
    assert result.tests["CB513"].row["test_loss"] == pytest.approx(float(loss), rel=1e-5)


def test_residues_behind_an_n_have_a_head_of_their_own(tmp_path):
    texts = ["ACGNTTACGACGACGTTT", "ACGTTTACGACG", "ACGTTTA"]
    record = TaskRecord(name="t", level="nucleotide", type="class", names=("a", "b"), metric="mcc")
    labels = [np.arange(len(text)) // 3 % 2 for text in texts]
    store = embedstore.open_store(f"memory://{tmp_path}", mode="a")
    store.add_task(tasks.from_sequences("t", texts, labels=labels, record=record, splits=["n", "whole", "odd"]))
    model, short = family("nt_v2"), {**SHORT, "steps": 1, "evaluate_every": 1}
    heads = {"n": 3, "whole": 2}
    for split, slots in heads.items():
        probe = IA3Probe(**short).fit(read_tokens(store, "t", model, [split]))
        assert probe.columns()["parameters_head"] == 2 * slots * (model.width + 1)
    assert len(probe.predict(read_tokens(store, "t", model, ["n"]))) == 18
    with pytest.raises(InputError, match="1 samples as tokens>: some lengths are no whole codons, and the training"):
        probe.predict(read_tokens(store, "t", model, ["odd"]))


def test_labels_that_are_not_of_codons_are_read_row_by_row(tmp_path):
    texts = random_sequences([30, 31, 32] * 12, seed=1)
    record = TaskRecord(name="t", level="nucleotide", type="class", names=("other", "G"), metric="mcc")
    labels = [np.array([letter == "G" for letter in text], int) for text in texts]
    store = embedstore.open_store(f"memory://{tmp_path}", mode="a")
    store.add_task(tasks.from_sequences("t", texts, labels=labels, record=record, splits=splits_of(36)))
    result = finetune(store, "t", family("dnabert2"), **SHORT)
    assert result.parameters["head"] == 2 * (family("dnabert2").width + 1)


def test_values_are_standardised_and_predicted_in_their_own_units(tmp_path):
    """Labels a hundred times as large give the same training, and predictions a hundred times as large."""
    model, found = family("nt_v2"), []
    for scale in (1, 100):
        store = value_store(f"memory://{tmp_path}{scale}", scale=scale)
        found.append(finetune(store, "share", model, **SHORT))
    one, other = (result.history.drop(columns="seconds") for result in found)
    pd.testing.assert_frame_equal(one, other, rtol=1e-4)
    one, other = (result.predictions for result in found)
    np.testing.assert_allclose(other["prediction"], 100 * one["prediction"], rtol=1e-4)
    assert one["truth"].between(50, 70).all()
    assert (one["prediction"] - 55).abs().max() < 10
    assert one["id"].tolist() == store.samples("share").query("split == 'test'")["id"].tolist()
    result = found[0].tests["test"]
    error = np.mean((one["prediction"] - one["truth"]) ** 2)
    assert result.row["test_loss"] == pytest.approx(error, rel=1e-4)
    train = store.samples("share")["split"] == "train"
    values = store.labels("share").values[train]
    assert found[1].probe.about()["mean"] == pytest.approx([values.mean()], rel=1e-5)
    assert found[1].probe.about()["deviation"] == pytest.approx([values.std()], rel=1e-5)


def test_several_values_and_missing_ones(tmp_path):
    texts = random_sequences([30] * 24, seed=2)
    labels = np.array([[text.count("G"), 1000 + 50 * text.count("C"), 7] for text in texts], float)
    labels[::5, 0] = np.nan
    record = TaskRecord(name="t", level="sequence", type="value", names=("g", "c", "same"), metric="r2")
    store = embedstore.open_store(f"memory://{tmp_path}", mode="a")
    store.add_task(tasks.from_sequences("t", texts, labels=labels, record=record, splits=splits_of(24)))
    result = finetune(store, "t", family("nt_v2"), **SHORT)
    about = result.probe.about()
    train = np.array(splits_of(24)) == "train"
    assert about["mean"] == pytest.approx(np.nanmean(labels[train], axis=0), rel=1e-5)
    assert about["deviation"] == pytest.approx([*np.nanstd(labels[train], axis=0)[:2], 1.0], rel=1e-5)
    assert result.predictions["target"].unique().tolist() == ["g", "c", "same"]
    assert result.predictions.query("target == 'c'")["prediction"].between(900, 2500).all()
    assert np.isfinite(result.history["valid_loss"]).all()


@OLD_NAMES
def test_the_probe_is_trained_as_peft_would_be(shares):
    """Adam at one rate for vectors and head, standardised values, squared error: as transformers and peft do it."""
    texts = ["".join(np.random.default_rng(n).choice(list(AMINO_ACIDS), 15)) for n in range(12)]
    record = TaskRecord(name="t", level="sequence", type="value", metric="r2", alphabet="protein")
    labels = [float(text.count("A") + text.count("L")) for text in texts]
    shares.add_task(tasks.from_sequences("t", texts, labels=labels, record=record, splits=["train"] * 12))
    model = family("esm2")
    data = read_tokens(shares, "t", model, ["train"])
    probe = IA3Probe(steps=6, evaluate_every=6, batch_size=12, seed=3, progress=False).fit(data)
    theirs = peft_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        head = torch.nn.Linear(model.width, 1)
    wanted = torch.tensor(labels)
    wanted = (wanted - wanted.mean()) / wanted.std(correction=0)
    parts = peft_vectors(theirs)
    optimizer = torch.optim.Adam([*head.parameters(), *(vector for part in parts for vector in part)], lr=3e-3)
    ids = torch.stack([torch.from_numpy(model.pieces(codes)[0].ids) for codes in shares.sequences("t")])
    for _ in range(6):
        optimizer.zero_grad()
        (head(theirs(ids)[0][:, 1:-1].mean(1))[:, 0] - wanted).square().mean().backward()
        optimizer.step()
    vectors = probe.network_.ia3
    for part, ours in zip(parts, (vectors.key, vectors.value, vectors.inner), strict=True):
        for one, other in zip(part, ours, strict=True):
            assert (other - 1).abs().max() > 5e-3
            torch.testing.assert_close(one.detach().flatten(), other.detach(), rtol=0, atol=1e-4)
    torch.testing.assert_close(head.weight, probe.network_.head.weight, rtol=0, atol=1e-4)


def test_in_bfloat16(shares):
    result = finetune(shares, "share", load(GOLDEN / "nt_v2", precision="bfloat16"), **SHORT)
    exact = finetune(shares, "share", family("nt_v2"), **SHORT)
    assert {weight.dtype for weight in result.probe.weights().values()} == {torch.float32}
    np.testing.assert_allclose(result.history["train_loss"], exact.history["train_loss"], rtol=0.05)
    assert (result.history["train_loss"] != exact.history["train_loss"]).all()
    with pytest.raises(InputError, match="computes in float16, in which small gradients become 0. Load it with"):
        finetune(shares, "share", load(GOLDEN / "nt_v2", precision="float16"), **SHORT)


def test_how_many_tokens_are_held_changes_no_more_than_rounding(shares):
    one, other = (finetune(shares, "share", family("nt_v2"), **SHORT, tokens=tokens) for tokens in (8192, 10))
    pd.testing.assert_frame_equal(one.history.drop(columns="seconds"), other.history.drop(columns="seconds"), rtol=1e-3)


def test_what_the_evaluation_is_chosen_by(shares, monkeypatch):
    given = iter([(3.0, 0.9), (2.0, 0.1), (4.0, 0.5)] * 2)
    monkeypatch.setattr(training, "_validate", lambda *_: next(given))
    by_loss = finetune(shares, "share", family("nt_v2"), **SHORT)
    by_metric = finetune(shares, "share", family("nt_v2"), **SHORT, choose="metric")
    assert (by_loss.best_step, by_metric.best_step) == (8, 4)
    assert by_loss.tests["test"].row["valid"] == 0.1
    assert by_metric.tests["test"].row["valid"] == 0.9


# ---- results, interruptions ----------------------------------------------------------------------


def assert_same(one, other):
    weights, others = (load_file(result.path / CHECKPOINT) for result in (one, other))
    assert all(torch.equal(weight, others[key]) for key, weight in weights.items())
    pd.testing.assert_frame_equal(one.history.drop(columns="seconds"), other.history.drop(columns="seconds"), rtol=0)
    assert {**one.row, "seconds": 0} == {**other.row, "seconds": 0}


def test_interrupted_runs_go_on_and_give_the_numbers_of_one_that_was_not(shares, tmp_path, monkeypatch):
    settings = {"steps": 20, "evaluate_every": 4, "progress": False}
    whole = finetune(shares, "share", family("nt_v2"), out=tmp_path / "whole", **settings)
    monkeypatch.setattr(training, "STATE_SECONDS", 0.0)
    from_epoch, epochs = training._epoch, []
    monkeypatch.setattr(training, "_epoch", lambda *given: (epochs.append(given[-1]), from_epoch(*given))[1])
    for steps in (6, 9):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_after(patch, steps)
            finetune(shares, "share", family("nt_v2"), out=tmp_path / "cut", **settings)
        assert len(list((tmp_path / "cut").rglob(STATE))) == 1
        assert not list((tmp_path / "cut").rglob(RESULT))
    result = finetune(shares, "share", family("nt_v2"), out=tmp_path / "cut", **settings)
    assert_same(result.tests["test"], whole.tests["test"])
    assert epochs == [1, 2, 2, 3, 4, 4, 5]
    assert not list((tmp_path / "cut").rglob(STATE))


def test_a_finished_run_is_read_and_another_split_only_tested(tmp_path, monkeypatch):
    store = residue_store(f"memory://{tmp_path}", splits=["train"] * 24 + ["valid"] * 6 + ["a"] * 3 + ["b"] * 3)
    model, splits = family("nt_v2"), {"train": "train", "valid": "valid"}
    first = finetune(store, "residues", model, out=tmp_path, splits={**splits, "test": "a"}, **SHORT)
    monkeypatch.setattr(training, "_epoch", lambda *_: pytest.fail("trained again"))
    both = finetune(store, "residues", model, out=tmp_path, **SHORT)
    assert list(both.tests) == ["a", "b"]
    assert both.tests["a"].row == first.tests["a"].row
    again = finetune(store, "residues", model, out=tmp_path, **SHORT)
    assert [test.row for test in again.tests.values()] == [test.row for test in both.tests.values()]
    assert again.parameters == first.parameters
    pd.testing.assert_frame_equal(again.history, first.history)
    data = read_tokens(store, "residues", model, ["b"])
    assert again.probe.score(data) == both.tests["b"].row["test"]
    assert len(again.probe.predict(data)) == data.targets.lengths[data.samples].sum()


def test_results_are_found_with_those_of_probes(shares, tmp_path):
    embedstore.embed(shares, "share", family("nt_v2"), progress=False)
    frozen = run_probe(shares, "share", "nt_v2", probe="ridge", out=tmp_path, progress=False)
    tuned = [finetune(shares, "share", family("nt_v2"), out=tmp_path, **SHORT, seed=seed) for seed in (0, 1)]
    gc = finetune(shares, "share", family("nt_v2"), out=tmp_path, **SHORT, augment="gc")
    rows = read_results(tmp_path)
    assert sorted(rows["probe"]) == ["ia3", "ia3", "ia3", "ridge"]
    table = results_table(rows).query("probe == 'ia3'").set_index("settings")
    assert len(table) == 2
    assert sorted(table["seeds"]) == [1, 2]
    assert table["value"].max() == pytest.approx(
        max(gc.tests["test"].row["test"], np.mean([t.tests["test"].row["test"] for t in tuned]))
    )
    files = {path.name for path in tuned[0].tests["test"].path.iterdir()}
    assert files == {
        CHECKPOINT,
        HISTORY,
        RESULT,
        "curves.csv",
        "curves.png",
        "per_class.csv",
        "scores.npz",
        "spec.json",
    }
    assert compare(tuned[0].tests["test"], frozen).n == 6
    row = json.loads((tuned[0].tests["test"].path / RESULT).read_text())
    assert row["parameters"] == row["parameters_ia3"] + row["parameters_head"]
    assert (row["steps"], row["n_train"], row["n_valid"], row["n_test"], row["layer"]) == (12, 24, 6, 6, -1)
    assert gc.tests["test"].row["augment"] == "gc"


def test_states_of_other_runs_are_refused(shares, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "STATE_SECONDS", 0.0)
    data = read_tokens(shares, "share", family("nt_v2"), ["train"])
    IA3Probe(**SHORT).fit(data, state=tmp_path / STATE)
    with pytest.raises(CheckpointError, match="is not a state that this run can go on from"):
        IA3Probe(**{**SHORT, "learning_rate": 1e-3}).fit(data, state=tmp_path / STATE)


def test_vectors_of_a_result_and_of_its_file(shares, tmp_path):
    model = family("nt_v2")
    probe = finetune(shares, "share", model, out=tmp_path, **SHORT).probe
    again = IA3Probe.load(next(tmp_path.rglob(CHECKPOINT)))
    for key, vector in probe.vectors_of(model).state_dict().items():
        assert torch.equal(again.vectors_of(model).state_dict()[key], vector)
    with pytest.raises(InputError, match=r"trained for 'nt_v2', layer -1 of checkpoint \w{12}; model 'nt_v1' gives"):
        again.vectors_of(family("nt_v1"))
    with pytest.raises(InputError, match="embeddings made differently"):
        probe.predict(read_tokens(shares, "share", family("dnabert2"), ["test"]))
    embedstore.embed(shares, "share", model, progress=False)
    with pytest.raises(InputError, match="holds stored rows; a model is tuned on tokens"):
        IA3Probe().fit(ProbeData.from_store(shares, "share", "nt_v2", "train", progress=False))


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": 3}, "finetune has no setting 'step'. Did you mean 'steps'"),
        ({"steps": 0}, "steps must be 1 or more, a whole number; got 0"),
        ({"evaluate_every": 2.5}, "evaluate_every must be 1 or more"),
        ({"tokens": None}, "tokens must be 1 or more"),
        ({"learning_rate": -1}, "learning_rate must be a finite number above 0"),
        ({"pooling": "max"}, "pooling is 'max'; it must be one of mean, tokens, cls"),
        ({"choose": "los"}, "choose is 'los'; .*Did you mean 'loss'"),
        ({"schedule": "linear"}, "schedule is 'linear'; it must be one of constant, cosine"),
        ({"augment": "gcc"}, "augment is 'gcc': there is no augmentation 'gcc'. Did you mean"),
        ({"augment": "species"}, "the sample table of task 'share' has no column 'species', only id, .*Add the task"),
        ({"splits": {"train": "train", "test": "tset"}}, "the task has no split 'tset'"),
        ({"fold": 1}, "fold 1 is not possible"),
    ],
)
def test_settings_out_of_range(shares, settings, message):
    with pytest.raises((InputError, NotInStoreError), match=message):
        finetune(shares, "share", family("nt_v2"), **{**SHORT, **settings})


def test_what_does_not_go_together(shares, residues, tmp_path):
    with pytest.raises(InputError, match="letters of task 'share' are dna, and model 'esm2' reads protein. Tune it on"):
        finetune(shares, "share", family("esm2"), **SHORT)
    with pytest.raises(InputError, match="cannot be tuned by IA3: it is a ConvNet"):
        finetune(shares, "share", family("resnet_lm"), **SHORT)
    with pytest.raises(InputError, match="pooling is 'cls'; labels of a nucleotide .*need 'mean'"):
        finetune(residues, "residues", family("nt_v2"), **SHORT, pooling="cls")
    with pytest.raises(InputError, match="augment is 'gc': it is one row per sample, .* belong to a nucleotide"):
        finetune(residues, "residues", family("nt_v2"), **SHORT, augment="gc")
    data = read_tokens(shares, "share", family("nt_v2"), ["train"])
    with pytest.raises(InputError, match="augment is 'gc', and .* was read with \\[\\]"):
        IA3Probe(augment="gc", **SHORT).fit(data)
    with pytest.raises(NotInStoreError, match="no samples of split 'trian'"):
        read_tokens(shares, "share", family("nt_v2"), ["trian"])
    bare = {number: [piece._replace(first=0) for piece in own] for number, own in data.pieces.items()}
    with pytest.raises(InputError, match="pooling is 'cls': model 'nt_v2' puts no special token in front of sample 0"):
        IA3Probe(pooling="cls", **SHORT).fit(replace(data, pieces=bare))
    shares.add_task(tasks.from_sequences("bare", ["ACGT"], splits=["train"]))
    with pytest.raises(InputError, match="task 'bare' has no labels; a model needs them"):
        read_tokens(shares, "bare", family("nt_v2"), ["train"])
    assert repr(data).endswith("24 samples as tokens>")


def test_a_training_that_diverges_says_so(shares):
    from embedstore.errors import NonFiniteError

    with pytest.raises(NonFiniteError, match="not finite after an epoch|the loss is"):
        finetune(shares, "share", family("nt_v2"), **{**SHORT, "learning_rate": 1e30})


@pytest.mark.parametrize("augment", [None, "species"])
def test_a_coding_task_that_nothing_reads_is_refused(shares, augment):
    with pytest.raises(InputError, match=rf"coding_task is 'share' \(--coding-task\), but augment is {augment!r}"):
        finetune(shares, "share", family("nt_v2"), augment=augment, coding_task="share", **SHORT)
