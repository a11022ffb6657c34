"""One protein, several coding sequences: what must hold of the unique, complete and averaged sets."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from embedstore import tasks
from embedstore.errors import InputError
from embedstore.tasks import TaskRecord, make_coding
from embedstore.tasks.degenerate import label_noise_ceiling, split_by_differences, unique_and_complete
from embedstore.tasks.mutations import Mutation, change_residues

MINE = TaskRecord(name="mine", level="sequence", type="value", metric="spearman")
FOUR = {"A": "GC", "G": "GG", "V": "GT", "T": "AC", "P": "CC"}  # families of four codons, by their first two letters


def variants(proteins=60, seed=0, residues=6, noise=0.0):
    """Proteins of one to six coding sequences each; a label is the protein's own plus noise of the sequence."""
    rng = np.random.default_rng(seed)
    rows = []
    seen = set()
    while len(seen) < proteins:
        protein = "".join(rng.choice(list(FOUR), residues))
        if protein in seen:
            continue
        seen.add(protein)
        of_protein = rng.normal()
        several = {"".join(FOUR[one] + rng.choice(list("ACGT")) for one in protein) for _ in range(1 + len(seen) % 6)}
        rows += [{"cds": cds, "label": of_protein + noise * rng.normal(), "split": ""} for cds in sorted(several)]
    return make_coding(pd.DataFrame(rows), MINE)


@settings(max_examples=8)
@given(st.integers(12, 40), st.integers(0, 99), st.booleans(), st.randoms(use_true_random=False))
def test_what_must_hold_of_every_seed(proteins, seed, group_val, random):
    data = variants(proteins, seed, noise=1.0)
    unique, complete, averaged, manifest = unique_and_complete(data, seed=seed, group_val=group_val)
    u, c = unique.table, complete.table
    # One of each protein, and no other could be added without repeating one.
    assert not u["protein"].duplicated().any()
    assert set(u["protein"]) == set(data.table["protein"])
    assert {row.cds: row.protein for row in u.itertuples()}.items() <= dict(
        zip(data.table["cds"], data.table["protein"], strict=True)
    ).items()
    # The test set is the same, byte for byte, and its proteins are nowhere else.
    assert u[u["split"] == "test"].reset_index(drop=True).equals(c[c["split"] == "test"].reset_index(drop=True))
    tested = set(u["protein"][u["split"] == "test"])
    assert not tested & set(c["protein"][c["split"] != "test"])
    assert set(u["cds"][u["split"] != "test"]) <= set(c["cds"][c["split"] != "test"])
    assert set(c["cds"]) == set(data.table["cds"]) - set(data.table["cds"][data.table["protein"].isin(tested)]) | set(
        u["cds"]
    )
    # Sizes as published: rounded down for testing and for training.
    test = int(0.2 * proteins)
    assert u["split"].value_counts().to_dict() == {
        "test": test, "train": int(0.8 * (proteins - test)), "valid": proteins - test - int(0.8 * (proteins - test))
    }  # fmt: skip
    both = set(c["protein"][c["split"] == "train"]) & set(c["protein"][c["split"] == "valid"])
    assert not (group_val and both)
    assert averaged.table[["id", "cds", "split"]].equals(u[["id", "cds", "split"]])
    means = data.table.groupby("protein")["label"].mean()
    np.testing.assert_allclose(averaged.table["label"], means[averaged.table["protein"]])
    # The same seed gives the same sets, in whatever order the samples come.
    order = list(range(len(data.table)))
    random.shuffle(order)
    again = unique_and_complete(data._replace(table=data.table.iloc[order]), seed=seed, group_val=group_val)
    assert again.manifest == manifest
    assert json.dumps(manifest)
    assert unique_and_complete(data, seed=seed + 1, group_val=group_val).manifest["sha256"] != manifest["sha256"]


def test_the_numbers_of_the_paper():
    """5,402 proteins are 3,457, 865 and 1,080; a pool of 14,066 is 11,252 and 2,814."""
    table = pd.DataFrame({"protein": [str(number) for number in range(5402)], "label": 0.0, "split": ""})
    table["cds"] = table["id"] = table["protein"]
    data = variants(12)._replace(table=table)
    counts = unique_and_complete(data).manifest["counts"]
    assert counts["unique"] == {"train": 3457, "valid": 865, "test": 1080}
    extra = table.assign(cds=[f"{cds}x" for cds in table["cds"]], id=[f"{cds}x" for cds in table["cds"]])
    tested = unique_and_complete(data).unique.table
    kept = extra[~extra["protein"].isin(tested["protein"][tested["split"] == "test"])]
    more = pd.concat([table, kept, *(kept.assign(cds=kept["cds"] + mark, id=kept["id"] + mark) for mark in "yz")])
    pool = 4322 + 9744
    made = unique_and_complete(data._replace(table=more.iloc[: 5402 + 9744]))
    size = sum(made.manifest["counts"]["complete"][name] for name in ("train", "valid"))
    assert made.manifest["counts"]["complete"]["train"] == int(0.8 * size)
    assert (int(0.8 * pool), pool - int(0.8 * pool)) == (11252, 2814)


