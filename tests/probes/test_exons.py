"""Exons counted by numpy, against plain loops and sets, and against what scikit-learn says of nucleotides."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore.errors import InputError
from embedstore.tasks import record
from probes import metrics
from probes.exons import EXON_COUNTS, EXON_METRICS, exon_classes, exon_counts, exon_metric, exon_table, has_exons
from probes.intervals import bootstrap, interval
from probes.scores import Scores

NAMES = record("gene_finding").names
SMALL = ("exon_forward", "intron_forward", "exon_reverse", "non_coding")

# Stretches, so that whole exons are often equal: (class, length) for the truth and for the prediction.
stretches = st.lists(st.tuples(st.sampled_from([-100, 0, 0, 1, 2, 3]), st.integers(1, 4)), min_size=1, max_size=12)


def named(truth, predicted, names=SMALL) -> dict[str, int]:
    return dict(zip(EXON_COUNTS, exon_counts(truth, predicted, names).tolist(), strict=True))


def exons(classes: list[int], truth: list[int]) -> tuple[set, int]:
    """(start, end, class) of the stretches of exon classes that touch nothing unlabelled; how many touch."""
    found, touching = set(), 0
    position = 0
    while position < len(classes):
        end = position
        while end < len(classes) and classes[end] == classes[position]:
            end += 1
        if classes[position] in (0, 2):
            around = truth[max(position - 1, 0) : end + 1]
            if -100 in around:
                touching += 1
            else:
                found.add((position, end, classes[position]))
        position = end
    return found, touching


@settings(max_examples=300, deadline=None)
@given(stretches, st.lists(st.tuples(st.integers(0, 47), st.integers(0, 3)), max_size=6))
def test_counts_are_those_of_sets(parts, changes):
    truth = [number for number, many in parts for _ in range(many)]
    predicted = [3 if number < 0 else number for number in truth]
    for place, number in changes:
        predicted[place % len(truth)] = number
    true, left_out = exons(truth, truth)
    said, _ = exons(predicted, truth)
    gene = bool(true) and not left_out
    labelled = [(t, p) for t, p in zip(truth, predicted, strict=True) if t >= 0]
    assert named(truth, predicted) == {
        "true_exons": len(true),
        "predicted_exons": len(said),
        "exact_exons": len(true & said),
        "true_genes": int(gene),
        "exact_genes": int(gene and true == said),
        "true_nucleotides": sum(t in (0, 2) for t, _ in labelled),
        "predicted_nucleotides": sum(p in (0, 2) for _, p in labelled),
        "right_nucleotides": sum(t == p and t in (0, 2) for t, p in labelled),
    }


def test_a_border_off_by_one_is_a_wrong_exon_and_a_wrong_gene_but_hardly_a_wrong_nucleotide():
    truth = np.array([3] * 10 + [0] * 100 + [1] * 50 + [0] * 90 + [3] * 5)
    right = named(truth, truth)
    assert (right["exact_exons"], right["exact_genes"]) == (2, 1)
    off = truth.copy()
    off[110] = 0
    counts = named(truth, off)
    assert (counts["true_exons"], counts["predicted_exons"], counts["exact_exons"]) == (2, 2, 1)
    assert (counts["true_genes"], counts["exact_genes"], counts["right_nucleotides"]) == (1, 0, 190)


def test_an_exon_on_the_other_strand_is_wrong():
    truth = np.array([3, 0, 0, 3])
    counts = named(truth, np.where(truth == 0, 2, truth))
    assert (counts["true_exons"], counts["predicted_exons"], counts["exact_exons"]) == (1, 1, 0)
    assert (counts["predicted_nucleotides"], counts["right_nucleotides"]) == (2, 0)


def test_neighbours_on_two_strands_are_two_exons_and_ends_of_the_sample_end_them():
    assert named([0, 0, 2, 2], [0, 0, 2, 2])["exact_exons"] == 2


def test_a_sample_without_exons_is_no_gene_but_what_is_predicted_there_is_wrong():
    counts = named([3, 3, 3, 3], [3, 0, 3, 2])
    assert (counts["true_exons"], counts["predicted_exons"], counts["exact_exons"]) == (0, 2, 0)
    assert (counts["true_genes"], counts["exact_genes"]) == (0, 0)


def test_an_exon_that_may_go_on_where_there_is_no_label_is_left_out_on_both_sides():
    truth = [3, 0, 0, -100, -100, 3, 0, 3]
    counts = named(truth, [3, 0, 0, 0, 3, 3, 0, 3])
    assert (counts["true_exons"], counts["predicted_exons"], counts["exact_exons"]) == (1, 1, 1)
    assert (counts["true_genes"], counts["exact_genes"]) == (0, 0)  # nobody knows the whole gene
    assert (counts["true_nucleotides"], counts["predicted_nucleotides"]) == (3, 3)


def test_nothing_labelled_counts_nothing():
    assert not exon_counts(np.full(5, -100), np.zeros(5, int), SMALL).any()


def test_exon_classes_go_by_their_names():
    assert exon_classes(NAMES) == [0, 4]
    assert exon_classes(("exon", "other")) == [0]
    assert not has_exons(("exonic", "promoter"))


def test_arrays_that_do_not_fit():
    with pytest.raises(InputError, match=r"true classes have the shape \(3,\), predicted ones \(4,\); both must be"):
        exon_counts([0] * 3, [0] * 4, SMALL)
    with pytest.raises(InputError, match="none of the classes a, b is an exon; a name that begins with exon is wanted"):
        exon_counts([0], [0], ("a", "b"))


def test_measures_of_nucleotides_are_scikit_learns():
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 2, (2, 500))  # exon_forward against one other class
    counts = exon_counts(truth, said, ("exon", "other"))
    for name, function in (("precision", "precision_score"), ("recall", "recall_score"), ("f1", "f1_score")):
        expected = getattr(sklearn.metrics, function)(truth, said, pos_label=0)
        np.testing.assert_allclose(exon_metric(f"coding_{name}", counts), expected, rtol=1e-12)


def test_table_says_value_interval_and_n():
    rng = np.random.default_rng(1)
    per_sample = np.array([exon_counts(*(rng.integers(0, 4, (2, 30)) // 2 * 2), SMALL) for _ in range(40)])
    table = exon_table(per_sample, draws=200).set_index("metric")
    assert tuple(table.index) == EXON_METRICS
    total = dict(zip(EXON_COUNTS, per_sample.sum(axis=0), strict=True))
    precision = total["exact_exons"] / total["predicted_exons"]
    recall = total["exact_exons"] / total["true_exons"]
    assert table.loc["exon_precision", "value"] == pytest.approx(precision)
    assert table.loc["exon_recall", "value"] == pytest.approx(recall)
    assert table.loc["exon_f1", "value"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert table.loc["gene_exact", "n"] == total["true_genes"]
    assert table.loc["exon_f1", "n"] == total["true_exons"] + total["predicted_exons"]
    assert table.loc["coding_recall", "n"] == total["true_nucleotides"]
    scores = Scores(0.0, exons=per_sample)
    for name in EXON_METRICS:
        row = table.loc[name]
        assert row["low"] <= row["value"] <= row["high"]
        assert metrics.per_target(name, scores).tolist() == [row["value"]]
        assert interval(bootstrap(name, scores, draws=200)) == (row["low"], row["high"])


def test_nothing_to_find_is_not_defined():
    table = exon_table(np.zeros((3, len(EXON_COUNTS)), np.int64), draws=5)
    assert table[["value", "low", "high"]].isna().all(axis=None)
    assert (table["n"] == 0).all()
