"""Studies read from a store, and what cannot be one."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.melting_point.data import StudyData, check_study
from analysis.melting_point.partition import designs
from analysis.melting_point.reading import even_seeds, read_studies, read_study, recoded_names
from analysis.melting_point.study import melting_point_study
from analysis.melting_point.study_tables import strategy_table
from analysis.melting_point.transplant import transplant
from embedstore import embed, open_store
from embedstore.coding.recoding import recoded_task
from embedstore.errors import InputError, NotInStoreError
from embedstore.models import load
from embedstore.simulated_coding import coding_world
from embedstore.tasks import from_sequences
from embedstore.tasks.coding import coding_task, protein_task


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Coding sequences, two permutations, one recoding in windows, and the proteins, embedded."""
    world = coding_world("mixed", samples=80, test=20, species=3, lengths=(20, 30))
    made = open_store(tmp_path_factory.mktemp("study") / "store.zarr", mode="a")
    task = coding_task(world.data, "melting_point")
    made.add_task(task)
    made.add_task(protein_task(world.data, "melting_point.protein"))
    for strategy, seeds in (("permuted", 2), ("window_permuted(4)", 1)):
        for seed in range(seeds):
            made.add_task(recoded_task(task, strategy, seed=seed))
    for name in made.tasks():
        model = load("amino_acid" if name.endswith("protein") else "codon_composition")
        embed(made, name, model, keep="pooled", progress=False)
    return made


