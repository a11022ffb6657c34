"""Tables of variant scores: numbers against scikit-learn, intervals against draws made one by one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

import analysis
from analysis import variant_groups
from analysis.variant_reports import intervals
from analysis.variant_tables import (
    ALLELE_FREQUENCY,
    LEAST_DRAWN,
    SPLICE_DISTANCE,
    auroc_table,
    binned,
    check_same,
    compare_scores,
    score_table,
    scored_variants,
)
from embedstore.errors import InputError
from probes.intervals import bootstrap, interval

KINDS = ("intron", "splice", "utr", "silent", "rare")


def variants(seed=0, n=400):
    """Positives and negatives in intron and utr, positives only in splice, negatives only in silent, four rare ones."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(KINDS[:4], n).astype(object)
    label = (rng.random(n) < 0.4).astype(float)
    label[kind == "splice"], label[kind == "silent"] = 1, 0
    kind[:4], label[:4] = "rare", [1, 0, 0, 0]
    score = rng.normal(size=n) + label * np.where(kind == "splice", 3, 1)
    return pd.DataFrame(
        {
            "chromosome": rng.choice(["chr1", "chr2"], n),
            "position": rng.integers(0, 5000, n),
            "ref": "A",
            "alt": "C",
            "reason": "",
            "label": label,
            "consequence": kind,
            "gene": rng.choice([f"g{i}" for i in range(30)], n),
            "cosine": score,
            "l2": score + rng.normal(size=n),
            "inner_product": -score,
        }
    )


def with_gaps(table):
    """Some rows without a score, some without a label."""
    table = table.copy()
    table.loc[table.index[10:25], "cosine"] = np.nan
    table.loc[table.index[10:25], "reason"] = "no window"
    table.loc[table.index[20:40], "label"] = np.nan
    return table


def by_hand(metric, label, scores, cluster, draws, seed):
    """Metric of each score and draw; draws are those of probes.intervals, weighting and metric scikit-learn's."""
    function = {"auroc": roc_auc_score, "auprc": average_precision_score}[metric]
    number = np.unique(cluster, return_inverse=True)[1]
    n = number.max() + 1
    rng = np.random.default_rng(seed)
    copies = [np.bincount(rng.integers(0, n, n), minlength=n)[number] for _ in range(draws)]
    return [np.array([function(label, score, sample_weight=weight) for weight in copies]) for score in scores]


# ---- score_table ---------------------------------------------------------------------------------


def test_every_group_against_its_own_or_all_of_the_other_label():
    table = variants()
    found = score_table(table, by="consequence", draws=50)
    assert found["group"].tolist() == ["all", "intron", "rare", "silent", "splice", "utr"]
    assert found["compared_with"].tolist() == [
        *("same group", "same group", "same group", "all with label 1", "all with label 0", "same group")
    ]
    kind, label = table["consequence"], table["label"]
    kept = {"all": label >= 0, "silent": (kind == "silent") | (label == 1), "splice": (kind == "splice") | (label == 0)}
    for row in found.itertuples():
        rows = table[kept.get(row.group, kind == row.group)]
        assert (row.positives, row.negatives) == ((rows["label"] == 1).sum(), (rows["label"] == 0).sum())
        assert row.base_rate == pytest.approx(rows["label"].mean())
        if row.group == "rare":
            assert np.isnan([row.auroc, row.low, row.high, row.auprc, row.auprc_low, row.auprc_high]).all()
            assert row.note == "only 1 with label 1 and 3 with label 0; 10 are wanted"
            continue
        assert row.note == ""
        assert row.auroc == pytest.approx(roc_auc_score(rows["label"], rows["cosine"]), abs=1e-12)
        assert row.auprc == pytest.approx(average_precision_score(rows["label"], rows["cosine"]), abs=1e-12)
        assert row.low < row.auroc < row.high
        assert row.auprc_low < row.auprc < row.auprc_high
        assert row.clusters == len(rows)


def test_a_minimum_of_one_gives_small_groups_a_number():
    table = variants()
    rare = score_table(table, by="consequence", least=1, draws=20).set_index("group").loc["rare"]
    here = table[table["consequence"] == "rare"]
    assert rare["auroc"] == pytest.approx(roc_auc_score(here["label"], here["cosine"]))
    few = score_table(table, by="consequence", least=len(table), draws=20)
    assert few["auroc"].isna().all()
    assert len(few) == 6


