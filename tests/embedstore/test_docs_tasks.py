"""The commands about tasks, and the page about them: what they say is so, and what they show works as shown."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from bend_files import write_task

from embedstore import tasks
from embedstore.tasks.records import PUBLICATION_TABLES

MODEL = Path(__file__).parents[1] / "golden" / "nt_v1"
PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
LEAST = 'name = "a"\nlevel = "sequence"\ntype = "multilabel"\nmetric = "auroc"\nnames = 2\n'


# ---- the command line -----------------------------------------------------------------------------


def test_the_list_and_the_page_of_a_task(run):
    code, out, _ = run("tasks")
    header, *lines = [line.split() for line in out.splitlines()]
    assert (code, header) == (0, ["name", "level", "labels", "samples", "metric", "genome", "citation"])
    assert [line[0] for line in lines] == tasks.names()
    assert re.search(
        r"^histone_modification +sequence +18 x yes/no +625,229 +auroc +GRCh38 +Marin et al. 2024$", out, re.MULTILINE
    )
    assert re.search(r"^enhancer_annotation +bin of 128 +1 x yes/no +285 +auprc", out, re.MULTILINE)
    assert re.search(r"^variant_effects_disease +variant ", out, re.MULTILINE)
    _, out, _ = run("tasks", "enhancer_annotation")
    for pattern in (
        r"  Enformer +0\.07 ± 0\.04",
        r"  NT-MS +0\.09",
        r"  optimizer +AdamW",
        r"  positive_weight +82\.86",
    ):
        assert re.search(rf"^{pattern}$", out, re.MULTILINE)
    _, out, _ = run("tasks", "gene_finding")
    assert re.search(r"^  transcript_id +GENCODE", out, re.MULTILINE)
    assert re.search(r"^  paper +4,780 train, 598 valid, 598 test$", out, re.MULTILINE)
    _, out, _ = run("tasks", "--json")
    assert [entry["record"]["name"] for entry in json.loads(out)] == tasks.names()
    _, out, _ = run("tasks", "cpg_methylation", "--json")
    assert json.loads(out)["labels"]["empty"] is True
    for command in ("tasks", "download"):
        code, _, err = run(command, "gene_findin")
        assert (code, "Did you mean 'gene_finding'?" in err) == (1, True)


@pytest.mark.parametrize("name", ["gene_finding", "cpg_methylation", "enhancer_annotation"])
def test_the_commands_shown_for_a_task_run(run, tmp_path, name):
    """As printed, but for the model and the genome; of long regions only the plan is made."""
    files = write_task(name, tmp_path / "data")
    shutil.copy(files.genome, tmp_path / "GRCh38.fa")
    _, out, _ = run("tasks", name)
    fetch, fill, probe = [line.strip() for line in out.split("To use it\n")[1].strip().splitlines()]
    assert fetch == f"embedstore download {name} --out data"
    if name == "enhancer_annotation":
        fill = fill.replace("embed ", "plan ")
    code, _, err = run(*shlex.split(fill.replace("MODEL", str(MODEL)))[1:])
    assert code == 0, err
    assert probe.startswith(f"embedstore probe {name} ")
    assert ("--fold 1" in probe) == (name == "enhancer_annotation")


def test_a_record_of_ones_own_is_shown_with_its_path(run, tmp_path):
    (tmp_path / "mine.toml").write_text(LEAST)
    _, out, _ = run("tasks", "mine.toml")
    assert "embedstore download" not in out
    assert "Published" not in out
    assert "embedstore embed a --store store.zarr --model MODEL --bed a.bed --fasta genome.fa --record mine.toml" in out


# ---- the page about tasks -------------------------------------------------------------------------


def block(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0]


def test_the_example_of_the_page_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("promoters.toml").write_text(block("toml"))
    Path("genome.fa").write_text(">chr1\n" + "ACGGTTCAAG" * 30 + "\n")
    splits = ["train"] * 4 + ["valid", "test"]
    rows = [
        f"chr1\t{10 * row}\t{10 * row + 50}\t{'+-'[row % 2]}\t{row % 2}\t{split}" for row, split in enumerate(splits)
    ]
    Path("promoters.bed").write_text("chromosome\tstart\tend\tstrand\tlabel\tsplit\n" + "\n".join(rows) + "\n")
    found = {}
    exec(block("python"), found)
    store, mine = found["store"], tasks.publication("promoters.toml")
    assert store.labels("promoters").values.tolist() == [[1, 0], [0, 1]] * 3
    assert mine.is_this(store.record("promoters"), store.samples("promoters")["split"])
    assert (mine.samples, mine.notes["source"][:7]) == (6, "Regions")


def test_the_page_names_every_field_table_and_task():
    named = set(re.findall(r"^\| `\[?(\w+)\]?` \|", PAGE, re.MULTILINE))
    assert named == {*tasks.record("gene_finding").to_dict(), *PUBLICATION_TABLES, *tasks.names()}