def test_a_study_is_what_the_store_holds(store):
    data = read_study(store, coding_model="codon_composition", protein_model="amino_acid")
    assert list(data.features) == ["protein", "true", "permuted", "window_permuted(4)"]
    assert data.models == {"coding": "codon_composition", "protein": "amino_acid"}
    seeds = [store.embedding(f"melting_point.permuted.seed{seed}", "codon_composition").pooled() for seed in range(2)]
    assert not np.array_equal(*seeds)
    np.testing.assert_allclose(data.features["permuted"], (seeds[0] + seeds[1]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(data.by_seed["permuted"][1], seeds[1])
    assert data.features["true"].dtype == np.float32
    labels = store.labels("melting_point")
    np.testing.assert_allclose(data.y, labels.values.ravel(), rtol=1e-6)
    assert (data.train.sum(), data.test.sum()) == (60, 20)
    assert data.sequences["cds"][3].tobytes() == store.sequences("melting_point")[3].tobytes()
    assert len(data.sequences["protein"][0]) == len(data.sequences["cds"][0]) // 3 - 1
    assert set(data.species) == {"species_1", "species_2", "species_3"}


def test_seeds_and_strategies_can_be_chosen(store):
    data = read_study(store, coding_model="codon_composition", strategies=["true", "permuted"], seeds=[1])
    assert list(data.features) == ["true", "permuted"]
    assert data.by_seed == {}
    assert data.models == {"coding": "codon_composition"}
    with pytest.raises(NotInStoreError, match=r"no task 'melting_point.permuted.seed7' \(1 of 2 seeds are missing\)"):
        read_study(store, coding_model="codon_composition", strategies=["permuted"], seeds=[0, 7])
    assert recoded_names(store, "melting_point", "uniform") == []
    assert recoded_names(store, "melting_point", "true", [3]) == ["melting_point"]


def test_transplants_of_a_store_are_read_and_compared(tmp_path):
    world = coding_world("species_only", samples=90, test=30, species=3, lengths=(20, 30))
    made = open_store(tmp_path / "store.zarr", mode="a")
    task = coding_task(world.data, "melting_point")
    recoded = [recoded_task(task, f"transplant(species_{number})", seed=0) for number in (1, 2, 3)]
    recoded.append(recoded_task(task, "permuted"))
    for one in (task, *recoded):
        made.add_task(one)
        if "species_3" not in one.name:
            embed(made, one.name, load("codon_composition"), keep="pooled", progress=False)
    data = read_study(made, coding_model="codon_composition")
    donors = ["transplant(species_1)", "transplant(species_2)"]
    assert list(data.features) == ["true", "permuted", *donors]
    given = {name[11:-1]: data.feature(name) for name in donors}
    pd.testing.assert_frame_equal(transplant(data, draws=20), transplant(data, arms=given, draws=20))
    fitted = designs(data._replace(features={"protein": data.feature("true"), **data.features}))
    assert not any("transplant" in name for name in fitted)
    assert "permuted+species" in fitted


@pytest.fixture
def uneven(store, tmp_path):
    """The store, with a second model that has one of the two permutations and no windows."""
    folder = tmp_path / "uneven.zarr"
    shutil.copytree(store.path, folder)
    made = open_store(folder, mode="a")
    for name in ("melting_point", "melting_point.permuted.seed1"):
        embed(made, name, load("codon_pair"), keep="pooled", progress=False)
    return made


def test_a_model_is_read_with_what_it_has(uneven, caplog):
    caplog.set_level("INFO")
    data = read_study(uneven, coding_model="codon_pair", protein_model="amino_acid")
    assert list(data.features) == ["protein", "true", "permuted"]
    assert data.seeds == {"permuted": [1]}
    wanted = uneven.embedding("melting_point.permuted.seed1", "codon_pair").pooled()
    np.testing.assert_array_equal(data.features["permuted"], wanted)
    assert "codon_pair: nothing of window_permuted(4) is embedded with it; left out." in caplog.text
    table = strategy_table(data).set_index("strategy")
    assert table.loc["permuted"].tolist() == [1, "seeds 1"]
    assert table.loc["window_permuted(4)"].tolist() == [0, ""]
    unknown = strategy_table(data._replace(seeds={})).set_index("strategy")
    assert np.isnan(unknown.loc["permuted", "recodings"])
    with pytest.raises(NotInStoreError, match="codon_pair"):
        read_study(uneven, coding_model="codon_pair", strategies=["true", "permuted"], seeds=[0, 1])
    with pytest.raises(NotInStoreError, match="codon_par"):
        read_study(uneven, coding_model="codon_par")


def test_models_are_read_with_equally_many_recodings(uneven, caplog):
    models = ("codon_composition", "codon_pair")
    both = read_studies(uneven, coding_models=models, protein_model="amino_acid")
    assert [both[model].seeds["permuted"] for model in models] == [[1], [1]]
    assert "codon_composition: the mean over 1 of 2 recodings of permuted, as many as every model has." in caplog.text
    assert "window_permuted(4)" in both["codon_composition"].features
    assert "window_permuted(4)" not in both["codon_pair"].features
    alone = uneven.embedding("melting_point.permuted.seed1", "codon_composition").pooled()
    np.testing.assert_array_equal(both["codon_composition"].features["permuted"], alone)
    study = melting_point_study(both, seeds=(0,), draws=40, species_analyses=False)
    table = study.tables["strategies"].set_index(["model", "strategy"])["recodings"]
    assert table["codon_pair"].to_dict() == {"permuted": 1, "uniform": 0} | {
        f"window_permuted({width})": 0 for width in (2, 4, 8, 16, 32)
    }
    assert study.missing["strategies (codon_pair)"].startswith("nothing of uniform, window_permuted(2), ")
    (only,) = read_studies(uneven, coding_models=models[:1]).values()
    assert only.seeds["permuted"] == [0, 1]


def test_models_that_cannot_be_compared_are_refused(uneven):
    models = ("codon_composition", "codon_pair")
    apart = {model: read_study(uneven, coding_model=model, protein_model="amino_acid") for model in models}
    with pytest.raises(
        InputError, match=r"unequally many recodings of 'permuted': 2 with 'codon_composition', 1 with 'codon_pair'"
    ):
        melting_point_study(apart, draws=40)
    embed(uneven, "melting_point", load("codon_place"), keep="pooled", progress=False)
    with pytest.raises(InputError, match="no permutation of task 'melting_point' is embedded with 'codon_place'"):
        read_studies(uneven, coding_models=[*models, "codon_place"])
    assert list(read_studies(uneven, coding_models=["codon_place"], strategies=["true"])) == ["codon_place"]


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 6), unique=True), max_size=3))
def test_equally_many_and_the_same_as_far_as_there_are(known):
    even = even_seeds(known)
    having = [set(seeds) for seeds in known.values() if seeds]
    for model, seeds in known.items():
        assert set(even[model]) <= set(seeds)
        assert len(even[model]) == (min(map(len, having)) if seeds else 0)
        if seeds:  # of the common ones as many as there is room for
            common = set.intersection(*having)
            assert len(common & set(even[model])) == min(len(common), len(even[model]))


