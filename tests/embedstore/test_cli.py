"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

import embedstore
from embedstore import cli, layout, tasks
from embedstore.cli import main
from embedstore.errors import CorruptError, InputError, NotInStoreError

MODEL = Path(__file__).parents[1] / "golden" / "nt_v1"
SPLITS = ["train"] * 8 + ["valid"] * 3 + ["test"] * 3


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A genome of three chromosomes, 14 regions of it, and classes of their nucleotides."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for name, length in (("genome.fa", 2500), ("long.fa", 10_000)):
        with (folder / name).open("w") as file:
            file.writelines(f">chr{n}\n{''.join(rng.choice(list('ACGT'), length))}\n" for n in (1, 2, 3))
    rows, classes = ["chromosome\tstart\tend\tsplit"], []
    for sample, split in enumerate(SPLITS):
        start, length = int(rng.integers(2000)), int(rng.integers(60, 300))
        rows.append(f"chr{sample % 3 + 1}\t{start}\t{start + length}\t{split}")
        classes.append((np.arange(length) // 3 % 9).astype(np.int8))
    (folder / "regions.bed").write_text("\n".join(rows) + "\n")
    with h5py.File(folder / "labels.hdf5", "w") as file:
        labels = file.create_dataset("labels", len(classes), dtype=h5py.vlen_dtype(np.int8))
        for row, one in enumerate(classes):
            labels[row] = one
    table = pd.DataFrame({"id": ["a", "b"], "sequence": ["ACGTACGGT" * 5, "TTGACA" * 9], "split": ["train", "test"]})
    table.to_csv(folder / "table.csv", index=False)
    return folder


@pytest.fixture
def bed(inputs):
    return ["--bed", inputs / "regions.bed", "--fasta", inputs / "genome.fa", "--labels", inputs / "labels.hdf5"]


@pytest.fixture(scope="module")
def pristine(inputs, tmp_path_factory):
    """A store with one task in several blocks; copied for every test."""
    path = tmp_path_factory.mktemp("pristine") / "s.zarr"
    task = tasks.from_bed(
        inputs / "regions.bed", inputs / "genome.fa", record="gene_finding", labels=inputs / "labels.hdf5"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SMALLEST_SHARD_BYTES", 4096)
        patch.setattr(layout, "CHUNK_BYTES", 512)
        store = embedstore.open_store(path, mode="a")
        store.add_task(task)
        assert embedstore.embed(store, "gene_finding", model(), progress=False).blocks > 2
    return path


def model():
    from embedstore.models import load

    return load(MODEL)


@pytest.fixture
def store(pristine, tmp_path, monkeypatch):
    shutil.copytree(pristine, tmp_path / "s.zarr")
    monkeypatch.chdir(tmp_path)
    return "s.zarr"


# ---- embed and plan ------------------------------------------------------------------------------


def test_embed_from_bed_then_again(run, bed, inputs, pristine):
    code, out, _ = run("embed", "gene_finding", "--model", MODEL, *bed)
    assert code == 0
    assert re.search(r"Embedded 14 sequences, [\d,]+ rows, .*KiB in .* s: [\d,]+ tokens/s", out)
    assert "gene_finding/nt_v1 is complete in store.zarr." in out
    written, expected = embedstore.open_store("store.zarr"), embedstore.open_store(pristine)
    assert (
        written.open("gene_finding", "nt_v1").drop_attrs().equals(expected.open("gene_finding", "nt_v1").drop_attrs())
    )
    with h5py.File(inputs / "labels.hdf5") as file:
        np.testing.assert_array_equal(written.labels("gene_finding").values, np.concatenate(file["labels"][:]))
    assert list(written.samples("gene_finding")["split"]) == SPLITS
    for files in (bed, []):
        code, out, _ = run("embed", "gene_finding", "--model", MODEL, *files)
        assert (code, out) == (0, "1 blocks were there already.\ngene_finding/nt_v1 is complete in store.zarr.\n")


def test_options_of_embed_reach_the_store(run, store):
    options = ["--resolution", "nucleotide", "--dtype", "float32", "--codec", "zstd", "--layer", "1", "--name", "other"]
    code, out, _ = run("embed", "gene_finding", "--store", store, "--model", MODEL, *options, "--batch-tokens", "30")
    assert code == 0
    assert "gene_finding/other is complete in s.zarr." in out
    emb = embedstore.open_store(store).embedding("gene_finding", "other")
    assert (emb.resolution, emb.dtype, emb.codec, emb.fingerprint["layer"]) == ("nucleotide", np.float32, "zstd", "1")


@pytest.mark.parametrize(("option", "file"), [("--fasta", "genome.fa"), ("--table", "table.csv")])
def test_embed_sequences_by_themselves(run, inputs, option, file):
    code, out, _ = run("embed", "mine", "--model", MODEL, option, inputs / file)
    assert code == 0
    samples = embedstore.open_store("store.zarr").samples("mine")
    assert list(samples["id"]) == {"--fasta": ["chr1", "chr2", "chr3"], "--table": ["a", "b"]}[option]
    assert f"Embedded {len(samples)} sequences" in out


def test_plan_writes_nothing(run, bed, tmp_path):
    code, out, _ = run("plan", "gene_finding", "--model", MODEL, *bed)
    assert code == 0
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines())
    assert list(tmp_path.iterdir()) == []
    assert shown["done already"] == "0 rows in 0 blocks"
    assert re.fullmatch(r"[\d.]+ [KMGT]iB", shown["free space"])
    assert re.fullmatch(r"about [\d,]+ s on cpu", shown["time left"])
    _, embedded, _ = run("embed", "gene_finding", "--model", MODEL, *bed)
    assert f"{shown['rows'].split()[0]} rows" in embedded


def test_plan_of_what_is_stored(run, store):
    before = sorted(Path(store).rglob("*"))
    code, out, _ = run("plan", "gene_finding", "--store", store, "--model", MODEL)
    rows, blocks = re.search(r"rows +([\d,]+) in (\d+) blocks", out).groups()
    assert code == 0
    assert f"done already  {rows} rows in {blocks} blocks" in out
    assert "about 0 s" in out
    code, out, _ = run("plan", "gene_finding", "--store", store, "--model", MODEL, "--name", "another")
    assert "done already  0 rows in 0 blocks" in out
    assert sorted(Path(store).rglob("*")) == before
    code, _, err = run("plan", "gene_finding", "--store", store, "--model", MODEL, "--dtype", "float32")
    assert code == 1
    assert "dtype: stored 'float16', now 'float32'" in err
    assert "--name" in err


def test_free_space_is_that_of_the_nearest_folder(tmp_path):
    assert cli._free_bytes(str(tmp_path / "a" / "b.zarr")) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert cli._free_bytes("s3://bucket/b.zarr") is None


# ---- info, verify, repair ------------------------------------------------------------------------


def test_info(run, store):
    code, out, _ = run("info", store)
    assert code == 0
    for words in ("<embedstore.Store s.zarr>", "gene_finding  14 samples", "nt_v1", "24 channels", "complete"):
        assert words in out
    code, out, _ = run("info", store, "--json")
    assert code == 0
    task, embedding = json.loads(out)["contents"]
    assert (task["task"], task["model"], task["samples"]) == ("gene_finding", "", 14)
    assert embedding["rows_done"] == embedding["rows"]
    assert embedding["fingerprint"]["dtype"] == "float16"


def damage(store: str, array: str) -> Path:
    file = next(
        file for file in sorted(Path(store, "gene_finding/embedding/nt_v1", array).rglob("0")) if file.is_file()
    )
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return file


def test_verify_repair_embed(run, store):
    code, out, _ = run("verify", store)
    assert (code, out.splitlines()[-1][-9:]) == (0, " 0 faults")
    assert run("repair", store)[:2] == (0, "Nothing to repair.\n")
    damage(store, "vector")
    code, out, _ = run("verify", store)
    assert code == 3
    assert "damaged: s.zarr: gene_finding/nt_v1: block 0 (samples 0 to " in out
    assert "1 faults\n`embedstore repair s.zarr` removes what is damaged" in out
    code, out, _ = run("repair", store)
    assert code == 0
    assert "removed gene_finding/embedding/nt_v1/vector/c/0/0: damaged" in out
    assert "4 things removed." in out  # commit, vector, span, pooled
    code, out, _ = run("verify", store)
    assert code == 0
    assert "0 faults, 1 blocks are not embedded yet" in out
    assert "of" in run("info", store)[1]
    code, out, _ = run("embed", "gene_finding", "--store", store, "--model", MODEL)
    assert code == 0
    assert "blocks were there already" in out
    assert run("verify", store)[0] == 0


def test_damage_that_stops_a_command_exits_with_3(run, store):
    damage(store, "row_count")
    code, out, err = run("info", store)
    assert (code, out) == (3, "")
    assert "row_count" in err
    assert "embedstore verify s.zarr" in err


# ---- models, tasks, pretrain, probe --------------------------------------------------------------


def test_models(run):
    code, out, _ = run("models")
    assert code == 0
    assert "nt_500m_human_ref" in out
    assert not [line for line in out.splitlines() if line != line.rstrip()]
    code, out, _ = run("models", "nt_v2_50m_multi_species")
    assert code == 0
    assert re.search(r"^width +512$", out, re.MULTILINE)
    code, _, err = run("models", "nt_v2_50m_multispecies")
    assert (code, "Did you mean 'nt_v2_50m_multi_species'?" in err) == (1, True)


def test_tasks(run):
    code, out, _ = run("tasks")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(tasks.names())
    code, out, _ = run("tasks", "gene_finding")
    assert code == 0
    assert re.search(r"^metric +mcc$", out, re.MULTILINE)
    code, _, err = run("tasks", "gene_findin")
    assert (code, "Did you mean 'gene_finding'?" in err) == (1, True)


def test_pretrain_then_embed_with_what_it_wrote(run, inputs):
    code, out, _ = run("pretrain", inputs / "long.fa", "--out", "lm", "--hidden", 8, "--layers", 1, "--steps", 2)
    assert code == 0
    assert re.search(r"^steps +2$", out, re.MULTILINE)
    assert re.search(r"^validation perplexity +[\d.]+ per masked nucleotide", out, re.MULTILINE)
    code, out, _ = run("embed", "genome", "--model", "lm", "--fasta", inputs / "genome.fa", "--device", "cpu")
    assert code == 0
    assert embedstore.open_store("store.zarr").embedding("genome", "lm").width == 8
    code, _, err = run("pretrain", inputs / "genome.fa", "--out", "lm2", "--hidden", 8, "--layers", 1)
    assert (code, "one of the arguments --steps --minutes is required" in err) == (2, True)


def test_probe(run, store):
    code, out, _ = run("probe", "gene_finding", "--store", store, "--model", "nt_v1", "--epochs", 1, "--hidden", 2)
    assert code == 0
    assert re.search(r"gene_finding/nt_v1: test mcc -?[\d.]+ \(95 % interval .* over 3 samples\)", out)
    (result,) = Path("s.results/gene_finding/nt_v1").iterdir()
    assert f"this table are in s.results/gene_finding/nt_v1/{result.name}" in out
    code, _, err = run("probe", "gene_finding", "--store", store, "--model", "nt_v2", "--epochs", 1)
    assert (code, "Did you mean 'nt_v1'?" in err) == (1, True)


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("info nowhere.zarr", "There is no store at nowhere.zarr. `embedstore embed` creates one; check the path."),
        ("verify nowhere.zarr", "no store at nowhere.zarr"),
        ("repair nowhere.zarr", "no store at nowhere.zarr"),
        ("info s.zarr/gene_finding", "s.zarr/gene_finding is an embedstore task, not a store"),
        ("info IN/genome.fa", "is a file, not a store"),
        ("info IN", "is not an embedstore store: it has no zarr.json"),
        ("info IN/genome.fa/x", "no store at .*genome.fa/x"),
        ("embed gene_findin --store s.zarr --model M", "is not in s.zarr yet.*Did you mean 'gene_finding'"),
        ("plan gene_findin --store s.zarr --model M", "is not in s.zarr yet.*Did you mean 'gene_finding'"),
        ("embed t --store nowhere.zarr --model M", "is not in nowhere.zarr yet: name its input files"),
        ("plan t --store nowhere.zarr --model M", "is not in nowhere.zarr yet: name its input files"),
        ("embed t --model M --fasta no.fa", "--fasta: there is no file no.fa"),
        ("embed t --model M --bed IN/regions.bed --fasta IN/genome.fa --labels no.h5", "--labels: there is no file"),
        ("embed t --model M --bed IN/regions.bed", "do not make a task: --bed. Give --bed with --fasta"),
        ("embed t --model M --record gene_finding", "do not make a task: --record"),
        ("embed t --model M --fasta IN/genome.fa --labels IN/labels.hdf5", "do not make a task: --fasta, --labels"),
        ("embed t --model M --table IN/table.csv --fasta IN/genome.fa", "do not make a task: --table, --fasta"),
        ("embed gene --model M BED", "No published task is called 'gene'.*say what is predicted with --record"),
        ("embed gene_findin --model M BED", "Did you mean 'gene_finding'.*--record"),
        ("embed t --model M BED --record no.toml", "no.toml: cannot be read"),
        ("embed t --model nt_v9 --fasta IN/genome.fa", "'nt_v9' is neither a known model nor a record"),
        ("embed t --model resnet --fasta IN/genome.fa", "Did you mean 'resnet_lm'"),
        ("embed t --model M --layer 9 --fasta IN/genome.fa", "no layer 9"),
        ("embed gene_finding --store s.zarr --model M --name ../x", "cannot be the name of a model"),
        ("embed gene_finding --store s.zarr --model onehot", "needs no model"),
        ("embed gene_finding --store s.zarr --model M --layer 0", "layer: stored '.*', now '0'"),
    ],
)
def test_mistakes_are_one_message_on_stderr(run, store, inputs, tmp_path, words, match):
    bed = "--bed IN/regions.bed --fasta IN/genome.fa --labels IN/labels.hdf5"
    before = sorted(path.name for path in tmp_path.iterdir())
    words = words.replace("BED", bed).replace("IN", str(inputs)).split()
    code, out, err = run(*[MODEL if word == "M" else word for word in words])
    assert code == 1
    assert out == ""
    message = err[err.index("embedstore: ") :]  # after progress bars
    assert re.search(match, message, re.DOTALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("inof s.zarr", "there is no command 'inof'. Did you mean 'info'?"),
        ("xyzzy", "there is no command 'xyzzy'. Known: "),
        ("embed t", "the following arguments are required: --model"),
        ("embed t --model M --dtype float64", "argument --dtype: invalid choice: 'float64'"),
        ("info", "the following arguments are required: STORE"),
        ("embed t --model M --batch-tokens many", "invalid int value: 'many'"),
    ],
)
def test_wrong_usage_exits_with_2(run, words, match):
    code, out, err = run(*words.split())
    assert (code, out) == (2, "")
    assert match in err