def test_rows_without_score_or_label_are_counted_and_not_used():
    table = with_gaps(variants())
    found = score_table(table, ("cosine", "l2"), by="consequence", draws=50)
    complete = table[table["label"].notna() & table["cosine"].notna()]
    same = score_table(complete, by="consequence", draws=50)
    cosine = found[found["score"] == "cosine"].reset_index(drop=True)
    counts = ["not_scored", "unlabelled"]
    pd.testing.assert_frame_equal(cosine.drop(columns=counts), same.drop(columns=counts))
    assert (same[counts] == 0).all(axis=None)
    for row in cosine.itertuples():
        members = table if row.group == "all" else table[table["consequence"] == row.group]
        assert row.not_scored == members["cosine"].isna().sum()
        assert row.unlabelled == (members["cosine"].notna() & members["label"].isna()).sum()
    everything = cosine.iloc[0][["positives", "negatives", *counts]]
    assert everything.sum() == len(table)
    assert found[found["score"] == "l2"].iloc[0][["not_scored", "unlabelled"]].tolist() == [0, 20]


def test_a_group_keeps_its_comparison_where_a_score_is_missing():
    """Otherwise a score that lacks all controls of a group would be compared with others, and look better or worse."""
    table = variants()
    table.loc[(table["consequence"] == "intron") & (table["label"] == 0), "cosine"] = np.nan
    row = score_table(table, by="consequence", draws=20).set_index("group").loc["intron"]
    assert row["compared_with"] == "same group"
    assert np.isnan(row["auroc"])
    assert row["note"] == "only 0 with label 0; 10 are wanted"


def test_a_score_that_falls_with_the_effect_is_turned_round():
    table = variants().assign(mine=lambda t: -t["cosine"], distance_to_tss=lambda t: -t["cosine"])
    names = ("cosine", "inner_product", "distance_to_tss", "mine")
    found = score_table(table, names, draws=20).set_index("score")["auroc"]
    assert found["inner_product"] == found["distance_to_tss"] == found["cosine"]
    assert found["mine"] == pytest.approx(1 - found["cosine"])
    turned = score_table(table, names, directions={"mine": -1, "cosine": -1}, draws=20).set_index("score")["auroc"]
    assert turned["mine"] == found["cosine"]
    assert turned["cosine"] == pytest.approx(1 - found["cosine"])


def test_intervals_are_those_of_draws_made_one_by_one():
    table = with_gaps(variants(n=400))
    table.loc[table.index[::7], "gene"] = ""
    kept = table[table["label"].notna() & table["cosine"].notna()]
    # Clusters are numbered in the order in which they come first; those without a gene after all others.
    genes = pd.factorize(table["gene"].replace("", np.nan))[0][kept.index]
    genes = np.where(genes < 0, len(table) + kept.index, genes)
    block = kept["chromosome"] + (kept["position"] // 200).astype(str).str.zfill(3)
    for groups, cluster in ((None, np.arange(len(kept))), (200, block), ("gene", genes)):
        row = score_table(table, groups=groups, draws=60, seed=2).iloc[0]
        assert row["clusters"] == len(set(cluster))
        for metric, ends in (("auroc", ("low", "high")), ("auprc", ("auprc_low", "auprc_high"))):
            (drawn,) = by_hand(metric, kept["label"], [kept["cosine"]], np.asarray(cluster), 60, 2)
            assert row[list(ends)].tolist() == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist(), abs=1e-6)


def test_variants_that_are_copies_of_each_other_add_nothing_when_drawn_together():
    table = variants(n=80).assign(gene=lambda t: [f"g{i:03}" for i in range(len(t))])
    once = score_table(table, draws=100).iloc[0]
    copied = pd.concat([table] * 9)
    together = score_table(copied, groups="gene", draws=100).iloc[0]
    same = ["auroc", "low", "high", "base_rate", "clusters"]
    assert together[same].tolist() == pytest.approx(once[same].tolist())
    apart = score_table(copied, draws=100).iloc[0]
    assert apart["high"] - apart["low"] < (once["high"] - once["low"]) / 2


