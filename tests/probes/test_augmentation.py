"""What the head of a tuned model is given besides: numbers and species, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from encoders import GOLDEN
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from toys import random_sequences
from tuning import AMINO_ACIDS, splits_of, value_store

from embedstore import tasks
from embedstore.errors import InputError
from embedstore.models import load
from embedstore.tasks import TaskRecord
from probes import finetune
from probes.augmentation import Augmentation, augmentations, read_columns

SPECIES = ["E. coli", "human", "E. coli", "yeast", "human", "axolotl"] * 6  # the last one only among the test samples


@pytest.fixture
def store(tmp_path):
    """Task share, with species, and its proteins in another order."""
    made = value_store(f"memory://{tmp_path}", species=SPECIES)
    record = TaskRecord(name="protein", level="sequence", type="value", metric="r2", alphabet="protein")
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list(AMINO_ACIDS), 12)) for _ in range(36)]
    ids = made.samples("share")["id"].tolist()[::-1]
    options = {"ids": ids, "splits": splits_of(36)[::-1], "labels": rng.normal(size=36)}
    made.add_task(tasks.from_sequences("protein", texts, record=record, **options))
    return made


def test_numbers_are_those_of_scikit_learn(store):
    columns = read_columns(store, "share", augmentations("gc+gc3+gc_skew+species"))
    train = np.flatnonzero(store.samples("share")["split"] == "train")
    texts = [codes.tobytes().decode() for codes in store.sequences("share")]
    counts = {letter: np.array([text.count(letter) for text in texts]) for letter in "ACGT"}
    gc = (counts["G"] + counts["C"]) / np.array([len(text) for text in texts])
    gc3 = np.array([np.mean([letter in "GC" for letter in text[2::3]]) for text in texts])
    skew = (counts["G"] - counts["C"]) / (counts["G"] + counts["C"])
    raw = np.stack([gc, gc3, skew], axis=1)
    wanted = StandardScaler().fit(raw[train]).transform(raw)
    species = np.array(SPECIES)[:, None]
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(species[train]).transform(species)
    found = Augmentation.fit(columns, train)
    np.testing.assert_allclose(found.numbers(columns), np.hstack([wanted, one_hot]), atol=1e-5)
    assert found.species == ("E. coli", "human", "yeast")
    assert found.width == 6
    assert (one_hot.sum(axis=1) == 0).sum() == 6


def test_a_number_that_never_changes_is_given_as_0():
    columns = {"gc": np.full(5, 0.1)}
    assert Augmentation.fit(columns, np.arange(5)).numbers(columns).tolist() == [[0.0]] * 5


def test_gc_of_proteins_is_that_of_their_coding_sequences(store):
    with pytest.raises(
        InputError, match="task 'protein' holds proteins, which have no gc. Name the task of their coding"
    ):
        read_columns(store, "protein", ("gc",))
    found = read_columns(store, "protein", ("gc",), "share")["gc"]
    np.testing.assert_array_equal(found, read_columns(store, "share", ("gc",))["gc"][::-1])
    settings = {"steps": 4, "evaluate_every": 2, "progress": False}
    model = load(GOLDEN / "esm2")
    result = finetune(store, "protein", model, augment="gc", coding_task="share", **settings)
    assert result.parameters["head"] == model.width + 1 + 1
    assert result.tests["test"].row["published"] is False
    store.add_task(tasks.from_sequences("few", random_sequences([9]), ids=["x"], splits=["a"]))
    with pytest.raises(InputError, match="36 samples of task 'protein' are not in 'few', the first is"):
        read_columns(store, "protein", ("gc",), "few")


def test_the_head_can_use_what_it_is_given(store):
    """The labels are the share of G; GC of the sequence tells more of it than six steps teach the model."""
    model = load(GOLDEN / "nt_v2")
    settings = {"steps": 60, "evaluate_every": 20, "learning_rate": 2e-2, "progress": False}
    plain, more = (finetune(store, "share", model, augment=augment, **settings) for augment in (None, "gc_skew+gc"))
    assert more.history["train_loss"].iloc[-1] < plain.history["train_loss"].iloc[-1]
    weights = more.probe.weights()["head.weight"][0]
    assert weights[-2:].abs().max() > 0.2
    both = finetune(store, "share", model, augment="species", **{**settings, "steps": 20})
    assert both.parameters["head"] == model.width + 3 + 1


@pytest.mark.parametrize(
    ("text", "message"), [("gc+gc", "'gc' is named twice"), ("GC", "no augmentation 'GC'"), ("", "no augmentation ''")]
)
def test_words_that_are_no_augmentations(text, message):
    with pytest.raises(InputError, match=message):
        augmentations(text)
    assert augmentations(None) == ()


def test_sequences_without_letters_to_count(store):
    record = TaskRecord(name="odd", level="sequence", type="value", metric="r2")
    store.add_task(tasks.from_sequences("odd", ["ACG", "AAA"], labels=[1, 2], record=record, splits=["train"] * 2))
    with pytest.raises(InputError, match="task 'odd', sample '1': its gc_skew is not defined, for want of letters"):
        read_columns(store, "odd", ("gc_skew",))