@pytest.fixture
def handler():
    """What somebody who calls main() has set for SIGTERM."""

    def theirs(*_):
        pytest.fail("called")

    before = signal.signal(signal.SIGTERM, theirs)
    yield theirs
    signal.signal(signal.SIGTERM, before)


def test_debug_raises(tmp_path):
    with pytest.raises(NotInStoreError):
        main(["--debug", "info", str(tmp_path / "no.zarr")])
    with pytest.raises(InputError):
        main(["--debug", "tasks", "nothing"])


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (CorruptError("s: block 3 is damaged"), 3, "embedstore: s: block 3 is damaged\n"),
        (PermissionError(13, "Permission denied", "s.zarr"), 1, "embedstore: [Errno 13] Permission denied: 's.zarr'\n"),
        (ModuleNotFoundError("No module named 'torch'"), 1, "No module named 'torch' `pip install 'embedstore[all]'`"),
        (KeyboardInterrupt(), 130, "embedstore: stopped. What was committed is safe"),
    ],
)
def test_exit_codes(run, handler, monkeypatch, error, code, shown):
    def fails(_):
        raise error

    monkeypatch.setattr(cli, "_info", fails)
    found, out, err = run("info", "s.zarr")
    assert (found, out) == (code, "")
    assert shown in err
    assert signal.getsignal(signal.SIGTERM) is handler