def test_categories_keep_their_order_and_empty_ones_are_shown():
    table = variants()
    table["distance"] = np.resize([0.0, -5, 12, np.nan], len(table))
    table["bin"] = binned(table, "distance", SPLICE_DISTANCE)
    found = score_table(table, by="bin", draws=20).set_index("group")
    assert found.index.tolist() == ["all", "0-2", "3-8", "9-20", "21-50", ">50", "not given"]
    assert found.loc["21-50", ["positives", "negatives", "note"]].tolist() == [
        *(0, 0, "only 0 with label 1 and 0 with label 0; 10 are wanted")
    ]
    inside = found.loc[["0-2", "3-8", "9-20", "not given"], ["positives", "negatives"]]
    assert inside.to_numpy().sum() == len(table)
    table["consequence"] = table["consequence"].replace("utr", "")
    assert score_table(table, by="consequence", draws=20)["group"].tolist()[-1] == "not given"


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_only_ranks_count_and_rows_may_be_in_any_order(seed):
    table = variants(seed % 50, n=90)
    found = score_table(table, by="consequence", least=3, draws=5)
    other = table.assign(cosine=np.exp(table["cosine"] / 3) - 7).sample(frac=1, random_state=seed)
    again = score_table(other, by="consequence", least=3, draws=5)
    exact = ["group", "positives", "negatives", "compared_with", "note"]
    pd.testing.assert_frame_equal(found[exact], again[exact])
    np.testing.assert_allclose(found[["auroc", "auprc"]], again[["auroc", "auprc"]], rtol=1e-12)


def test_the_table_depends_on_the_seed_alone():
    table = variants()
    pd.testing.assert_frame_equal(score_table(table, draws=30, seed=1), score_table(table, draws=30, seed=1))
    assert score_table(table, draws=30, seed=1)["low"][0] != score_table(table, draws=30, seed=2)["low"][0]


BAD = [
    (lambda t: t.drop(columns="label"), {}, "no column 'label'"),
    (lambda t: t, {"columns": "cosin"}, "no column 'cosin'. Did you mean 'cosine'"),
    (lambda t: t, {"by": "consequences"}, "no column 'consequences'. Did you mean 'consequence'"),
    (lambda t: t, {"groups": "genes"}, "no column 'genes'"),
    (lambda t: t.assign(label=1), {}, "400 variants have the label 1 and 0 the label 0.*the same label"),
    (lambda t: t.assign(label=np.nan), {}, "0 variants have the label 1 and 0 the label 0.*or none"),
    (lambda t: t.assign(label=t["label"] * 2), {}, r"\d+ labels are not 0, 1 or missing, the first in row \d+: 2"),
    (lambda t: t.assign(label="benign"), {}, "column 'label' is of type .*numbers are wanted"),
    (lambda t: t.assign(cosine=np.inf), {}, "400 scores in 'cosine' are infinite"),
    (lambda t: t.assign(consequence="all"), {"by": "consequence"}, "a group called 'all'.*rename it"),
    (lambda t: t, {"groups": 0}, "groups is 0; a column, or a block of 1 nucleotide or more"),
    (lambda t: t, {"groups": True}, "groups is True"),
    (lambda t: t, {"least": 0}, "least is 0 and draws is 1000; both must be 1 or more"),
    (lambda t: t, {"draws": 0}, "draws is 0"),
    (lambda t: t, {"directions": {"cosine": 2}}, "direction of 'cosine' is 2; it must be 1 or -1"),
    (lambda t: t, {"directions": {"l2": 1}}, "directions has 'l2', which is not evaluated: cosine"),
]


@pytest.mark.parametrize(("change", "options", "said"), BAD)
def test_what_cannot_be_evaluated(change, options, said):
    with pytest.raises(InputError, match=said):
        score_table(change(variants()), **options)


# ---- bins ----------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.integers(-200, 200) | st.none(), min_size=1, max_size=30), st.sets(st.integers(0, 90), min_size=1))
def test_bins_are_those_of_pandas(values, edges):
    edges = sorted(edges)
    table = pd.DataFrame({"x": np.array(values, float)}, index=range(5, 5 + len(values)))
    found = binned(table, "x", edges)
    assert found.index.tolist() == table.index.tolist()
    theirs = pd.cut(table["x"].abs(), [-np.inf, *edges, np.inf], right=False, labels=False)
    first = int(edges[0] == 0)
    assert (found.cat.codes + first).where(found.notna()).tolist() == pytest.approx(theirs.tolist(), nan_ok=True)
    for value, name in zip(values, found, strict=True):
        if value is None:
            assert pd.isna(name)
        elif name[0] in "<>":
            assert eval(f"{abs(value)} {name}")
        else:
            low, _, high = name.partition("-")
            assert int(low) <= abs(value) <= int(high or low)


