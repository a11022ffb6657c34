from __future__ import annotations

import hashlib
import json

import pytest

from embedstore.errors import InputError
from embedstore.tasks import TaskRecord, names, record

# BEND, conf/supervised_tasks/*.yaml and conf/embedding/embed.yaml at commit ac6e80c:
# level, outputs, bin, strand, genome, metric, learning rate, batch, hidden channels
BEND = {
    "gene_finding": ("nucleotide", 9, 1, "forward", "GRCh38", "mcc", 3e-3, 64, 64),
    "enhancer_annotation": ("bin", 1, 128, "forward", "GRCh38", "auprc", 1e-3, 8, 2),
    "chromatin_accessibility": ("sequence", 125, 1, "given", "GRCh37", "auroc", 3e-3, 256, 64),
    "histone_modification": ("sequence", 18, 1, "given", "GRCh38", "auroc", 3e-3, 256, 64),
    "cpg_methylation": ("sequence", 7, 1, "given", "GRCh38", "auroc", 3e-3, 256, 64),
}
VARIANTS = ["variant_effects_disease", "variant_effects_expression"]
PROTEINS = [  # tests/embedstore/test_protein_records.py
    *("beta_lactamase_complete", "beta_lactamase_unique", "fluorescence", "melting_point", "secondary_structure"),
    "stability",
]
LEAST = {"name": "mine", "level": "sequence", "type": "class", "metric": "mcc", "names": ["no", "yes"]}


def test_the_published_tasks_have_the_numbers_of_bend():
    assert names() == sorted([*BEND, *VARIANTS, *PROTEINS])
    for name in VARIANTS:
        one = record(name)
        assert (one.level, one.names, one.strand, one.genome) == ("sequence", ("effect",), "forward", "GRCh38")
        assert (one.metric, one.probe) == ("auroc", {})
    for name, wanted in BEND.items():
        one = record(name)
        seen = (one.level, len(one.names), one.bin_size, one.strand, one.genome, one.metric)
        seen += tuple(one.probe[key] for key in ("learning_rate", "batch_size", "hidden"))
        assert seen == wanted
        assert (one.name, one.probe["kernel"], one.probe["epochs"], one.probe["weight_decay"]) == (name, 3, 100, 0.01)
        assert one.probe.get("positive_weight") == (82.86 if name == "enhancer_annotation" else None)
        assert one.title
        assert "Marin" in one.citation


def test_gene_finding_classes_are_in_the_order_of_the_released_labels():
    parts = ("exon", "donor", "intron", "acceptor")
    wanted = [f"{part}_{strand}" for strand in ("forward", "reverse") for part in parts] + ["non_coding"]
    assert list(record("gene_finding").names) == wanted


# A record is part of what identifies a task in a store: a change here is another task for every store there is.
KEPT = {
    "chromatin_accessibility": "5818aff9590ef876",
    "cpg_methylation": "46550ff68b31085b",
    "enhancer_annotation": "1c65ae25cef027b2",
    "gene_finding": "70afedb145523ba5",
    "histone_modification": "fa6d99d92727e2ef",
}