def test_a_task_that_is_no_study_is_refused(store, tmp_path):
    with pytest.raises(InputError, match="has other samples, or another order, than the coding sequences"):
        other = open_store(tmp_path / "store.zarr", mode="a")
        columns = store.samples("melting_point")[["species"]][:4]
        for name, ids in (("melting_point", "abcd"), ("melting_point.protein", "abdc")):
            other.add_task(
                from_sequences(
                    name,
                    ["ATG"] * 4,
                    ids=list(ids),
                    splits=["train"] * 3 + ["test"],
                    labels=np.arange(4.0),
                    record="melting_point",
                    columns=columns,
                )
            )
            embed(other, name, load("codon_composition"), keep="pooled", progress=False)
        read_study(other, coding_model="codon_composition", protein_model="codon_composition")
    other.add_task(
        from_sequences(
            "bare", ["ATG"] * 4, splits=["train"] * 3 + ["test"], labels=np.arange(4.0), record="melting_point"
        )
    )
    with pytest.raises(InputError, match="task 'bare' has no column 'species'"):
        read_study(other, "bare", coding_model="codon_composition")
    other.add_task(from_sequences("unlabelled", ["ATG"] * 4, splits=["train"] * 4))
    with pytest.raises(InputError, match="task 'unlabelled' has no labels"):
        read_study(other, "unlabelled", coding_model="codon_composition")


def test_unknown_species_and_groups_have_names(tmp_path):
    import pandas as pd

    store = open_store(tmp_path / "store.zarr", mode="a")
    columns = pd.DataFrame({"species": ["x", "", "x", "y"], "group": ["g", "g", "", "h"]})
    store.add_task(
        from_sequences(
            "melting_point",
            ["ATG"] * 4,
            ids=list("abcd"),
            splits=["train"] * 3 + ["test"],
            labels=np.arange(4.0),
            record="melting_point",
            columns=columns,
        )
    )
    embed(store, "melting_point", load("codon_composition"), keep="pooled", progress=False)
    data = read_study(store, coding_model="codon_composition")
    assert data.species.tolist() == ["x", "unknown", "x", "y"]
    assert data.group.tolist() == ["g", "g", "sample c", "h"]


@pytest.fixture
def small(store):
    return read_study(store, coding_model="codon_composition", protein_model="amino_acid")


def test_some_samples_and_other_labels(small):
    kept = np.arange(80) % 2 == 0
    half = small.rows(kept)
    assert len(half.samples) == len(half.sequences["cds"]) == len(half.features["true"]) == 40
    np.testing.assert_array_equal(half.by_seed["permuted"][0], small.by_seed["permuted"][0][kept])
    assert half.samples["id"].tolist() == small.samples["id"][kept].tolist()
    assert small.with_y(np.zeros(80)).y.tolist() == [0] * 80
    assert small.y.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d._replace(samples=d.samples.drop(columns="group")), "samples have no column 'group'"),
        (
            lambda d: d._replace(features={"true": np.zeros((3, 2))}),
            r"features 'true' are \(3, 2\); \(sample, channel\)",
        ),
        (lambda d: d._replace(sequences={"cds": []}), "0 of 'cds' for 80 samples"),
        (lambda d: d._replace(by_seed={"permuted": [np.zeros((2, 2))]}), "2 of 'permuted' for 80 samples"),
        (lambda d: d.with_y(np.where(np.arange(80) < 2, np.nan, 1)), "2 samples have no melting point: "),
        (lambda d: d._replace(samples=d.samples.assign(split="dev")), r"splits are called \['dev'\]"),
        (lambda d: d._replace(samples=d.samples.assign(split="test")), "no sample is in split 'train'"),
        (lambda d: d._replace(samples=d.samples.assign(split="valid")), "no sample is in split 'test'"),
        (lambda d: d._replace(samples=d.samples.assign(group="g")), "1 groups have training and test samples, .*'g'"),
    ],
)
def test_what_is_no_study_is_refused(small, change, message):
    assert isinstance(check_study(small), StudyData)
    with pytest.raises(InputError, match=message):
        check_study(change(small))


def test_features_that_are_not_there(small):
    with pytest.raises(InputError, match=r"no features 'permutd'. Did you mean 'permuted'\?"):
        small.feature("permutd")
