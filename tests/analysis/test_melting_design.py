"""Augmentations and baselines against composition counted by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.melting_point.baselines import BASELINES, baseline, with_species
from analysis.melting_point.data import StudyData
from analysis.melting_point.design import augmentation, categories_of, filled, one_hot
from analysis.melting_point.measures import species_means
from analysis.melting_point.partition import fit_designs
from embedstore.errors import InputError

PROTEINS = ["MKV", "MAAAAC", "MKVL", "MKVLW", "MAAAAD", "MAAAAE"]
CDS = ["ATGAAAGTT", "ATGGCCGCCGCCGCCTGC", "ATGAAAGTCCTA", "ATGAAGGTTCTATGG", "ATGGCAGCAGCAGCAGAT", "ATGGCGGCGGCGGCGGAG"]


@pytest.fixture
def data():
    samples = pd.DataFrame(
        {
            "id": list("abcdef"),
            "split": ["train", "train", "valid", "train", "test", "test"],
            "species": ["x", "y", "x", "x", "y", "z"],
            "group": list("abcdef"),
            "y": [40.0, 60.0, 42.0, 44.0, 61.0, 70.0],
            "run": ["r1", "r1", "r2", "r1", "r2", "r1"],
        }
    )
    sequences = {
        "cds": [np.frombuffer(one.encode(), np.uint8) for one in CDS],
        "protein": [np.frombuffer(one.encode(), np.uint8) for one in PROTEINS],
    }
    return StudyData(samples, {}, {}, sequences)


def test_species_that_the_training_samples_lack_are_rows_of_zeros(data):
    (block,) = augmentation(data, ["species"])
    assert not block.penalised
    assert block.values.tolist() == [[1, 0], [0, 1], [1, 0], [1, 0], [0, 1], [0, 0]]
    assert categories_of(data.species, data.train) == ["x", "y"]
    assert one_hot(["x"], []).shape == (1, 0)


def test_pairs_of_categories(data):
    (block,) = augmentation(data, ["species+run"])
    assert block.values.tolist()[:3] == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_gc_is_that_of_the_training_samples_scaled(data):
    first, second = augmentation(data, ["gc", "gc3"])
    share = np.array([[sum(letter in "GC" for letter in one) / len(one)] for one in CDS])
    third = np.array([[sum(letter in "GC" for letter in one[2::3]) / (len(one) // 3)] for one in CDS])
    for block, values in ((first, share), (second, third)):
        train = values[:4]
        np.testing.assert_allclose(block.values, (values - train.mean()) / train.std())
    other = [codes[::-1].copy() for codes in data.sequences["cds"]]
    (moved,) = augmentation(data, ["gc3"], cds=other)
    assert not np.allclose(moved.values, second.values)
    (skew,) = augmentation(data, ["gc_skew"])
    assert skew.values[:4].std() == pytest.approx(1)


def test_what_cannot_be_known_is_refused(data):
    with pytest.raises(InputError, match="no augmentation is called 'gcc'"):
        augmentation(data, ["gcc"])
    with pytest.raises(InputError, match="the study has no column 'condition'"):
        augmentation(data, ["condition"])
    with pytest.raises(InputError, match="no sequences of kind 'cds'"):
        augmentation(data._replace(sequences={}), ["gc"])
    with pytest.raises(InputError, match="no baseline is called 'speces'"):
        baseline(data, "speces")


def test_a_composition_of_nothing_is_the_mean_of_the_training_samples():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, 2.0]])
    assert filled(values, np.array([True, True, False])).tolist() == [[1, 0], [3, 0], [2, 2]]


def test_baselines_hold_what_their_names_say(data):
    blocks = {name: baseline(data, name) for name in BASELINES}
    assert blocks["mean"].blocks == []
    assert blocks["length"].blocks[0].values.ravel().tolist() == [3, 6, 4, 5, 6, 6]
    assert blocks["amino_acids"].blocks[0].values[0].max() == pytest.approx(1 / 3)
    assert blocks["codons"].blocks[0].values.shape == (6, 64)
    assert blocks["rscu"].blocks[0].values.shape == (6, 59)
    assert blocks["codon_pairs"].blocks[0].values.shape == (6, 4096)
    assert blocks["amino_acid_pairs"].blocks[0].values.shape == (6, 400)
    assert "x, y, z" in blocks["growth"].missing
    assert blocks["growth"].blocks == []
    known = data._replace(samples=data.samples.assign(growth=np.arange(6.0)))
    assert baseline(known, "growth").blocks[0].values.ravel().tolist() == [0, 1, 2, 3, 4, 5]
    meltome = data._replace(samples=data.samples.assign(species=["Homo sapiens"] * 5 + ["Thermus thermophilus"]))
    assert baseline(meltome, "growth").blocks[0].values.ravel().tolist() == [37] * 5 + [70]
    assert baseline(data._replace(sequences={}), "length").missing.startswith("the study has no sequences")


def test_the_nearest_protein_is_that_of_the_most_shared_words(data):
    """Words of 3: MKVL is nearest to MKVLW of the training samples but itself; MAAAAD to MAAAAC."""
    values = baseline(data, "neighbour").blocks[0].values.ravel()
    assert values[2] == pytest.approx(40.0) or values[2] == pytest.approx(44.0)
    assert values[4] == values[5] == 60.0
    # MAAAAC shares no word with any training protein but itself: the mean of the others.
    assert values[1] == pytest.approx(np.mean([40.0, 42.0, 44.0]))


def test_the_species_baseline_is_the_species_mean(data):
    """The regression on one-hot species, through all of the machinery, and the mean by hand."""
    made = {"species": baseline(data, "species").blocks, "beside": with_species(data, []), "mean": []}
    fitted = fit_designs(data, made, seeds=(0,))
    wanted = species_means(data.y, data.species, data.train)[data.test]
    assert wanted.tolist() == [60.0, 51.0]
    np.testing.assert_allclose(fitted.predictions["species"][0], wanted)
    np.testing.assert_allclose(fitted.predictions["beside"][0], wanted)
    np.testing.assert_allclose(fitted.predictions["mean"][0], 46.5)