@pytest.mark.parametrize("name", sorted(KEPT))
def test_records_are_those_of_the_stores_there_are(name):
    text = json.dumps(record(name).to_dict(), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == KEPT[name]


@pytest.mark.parametrize("name", names())
def test_records_survive_json(name):
    one = record(name)
    assert TaskRecord.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_a_record_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nlevel = "bin"\nbin_size = 32\ntype = "value"\nmetric = "r2"\nnames = 3\nstrand = "given"\n'
        "[probe]\nlearning_rate = 1\nweight_decay = 0\n"
    )
    for given in (path, str(path)):
        one = record(given)
        assert one.names == ("target_0", "target_1", "target_2")
        assert (one.bin_size, one.probe) == (32, {"learning_rate": 1, "weight_decay": 0})
    assert one == TaskRecord(
        name="mine",
        level="bin",
        bin_size=32,
        type="value",
        metric="r2",
        names=("target_0", "target_1", "target_2"),
        strand="given",
        probe={"learning_rate": 1, "weight_decay": 0},
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levle": "bin"}, "unknown key 'levle'. Did you mean 'level'"),
        ({"level": "base"}, "level is 'base'; it must be one of nucleotide, bin, sequence"),
        ({"level": ["bin"]}, "level is"),
        ({"metric": "AUROC"}, "metric is 'AUROC'"),
        ({"type": "regression"}, "type is 'regression'"),
        ({"strand": "+"}, "strand is"),
        ({"name": 3}, "name is 3; it must be of type str"),
        ({"name": ""}, "name is empty"),
        ({"names": "yes"}, "names is 'yes'"),
        ({"names": ["a", 1]}, "names is"),
        ({"names": ["a", ""]}, "names is"),
        ({"names": ["a", "a"]}, "same name twice"),
        ({"names": ["a"]}, "needs 2"),
        ({"names": True}, "names is True"),
        ({"type": "multilabel", "names": [], "metric": "auroc"}, "needs 1"),
        ({"bin_size": 128}, "bin_size is 128 with level 'sequence'"),
        ({"bin_size": True}, "bin_size is True; it must be of type int"),
        ({"level": "bin"}, "bin_size is 1 with level 'bin'"),
        ({"level": "nucleotide", "type": "multilabel", "metric": "auroc"}, "one class or one value"),
        ({"level": "nucleotide", "type": "value", "metric": "r2"}, "one class or one value"),
        ({"type": "value"}, "metric 'mcc' does not fit type 'value'"),
        ({"metric": "r2"}, "metric 'r2' does not fit type 'class'"),
        ({"probe": 3}, "probe is 3"),
        ({"probe": {"learn_rate": 1.0}}, "unknown key 'learn_rate' in probe. Did you mean 'learning_rate'"),
        ({"probe": {"hidden": 2.5}}, "probe.hidden is 2.5; it must be of type int"),
        ({"probe": {"epochs": 0}}, "probe.epochs is 0; it must be a finite number above 0"),
        ({"probe": {"learning_rate": float("nan")}}, "probe.learning_rate is nan"),
        ({"probe": {"positive_weight": float("inf")}}, "probe.positive_weight is inf"),
    ],
)
def test_wrong_fields_are_refused(change, message):
    with pytest.raises(InputError) as caught:
        TaskRecord.from_dict(LEAST | change)
    assert message in str(caught.value)


def test_missing_fields_are_named():
    with pytest.raises(InputError, match="level, metric missing"):
        TaskRecord.from_dict({"name": "a", "type": "class"})


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ('name = "a"\nlevel = "sequence"\ntype = "class"\nmetrics = "mcc"\n', ":4", "Did you mean 'metric'"),
        ('name = "a"\ntype = "klass"\nlevel = "bin"\nmetric = "mcc"\n', ":2", "type is 'klass'"),
        ('name = "a"\ntype = "value"\nlevel = "sequence"\nmetric = "r2"\n[probe]\nhiden = 3\n', ":6", "'hidden'"),
        ('name = "a"\ntype = "value"\nlevel = "sequence"\nmetric = "r2"\n[probe]\nhidden = "3"\n', ":6", "type int"),
        ('name = "a"\n', "", "missing"),
        ('name = "a\n', "", "is not TOML: Illegal character"),
    ],
)
def test_faults_of_a_file_name_the_file_and_the_line(tmp_path, text, place, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        record(path)
    assert str(caught.value).startswith(f"{path}{place}: ")
    assert message in str(caught.value)


def test_unknown_tasks_and_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no published task 'gene_findin'. Did you mean 'gene_finding'\?"):
        record("gene_findin")
    with pytest.raises(InputError, match="nothing.toml: cannot be read"):
        record(tmp_path / "nothing.toml")