def test_bins_of_frequencies():
    found = binned(pd.DataFrame({"af": [0, 1e-5, 0.04999, 0.05, 1, np.nan]}), "af", ALLELE_FREQUENCY)
    assert found.tolist()[:-1] == ["[0, 1e-05)", "[1e-05, 0.0001)", "[0.01, 0.05)", ">=0.05", ">=0.05"]
    assert pd.isna(found[5])
    assert found.cat.ordered
    assert binned(pd.DataFrame({"x": [2.5, 0]}), "x", [0, 3]).tolist() == ["[0, 3)", "[0, 3)"]
    assert binned(pd.DataFrame({"x": [1, 0]}), "x", [0, 1]).tolist() == [">0", "0"]
    assert binned(pd.DataFrame({"x": [1]}), "x", [0]).tolist() == [">=0"]


@pytest.mark.parametrize("edges", [(), (3, 3), (5, 2), (-1, 4), (0, np.nan), (0, np.inf)])
def test_edges_that_make_no_bins(edges):
    with pytest.raises(InputError, match="ascending numbers are wanted, the first 0 or more"):
        binned(variants(), "position", edges)


def test_a_column_of_text_cannot_be_binned():
    with pytest.raises(InputError, match="column 'ref' is of type"):
        binned(variants(), "ref", (0, 1))


# ---- too few to draw -----------------------------------------------------------------------------


def grouped(groups, seed=0, of_each=10):
    """Variants of genes: what they are and how they score depend on the gene too."""
    rng = np.random.default_rng(seed)
    gene = np.repeat(np.arange(groups), of_each)
    label = (rng.random(len(gene)) < 1 / (1 + np.exp(-rng.normal(size=groups)))[gene]).astype(float)
    score = label + 0.6 * rng.normal(size=groups)[gene] + 0.8 * rng.normal(size=len(gene))
    return variants(n=len(gene)).assign(label=label, cosine=score, gene=[f"g{i}" for i in gene], l2=-score)


@pytest.mark.parametrize(("groups", "enough"), [(LEAST_DRAWN - 1, False), (LEAST_DRAWN, True)])
def test_few_groups_have_a_note_and_no_interval(groups, enough):
    table = grouped(groups).assign(label=lambda t: np.resize([0, 1], len(t)))
    row = score_table(table, groups="gene", draws=20).iloc[0]
    assert row["auroc"] == pytest.approx(roc_auc_score(table["label"], table["cosine"]))
    assert row[["low", "high", "auprc_low", "auprc_high"]].notna().all() == enough
    counts = f"{groups} groups with label 1 and {groups} groups with label 0"
    said = "" if enough else f"no interval: {counts} to draw; 20 are wanted"
    assert row["note"] == said
    # As many as are drawn one by one are enough.
    assert score_table(table, draws=20).loc[0, ["low", "high"]].notna().all()
    found = compare_scores(table, columns=("cosine", "l2"), groups="gene", draws=20)
    assert found["difference"].notna().all()
    assert (found[["low", "high", "p"]].notna() == enough).all(axis=None)
    assert (found["note"] == said).all()
    assert "(" in intervals(found, "difference", "low", "high")[0] or not enough
    assert intervals(score_table(table, groups="gene", draws=20), "auroc", "low", "high") == (
        [f"{row['auroc']:.3f} ({row['low']:.3f} to {row['high']:.3f})"] if enough else [f"{row['auroc']:.3f}"]
    )


def test_groups_that_hold_one_label_only_count_for_that():
    """A hundred genes with negatives are of no use where all positives are of five."""
    table = grouped(100).assign(label=lambda t: (np.arange(len(t)) < 50) * 1.0)
    row = score_table(table, groups="gene", draws=20).iloc[0]
    assert row["note"] == "no interval: 5 groups with label 1 to draw; 20 are wanted"
    assert np.isnan(row["low"])


def test_a_kind_of_control_with_few_variants_has_a_note():
    scores = scores_of().head(200)
    few = scores.index[scores["consequence"] == "near"][:12]
    table = auroc_table(pd.concat([scores[scores["consequence"] != "near"], scores.loc[few]]), draws=20)
    row = table.set_index("controls").loc["near"]
    assert (np.isnan(row["low"]), row["note"]) == (True, "no interval: 12 variants with label 0 to draw; 20 are wanted")


