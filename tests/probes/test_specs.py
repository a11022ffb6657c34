"""Specs as plain data, their combinations, and the TOML files that ask for them."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_tasks import planted_store
from toys import ToyModel

import embedstore
from embedstore.embedding import prepare
from embedstore.errors import IncompleteError, InputError, NotInStoreError
from probes import run_probe, sweep
from probes.combine import Asked, combine, make_specs, reasons
from probes.live import Live
from probes.specs import Spec
from probes.sweep_file import read_sweep
from probes.tables import results_table

PARTS = [f"part{i % 4 + 1}" for i in range(48)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "s.zarr"
    planted_store(path=path)
    return path


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "parts.zarr"
    planted_store("sequence", "multilabel", splits=PARTS, path=path)
    return path


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    """A store with a second embedding of which no block is there."""
    from embedstore import layout

    path = tmp_path_factory.mktemp("stores") / "partial.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SMALLEST_SHARD_BYTES", 4096)
        patch.setattr(layout, "CHUNK_BYTES", 512)
        planted_store(path=path)
        prepare(embedstore.open_store(path, mode="a"), "planted", ToyModel(width=48), name="begun")
    return path


# ---- one spec ------------------------------------------------------------------------------------

plain = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
specs = st.builds(
    Spec,
    *[st.text(max_size=8)] * 5,
    st.none() | st.integers(1, 99),
    st.none() | st.integers(0, 2**32),
    st.dictionaries(st.text(max_size=5), plain | st.lists(plain, max_size=3) | st.text(max_size=5), max_size=3),
    st.booleans(),
    st.booleans(),
    st.none() | st.text(max_size=8),
)


@given(specs)
def test_a_spec_survives_json(spec) -> None:
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_defaults_are_not_shared() -> None:
    first = Spec.from_dict({"store": "s", "task": "t", "model": "m"})
    first.settings["epochs"] = 1
    assert Spec.from_dict({"store": "s", "task": "t", "model": "m"}).settings == {}
    assert Spec("s", "t", "m").settings == {}
    assert str(first._replace(fold=2)) == "t/m cnn bend fold 2 seed 0"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"modle": "x"}, "no field 'modle'. Did you mean 'model'?"),
        ({"task": 3}, "task of a probe's spec is 3: text is wanted"),
        ({"fold": "1"}, "fold of a probe's spec is '1': an integer, or None, is wanted"),
        ({"seed": True}, "seed of a probe's spec is True: an integer"),
        ({"allow_partial": 1}, "allow_partial of a probe's spec is 1: True or False is wanted"),
        ({"settings": [1]}, r"settings of a probe's spec is \[1\]: a mapping"),
        ({"settings": {"x": {1}}}, "settings of a probe's spec are .*: numbers, texts and lists are wanted"),
        ({"settings": {"x": float("nan")}}, "settings of a probe's spec are .*: numbers, texts and lists are wanted"),
    ],
)
def test_a_spec_that_is_none(fields, message) -> None:
    with pytest.raises(InputError, match=message):
        Spec.from_dict({"store": "s", "task": "t", "model": "m", **fields})


def test_a_spec_lacks_a_field() -> None:
    with pytest.raises(InputError, match="needs 'model'; got only store, task"):
        Spec.from_dict({"task": "t", "store": "s"})


# ---- combinations --------------------------------------------------------------------------------


def test_the_product_in_the_order_given(path) -> None:
    found = make_specs(path, "planted", ["onehot", "all"], ["mlp", "linear"], seeds=[2, 1], settings={"epochs": 3})
    assert [(s.model, s.probe, s.seed) for s in found] == [
        (model, probe, seed) for model in ("onehot", "toy") for probe in ("mlp", "linear") for seed in (2, 1)
    ]
    assert {s.store for s in found} == {str(path)}
    assert all(s.settings == {"epochs": 3} and s.fold is None for s in found)


def test_a_store_that_is_open_and_a_relative_path(path, monkeypatch) -> None:
    monkeypatch.chdir(path.parent)
    expected = make_specs(path, "planted", "all")
    assert make_specs(embedstore.open_store("s.zarr"), "planted", "all") == expected
    assert make_specs("s.zarr", "planted", ["toy", "all", "toy"]) == expected


def test_a_store_in_memory_is_refused() -> None:
    with pytest.raises(InputError, match="in the memory of this process"):
        make_specs(planted_store(), "planted", "toy")


def test_all_folds_of_a_task_with_parts_unless_some_are_named(parts) -> None:
    assert [s.fold for s in make_specs(parts, "planted", "toy")] == [1, 2, 3, 4]
    assert [s.fold for s in make_specs(parts, "planted", "toy", folds=[3, 1])] == [3, 1]


def test_what_cannot_be_is_left_out_and_said(path, caplog) -> None:
    found = make_specs(path, "planted", ["toy", "onehot"], ["cnn", "basset", "resnet", "majority"], seeds=[5, 6])
    assert [(s.model, s.probe, s.seed) for s in found if s.probe == "majority"] == [
        ("toy", "majority", 5),
        ("onehot", "majority", 5),
    ]
    assert [(s.model, s.probe) for s in found if s.probe == "resnet"] == [("onehot", "resnet")] * 2
    assert not [s for s in found if s.probe == "basset"]
    assert [record.message for record in caplog.records] == [
        "Left out, 2 of what was asked for: probe 'basset' reads letters: model 'onehot', not 'toy'.",
        "Left out, 2 of what was asked for: probe 'resnet' reads letters: model 'onehot', not 'toy'.",
        "Left out, 2 of what was asked for: probe 'majority' draws nothing: it is run for the first seed only.",
        "Left out, 2 of what was asked for: probe 'basset' is not for tasks of level 'nucleotide', such as 'planted'.",
    ]


def test_what_cannot_be_is_refused_when_nothing_else_is_asked_for(path) -> None:
    with pytest.raises(InputError, match=r"nothing is left to run. Left out, 1 .* reads letters: model 'onehot'"):
        make_specs(path, "planted", "toy", "resnet")
    with pytest.raises(InputError, match="attention.* is not for tasks of level 'nucleotide'"):
        make_specs(path, "planted", "toy", "attention")
    with pytest.raises(InputError, match="has the splits train, valid and test, and no folds"):
        make_specs(path, "planted", "toy", folds=[1])


def test_an_embedding_of_means_only(tmp_path) -> None:
    store = planted_store("sequence", "class", path=tmp_path / "s.zarr")
    embedstore.embed(store, "planted", ToyModel(width=8), name="means", keep="pooled", progress=False)
    found, left_out = combine(store, [Asked(["planted"], ["means"], ["cnn", "linear", "ridge"])])
    assert [spec.probe for spec in found] == ["linear", "ridge"]
    (line,) = reasons(left_out)
    assert "probe 'cnn' needs rows; planted/means holds the mean of each sample only" in line


@pytest.mark.parametrize(
    ("error", "given", "message"),
    [
        (NotInStoreError, {"tasks": "plantd"}, "has no task 'plantd'. Did you mean 'planted'"),
        (NotInStoreError, {"models": ["toy", "tyo"]}, "not embedded with model 'tyo'. Did you mean 'toy'"),
        (InputError, {"probes": "cn"}, "there is no probe 'cn'. Did you mean 'cnn'"),
        (InputError, {"recipes": "bent"}, "there is no recipe 'bent'. Did you mean 'be"),
        (InputError, {"seeds": ["a"]}, "seed of a probe's spec is 'a'"),
        (InputError, {"seeds": []}, "seeds is empty: name one or more"),
        (InputError, {"settings": {"epoch": 1}}, "probe 'cnn': the probe has no parameter 'epoch'. Did you mean"),
        (InputError, {"settings": {"epochs": {1}}}, "probe 'cnn': settings of a probe's spec are"),
    ],
)
def test_a_name_that_is_none(path, error, given, message) -> None:
    with pytest.raises(error, match=message):
        make_specs(path, **{"tasks": "planted", "models": "toy", **given})


def test_folds_that_are_none(parts) -> None:
    with pytest.raises(InputError, match="task 'planted': fold 5 is not possible"):
        make_specs(parts, "planted", "toy", folds=[1, 5])
    with pytest.raises(InputError, match="fold of a probe's spec is 'x'"):
        make_specs(parts, "planted", "toy", folds=["x"])


def test_splits_that_are_no_folds(tmp_path) -> None:
    planted_store(splits=["a", "b"] * 24, path=tmp_path / "s.zarr")
    with pytest.raises(InputError, match="task 'planted': the task has the splits a, b, not train, valid and test"):
        make_specs(tmp_path / "s.zarr", "planted", "toy")


def test_a_task_without_embeddings(tmp_path, path) -> None:
    store = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(embedstore.tasks.from_sequences("bare", ["ACGT"] * 3, splits=["train", "valid", "test"]))
    with pytest.raises(InputError, match="task 'bare' has no embedding yet. `embedstore embed bare --store"):
        make_specs(store, "bare", "all")


def test_an_embedding_that_is_not_complete(partial) -> None:
    with pytest.raises(IncompleteError) as caught:
        make_specs(partial, "planted", "all")
    assert re.search(r"planted/begun: (\d+) of \1 blocks are not embedded yet", str(caught.value))
    assert f"`embedstore embed planted --model begun --store {partial}`" in str(caught.value)
    assert [s.model for s in make_specs(partial, "planted", "all", allow_partial=True)] == ["begun", "toy"]
    assert len(make_specs(partial, "planted", "toy")) == 1


# ---- test splits ---------------------------------------------------------------------------------

STRUCTURE = ["train", "train", "train", "valid", "CASP12", "CB513"]


@pytest.fixture(scope="module")
def structure(tmp_path_factory):
    """A task with two splits for testing, and one with the usual splits, in one store."""
    place = tmp_path_factory.mktemp("structure") / "s.zarr"
    store = planted_store("sequence", "value", samples=72, splits=STRUCTURE * 12, path=place)
    usual = [["train", "valid", "test"][i % 3] for i in range(30)]
    store.add_task(embedstore.tasks.from_sequences("usual", ["ACGTTGCA" * 9] * 30, splits=usual))
    return place


def test_a_probe_for_each_test_split(structure) -> None:
    both = make_specs(structure, "planted", "toy", ["ridge", "majority"])
    assert [(spec.probe, spec.test, spec.fold) for spec in both] == [
        (probe, test, None) for probe in ("ridge", "majority") for test in ("CASP12", "CB513")
    ], "all others than train and valid where none is called test, as `embedstore finetune` does"
    assert make_specs(structure, "planted", "toy", ["ridge", "majority"], tests=["CASP12", "CB513"]) == both
    assert [spec.test for spec in make_specs(structure, "planted", "toy", tests="CB513")] == ["CB513"]
    assert [spec.test for spec in make_specs(structure, "usual", "gc")] == [None]
    assert str(both[0]) == "planted/toy ridge bend test CASP12 seed 0"


def test_a_split_that_only_some_tasks_have_is_left_out_and_said(structure, caplog) -> None:
    specs = make_specs(structure, ["planted", "usual"], "gc", tests=["CASP12", "test"])
    assert [(spec.task, spec.test) for spec in specs] == [("planted", "CASP12"), ("usual", "test")]
    assert "Left out, 1 of what was asked for: task 'planted' has no split 'test'." in caplog.text
    assert "Left out, 1 of what was asked for: task 'usual' has no split 'CASP12'." in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tests": ["CASP21"]}, r"^there is no split 'CASP21' in 'planted'\. Did you mean 'CASP12'\?$"),
        ({"tests": []}, r"^tests is empty: name one or more\.$"),
        ({"tests": ["train"]}, r"^task 'planted': split 'train' is used twice; training and test samples must be"),
        ({"tests": ["CB513"], "folds": [1]}, r"^tests and folds both say what to test on: leave one of them out\.$"),
    ],
)
def test_test_splits_that_are_none(structure, given, message) -> None:
    with pytest.raises(InputError, match=message):
        make_specs(structure, "planted", "toy", **given)


@pytest.mark.parametrize(
    ("line", "number", "message"),
    [
        ('tests = ["CB513", "CASP21"]', 4, "there is no split 'CASP21' in 'planted'. Did you mean 'CASP12'?"),
        ("tests = [12]", 4, "tests is [12]: a list of texts is wanted."),
        ('test = "CB513"', 4, "unknown key 'test'. Did you mean 'tests'?"),
    ],
)
def test_test_splits_in_a_file(structure, line, number, message) -> None:
    file = structure.parent / "sweep.toml"
    run = 'store = "s.zarr"\n[[run]]\ntasks = "planted"\n'
    file.write_text(f'{run}tests = ["CB513", "CASP12"]\n')
    assert [spec.test for spec in read_sweep(file).specs] == ["CB513", "CASP12"]
    file.write_text(f"{run}{line}\n")
    with pytest.raises(InputError) as caught:
        read_sweep(file)
    assert str(caught.value) == f"{file}:{number}: {message}"


@pytest.mark.parametrize("probe", ["ridge", "linear"])
def test_rows_of_each_split_are_those_of_the_probe_command(structure, tmp_path, probe) -> None:
    settings = {"epochs": 2} if probe == "linear" else {}
    specs = make_specs(structure, "planted", "toy", probe, settings=settings)
    rows = sweep(specs, tmp_path / "swept", progress=False)
    assert rows["status"].tolist() == ["done"] * 2
    assert rows["test_split"].tolist() == ["CASP12", "CB513"]
    store = embedstore.open_store(structure)
    for row in rows.to_dict("records"):
        splits = {"train": "train", "valid": "valid", "test": row["test_split"]}
        seed = {"seed": 0} if probe == "linear" else {}
        alone = run_probe(store, "planted", "toy", probe=probe, splits=splits, **settings, **seed)
        assert alone.row["test"] == pytest.approx(row["test"], rel=1e-6)
        assert alone.row["spec"] == row["spec"], "one folder, whoever asked for it"
    assert rows["test"].nunique() == 2
    table = results_table(rows, published=False)
    assert sorted(table["settings"]) == ["test.splits=CASP12", "test.splits=CB513"], "test sets are never pooled"
    assert sweep(specs, tmp_path / "swept", progress=False)["status"].tolist() == ["found"] * 2


def test_a_split_that_fails_is_named(structure, tmp_path, monkeypatch) -> None:
    from probes import experiment

    monkeypatch.setattr(experiment, "run_spec", lambda *_: 1 / 0)
    specs = make_specs(structure, "planted", "toy", "majority")
    rows = sweep(specs, tmp_path / "failed", progress=False)
    assert rows[["test_split", "status"]].to_numpy().tolist() == [["CASP12", "failed"], ["CB513", "failed"]]
    summary = Live(specs, progress=False).summary()
    assert summary["test_split"].tolist() == ["CASP12", "CB513"]
    assert summary["probes"].tolist() == [1, 1]


# ---- files ---------------------------------------------------------------------------------------

GOOD = """\
store = "s.zarr"  # beside this file

