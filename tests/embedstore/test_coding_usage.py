"""Codon usage per group, and tables of it that come from elsewhere."""

from collections import Counter
from functools import cache

import numpy as np
import pandas as pd
import pytest
from Bio.Seq import Seq
from hypothesis import given
from hypothesis import strategies as st

from embedstore.coding import CODONS, codon_usage
from embedstore.coding.usage import usage_rows
from embedstore.errors import InputError
from embedstore.sequences import encode


@cache
def family(codon, table):
    return [c for c in CODONS if str(Seq(c).translate(table)) == str(Seq(codon).translate(table))]


@given(
    st.lists(st.tuples(st.lists(st.sampled_from(CODONS), max_size=20), st.sampled_from("ab")), min_size=1, max_size=5),
    st.sampled_from([1, 2]),
    st.sampled_from([0.5, 1.0]),
)
def test_usage_is_the_dirichlet_mean(samples, table, pseudocount):
    usage = codon_usage(
        [encode("".join(codons)) for codons, _ in samples],
        [group for _, group in samples],
        table=table,
        pseudocount=pseudocount,
    )
    assert usage.index.tolist() == sorted({group for _, group in samples})
    assert usage.columns.tolist() == list(CODONS)
    for group in usage.index:
        counts = Counter(codon for codons, its in samples if its == group for codon in codons)
        for codon in CODONS:
            own = family(codon, table)
            wanted = (counts[codon] + pseudocount) / (sum(counts[c] for c in own) + pseudocount * len(own))
            assert usage.loc[group, codon] == pytest.approx(wanted)


def test_without_groups_and_without_pseudocount():
    usage = codon_usage([encode("AAAAAG"), encode("AAANNN")], pseudocount=0)
    assert usage.index.tolist() == ["all"]
    assert usage.loc["all", ["AAA", "AAG"]].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert usage.loc["all", ["GCA", "GCC"]].isna().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], None), "0 coding sequences and 0 groups"),
        (([encode("AAA")], ["a", "b"]), "1 coding sequences and 2 groups: codon usage takes one of each"),
    ],
)
def test_groups_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        codon_usage(*arguments)


def test_a_negative_pseudocount_is_refused():
    with pytest.raises(InputError, match="pseudocount=-1: it is added to counts"):
        codon_usage([encode("AAA")], pseudocount=-1)


@pytest.fixture
def usage():
    return codon_usage([encode("AAAAAGGCC"), encode("AAGGCATTT")], ["one", "two"])


def test_rows_are_found_and_brought_to_one(usage):
    shuffled = usage[list(CODONS[::-1])] * 3.0
    shuffled.columns = [codon.replace("T", "U").lower() for codon in shuffled.columns]
    found = usage_rows(shuffled, ["two", "one", "two"], 1)
    np.testing.assert_allclose(found, usage.loc[["two", "one", "two"]])
    # Another genetic code: ATA and ATG are one family there.
    other = usage_rows(usage, ["one"], 2)[0]
    assert other[CODONS.index("ATA")] + other[CODONS.index("ATG")] == pytest.approx(1)


def test_rounded_tables_of_two_decimals_will_do(usage):
    rounded = usage_rows(usage.round(2), ["one"], 1)
    np.testing.assert_allclose(rounded, usage.loc[["one"]], atol=0.02)


def test_what_is_never_drawn_may_be_missing(usage):
    usage[["TAA", "TAG", "TGA", "ATG", "TGG"]] = 0.0
    assert usage_rows(usage, ["one"], 1).shape == (1, 64)


def test_a_table_without_a_codon_is_refused(usage):
    with pytest.raises(InputError, match="one column for each codon; this one not for AAC, TTT"):
        usage_rows(usage.drop(columns=["TTT", "AAC"]), ["one"], 1)
    with pytest.raises(InputError, match="this one not for AAA"):
        usage_rows(pd.concat([usage, usage[["AAA"]]], axis=1), ["one"], 1)


def test_an_unknown_or_repeated_group_is_refused(usage):
    with pytest.raises(InputError, match=r"has 0 rows for 'on'; one is wanted\. Did you mean 'one'\?"):
        usage_rows(usage, ["on"], 1)
    with pytest.raises(InputError, match="has 2 rows for 'one'; one is wanted"):
        usage_rows(pd.concat([usage, usage]), ["one"], 1)


@pytest.mark.parametrize(
    ("codons", "value"), [(["AAA"], -0.1), (["AAA"], np.nan), (["AAA"], np.inf), (["AAA", "AAG"], 0)]
)
def test_values_that_nothing_can_be_drawn_with_are_refused(usage, codons, value):
    usage.loc["two", codons] = value
    assert usage_rows(usage, ["one"], 1).shape == (1, 64)
    with pytest.raises(
        InputError, match="The codon usage of 'two' has a value that is negative or not finite, or zeros"
    ):
        usage_rows(usage, ["one", "two"], 1)