def test_replicates_of_one_sequence_become_their_mean():
    frame = pd.DataFrame({"cds": [f"GC{a}GG{b}" for a in "ACGT" for b in "ACGT"] + ["GTAGTA"] * 3, "label": range(19)})
    frame["cds"] = [
        cds if cds == "GTAGTA" else cds[:3] + "GT" + "ACGT"[row % 4] + cds[3:] for row, cds in enumerate(frame["cds"])
    ]
    many = pd.concat([frame, *(frame.assign(cds=frame["cds"] + codon) for codon in ("GCA", "CCA", "ACA", "GGA"))])
    data = make_coding(many.assign(split="", id=[str(row) for row in range(len(many))]), MINE)
    made = unique_and_complete(data, test=0.3, valid=0.3)
    again = pd.concat([made.complete.table, made.unique.table])
    once = again[again["cds"] == "GTAGTA"]
    assert (once["label"] == 17).all()
    assert len(once)
    assert made.manifest["samples"] == 95
    assert made.manifest["coding_sequences"] == 85


def test_sets_carry_the_record_they_belong_to():
    data = variants(30)
    sets = unique_and_complete(data)
    assert [one.record.name for one in sets[:3]] == ["mine_unique", "mine_complete", "mine_averaged"]
    beta = make_coding(data.table[["cds", "label", "split"]], "beta_lactamase_complete")
    sets = unique_and_complete(beta)
    assert sets.unique.record == tasks.record("beta_lactamase_unique")
    assert sets.complete.record == tasks.record("beta_lactamase_complete")
    assert sets.averaged.record.name == "beta_lactamase_averaged"
    assert "samples in train (paper)" in set(sets.unique.differences["what"])
    assert sets.unique.source["made"] == "unique"


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(InputError, match="4 proteins are too few: the unique set has no test samples"):
        unique_and_complete(variants(4))
    for name in ("test", "valid"):
        with pytest.raises(InputError, match=f"{name} is 1; a share between 0 and 1 is wanted"):
            unique_and_complete(variants(12), **{name: 1})
    with pytest.raises(InputError, match="seed is -1; a whole number from 0"):
        unique_and_complete(variants(12), seed=-1)
    residues = make_coding(pd.DataFrame({"cds": ["GCA"], "label": ["H"], "split": ["train"]}), "ssp")
    for function in (unique_and_complete, label_noise_ceiling):
        with pytest.raises(
            InputError, match="'secondary_structure' is of level 'nucleotide'; one number per sample is w"
        ):
            function(residues)


def test_the_ceiling_of_labels_that_differ_within_a_protein():
    """Labels of variance 1 + 0.25 within and between proteins: their true mean reaches 1 - 0.25 / 1.25 = 0.8."""
    data = variants(700, seed=5, residues=9, noise=0.5)
    found = label_noise_ceiling(data).set_index("split").loc["all"]
    assert found["samples"] == len(data.table)
    assert found["proteins"] == 700
    assert found["several"] == sum(data.table.groupby("protein").size() > 1)
    assert abs(found["sd_within"] - 0.5) < 0.03
    assert abs(found["r2"] - 0.8) < 0.04
    means = data.table.groupby("protein")["label"].transform("mean")
    np.testing.assert_allclose(found["spearman"], spearmanr(data.table["label"], means).statistic)
    exact = label_noise_ceiling(variants(60)).iloc[0]
    np.testing.assert_allclose([exact["r2"], exact["spearman"]], 1)
    once = label_noise_ceiling(unique_and_complete(variants(60)).unique)
    assert once["split"].tolist()[0] == "all"
    assert set(once["split"]) == {"all", "train", "valid", "test"}
    assert once[["r2", "spearman", "sd_within"]].isna().all(axis=None)


def test_split_by_differences_from_the_parent():
    parent = np.frombuffer(b"GCAGGAGTAACACCAGCAGGA", np.uint8)  # AGVTPAG
    rng = np.random.default_rng(6)
    protein = "AGVTPAG"
    rows = []
    for number in range(100):
        places = rng.choice(7, number % 7 + 1, replace=False)
        new = [
            Mutation(int(at), protein[at], str(rng.choice([one for one in FOUR if one != protein[at]])))
            for at in places
        ]
        rows.append(
            {"cds": change_residues(parent, new).tobytes().decode(), "label": 1.0, "split": "x", "changed": len(new)}
        )
    data = make_coding(pd.DataFrame(rows), MINE)
    made = split_by_differences(data, protein, at_most=2, valid=0.5)
    table = made.table
    assert table["differences"].tolist() == table["changed"].tolist()
    assert ((table["split"] == "test") == (table["changed"] > 2)).all()
    near = (table["changed"] <= 2).sum()
    assert (table["split"] == "train").sum() == near // 2
    assert not table["protein"].duplicated().any()
    assert made.record == MINE
    with pytest.raises(InputError, match="mine: .* proteins are not as long as the parent's 6 residues; the first is "):
        split_by_differences(data, protein[:6])