[[run]]
tasks = ["planted"]
models = ["toy", "onehot"]
seeds = [0, 1]
[run.settings]
epochs = 3

[[run]]
tasks = "planted"
models = "toy"
probes = [
    "mlp",
    "cnn",
]
settings = { epochs = 3 }
allow_partial = true
predictions = true
"""


@pytest.fixture
def file(tmp_path, path):
    (tmp_path / "s.zarr").symlink_to(path)
    return tmp_path / "sweep.toml"


def test_a_file(file, monkeypatch) -> None:
    file.write_text(GOOD)
    monkeypatch.chdir(file.parent.parent)
    sweep = read_sweep(file.relative_to(file.parent.parent))
    store = str(file.parent / "s.zarr")
    first = make_specs(store, "planted", ["toy", "onehot"], seeds=[0, 1], settings={"epochs": 3})
    second = make_specs(
        store, "planted", "toy", ["mlp", "cnn"], settings={"epochs": 3}, allow_partial=True, predictions=True
    )
    assert (sweep.store, sweep.specs, sweep.left_out) == (store, first + second, [])
    assert sweep.out == file.parent / "s.results"
    file.write_text('out = "elsewhere"\n' + GOOD.replace("models =", "# models ="))
    assert read_sweep(file).out == file.parent / "elsewhere"
    assert {spec.model for spec in read_sweep(file).specs} == {"toy"}, "all embeddings of the task by default"


def test_what_is_asked_for_twice_is_run_once(file, caplog) -> None:
    caplog.set_level("INFO")
    run = '[[run]]\ntasks = "planted"\nmodels = "toy"\nseeds = [1, 1]\n'
    file.write_text('store = "s.zarr"\n' + run + run)
    assert [spec.seed for spec in read_sweep(file).specs] == [1]
    assert "3 probes were asked for more than once" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("store =", "stor =", 1, "unknown key 'stor'. Did you mean 'store'"),
        ('"s.zarr"', "3", 1, "store is 3: a path or an address is wanted"),
        ("seeds", "seed", 6, "unknown key 'seed'. Did you mean 'seeds'"),
        ("[0, 1]", "[0, 1.5]", 6, r"seeds is \[0, 1.5\]: a list of integers is wanted"),
        ("[0, 1]", "[true]", 6, r"seeds is \[True\]: a list of integers is wanted"),
        ('["toy", "onehot"]', '["toy", "onehat"]', 5, "not embedded with model 'onehat'. Did you mean 'onehot'"),
        ('["planted"]', '["planet"]', 4, "has no task 'planet'"),
        ("epochs = 3\n\n", "epoch = 3\n\n", 8, "probe 'cnn': the probe has no parameter 'epoch'"),
        ('"mlp"', '"mpl"', 14, "there is no probe 'mpl'. Did you mean 'mlp'"),
        ("{ epochs = 3 }", "3", 17, r"settings is 3: a table \[run.settings\] is wanted"),
        ("{ epochs = 3 }", "{ hidden = 3, epoch = 3 }", 17, "no parameter 'epoch'"),
        ("predictions = true", "predictions = 1", 19, "predictions is 1: true or false is wanted"),
        ('tasks = ["planted"]\n', "", 3, r"this \[\[run\]\] names no tasks"),
        ('tasks = "planted"', "tasks = []", 11, "tasks is empty"),
        ("seeds = [0, 1]", "folds = [1]", 4, "nothing is left to run. Left out, 2 of .* and no folds"),
    ],
)
def test_errors_name_the_line(file, old, new, line, message) -> None:
    assert old in GOOD
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises((InputError, NotInStoreError), match=f"^{re.escape(str(file))}:{line}: .*{message}"):
        read_sweep(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("store = \n", r"sweep.toml: is not TOML: .*line 1"),
        ('store = "s.zarr"', r'a sweep needs store = "..." and one or more tables \[\[run\]\]'),
        ('[[run]]\ntasks = "planted"', r'a sweep needs store = "..." and one'),
        ('store = "s.zarr"\nrun = 3', r"a sweep needs store"),
        ('store = "s.zarr"\nrun = [3]', r"toml:2: run is 3: tables \[\[run\]\] are wanted"),
        ('store = "s.zarr"\nrun = [{tasks = "planted", models = "toi"}]', "toml:2: .* with model 'toi'"),
        ('store = "none.zarr"\n[[run]]\ntasks = "planted"', "none.zarr"),
    ],
)
def test_files_that_are_no_sweeps(file, text, message) -> None:
    file.write_text(text)
    with pytest.raises((InputError, NotInStoreError), match=message):
        read_sweep(file)


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(InputError, match=r"no.toml: cannot be read: No such file"):
        read_sweep(tmp_path / "no.toml")
