"""The command, and the page about it: what they show works as shown."""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path

import pytest
from databases import CDS, OTHER, PROTEIN, Clock

from embedstore.cli import main
from embedstore.curation import Client

PAGE = (Path(__file__).parents[2] / "docs" / "curation.md").read_text()


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def command(*words):
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return command


def test_the_command(world, command, monkeypatch):
    world.add("P00001", PROTEIN)
    world.polls = 0
    Path("list.csv").write_text(f"accession,protein,species\nP00001,{PROTEIN},Escherichia coli\nP00002,{OTHER},\n")
    named = {name.replace("_", "-"): url for name, url in world.servers._asdict().items()}
    urls = [word for name, url in named.items() for word in (f"--{name}-url", url)]
    clock = Clock()
    quick = partial(Client, clock=clock, sleep=clock.sleep)
    monkeypatch.setattr("embedstore.curation.Client", quick)
    code, out, err = command("curate", "list.csv", *urls)
    assert (code, "contact is '': the owners of public servers ask for an address" in err) == (1, True)
    code, out, _ = command("curate", "list.csv", "--contact", "me@example.org", *urls)
    assert code == 0
    assert re.search(r"^species +Escherichia coli +1 +1 +1 +1 +1 +1 +1\.000 +91 +91$", out, re.MULTILINE)
    assert re.search(r"^candidates +obsolete_accession +1  UniProt has dropped the accession", out, re.MULTILINE)
    assert out.endswith("1 of 2 proteins have a coding sequence: curated/dataset.jsonl\n")
    sent = len(world.log)
    world.faults.append([".", "500", 10**6])
    assert command("curate", "list.csv", "--offline", *urls)[1] == out
    assert len(world.log) == sent
    world.faults[:] = [["/ena/", "500", 7]]
    _, out, _ = command("curate", "list.csv", "--contact", "me@example.org", "--cache", "new", *urls)
    assert "\nUndecided, because a server failed: 1. The same command asks again for these alone.\n" in out


def test_the_commands_of_the_page_work(command):
    """Those for local files as they stand; those for the databases are parsed and stop at the missing network."""
    Path("proteins.tsv").write_text(f"accession\tprotein\tspecies\tgene\nP00001\t{PROTEIN}\tEscherichia coli\tabc\n")
    Path("cds.fna").write_text(f">abc\n{CDS}\n")
    lines = re.findall(r"^embedstore curate .*?(?=\s*#|$)", PAGE, re.MULTILINE)
    assert len(lines) >= 3
    for line in lines:
        words = shlex.split(line)[1:]
        if "--fasta" in words:
            code, out, err = command(*words)
            assert (code, "1 of 1 proteins" in out) == (0, True), err
        else:
            words = ["--offline" if word == "--contact" else word for word in words if "@" not in word]
            code, _, err = command(*dict.fromkeys(words))
            assert (code, "no answer is kept in" in err) == (1, True)


def test_the_python_of_the_page_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("proteins.tsv").write_text(f"accession\tprotein\nP00001\t{PROTEIN}\n")
    Path("cds.fna").write_text(f">abc\n{CDS}\n")
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    found: dict[str, object] = {}
    exec(block, found)
    assert found["curation"].dataset["cds"].tolist() == [CDS]


def test_the_page_names_every_reason_of_curation_and_every_flag():
    named = set(re.findall(r"`(\w+)`", PAGE))
    text = (Path(__file__).parents[2] / "embedstore" / "coding" / "reasons.py").read_text()
    ours = set(re.findall(r'^    "(\w+)":', text.partition("# Below: what curation finds")[2], re.MULTILINE))
    assert ours - named == set()
    flags = {
        "codon_start",
        "partial",
        "recoded",
        "stop_completed",
        "part",
        "table_found",
        "other_species",
        "versionless",
    }
    assert flags <= named
