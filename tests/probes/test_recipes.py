"""Settings of the recipes against the published ones."""

from __future__ import annotations

import pytest

from embedstore import tasks
from embedstore.errors import InputError
from probes.kinds import PROBES
from probes.planning import make_probe
from probes.recipes import FIXES, RECIPES, recipe_settings

# conf/supervised_tasks/*.yaml of BEND at ac6e80c: learning rate, batch, hidden channels, weight of positives.
PUBLISHED = {
    "gene_finding": (3e-3, 64, 64, None),
    "enhancer_annotation": (1e-3, 8, 2, 82.86),
    "chromatin_accessibility": (3e-3, 256, 64, None),
    "histone_modification": (3e-3, 256, 64, None),
    "cpg_methylation": (3e-3, 256, 64, None),
}
NETWORKS = [name for name, kind in PROBES.items() if "network" in kind.parameters]


@pytest.mark.parametrize("task", PUBLISHED)
def test_bend_is_what_was_published(task: str) -> None:
    rate, batch, hidden, weight = PUBLISHED[task]
    common = {"learning_rate": rate, "batch_size": batch, "epochs": 100, "weight_decay": 0.01}
    common |= {} if weight is None else {"positive_weight": weight}
    found = {name: recipe_settings("bend", tasks.record(task), name) for name in PROBES}
    assert found["cnn"] == common | {"hidden": hidden, "kernel": 3}
    assert found["resnet"] == common | {"hidden": 64, "kernel": 3}
    assert found["basset"] == found["linear"] == found["mlp"] == found["attention"] == common
    assert found["ridge"] == found["logistic"] == found["majority"] == {}
    for name, settings in found.items():
        made = make_probe(PROBES[name], settings).get_params()
        assert {key: made[key] for key in settings} == settings
        if name in NETWORKS:
            assert (made["schedule"], made["decay"], made["patience"], made["clip"]) == ("constant", "all", None, None)
            assert (made["precision"], made["seed"]) == ("float32", None)


def test_every_task_that_is_trained_has_numbers() -> None:
    trained = {name for name in tasks.names() if tasks.record(name).probe}
    assert trained == set(PUBLISHED)


@pytest.mark.parametrize("task", PUBLISHED)
@pytest.mark.parametrize("probe", NETWORKS)
def test_best_changes_what_it_says_and_no_more(task: str, probe: str) -> None:
    record = tasks.record(task)
    bend, best = (recipe_settings(name, record, probe) for name in ("bend", "best"))
    changed = {"schedule": "cosine", "decay": "weights", "clip": 1.0, "patience": 15, "learning_rate": 2e-3}
    changed |= {"batch_size": min(16, bend["batch_size"])}
    changed |= {"hidden": 64} if probe == "cnn" else {}
    assert best == bend | changed
    assert best["epochs"] == 100


def test_a_wider_network_of_a_task_of_ones_own_is_kept() -> None:
    record = tasks.TaskRecord(
        name="mine", level="sequence", type="multilabel", names=("x",), metric="auroc", probe={"hidden": 128}
    )
    assert recipe_settings("best", record, "cnn")["hidden"] == 128
    assert recipe_settings("best", record, "cnn")["batch_size"] == 16
    assert recipe_settings("bend", record, "cnn") == {"hidden": 128}
    assert recipe_settings("bend", record, "resnet") == {"hidden": 64}


def test_unknown_names() -> None:
    record = tasks.record("gene_finding")
    with pytest.raises(InputError, match="there is no recipe 'bnd'. Did you mean 'bend'"):
        recipe_settings("bnd", record, "cnn")
    with pytest.raises(InputError, match="there is no probe 'ressnet'. Did you mean 'resnet'"):
        recipe_settings("bend", record, "ressnet")


def test_what_is_done_otherwise_is_written_down() -> None:
    assert RECIPES["bend"].notes is FIXES
    subjects = {note.partition(":")[0] for note in FIXES}
    assert {"padding", "ends", "order", "selection", "precision", "seeds", "initial weights"} <= subjects
    assert set(RECIPES) == {"bend", "best"}
    for setting in RECIPES["best"].changes:
        assert setting in make_probe(PROBES["cnn"], {}).get_params()
