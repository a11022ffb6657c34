"""Zero-shot numbers among the results of probes: in the tables, with published numbers, and compared."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from toys import ToyModel, random_sequences

import embedstore
import probes
from analysis.scoring import score_variants
from analysis.variant_results import write_zero_shot
from analysis.variant_tables import score_table
from embedstore import cli, tasks
from embedstore.errors import InputError
from embedstore.genome import Genome
from embedstore.tasks import published
from probes.tables import results_table

DISEASE = "variant_effects_disease"
TEXT = random_sequences([2000], seed=6)[0]


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(f">chr1\n{TEXT}\n")
    with Genome(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def scored(genome, tmp_path_factory):
    """A store with scores of two models for the variants of a task with a published name."""
    rng = np.random.default_rng(0)
    position = rng.choice(2000, 60, replace=False)
    ref = [TEXT[at] for at in position]
    variants = pd.DataFrame({"chromosome": "chr1", "position": position, "ref": ref})
    variants = variants.assign(alt=["ACGT"["CGTA".index(letter)] for letter in ref], label=rng.integers(0, 2, 60))
    variants.loc[7, "alt"] = "<DEL>"
    store = embedstore.open_store(tmp_path_factory.mktemp("store") / "store.zarr", mode="a")
    found = {}
    for name, seed in (("nt_2b5_multi_species", 0), ("mine", 1)):
        model = ToyModel(seed=seed)
        model.name = name
        found[name] = score_variants(
            variants, genome, model, store, name=DISEASE, scores=("cosine", "inner_product"), progress=False
        )
    return store, found


def test_a_model_by_task_table_has_the_zero_shot_numbers(scored, capsys):
    store, tables = scored
    for name, table in tables.items():
        folder = write_zero_shot(table, store, DISEASE, name, draws=100)
        assert folder == write_zero_shot(table, store, DISEASE, name, draws=100)
    out = folder.parents[2]
    assert out.name == "store.results"
    rows = probes.read_results(out)
    assert len(rows) == 2
    for row in rows.itertuples():
        table = tables[row.model].drop(index=7)
        assert row.test == pytest.approx(roc_auc_score(table["label"], table["cosine"]), abs=1e-12)
        same = score_table(tables[row.model], draws=100).iloc[0]
        assert (row.test, row.low, row.high) == (same["auroc"], same["low"], same["high"])
        assert row.base_rate == pytest.approx(table["label"].mean())
        assert (row.n_test, row.published, row.probe) == (59, False, published.ZERO_SHOT)
    shown = results_table(rows).set_index("model")
    assert shown["published"].isna().all()
    assert shown["kind"].tolist() == ["language model"] * 2
    assert cli.main(["results", store.path, "--format", "csv"]) == 0
    text = capsys.readouterr().out
    assert f"{DISEASE} (AUROC)" in text
    assert f"{rows['test'].max():.3f}*" in text


def test_the_published_number_stands_beside_a_published_task(scored, monkeypatch, tmp_path):
    store, tables = scored
    real = tasks.publication(DISEASE)._replace(counts={"paper": {"all": 60}})
    monkeypatch.setattr(published, "publication", lambda _: real)
    for name, table in tables.items():
        write_zero_shot(table, store, DISEASE, name, out=tmp_path, draws=20)
    shown = results_table(probes.read_results(tmp_path)).set_index("model")["published"]
    assert shown["nt_2b5_multi_species"] == 0.77
    assert np.isnan(shown["mine"])


def test_scores_settings_and_models_are_results_of_their_own_that_can_be_compared(scored, tmp_path):
    store, tables = scored
    where = {"out": tmp_path / "results", "draws": 50}
    ours, theirs = (write_zero_shot(tables[name], store, DISEASE, name, **where) for name in tables)
    other = write_zero_shot(tables["mine"], store, DISEASE, "mine", column="inner_product", **where)
    both = write_zero_shot(tables["mine"], store, DISEASE, "mine", settings={"strands": "both"}, **where)
    assert len({ours, theirs, other, both}) == 4
    shown = results_table(probes.read_results(tmp_path / "results"))
    assert len(shown) == 4
    assert {"score=inner_product, strands=None", "score=cosine, strands=both"} <= set(shown["settings"])
    found = probes.compare(ours, theirs, draws=50)
    first, second = (table.drop(index=7) for table in tables.values())
    areas = [roc_auc_score(table["label"], table["cosine"]) for table in (first, second)]
    assert found.difference == pytest.approx(areas[0] - areas[1], abs=1e-6)
    assert found.n > 0
    inner = probes.read_results(tmp_path / "results").set_index("path").loc[str(other), "test"]
    assert inner == pytest.approx(roc_auc_score(second["label"], -second["inner_product"]))


def test_variants_drawn_together_have_another_interval(scored, tmp_path):
    store, tables = scored
    one, other = (
        write_zero_shot(tables["mine"], store, DISEASE, "mine", groups=groups, out=tmp_path, draws=50)
        for groups in (None, 25)
    )
    rows = probes.read_results(tmp_path).set_index("path")
    assert rows.loc[str(one), "test"] == pytest.approx(rows.loc[str(other), "test"])
    assert rows.loc[str(one), "low"] != rows.loc[str(other), "low"]


def test_few_groups_have_no_interval(scored, tmp_path):
    store, tables = scored
    write_zero_shot(tables["mine"], store, DISEASE, "mine", groups=500, out=tmp_path, draws=50)
    (row,) = probes.read_results(tmp_path).itertuples()
    assert row.test > 0
    assert np.isnan(row.low)
    assert np.isnan(row.high)
    assert len(results_table(probes.read_results(tmp_path))) == 1


def test_scores_of_other_variants_are_refused(scored):
    store, tables = scored
    with pytest.raises(InputError, match="59 and 60 rows: they hold other variants"):
        write_zero_shot(tables["mine"].iloc[1:], store, DISEASE, "mine")
    with pytest.raises(InputError, match="alt differs in"):
        write_zero_shot(tables["mine"].assign(alt="A"), store, DISEASE, "mine")
    with pytest.raises(InputError, match="no column 'label'"):
        write_zero_shot(tables["mine"].drop(columns="label"), store, DISEASE, "mine")
