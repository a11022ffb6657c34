"""Protein tasks from coding sequences: what becomes of good rows, and what is said of each kind of bad one."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from Bio.Seq import Seq

from embedstore import open_store, tasks
from embedstore.coding.reasons import REASONS
from embedstore.errors import InputError
from embedstore.sequences import decode
from embedstore.tasks import TaskRecord, coding_task, make_coding, protein_task
from embedstore.tasks.coding import species_table

SENSE = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT" if a + b + c not in ("TAA", "TAG", "TGA")]
CLASSES = "GHIBESTC"
MINE = TaskRecord(name="mine", level="sequence", type="value", metric="r2")


def random_cds(rng, codons, *, start="ATG", stop="TAA"):
    return start + "".join(rng.choice(SENSE, codons - 1)) + stop


@pytest.fixture
def frame():
    """Twelve genes, some of which end with a stop codon."""
    rng = np.random.default_rng(1)
    cds = [random_cds(rng, 20 + row, stop="TAA" if row % 2 else "") for row in range(12)]
    return pd.DataFrame(
        {
            "id": [f"gene{row}" for row in range(12)],
            "cds": cds,
            "label": np.linspace(40, 60, 12),
            "split": ["train"] * 8 + ["valid"] * 2 + ["test"] * 2,
        }
    )


def differing(data):
    return {row.what: (row.seen, row.wanted) for row in data.differences.itertuples()}


# ---- good rows ------------------------------------------------------------------------------------


def test_rows_are_translated_as_biopython_does(frame):
    data = make_coding(frame, "mpp")
    table = data.table
    assert list(table) == [
        *("id", "split", "cds", "protein", "label", "species", "group", "transl_table", "has_start", "has_stop"),
        "flags",
    ]
    for name in ("id", "split", "cds", "label"):
        assert table[name].tolist() == frame[name].tolist()
    proteins = [str(Seq(cds).translate()) for cds in frame["cds"]]
    assert table["protein"].tolist() == [protein.removesuffix("*") for protein in proteins]
    assert table["has_stop"].tolist() == [protein.endswith("*") for protein in proteins]
    assert table["has_start"].all()
    assert (table["species"] == "unknown").all()
    assert (table["flags"] == "").all()
    assert table["group"][3] == hashlib.sha256(proteins[3].removesuffix("*").encode()).hexdigest()[:16]
    assert len(data.rejects) == 0
    assert differing(data)["samples in train (paper)"] == ("8", "9,432")


def test_both_tasks_have_the_same_samples_and_labels_in_a_store(frame):
    data = make_coding(frame.assign(species="E. coli", depth=range(12)), "mpp")
    store = open_store("memory://", mode="a")
    for task in (coding_task(data), protein_task(data)):
        store.add_task(task)
    coding, protein = store.samples("melting_point"), store.samples("melting_point.protein")
    assert coding["id"].tolist() == protein["id"].tolist() == frame["id"].tolist()
    assert coding["depth"].tolist() == list(range(12))
    assert set(coding["species"]) == {"E. coli"}
    assert [decode(one) for one in store.sequences("melting_point")] == frame["cds"].tolist()
    assert [decode(one) for one in store.sequences("melting_point.protein")] == data.table["protein"].tolist()
    for name in ("melting_point", "melting_point.protein"):
        np.testing.assert_array_equal(store.labels(name).values, frame["label"].to_numpy(np.float32))
    assert store.record("melting_point") == tasks.record("melting_point")
    assert store.record("melting_point.protein").alphabet == "protein"
    assert store.task_attributes("melting_point.protein")["source"]["part"] == "protein"
    assert coding_task(data, "a").name == "a"


def test_letters_are_cleaned_and_marked(frame):
    given = frame.copy()
    given.loc[0, "cds"] = given["cds"][0].lower().replace("t", "u")
    given.loc[1, "cds"] = given["cds"][1][:6] + "---" + given["cds"][1][6:]
    given.loc[2, "cds"] = given["cds"][2][:3] + "GCN" + given["cds"][2][6:]
    given.loc[3, "cds"] = given["cds"][3].lower()
    data = make_coding(given, "mpp")
    for row in (0, 1, 3):
        assert data.table["cds"][row] == frame["cds"][row]
    letters = "other_letters"
    assert data.table["flags"][:5].tolist() == [letters, letters, "ambiguous_codons", letters, ""]
    assert data.table["protein"][2][1] == "A"
    assert decode(coding_task(data).sequences(2, 3)[0])[3:6] == "GCN"


@pytest.mark.parametrize(
    ("table", "start", "letter"), [(1, "GTG", "V"), (11, "GTG", "M"), (1, "TTG", "M"), (2, "GTG", "M")]
)
def test_the_first_codon_of_a_gene_reads_m_where_its_table_lets_it_start(frame, table, start, letter):
    given = frame.assign(cds=[start + cds[3:] for cds in frame["cds"]])
    made = {
        "mpp": make_coding(given, "mpp", table=table, stops=True),
        "mine": make_coding(given, MINE, table=table, stops=True),
    }
    assert {protein[0] for protein in made["mpp"].table["protein"]} == {letter}
    plain = str(Seq(start).translate(table=table))
    assert {protein[0] for protein in made["mine"].table["protein"]} == {plain}
    assert set(made["mpp"].table["has_start"]) == {letter == "M"}
    assert not made["mine"].table["has_start"].any()
    whole = make_coding(given.assign(has_start=["True", "false"] * 6), MINE, table=table, stops=True).table
    assert [protein[0] for protein in whole["protein"][:2]] == [letter, plain]


def test_a_genetic_code_of_each_row_or_found_by_its_protein(frame):
    cds = ["ATGAGACTAATATGACTGTAA", "ATGAGACTAATATGGCTGTAA"]
    proteins = [str(Seq(one).translate(table=t)).removesuffix("*") for one, t in zip(cds, (5, 1), strict=True)]
    given = frame.iloc[:2].assign(cds=cds, protein=proteins)
    with pytest.raises(InputError, match="row 0: internal_stop: codon 5 of 7"):
        make_coding(given, "mpp")
    for options in ({"table": "find"}, {}):
        columns = {} if options else {"transl_table": ["5", ""]}
        table = make_coding(given.assign(**columns), "mpp", **options).table
        assert table["transl_table"].tolist() == [5, 1]
        assert table["protein"].tolist() == proteins == ["MSLMWL", "MRLIWL"]
    with pytest.raises(InputError, match="row 0: no_protein: .* each row without transl_table needs one"):
        make_coding(given.drop(columns="protein"), "mpp", table="find")
    with pytest.raises(InputError, match="row 0: several_tables: several genetic codes, with different codons"):
        make_coding(given.assign(cds="ATGGCA", protein="MA"), "mpp", table="find")
    with pytest.raises(InputError, match="row 0: translation_differs: .* in genetic code 1"):
        make_coding(given.assign(cds="ATGGCA", protein="MC"), "mpp", table="find")
    with pytest.raises(InputError, match="genetic code"):
        make_coding(given, "mpp", table=99)


def test_columns_under_other_names(frame):
    names = {"cds": "sequence", "label": "melting_temperature", "split": "stage"}
    given = frame.rename(columns=names).assign(group_id="g", length=3)
    table = make_coding(given, "mpp").table
    assert table["label"].tolist() == frame["label"].tolist()
    assert set(table["group"]) == {"g"}
    assert set(table["input_length"]) == {3}
    table = make_coding(frame.rename(columns={"label": "Tm"}), "mpp", columns={"label": "Tm"}).table
    assert table["label"].tolist() == frame["label"].tolist()
    # A column that is given a name moves one of that name out of the way.
    table = make_coding(frame.assign(Tm=frame["label"] + 1), "mpp", columns={"label": "Tm"}).table
    assert table["label"].tolist() == (frame["label"] + 1).tolist()
    assert table["input_label"].tolist() == frame["label"].tolist()


def test_splits_under_other_names(frame):
    given = frame.assign(
        split=["training", "Train", "TEST", "validation", "val", "dev", "testing", "other", *["train"] * 4]
    )
    assert make_coding(given, MINE).table["split"].tolist()[:8] == [
        *("train", "train", "test", "valid", "valid", "valid", "test", "other"),
    ]
    flip = frame.assign(set=["train"] * 10 + ["test"] * 2, validation=["True", "", None, True] * 3).drop(
        columns="split"
    )
    assert make_coding(flip, MINE).table["split"].tolist() == [
        *["valid", "train", "train", "valid"] * 2,
        "valid",
        "train",
        "test",
        "test",
    ]
    assert set(make_coding(frame.drop(columns="split"), MINE, split="test").table["split"]) == {"test"}


def test_proteins_that_come_with_the_rows_are_held_against_the_translation(frame):
    proteins = make_coding(frame, "mpp").table["protein"]
    assert make_coding(frame.assign(protein=proteins + "*"), "mpp").table["protein"].tolist() == proteins.tolist()
    wrong = proteins.copy()
    wrong[4] = wrong[4][:5] + ("A" if wrong[4][5] != "A" else "C") + wrong[4][6:]
    with pytest.raises(
        InputError, match="row 4: translation_differs: 1 residues differ; the first difference is residue 6"
    ):
        make_coding(frame.assign(protein=wrong), "mpp")


# ---- bad rows -------------------------------------------------------------------------------------

BAD = {
    "empty": {"cds": ""},
    "not_multiple_of_3": {"cds": "ATGGC"},
    "internal_stop": {"cds": "ATGTAAGCC"},
    "protein_instead_of_nucleotide": {"cds": "MKLVE"},
    "not_nucleotides": {"cds": "ATG<html>"},
    "not_nucleotides ": {"cds": "ATGé"},
    "ambiguous_codon": {"cds": "ATGNNNGCC"},
    "unknown_table": {"transl_table": "x"},
    "not_true_or_false": {"has_start": "maybe"},
    "repeated_id": {"id": "gene3"},
    "wrong_id": {"id": None},
    "wrong_id ": {"id": "g\u0435ne"},
    "no_label": {"label": ""},
    "label_is_no_number": {"label": "hot"},
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_refused_with_its_place_or_left_out_with_its_reason(frame, reason):
    bad, reason = BAD[reason], reason.strip()
    given = frame.assign(label=frame["label"].astype(str), transl_table="1", has_start="true").astype(object)
    for name, value in bad.items():
        given.loc[7, name] = value
    with pytest.raises(InputError, match=rf"1 of 12 rows .* line 107.\n  line 107: {reason}: (?s:.*)faults='reject'"):
        make_coding(given, "mpp", where=lambda row: f"line {100 + row}")
    data = make_coding(given, "mpp", faults="reject")
    assert data.rejects[["row", "where", "reason"]].to_numpy().tolist() == [[7, "row 7", reason]]
    assert data.rejects["detail"][0]
    assert data.table["id"].tolist() == [name for row, name in enumerate(frame["id"]) if row != 7]
    assert data.source["rejected"] == 1
    assert reason in REASONS


@pytest.mark.parametrize("label", [np.inf, "nan", "1e300", "0x10", "1,5", None, [1.0]])
def test_a_label_that_is_no_finite_number_is_refused(frame, label):
    given = frame.astype(object)
    given["label"] = pd.Series([label, *frame["label"][1:]], dtype=object)
    with pytest.raises(InputError, match="row 0: (no_label|label_is_no_number): the label is .* a finite number"):
        make_coding(given, "mpp")


def test_every_bad_row_is_named(frame):
    given = frame.assign(cds=["ATGGC"] * 3 + frame["cds"][3:].tolist())
    with pytest.raises(InputError, match=r"3 of 12 rows(?s:.*)row 0: not_m(?s:.*)row 1: not_m(?s:.*)row 2: not_m"):
        make_coding(given, "mpp")
    many = pd.concat([frame.assign(cds="A")] * 3).assign(id=[str(row) for row in range(36)])
    for faults in ("refuse", "reject"):  # nothing would be left
        with pytest.raises(InputError, match="36 of 36 rows(?s:.*)and 16 more"):
            make_coding(many, "mpp", faults=faults)


def test_columns_that_are_not_there_or_could_be_two(frame):
    for name in ("cds", "label"):
        with pytest.raises(InputError, match=f"no column with the {name}: none is called {name}"):
            make_coding(frame.drop(columns=name), "mpp")
    with pytest.raises(InputError, match="no column with the split: none is called split, set, stage. Pass split="):
        make_coding(frame.drop(columns="split"), "mpp")
    with pytest.raises(InputError, match="split='test' is given, but the table has a column for it"):
        make_coding(frame, "mpp", split="test")
    two = frame.rename(columns={"cds": "sequence"}).assign(seq="ATG")
    with pytest.raises(InputError, match="'sequence' and 'seq' could both be the cds. Say which by columns="):
        make_coding(two, "mpp")
    with pytest.raises(InputError, match="columns names 'labell', which means nothing here. Did you mean 'label'"):
        make_coding(frame, "mpp", columns={"labell": "label"})
    with pytest.raises(InputError, match="columns says that label is 'Tm', which is no column"):
        make_coding(frame, "mpp", columns={"label": "Tm"})
    with pytest.raises(InputError, match="there are no rows"):
        make_coding(frame.iloc[:0], "mpp")


def test_options_and_records_that_cannot_be(frame):
    with pytest.raises(InputError, match="faults is 'drop'; it must be one of 'refuse', 'reject'"):
        make_coding(frame, "mpp", faults="drop")
    with pytest.raises(InputError, match="val is 'random'; it must be one of 'given', 'grouped'"):
        make_coding(frame, "mpp", val="random")
    for seed in (-1, 2**32):
        with pytest.raises(InputError, match=rf"seed is {seed}; a whole number from 0 to 2\^32 - 1 is wanted"):
            make_coding(frame, "mpp", val="grouped", seed=seed)
    with pytest.raises(InputError, match="record 'histone_modification' is of level 'sequence', type 'multilabel'"):
        make_coding(frame, "histone_modification")
    with pytest.raises(InputError, match="label_order is 'GH'; the classes of 'secondary_structure', G, H, I"):
        make_coding(frame, "ssp", label_order="GH")
    with pytest.raises(InputError, match="label_order is 'GH'; the classes of 'melting_point', which has none"):
        make_coding(frame, "mpp", label_order="GH")


# ---- stop codons inside ---------------------------------------------------------------------------


def test_nonsense_variants_keep_their_stop_and_their_length():
    given = pd.DataFrame(
        {"cds": ["ATGGCCTAAGGG", "ATGGCCTAACGG", "ATGGCCTGGCGG"], "label": [1.0, 2.0, 3.0], "split": ""}
    )
    data = make_coding(given, "fluorescence")
    assert data.table["protein"].tolist() == ["MA*G", "MA*R", "MAWR"]  # not two times MA
    assert data.table["flags"].tolist() == ["stop_inside", "stop_inside", ""]
    assert data.table["group"].nunique() == 3
    with pytest.raises(InputError, match=r"2 of 3 proteins have a stop codon inside.* '0', residue 3\. Pass stops='X'"):
        protein_task(data)
    task = protein_task(data, stops="X")
    assert [decode(one) for one in task.sequences(0, 3)] == ["MAXG", "MAXR", "MAWR"]
    assert task.source["stops_inside"] == "X"
    with pytest.raises(InputError, match="stops is 'cut'; it must be 'refuse' or 'X'"):
        protein_task(data, stops="cut")
    with pytest.raises(InputError, match="internal_stop"):
        make_coding(given, "fluorescence", stops=False)


# ---- residues -------------------------------------------------------------------------------------


@pytest.fixture
def residues():
    rng = np.random.default_rng(2)
    lengths = rng.integers(5, 12, 40)
    labels = ["".join(rng.choice(list(CLASSES), size)) for size in lengths]
    cds = [random_cds(rng, size, stop="TGA" if row % 3 else "") for row, size in enumerate(lengths)]
    return pd.DataFrame({"cds": cds, "label": labels, "split": ["train"] * 30 + ["CASP12"] * 5 + ["TS115"] * 5})


def test_a_residues_label_stands_at_its_three_nucleotides(residues):
    data = make_coding(residues, "ssp")
    store = open_store("memory://", mode="a")
    for task in (coding_task(data), protein_task(data)):
        store.add_task(task)
    ends = np.cumsum(residues["cds"].str.len())
    labels = np.split(store.labels("secondary_structure").values, ends[:-1])
    of_proteins = np.split(
        store.labels("secondary_structure.protein").values, np.cumsum(residues["label"].str.len())[:-1]
    )
    for row, (along, protein, text) in enumerate(zip(labels, of_proteins, residues["label"], strict=True)):
        wanted = [CLASSES.index(letter) for letter in text]
        assert protein.tolist() == wanted
        assert along.reshape(-1, 3).T.tolist() == [wanted + [-100] * bool(row % 3)] * 3


@pytest.mark.parametrize("form", ["letters", "digits", "commas", "spaces", "list", "array", "brackets"])
def test_labels_of_residues_in_every_form(residues, form):
    numbers = [[CLASSES.index(letter) for letter in text] for text in residues["label"]]
    forms = {
        "letters": residues["label"].tolist(),
        "digits": ["".join(map(str, one)) for one in numbers],
        "commas": [",".join(map(str, one)) for one in numbers],
        "spaces": [" ".join(map(str, one)) for one in numbers],
        "list": numbers,
        "array": [np.array(one, np.int8) for one in numbers],
        "brackets": [str(one) for one in numbers],
    }
    made = make_coding(residues.assign(label=pd.Series(forms[form], dtype=object)), "ssp").table["label"]
    assert made.tolist() == [tuple(one) for one in numbers]


def test_another_order_of_classes_and_a_mask(residues):
    order = "HGIEBTSC"
    numbers = [[order.index(letter) for letter in text] for text in residues["label"]]
    wanted = [[CLASSES.index(letter) for letter in text] for text in residues["label"]]
    made = make_coding(residues.assign(label=pd.Series(numbers)), "ssp", label_order=order)
    assert made.table["label"].tolist() == [tuple(one) for one in wanted]
    assert made.source["label_order"] == list(order)
    masks = ["0" + "1" * (len(one) - 1) for one in numbers]
    as_lists = [[False] + [True] * (len(one) - 1) for one in numbers]
    for mask in (masks, as_lists):
        made = make_coding(residues.assign(mask=pd.Series(mask, dtype=object)), "ssp").table["label"]
        assert made.tolist() == [(-100, *one[1:]) for one in wanted]
    given = residues.assign(label=pd.Series([[-100, *one[1:]] for one in wanted]))
    assert make_coding(given, "ssp").table["label"].tolist() == [(-100, *one[1:]) for one in wanted]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "HH"}, "label_length: 2 labels for 9 residues; one for each residue is wanted"),
        ({"label": "HHHHHHHHQ"}, "unknown_class: the label is 'HHHHHHHHQ'; letters of the classes, digits or whole"),
        ({"label": "0,1,2,3,4,5,6,7,8"}, "unknown_class: residue 9 has the class 8; 0 to 7, or -100 for none"),
        ({"label": "0,1,2,3,4,5,6,7,-1"}, "unknown_class: residue 9 has the class -1"),
        ({"label": ""}, "no_label: the label is ''; a class for each of 9 residues is wanted"),
        ({"mask": "11"}, "mask: the mask has 2 values; 0 or 1 for each of 9 residues is wanted"),
        ({"mask": "111111112"}, "mask: the mask has 9 values; 0 or 1 for each"),
        ({"mask": "no"}, "mask: the mask is 'no'; 0s and 1s are wanted"),
    ],
)
def test_labels_of_residues_that_do_not_fit(change, message):
    rng = np.random.default_rng(3)
    row = {"cds": random_cds(rng, 9), "label": "HHHHHHHHH", "split": "train"} | change
    with pytest.raises(InputError, match=f"row 0: {message}"):
        make_coding(pd.DataFrame([row]), "ssp")


def test_the_balance_of_classes_is_checked(residues):
    helices = residues.assign(label=["H" * len(text) for text in residues["label"]])
    helices.loc[0, "label"] = "C" + helices["label"][0][1:]
    assert not any("class of residues" in what for what in differing(make_coding(helices, "ssp")))
    masked = helices.assign(mask=["0" * len(text) for text in helices["label"]])
    assert not any("class of residues" in what for what in differing(make_coding(masked, "ssp")))
    coils = helices.assign(label=helices["label"].str.replace("H", "I"))
    found = differing(make_coding(coils, "ssp"))
    assert found["most frequent class of residues (is label_order right?)"] == ("I", "H")
    assert found["rarest class of residues (is label_order right?)"][1] == "I"


# ---- splits ---------------------------------------------------------------------------------------


def test_validation_samples_of_secondary_structure_are_drawn_by_a_seed(residues):
    first, again, other = (make_coding(residues, "ssp", seed=seed).table["split"] for seed in (0, 0, 1))
    assert first.value_counts().to_dict() == {"train": 24, "valid": 6, "CASP12": 5, "TS115": 5}
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()
    given = residues.assign(split=["valid", *["train"] * 29, *residues["split"][30:]])
    assert make_coding(given, "ssp").table["split"].tolist() == given["split"].tolist()


def test_grouped_validation_keeps_proteins_together():
    rng = np.random.default_rng(4)
    cds = [random_cds(rng, 10) for _ in range(100)]
    given = pd.DataFrame({"cds": np.repeat(cds, 3), "label": rng.normal(size=300)})
    given["split"] = np.where(np.arange(300) >= 270, "test", np.where(rng.random(300) < 0.1, "valid", "train"))
    seen = differing(make_coding(given, "mpp"))
    assert int(seen["valid samples whose protein is in train"][0]) > 10
    data = make_coding(given, "mpp", val="grouped", seed=3)
    assert "valid samples whose protein is in train" not in differing(data)
    table = data.table
    assert (table["split"] == "test").tolist() == (given["split"] == "test").tolist()
    wanted = (given["split"] == "valid").sum()
    assert wanted - 3 <= (table["split"] == "valid").sum() <= wanted
    assert table.groupby("protein")["split"].nunique().max() == 1
    named = make_coding(given.assign(group=np.arange(300) // 30), "mpp", val="grouped").table
    assert named[named["split"] != "test"].groupby("group")["split"].nunique().max() == 1
    no_valid = make_coding(given.assign(split="train"), "mpp", val="grouped").table["split"]
    assert no_valid.value_counts().to_dict() == {"train": 270, "valid": 30}


def test_rows_in_training_and_validation_both_are_divided_or_refused(frame):
    given = frame.assign(split=["train/val"] * 4 + ["train"] * 5 + ["valid"] + ["test"] * 2)
    divided = make_coding(given, "mpp", val="grouped").table["split"]
    assert divided.value_counts().to_dict() == {"train": 9, "test": 2, "valid": 1}
    with pytest.raises(InputError, match="4 rows are of split 'train/valid', the first with id 'gene0'.*--val grouped"):
        make_coding(given, "mpp")


def test_samples_of_no_split_are_told(frame):
    told = make_coding(frame.assign(split=["", *frame["split"][1:]]), "mpp").differences.set_index("what")["seen"]
    assert told["samples in no split (paper)"] == "1"


def test_shared_proteins_and_repeats_are_told(frame):
    given = pd.concat([frame, frame.iloc[[0, 1]].assign(split="test"), frame.iloc[[2]]])
    given["id"] = [str(row) for row in range(len(given))]
    found = differing(make_coding(given, "mpp"))
    assert found["test samples whose protein is in train or valid"] == ("2", "0")
    assert found["samples with the coding sequence, label and split of one before"] == ("1", "0")
    assert found["nucleotides per coding sequence, mean"][1] == "1,176"
    assert differing(make_coding(given, MINE)).keys() == {
        "test samples whose protein is in train or valid",
        "samples with the coding sequence, label and split of one before",
    }
    lengths = differing(make_coding(frame, "fluorescence"))
    assert lengths["coding sequences that are not 714 nucleotides long"] == ("12", "0")


# ---- species --------------------------------------------------------------------------------------


def test_species_come_from_a_table_of_their_own(frame, tmp_path):
    known = make_coding(frame.assign(organism=["E. coli", "H. sapiens"] * 6), "mpp")
    species = species_table(known)
    assert list(species) == ["protein_sha256", "label", "species"]
    assert species["label"][1] == f"{frame['label'][1]:.4f}"
    path = tmp_path / "species.tsv"
    species.iloc[:-1].to_csv(path, sep="\t", index=False)
    for given in (path, species.iloc[:-1]):
        data = make_coding(frame.assign(label=frame["label"] + 1e-6), "mpp", species=given)
        assert data.source["species_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        found = data.table["species"]
        assert found.tolist() == [*known.table["species"].tolist()[:-1], "unknown"]
    # What a row says of itself stays.
    own = make_coding(frame.assign(species=["E. coli", *[""] * 11]), "mpp", species=path).table["species"]
    assert own.tolist() == [*known.table["species"].tolist()[:-1], "unknown"]
    last = make_coding(frame.assign(species=[*[""] * 11, "H. sapiens"]), "mpp", species=path).table["species"]
    assert last.tolist() == known.table["species"].tolist()
    with pytest.raises(
        InputError, match="species.tsv: says that 'gene0' is of 'E. coli', its own row says 'B. subtilis'"
    ):
        make_coding(frame.assign(species="B. subtilis"), "mpp", species=path)
    with pytest.raises(InputError, match="the table of species: has the columns a; protein_sha256, label, species are"):
        make_coding(frame, "mpp", species=pd.DataFrame({"a": [1]}))
    twice = pd.concat([species, species.iloc[:1].assign(species="M. musculus")])
    with pytest.raises(
        InputError, match=r"with label 40.0000 has several species \(E. coli, M. musculus\); one is wanted"
    ):
        make_coding(frame, "mpp", species=twice)
