"""The rule on made-up terms: every branch, and what it must not be fooled by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.melting_point.verdict import RULE, judge
from embedstore.errors import InputError

ROOT = Path(__file__).parents[2]
RISING = (0.0, 0.01, 0.04, 0.1, 0.2)


def terms(model, local, comp, width=0.02):
    """Rows of a partition; intervals of so much to either side."""
    rows = [
        {
            "model": model,
            "contrast": name,
            "measure": measure,
            "estimate": value,
            "low": value - width,
            "high": value + width,
        }
        for measure in ("within", "total")
        # In total everything looks like a gain: it must not be looked at.
        for name, value in (
            ("d_local", local if measure == "within" else 0.5),
            ("d_comp", comp if measure == "within" else 0.5),
            ("d_species", 0.9),
        )
    ]
    return pd.DataFrame(rows)


def curve(model, losses=RISING, width=0.005):
    widths = [1.0, 2.0, 8.0, 32.0, np.inf][: len(losses)]
    steps = np.diff(losses, prepend=0.0)
    rows = [
        {
            "model": model,
            "measure": "within",
            "width": one,
            "estimate": loss,
            "low": loss - width,
            "high": loss + width,
            "step": step,
            "step_low": step - width,
            "step_high": step + width,
        }
        for one, loss, step in zip(widths, losses, steps, strict=True)
    ]
    return pd.DataFrame(rows)


FLAT = (0.0, 0.0, 0.001, -0.001, 0.0)


@pytest.mark.parametrize(
    ("models", "conclusion"),
    [
        ([(0.2, 0.1, RISING), (0.1, 0.0, RISING)], "local"),
        ([(0.2, 0.0, RISING), (0.1, 0.0, RISING), (0.0, 0.1, FLAT)], "local"),
        ([(0.2, 0.1, RISING)], "undecided"),  # one model is not two
        ([(0.2, 0.1, RISING), (0.0, 0.1, FLAT)], "undecided"),
        ([(0.2, 0.1, (0.0, 0.15, 0.16, 0.18, 0.2)), (0.2, 0.1, RISING)], "undecided"),  # does not begin near 0
        ([(0.2, 0.1, (0.0, 0.0, 0.0, 0.19, 0.2)), (0.2, 0.1, RISING)], "undecided"),  # one jump
        ([(0.2, 0.1, (0.0, 0.05, 0.15, 0.1, 0.2)), (0.2, 0.1, RISING)], "undecided"),  # falls on the way
        ([(0.2, 0.1, FLAT), (0.2, 0.1, FLAT)], "undecided"),  # no loss to explain it
        ([(0.0, 0.1, FLAT), (0.01, 0.05, FLAT)], "composition"),
        ([(0.0, 0.1, FLAT)], "composition"),
        ([(0.0, 0.1, FLAT), (0.0, 0.0, FLAT)], "species only"),
        ([(0.0, 0.0, FLAT), (0.0, 0.0, FLAT)], "species only"),
        ([(-0.1, -0.1, FLAT), (-0.1, 0.0, RISING)], "species only"),
    ],
)
def test_every_branch(models, conclusion):
    partition = pd.concat([terms(f"m{number}", one[0], one[1]) for number, one in enumerate(models)])
    curves = pd.concat([curve(f"m{number}", one[2]) for number, one in enumerate(models)])
    found = judge(partition, curves)
    assert found.conclusion == conclusion
    assert found.text.lower().startswith(
        {"local": "the order", "composition": "codon usage"}.get(conclusion, conclusion)
    )
    for number, one in enumerate(models):
        assert f"m{number}: d_local {one[0]:+.3f}" in found.text
    assert len(found.evidence) == 6 * len(models)


def test_without_windows_nothing_is_called_local():
    partition = pd.concat([terms("a", 0.2, 0.1), terms("b", 0.2, 0.1)])
    assert judge(partition, curve("a").iloc[:0]).conclusion == "undecided"
    only_ends = pd.concat([curve(name, (0.0, 0.2)).assign(width=[1.0, np.inf]) for name in "ab"])
    assert judge(partition, only_ends).conclusion == "undecided"


def test_the_evidence_holds_the_numbers():
    evidence = judge(terms("a", 0.2, 0.01), curve("a")).evidence.set_index("criterion")
    assert evidence.loc["d_local > 0", ["estimate", "low", "high"]].tolist() == pytest.approx([0.2, 0.18, 0.22])
    assert evidence.loc["d_local > 0", "holds"]
    assert not evidence.loc["d_comp > 0", "holds"]
    assert evidence.loc["loss begins near 0 (windows of 2)", "estimate"] == 0.01
    assert evidence.loc["loss has no jump (largest step, as a share)", "estimate"] == pytest.approx(0.5)


def test_terms_that_are_missing_are_named():
    partition = terms("a", 0.2, 0.1)
    with pytest.raises(InputError, match="model 'a' has no d_comp: the rule needs both"):
        judge(partition[partition["contrast"] != "d_comp"], curve("a"))
    with pytest.raises(InputError, match="there is no model to judge"):
        judge(partition.iloc[:0], curve("a"))


def test_the_rule_stands_in_the_documentation_word_for_word():
    text = (ROOT / "docs" / "melting_point.md").read_text(encoding="utf-8")
    assert RULE in " ".join(text.replace("\n> ", " ").split())
