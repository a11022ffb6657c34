"""Recoded tasks: what they keep, what codon usage they are drawn with, and the command that adds them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstore.cli import main
from embedstore.coding import CODONS, STRATEGIES, codon_usage, parse_strategy, recode, translate
from embedstore.coding.recoding import recoded_name, recoded_task, stored_task
from embedstore.errors import InputError, NotInStoreError
from embedstore.layout import check_name
from embedstore.sequences import decode, encode
from embedstore.store import open_store
from embedstore.tasks import TaskRecord, from_sequences

RECORD = TaskRecord(name="tm", title="Melting point", level="sequence", type="value", metric="r2", names=("tm",))


def make(rows=24, *, drop=(), **changes):
    """A task of two species that use different codons for lysine, a sample in three of split test."""
    rng = np.random.default_rng(0)
    texts = []
    for i in range(rows):
        lysine = ["AAA", "AAG"][i % 2]
        codons = [lysine if rng.random() < 0.5 else rng.choice(["GCT", "GCC", "TTT", "TTC", "CTG"]) for _ in range(30)]
        texts.append("ATG" + "".join(codons) + "TAA")
    columns = pd.DataFrame(
        {
            "species": ["Bos taurus", "E. coli (K12)"] * (rows // 2),
            "transl_table": [1] * rows,
            "has_start": [True] * rows,
            "ogt": np.arange(rows) * 1.5,
        }
    ).assign(**changes)
    return from_sequences(
        "tm",
        texts,
        ids=[f"P{i}" for i in range(rows)],
        splits=(["train", "train", "train", "train", "test", "test"] * rows)[:rows],
        labels=np.arange(rows, dtype=np.float32)[:, None],
        record=RECORD,
        columns=columns.drop(columns=list(drop)),
    )


def texts_of(task):
    return [decode(one) for one in task.sequences(0, len(task.samples))]


ALL = [
    *("permuted", "freq_cds", "freq_species", "freq_global", "uniform", "permuted_shared", "uniform_shared"),
    *("window_permuted(8)", "codonpair_preserving", "transplant(E. coli (K12))"),
]


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "seed", "name"),
    [
        ("permuted", 3, "tm.permuted.seed3"),
        ("window_permuted( 8 )", 0, "tm.window_permuted-8.seed0"),
        ("transplant(Escherichia coli)", 1, "tm.transplant-Escherichia_coli.seed1"),
        ("transplant(E. coli (K12))", 1, "tm.transplant-E._coli__K12_.seed1"),
        ("true", 7, "tm"),
    ],
)
def test_names(strategy, seed, name):
    assert recoded_name("tm", strategy, seed) == name


@given(st.text(min_size=1), st.integers(0, 99))
def test_names_fit_into_a_store(species, seed):
    if species.strip() and "\n" not in species:
        try:
            name = recoded_name("tm", f"transplant({species})", seed)
        except InputError:
            return
        check_name(name, "task")


def test_a_name_of_no_strategy():
    with pytest.raises(InputError, match="Did you mean 'uniform'"):
        recoded_name("tm", "unifrom")


# ---- tasks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ALL)
def test_a_recoded_task_has_the_same_proteins_ids_and_labels(strategy):
    task = make()
    new = recoded_task(
        task, strategy, seed=2, parent="consensus" if "shared" not in strategy else encode(texts_of(task)[0])
    )
    assert new.name == recoded_name("tm", strategy, 2)
    pd.testing.assert_frame_equal(new.samples, task.samples)
    assert new.labels is task.labels
    assert new.record is task.record
    for old, changed in zip(texts_of(task), texts_of(new), strict=True):
        assert translate(encode(changed)) == translate(encode(old))
    assert texts_of(new) != texts_of(task)
    assert texts_of(new) == texts_of(recoded_task(task, strategy, seed=2, parent=encode(texts_of(task)[0])))
    assert texts_of(new) != texts_of(recoded_task(task, strategy, seed=3, parent=encode(texts_of(task)[0])))
    assert [decode(one) for one in new.sequences(3, 5)] == texts_of(new)[3:5]


def test_all_strategies_are_tried_here():
    assert {parse_strategy(one)[0].name for one in ALL} | {"true"} == set(STRATEGIES)


def test_true_is_the_task_itself():
    task = make()
    assert recoded_task(task, "true", seed=4) is task


def test_the_source_says_what_it_was_made_from():
    task = make()
    source = recoded_task(task, "freq_species", seed=1).source
    assert {key: source[key] for key in ("kind", "task", "strategy", "seed", "usage", "source")} == {
        "kind": "recoded",
        "task": "tm",
        "strategy": "freq_species",
        "seed": 1,
        "usage": "train",
        "source": task.source,
    }
    other = recoded_task(make(rows=12), "freq_species", seed=1).source
    assert other["sequence_digest"] != source["sequence_digest"]
    assert other["usage_sha256"] != source["usage_sha256"]
    assert "usage" not in recoded_task(task, "uniform").source
    shared = recoded_task(task, "uniform_shared", parent=encode(texts_of(task)[0])).source
    assert shared["parent"] == texts_of(task)[0]


def test_usage_is_estimated_from_train_samples_alone():
    task = make()
    train = task.samples["split"] == "train"
    codes = task.sequences(0, len(task.samples))
    chosen = [one for one, keep in zip(codes, train, strict=True) if keep]
    options = {"ids": task.samples["id"].tolist(), "has_start": [True] * len(codes)}
    species = task.samples["species"].tolist()
    by_species = codon_usage(chosen, task.samples["species"][train].tolist())
    wanted = recode(codes, "freq_species", species=species, usage=by_species, **options)
    assert texts_of(recoded_task(task, "freq_species")) == [decode(one) for one in wanted]
    wanted = recode(codes, "transplant(Bos taurus)", usage=by_species, **options)
    assert texts_of(recoded_task(task, "transplant(Bos taurus)")) == [decode(one) for one in wanted]
    wanted = recode(codes, "freq_global", usage=codon_usage(chosen), **options)
    assert texts_of(recoded_task(task, "freq_global")) == [decode(one) for one in wanted]


def test_usage_that_is_given_is_used():
    usage = pd.DataFrame(1.0, ["mouse"], list(CODONS))
    usage["AAA"] = 0.0
    new = recoded_task(make(), "transplant(mouse)", usage=usage, species="none here")
    assert not any("AAA" in [text[i : i + 3] for i in range(0, len(text), 3)] for text in texts_of(new))
    assert new.source["usage"] == "given"


def test_each_sample_is_recoded_with_its_own_genetic_code():
    tables = [1, 2] * 12
    task = make(transl_table=tables)
    for strategy in ("uniform", "freq_species", "freq_global", "permuted"):
        new = recoded_task(task, strategy)
        for old, changed, table in zip(texts_of(task), texts_of(new), tables, strict=True):
            assert translate(encode(changed), table) == translate(encode(old), table)
    assert set(recoded_task(task, "freq_global").source["usage_sha256"]) == {"1", "2"}


def test_the_table_may_be_a_number_or_another_column():
    task = make(drop=["transl_table"], code=[1] * 24)
    assert texts_of(recoded_task(task, "uniform", table=1)) == texts_of(recoded_task(task, "uniform", table="code"))


def test_starts_are_pinned_as_the_column_says():
    texts = ["TTGGCC"] * 40
    ids = [str(i) for i in range(40)]

    def first(has_start):
        columns = None if has_start is None else pd.DataFrame({"has_start": [has_start] * 40})
        return {
            text[:3]
            for text in texts_of(recoded_task(from_sequences("t", texts, ids=ids, columns=columns), "uniform", table=1))
        }

    assert first(True) == first(None) == {"TTG"}
    assert len(first(False)) == 6


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ({}, {"strategy": "permuted_shared"}, "needs parent="),
        (
            {},
            {"strategy": "transplant(mouse)"},
            "no samples of split 'train' to estimate the codon usage of 'mouse' from",
        ),
        (
            {},
            {"strategy": "permuted", "table": "table"},
            r"no column 'table'.* Known: .*transl_table.*table=1, or --table 1",
        ),
        ({"drop": ["species"]}, {"strategy": "freq_species"}, "no column 'species', which is to hold the species"),
        (
            {"drop": ["transl_table"]},
            {"strategy": "permuted"},
            "no column 'transl_table', which is to hold the genetic code",
        ),
        ({"transl_table": ["1"] * 24}, {"strategy": "permuted"}, "is to hold numbers of genetic codes; it holds"),
        ({"transl_table": [27] * 24}, {"strategy": "permuted"}, "task 'tm': In genetic code 27 TGA is a stop codon or"),
        (
            {"species": ["a"] * 4 + ["b"] * 20},
            {"strategy": "freq_global", "usage": pd.DataFrame()},
            "one column for each",
        ),
        ({"species": ["cow", "b", "b", "b", "b", "b"] * 4}, {"strategy": "freq_species"}, None),
        ({"species": ["a", "a", "a", "a", "b", "a"] * 4}, {"strategy": "freq_species"}, "codon usage of 'b' from"),
        (
            {"species": ["a"] * 20 + ["unknown"] * 4},
            {"strategy": "freq_species"},
            r"task 'tm': 4 of 24 samples are of species 'unknown', the first '\w+'.* --species\), or use freq_global",
        ),
        ({}, {"strategy": "permuted_shared", "parent": "consensus"}, r"Pass parent= yourself \(--parent FASTA\)"),
    ],
)
def test_what_cannot_be_recoded(task, options, message):
    task = make(**task)
    if message is None:
        assert recoded_task(task, **options).name == "tm.freq_species.seed0"
        return
    with pytest.raises(InputError, match=message):
        recoded_task(task, **options)


def test_no_train_samples():
    task = from_sequences("t", ["AAA"], splits=["test"])
    with pytest.raises(InputError, match="no samples of split 'train' to estimate the codon usage of 'all' from"):
        recoded_task(task, "freq_global", table=1)


def test_proteins_and_other_sequences_are_refused():
    with pytest.raises(InputError, match="task 'p' is of proteins, which have no codons"):
        recoded_task(from_sequences("p", ["MKV"], alphabet="protein"), "permuted")
    with pytest.raises(InputError, match="task 't': coding sequence 'x': not_multiple_of_3: it has 4 nucleotides"):
        recoded_task(from_sequences("t", ["AAAA"], ids=["x"]), "permuted", table=1)


# ---- stores and the command ----------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    store = open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(make())
    return tmp_path / "s.zarr"


def test_a_stored_task_is_the_task(path):
    store, task = open_store(path), make()
    found = stored_task(store, "tm")
    assert found.name == "tm"
    assert found.record == task.record
    assert texts_of(found) == texts_of(task)
    pd.testing.assert_frame_equal(found.samples, task.samples)
    np.testing.assert_array_equal(found.labels.values, task.labels.values)
    assert found.variants is None
    open_store(path, mode="a").add_task(found)  # the same digests: nothing is refused
    with pytest.raises(NotInStoreError, match="no task 'tn'"):
        stored_task(store, "tn")


def test_the_command_adds_recoded_tasks(path, capsys):
    command = ["recode", "tm", "--store", str(path), "--strategy", "permuted", "--strategy", "window_permuted(4)"]
    assert main([*command, "--strategy", "true", "--seeds", "2"]) == 0
    said = capsys.readouterr().out.splitlines()
    names = ["tm.permuted.seed0", "tm.permuted.seed1", "tm.window_permuted-4.seed0", "tm.window_permuted-4.seed1"]
    assert said == [*names, "tm is the task itself: strategy 'true' changes nothing."]
    store = open_store(path)
    assert sorted(store.tasks()) == ["tm", *names]
    assert [decode(one) for one in store.sequences(names[1])] == texts_of(recoded_task(make(), "permuted", seed=1))
    np.testing.assert_array_equal(store.labels(names[1]).values, make().labels.values)
    assert main([*command, "--seeds", "2"]) == 0  # again: what is there is found to be the same


def test_the_command_reads_usage_and_parent(path, tmp_path, capsys):
    usage = pd.DataFrame(1.0, ["mouse"], list(CODONS))
    usage.to_csv(tmp_path / "usage.tsv", sep="\t")
    parent = texts_of(make())[0]
    (tmp_path / "parent.fa").write_text(f">p\n{parent}\n")
    where = ["--store", str(path)]
    assert (
        main(["recode", "tm", *where, "--strategy", "transplant(mouse)", "--usage", str(tmp_path / "usage.tsv")]) == 0
    )
    shared = ["recode", "tm", *where, "--strategy", "uniform_shared", "--table", "1"]
    assert main([*shared, "--parent", str(tmp_path / "parent.fa")]) == 0
    store = open_store(path)
    wanted = recoded_task(make(), "transplant(mouse)", usage=usage)
    assert [decode(one) for one in store.sequences(wanted.name)] == texts_of(wanted)
    wanted = recoded_task(make(), "uniform_shared", parent=encode(parent))
    assert [decode(one) for one in store.sequences(wanted.name)] == texts_of(wanted)
    capsys.readouterr()
    assert main([*shared, "--parent", "consensus"]) == 1
    assert "no codon is in more than half of the 24 sequences" in capsys.readouterr().err


def test_the_command_lists_the_strategies(capsys):
    assert main(["recode", "tm"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in STRATEGIES)
    assert "window_permuted(w)" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tm", "--strategy", "permuted", "--seeds", "0"], "--seeds is 0; one seed or more is wanted"),
        (["tm", "--strategy", "permutted"], "Did you mean 'permuted'?"),
        (["tn", "--strategy", "permuted"], "'tn'"),
        (["tm", "--strategy", "permuted", "--strategy", "none"], "There is no codon strategy 'none'"),
        (["tm", "--strategy", "freq_global", "--usage", "EMPTY"], "empty.tsv: cannot be read: No columns to parse"),
        (["tm", "--strategy", "freq_global", "--usage", "x.tsv"], "--usage x.tsv: cannot be read: [Errno 2]"),
        (["tm", "--strategy", "uniform_shared"], "recode (--parent FASTA, or consensus)."),
        (["tm", "--strategy", "freq_global", "--usage", "BAD"], "columns that are not numbers: AAA"),
        (["tm", "--strategy", "uniform_shared", "--parent", "TWO"], "2 sequences; one, the parent, is wanted"),
        (["tm", "--strategy", "freq_species", "--species-column", "specie"], "Did you mean 'species'?"),
    ],
)
def test_what_the_command_refuses(path, tmp_path, capsys, arguments, message):
    (tmp_path / "bad.tsv").write_text("species\tAAA\tAAG\nmouse\tmany\t0.5\n")
    (tmp_path / "two.fa").write_text(">a\nAAA\n>b\nAAA\n")
    (tmp_path / "empty.tsv").write_text("")
    places = {"BAD": str(tmp_path / "bad.tsv"), "EMPTY": str(tmp_path / "empty.tsv"), "TWO": str(tmp_path / "two.fa")}
    assert main(["recode", *(places.get(word, word) for word in arguments), "--store", str(path)]) == 1
    assert message in capsys.readouterr().err
    assert open_store(path).tasks() == ["tm"]


def test_a_mistyped_store_is_not_made(tmp_path, capsys):
    assert main(["recode", "tm", "--strategy", "permuted", "--store", str(tmp_path / "none.zarr")]) == 1
    assert not (tmp_path / "none.zarr").exists()
    assert "none.zarr" in capsys.readouterr().err