def test_sigterm_unwinds_and_its_handler_is_put_back(run, handler, monkeypatch):
    unwound = []

    def waits(_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            unwound.append(True)

    monkeypatch.setattr(cli, "_info", waits)
    code, _, err = run("info", "s.zarr")
    assert (code, unwound) == (143, [True])
    assert "terminated. What was committed is safe; the same command goes on from there." in err
    assert signal.getsignal(signal.SIGTERM) is handler


def test_other_errors_are_ours_and_show_their_traceback(run, monkeypatch):
    monkeypatch.setattr(cli, "_info", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("info", "s.zarr")


def test_version_and_console_script(run):
    assert run("--version")[:2] == (0, f"embedstore {embedstore.__version__}\n")
    script = Path(sys.executable).with_name("embedstore")
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"embedstore {embedstore.__version__}\n"


def parsers():
    """Every parser of a command, by its name; `variants` has none but those of its own commands."""

    def below(parser):
        (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        return dict(commands.choices)

    found = below(cli.build_parser())
    return found | {f"variants {name}": own for name, own in below(found.pop("variants")).items()}


def test_every_help_ends_with_an_example_that_parses():
    for name, parser in parsers().items():
        if name in ("slurm", "report"):  # slurm has commands of its own
            continue
        assert parser.description, name
        example = re.fullmatch(rf"Example: embedstore ({name} .+)", parser.epilog or "")
        assert example, name
        assert cli.build_parser().parse_args(example[1].split()).run is parser.get_default("run")


def test_every_option_says_what_it_is():
    for name, parser in parsers().items():
        if name == "slurm":
            continue
        for action in parser._actions:
            assert action.help, f"{name} {action.dest}"
            if action.option_strings and action.default not in (None, False, "", argparse.SUPPRESS, [], ()):
                text = action.help % {"default": action.default}
                assert "default" in text, f"{name} {action.option_strings}: {action.default}"


def test_memory_that_is_not_enough_is_one_line(run, handler, monkeypatch):
    def exhausted(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 9 bytes.")

    monkeypatch.setattr(cli, "_info", exhausted)
    assert run("info", "s.zarr")[0] == 1
    code, _, err = run("info", "s.zarr")
    assert code == 1
    assert err.count("\n") == 1
    assert err.startswith("embedstore: there is not enough memory: [enforce fail")
    with pytest.raises(RuntimeError, match="allocate"):
        run("--debug", "info", "s.zarr")


@pytest.mark.parametrize("error", [MemoryError("no"), type("OutOfMemoryError", (RuntimeError,), {})("CUDA")])
def test_other_errors_of_memory(run, monkeypatch, error):
    monkeypatch.setattr(cli, "_info", lambda *_: (_ for _ in ()).throw(error))
    code, _, err = run("info", "s.zarr")
    assert (code, "not enough memory" in err) == (1, True)


def test_a_folder_for_a_file(run, inputs):
    code, _, err = run("embed", "x", "--model", MODEL, "--table", inputs)
    assert (code, f"--table: {inputs} is a folder." in err) == (1, True)


def test_a_device_that_is_none_is_refused_before_training(run, store):
    code, _, err = run("probe", "gene_finding", "--model", "nt_v1", "--store", store, "--device", "cudda")
    assert code == 1
    assert err.startswith("embedstore: Cannot use the device 'cudda'")
