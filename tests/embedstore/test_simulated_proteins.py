"""Simulated scans, residues and synonymous genes, against Biopython and what they claim to plant."""

from __future__ import annotations

import numpy as np
import pytest
from Bio.Seq import Seq
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from embedstore.coding import CODONS, consensus, recode
from embedstore.errors import InputError
from embedstore.models.composition_models import codon_place
from embedstore.sequences import encode
from embedstore.simulated_proteins import CLASS_OF_CODON, degenerate_world, dms_world, structure_world
from embedstore.tasks.coding import coding_task

DMS = dms_world(seed=1)
RESIDUES = structure_world(seed=1)


def texts(genes):
    return [codes.tobytes().decode() for codes in genes]


def test_a_variant_differs_from_its_parent_in_one_codon_and_one_amino_acid():
    parent = DMS.source["parent"]
    protein = str(Seq(parent).translate())
    assert (len(protein), protein[0]) == (120, "M")
    assert consensus([encode(cds) for cds in DMS.table["cds"]]).tobytes().decode() == parent
    for row in DMS.table.itertuples():
        place, new = int(row.id[1:-1]) - 1, row.id[-1]
        assert protein[place] == row.id[0] != new
        assert row.protein == protein[:place] + new + protein[place + 1 :]
        assert [i for i in range(120) if row.cds[3 * i : 3 * i + 3] != parent[3 * i : 3 * i + 3]] == [place]
    assert DMS.table["protein"].nunique() == len(DMS.table) == 2000
    assert not DMS.table["id"].str.startswith("M1").any()
    assert DMS.table["split"].value_counts().to_dict() == {"train": 1400, "test": 600}


def test_all_variants_there_are():
    table = dms_world(variants=19 * 11, test=9, residues=12).table
    assert set(table["id"].str[1:-1].astype(int)) == set(range(2, 13))
    assert table["protein"].nunique() == 209


def test_recoding_each_variant_by_itself_buries_what_is_changed():
    genes, y = [encode(cds) for cds in DMS.table["cds"]], DMS.table["label"].to_numpy()
    train = (DMS.table["split"] == "train").to_numpy()
    found = {}
    for strategy in ("true", "permuted", "uniform", "uniform_shared"):
        recoded = recode(genes, strategy, ids=list(DMS.table["id"]), parent=encode(DMS.source["parent"]))
        X = np.array(
            [rows.mean(0) for i in range(0, 2000, 100) for rows, _ in codon_place(texts(recoded[i : i + 100]))]
        )
        probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 4, 15))).fit(X[train], y[train])
        found[strategy] = spearmanr(probe.predict(X[~train]), y[~train]).statistic
    assert 0.4 < found["true"] < 0.65
    assert 0.4 < found["uniform_shared"] < 0.65
    assert abs(found["permuted"]) < 0.15
    assert abs(found["uniform"]) < 0.15


def test_every_codon_says_its_residues_class():
    assert CLASS_OF_CODON.shape == (64,)
    assert sorted(set(CLASS_OF_CODON.tolist())) == list(range(-1, 8))
    assert [CODONS[i] for i in np.flatnonzero(CLASS_OF_CODON < 0)] == ["TAA", "TAG", "TGA"]
    same, pairs = 0, 0
    for row in RESIDUES.table.itertuples():
        codons = [row.cds[i : i + 3] for i in range(0, len(row.cds), 3)]
        assert len(codons) == len(row.label) == len(row.protein)
        for codon, residue in zip(codons, row.label, strict=True):
            assert residue == (CLASS_OF_CODON[CODONS.index(codon)] if codon in CODONS else -100)
        same += sum(a == b for a, b in zip(row.label[:-1], row.label[1:], strict=True) if min(a, b) >= 0)
        pairs += sum(min(a, b) >= 0 for a, b in zip(row.label[:-1], row.label[1:], strict=True))
    chance = 0.8 + 0.2 / 8
    assert abs(same / pairs - chance) < 4 * np.sqrt(chance * (1 - chance) / pairs)
    # A codon is not its amino acid: proteins do not say everything.
    code = {codon: str(Seq(codon).translate()) for codon in CODONS}
    assert any(
        CLASS_OF_CODON[i] != CLASS_OF_CODON[j]
        for i in range(64)
        for j in range(i)
        if code[CODONS[i]] == code[CODONS[j]] != "*"
    )


def test_the_hard_cases_are_among_the_residues():
    table = RESIDUES.table
    assert table["protein"].str.len().iloc[0] == 1
    assert 30 < (table["protein"].str.len() % 2).sum() < 90
    third = table["cds"].str[6:9]
    assert set(third[third.str.contains("[^ACGT]")]) == {"GCN", "YTA"}
    assert table["cds"].str.contains("[^ACGT]").sum() == 11
    assert set(table["split"]) == {"train", "valid", "CASP12", "CB513", "TS115"}
    task = coding_task(RESIDUES)
    assert task.labels.dims == ("nucleotide",)
    np.testing.assert_array_equal(task.labels.values, np.repeat(np.concatenate(table["label"].to_list()), 3))
    assert [len(codes) for codes in task.sequences(0, 3)] == [len(cds) for cds in table["cds"][:3]]


def test_synonymous_genes_truncated_ones_and_replicates():
    data = degenerate_world(seed=2)
    table = data.table
    whole = table[~table["protein"].str.contains("*", regex=False)]
    assert len(table) == 60 // 6 * 21 + 12 + 10
    assert table["protein"].nunique() == 72
    assert whole["protein"].nunique() == 60
    genes = whole.groupby("protein_number")["cds"].nunique()
    assert genes.tolist() == [1 + i % 6 for i in range(60)]
    assert (table.groupby("cds")["coding_number"].nunique() == 1).all()
    assert len(table) - table["cds"].nunique() == 10
    for row in table.itertuples():
        assert str(Seq(row.cds).translate()) == row.protein
        assert row.protein[0] == "M"
        assert row.protein.count("*") == (row.protein_number >= 60)
    # Variance of the label within a protein is that of its coding sequences and of the noise.
    within = whole.drop_duplicates("cds").groupby("protein_number")["label"].var().dropna()
    assert 0.06 < within.mean() < 0.14


@pytest.mark.parametrize(
    ("make", "size"), [(dms_world, {"variants": 60, "test": 20}), (structure_world, {}), (degenerate_world, {})]
)
def test_same_arguments_same_samples(make, size):
    first, again, other = make(seed=3, **size), make(seed=3, **size), make(seed=4, **size)
    assert first.table.equals(again.table)
    assert set(first.table["cds"]).isdisjoint(other.table["cds"])


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (dms_world, {"variants": 20, "residues": 2}, r"has 19 variants of one amino acid: wanted .* <= 19"),
        (dms_world, {"variants": 10, "test": 10}, "variants=10, test=10"),
        (dms_world, {"seed": -1}, "seed=-1"),
        (structure_world, {"samples": 11}, "samples=11, .* wanted at least 12 samples"),
        (structure_world, {"lengths": (2, 5)}, r"lengths=\(2, 5\)"),
        (degenerate_world, {"proteins": 0}, "proteins=0, .*: wanted at least 1 protein"),
        (degenerate_world, {"replicates": -1}, "replicates=-1"),
    ],
)
def test_what_is_refused(make, change, message):
    with pytest.raises(InputError, match=f"{make.__name__}: .*{message}"):
        make(**change)