def test_intervals_of_enough_groups_hold_the_truth_about_as_often_as_they_say():
    """As docs/variants.md has it: of about 9 tables in 10 with 20 groups, and of clearly fewer with 5."""
    truth = roc_auc_score(*(grouped(20_000, seed=1)[name] for name in ("label", "cosine")))
    share = {}
    for groups in (5, LEAST_DRAWN):
        ends = []
        for seed in range(120):
            table = grouped(groups, seed=seed)
            drawn = bootstrap("auroc", scored_variants(table, groups="gene"), draws=150, seed=seed)
            ends.append(interval(drawn))
        share[groups] = np.mean([low <= truth <= high for low, high in ends])
    assert 0.84 <= share[LEAST_DRAWN] <= 0.98
    assert share[5] < share[LEAST_DRAWN] - 0.04


# ---- comparisons ---------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [None, "gene", 300])
def test_differences_are_those_of_paired_draws_made_one_by_one(groups):
    table = variants(n=150)
    cluster = {None: np.arange(150), "gene": pd.factorize(table["gene"])[0]}
    cluster[300] = table["chromosome"] + (table["position"] // 300).astype(str).str.zfill(3)
    found = compare_scores(table, columns=("cosine", "l2"), groups=groups, draws=40, seed=5)
    assert found["metric"].tolist() == ["auroc", "auprc"]
    for row in found.itertuples():
        function = {"auroc": roc_auc_score, "auprc": average_precision_score}[row.metric]
        first, second = (function(table["label"], table[name]) for name in ("cosine", "l2"))
        assert (row.first, row.second) == pytest.approx((first, second))
        assert row.difference == pytest.approx(first - second)
        one, other = by_hand(
            row.metric, table["label"], [table["cosine"], table["l2"]], np.asarray(cluster[groups]), 40, 5
        )
        drawn = one - other
        assert (row.low, row.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=1e-6)
        beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
        assert row.p == pytest.approx(min(1, 2 * (beyond + 1) / 41))


def test_two_models_are_compared_like_two_columns():
    table = variants()
    other = table.assign(cosine=table["l2"])
    columns = compare_scores(table, columns=("cosine", "l2"), by="consequence", draws=40)
    pd.testing.assert_frame_equal(compare_scores(table, other, by="consequence", draws=40), columns)
    turned = compare_scores(other, table, by="consequence", draws=40)
    np.testing.assert_allclose(turned["difference"], -columns["difference"])
    np.testing.assert_allclose(turned["low"], -columns["high"])
    rare = columns[columns["group"] == "rare"]
    assert rare["difference"].isna().all()
    assert rare["note"].str.startswith("only 1 with label 1").all()
    pd.testing.assert_frame_equal(
        compare_scores(table, table, ("cosine", "inner_product"), draws=20).filter(["difference", "p"]),
        pd.DataFrame({"difference": [0.0, 0.0], "p": [1.0, 1.0]}),
    )


def test_only_variants_with_both_scores_are_compared():
    table = with_gaps(variants())
    other = variants().assign(label=table["label"])
    other.loc[other.index[60:70], "l2"] = np.nan
    found = compare_scores(table, other, ("cosine", "l2"), draws=40)
    kept = table["cosine"].notna() & other["l2"].notna()
    same = compare_scores(table[kept], other[kept], ("cosine", "l2"), draws=40)
    pd.testing.assert_frame_equal(found.drop(columns="not_scored"), same.drop(columns="not_scored"))
    assert found["not_scored"].tolist() == [25, 25]


def test_a_paired_difference_is_surer_than_two_intervals_say():
    table = variants(n=2000)
    table["near"] = table["cosine"] + np.random.default_rng(9).normal(size=2000) * 0.5
    found = compare_scores(table, columns=("cosine", "near"), draws=200).iloc[0]
    alone = score_table(table, ("cosine", "near"), draws=200)
    assert alone["low"][0] < alone["high"][1]  # the two intervals overlap
    assert found["low"] > 0
    assert found["p"] == pytest.approx(2 / 201)


def test_what_cannot_be_compared():
    table = variants()
    with pytest.raises(InputError, match="'cosine' would be compared with itself"):
        compare_scores(table)
    with pytest.raises(InputError, match="400 and 399 rows: they hold other variants"):
        compare_scores(table, table.iloc[1:])
    moved = table.assign(position=table["position"] + (np.arange(400) >= 7))
    with pytest.raises(InputError, match="position differs in 393 of 400 rows, first in row 7: .*in the same order"):
        compare_scores(table, moved)
    with pytest.raises(InputError, match="label differs in 400 of 400 rows, first in row 0: 1.0 and 0.0"):
        compare_scores(table, table.assign(label=1 - table["label"]))
    with pytest.raises(InputError, match="no column 'alt'"):
        compare_scores(table, table.drop(columns="alt"))
    with pytest.raises(InputError, match="directions has 'l2'"):
        compare_scores(table, table, directions={"l2": 1})
    with pytest.raises(InputError, match="draws is 0"):
        compare_scores(table, table, draws=0)
    unlabelled = with_gaps(table)
    # A label that is missing is like one that is missing, and the index counts for nothing.
    check_same(unlabelled, unlabelled.set_index(unlabelled.index[::-1]))


# ---- controls ------------------------------------------------------------------------------------


def scores_of(seed=0, n=300):
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.3).astype(int)
    control = np.where(rng.random(n) < 0.5, "near", "far")
    # Differences far below the precision of float32.
    score = 0.5 + 1e-12 * (rng.normal(size=n) + 1.5 * label - (control == "far"))
    return pd.DataFrame({"cosine": score, "label": label, "consequence": np.where(label == 1, "hit", control)})


