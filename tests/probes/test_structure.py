"""Measures of secondary structure, against scikit-learn and by hand."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from residue_tasks import NAMES, part_of, structure_store
from sklearn.metrics import accuracy_score, f1_score

from embedstore.errors import InputError
from probes.structure import THREE_STATES, structure_table

LENGTHS = (9, 5, 30, 12, 2)
SETS = ["B", "A", "A", "B", "C"]


class Said(NamedTuple):
    """Stands for a probe: says what it is told to say."""

    classes: list[np.ndarray]

    def outputs(self, data):
        for parts in data.batches(2):
            for part in parts:
                said = np.concatenate([np.repeat(self.classes[sample], 3) for sample in part.samples])
                output = 2.0 * torch.eye(8)[torch.from_numpy(said)]
                output[::3, 0] += 5  # one of three nucleotides is not sure; the mean over them is
                yield part, output


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    truth = [rng.integers(0, 7, n) for n in LENGTHS]
    truth[1][2] = truth[2][5] = -100
    truth[4][:] = -100
    said = [
        np.where(rng.random(n) < 0.6, np.maximum(own, 0), rng.integers(0, 7, n))
        for n, own in zip(LENGTHS, truth, strict=True)
    ]
    store = structure_store(["ACG" * n for n in LENGTHS], [own.tolist() for own in truth], splits=["A"] * 5)
    return part_of(store, "A"), truth, said


def value(table, **where) -> float:
    kept = np.logical_and.reduce([table[key] == one for key, one in where.items()])
    return float(table.loc[kept, "value"].item())


def test_every_set_is_measured_by_itself_as_sklearn_does(case) -> None:
    data, truth, said = case
    table = structure_table(Said(said), data, SETS, majority=3, draws=50)
    assert list(dict.fromkeys(table["test_set"])) == ["B", "A", "C"]
    for name, members in (("A", (1, 2)), ("B", (0, 3))):
        y, p = (np.concatenate([each[i] for i in members]) for each in (truth, said))
        y, p = y[y >= 0], p[y >= 0]
        own = table[table["test_set"] == name]
        assert value(own, measure="accuracy") == pytest.approx(accuracy_score(y, p))
        shares = [accuracy_score(truth[i][truth[i] >= 0], said[i][truth[i] >= 0]) for i in members]
        assert value(own, measure="accuracy_per_protein") == pytest.approx(np.mean(shares))
        states = np.array([0, 0, 0, 1, 1, 2, 2, 2])  # the published map, for the order GHIBESTC
        assert value(own, measure="q3") == pytest.approx(accuracy_score(states[y], states[p]))
        assert value(own, measure="majority") == pytest.approx(np.mean(y == 3))
        every = f1_score(y, p, labels=range(7), average=None)
        np.testing.assert_allclose([value(own, measure=f"f1_{one}") for one in NAMES[:7]], every)
        assert np.isnan(value(own, measure="f1_C"))
        assert set(own["n_residues"]) == {len(y)}
        assert set(own["n_proteins"]) == {2}
    empty = table[table["test_set"] == "C"]
    assert empty[["value", "low", "high"]].isna().all(axis=None)
    assert set(empty["n_proteins"]) == {0}


def test_intervals_come_from_whole_proteins(case) -> None:
    data, truth, said = case
    table = structure_table(Said(said), data, ["A"] * 5, majority=0, draws=400, seed=3)
    kept = [(np.sum(t == s), np.sum(t >= 0)) for t, s in zip(truth, said, strict=True) if (t >= 0).any()]
    right, many = np.array(kept, float).T
    rng = np.random.default_rng(3)
    draws = [rng.integers(0, 4, 4) for _ in range(400)]
    wanted = np.quantile([right[draw].sum() / many[draw].sum() for draw in draws], [0.025, 0.975])
    row = table[table["measure"] == "accuracy"].iloc[0]
    np.testing.assert_allclose([row["low"], row["high"]], wanted)
    wanted = np.quantile([(right / many)[draw].mean() for draw in draws], [0.025, 0.975])
    row = table[table["measure"] == "accuracy_per_protein"].iloc[0]
    np.testing.assert_allclose([row["low"], row["high"]], wanted)


def test_an_evaluation_mask_is_reported_beside_all(case) -> None:
    data, truth, said = case
    rng = np.random.default_rng(1)
    mask = [rng.random(n) < 0.5 for n in LENGTHS]
    table = structure_table(Said(said), data, ["A"] * 5, majority=0, mask=mask, draws=10)
    y, p, m = (np.concatenate(each) for each in (truth, said, mask))
    for chosen, kept in (("labelled", y >= 0), ("evaluation mask", (y >= 0) & m)):
        assert value(table, residues=chosen, measure="accuracy") == pytest.approx(accuracy_score(y[kept], p[kept]))
    with pytest.raises(
        InputError, match=r"the mask has 5 samples of \[9, 5, 30, 12, 3\].* wanted are 5 of \[9, 5, 30, 12, 2\]"
    ):
        structure_table(Said(said), data, SETS, majority=0, mask=[*mask[:4], np.ones(3, bool)])


def test_what_does_not_fit_is_refused(case) -> None:
    data, _, said = case
    with pytest.raises(InputError, match=r"\(3,\) names of test sets for 5 samples"):
        structure_table(Said(said), data, SETS[:3], majority=0)
    with pytest.raises(InputError, match="majority is 8; it must be the index of one of 8"):
        structure_table(Said(said), data, SETS, majority=8)
    from dataclasses import replace

    other = replace(data.targets, record=replace(data.record, names=(*NAMES[:7], "coil")))
    with pytest.raises(InputError, match="are not those of DSSP .*: 'coil' has no place"):
        structure_table(Said(said), replace(data, targets=other), SETS, majority=0)


def test_three_states_are_those_of_netsurfp() -> None:
    assert [{"H": 0, "E": 1, "C": 2}[THREE_STATES[name]] for name in "GHIBESTC"] == [0, 0, 0, 1, 1, 2, 2, 2]