def test_auroc_table_compares_with_each_kind_of_control():
    scores = scores_of()
    table = auroc_table(scores, draws=200, seed=3)
    assert table["controls"].tolist() == ["all", "far", "near"]
    for row in table.itertuples():
        kept = scores if row.controls == "all" else scores[scores["consequence"].isin(["hit", row.controls])]
        assert row.auroc == pytest.approx(roc_auc_score(kept["label"], kept["cosine"]), abs=1e-12)
        assert row.low < row.auroc < row.high
        assert (row.positives, row.negatives) == ((kept["label"] == 1).sum(), (kept["label"] == 0).sum())
    assert (table["draws"] == 200).all()
    assert (table["seed"] == 3).all()
    pd.testing.assert_frame_equal(table, auroc_table(scores, draws=200, seed=3))
    # One control among positives: the negatives of its kind, and all positives.
    mixed = scores.assign(consequence=np.where(scores["consequence"] == "hit", "far", scores["consequence"]))
    pd.testing.assert_frame_equal(auroc_table(mixed, draws=200, seed=3), table)


def test_auroc_table_has_the_digits_it_had():
    """Printed by the function that only knew controls, which the numbers of the demonstration were made with."""
    table = auroc_table(scores_of(), draws=200, seed=3)
    assert table.to_dict("list") == {
        "controls": ["all", "far", "near"],
        "auroc": [0.8202831296992481, 0.90265297389816, 0.7199713392391871],
        "low": [0.7629833343455301, 0.8518881369907223, 0.6330165049967285],
        "high": [0.8678061685716042, 0.9448447652368211, 0.7921151906857353],
        "positives": [76, 76, 76],
        "negatives": [224, 123, 101],
        "draws": [200, 200, 200],
        "seed": [3, 3, 3],
        "note": ["", "", ""],
    }


def test_intervals_have_the_width_that_theory_gives():
    """Hanley and McNeil 1982, Radiology 143:29, for a binormal score; within a third of it."""
    table = auroc_table(scores_of(n=2000), draws=400).iloc[1]
    area, m, n = table["auroc"], table["positives"], table["negatives"]
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + (m - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)) / (m * n))
    assert table["high"] - table["low"] == pytest.approx(2 * 1.96 * error, rel=1 / 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.drop(columns="consequence"), "no column 'consequence'"),
        (lambda s: s.assign(cosine=np.nan), "300 scores in 'cosine' are NaN"),
        (lambda s: s.assign(label=1), "same label"),
        (lambda s: s.assign(label=0), "same label"),
    ],
)
def test_scores_that_cannot_be_compared(change, said):
    with pytest.raises(InputError, match=said):
        auroc_table(change(scores_of()))


def test_every_score_and_baseline_has_a_direction_and_a_title():
    from analysis.variant_baselines import BASELINES
    from analysis.variants import SCORES

    assert not set(SCORES) & set(BASELINES)
    for name in (*SCORES, *BASELINES):
        assert variant_groups.direction_of(name) in (1, -1)
        assert variant_groups.title_of(name) != name
    assert variant_groups.direction_of("mine") == 1
    assert variant_groups.title_of("mine") == "mine"
    assert variant_groups.direction_of("distance_to_splice_site") == -1


def test_public_names_are_there():
    assert analysis.score_table is score_table
    assert analysis.binned is binned
