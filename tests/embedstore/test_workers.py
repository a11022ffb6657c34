"""Several workers on one run: what they are told, who does which block, and what is said when one fails."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToyModel, load_toys, store_of_blocks

import embedstore
from embedstore import processes, scheduler, shards, workers
from embedstore.embedding import prepare
from embedstore.errors import BlockTakenError, InputError, NotInStoreError
from embedstore.models import load
from embedstore.processes import run_on_devices
from embedstore.workers import EmbedSpec, WorkersReport, embed_spec, parse_devices, parse_shard

MODEL = Path(__file__).parents[1] / "golden" / "nt_v1"


@pytest.fixture
def store(tmp_path, many_blocks):
    return store_of_blocks(tmp_path / "s.zarr")


@pytest.fixture
def toy(monkeypatch):
    return load_toys(monkeypatch)


@pytest.fixture
def whole(store):
    embedstore.embed(store, "t", ToyModel(), name="whole", progress=False)
    return store.open("t", "whole")["embedding"].to_numpy()


# ---- what workers are told -----------------------------------------------------------------------


def test_a_spec_is_plain_data_with_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("nt_v2_50m_multi_species", "mine", "at.tsv"):
        (tmp_path / name).mkdir()
    spec = embed_spec(
        "s.zarr",
        "t",
        {"model": "mine", "checkpoint": None, "layer": -1},
        positions="at.tsv",
        name=None,
        dtype="float32",
    )
    assert spec.store == str(tmp_path / "s.zarr")
    assert spec.model == {"model": str(tmp_path / "mine"), "layer": -1}
    assert spec.options == {"positions": str(tmp_path / "at.tsv"), "dtype": "float32"}
    assert EmbedSpec.from_json(spec.to_json()) == spec
    # A known model is known by its id, whatever lies in the current folder.
    assert embed_spec("s3://b/s", "t", {"model": "nt_v2_50m_multi_species"}).model["model"] == "nt_v2_50m_multi_species"
    assert embed_spec("s3://b/s", "t", {"model": Path("mine")}).store == "s3://b/s"
    assert spec.on("cuda:1").model["device"] == "cuda:1"
    assert len({spec.digest(), spec.on("cuda").digest(), spec._replace(task="u").digest()}) == 3


def test_what_cannot_be_told_is_refused(tmp_path):
    for store in ("memory://", embedstore.open_store("memory://", mode="a")):
        with pytest.raises(InputError, match="in the memory of this process: workers cannot reach it"):
            embed_spec(store, "t", {"model": "m"})
    table = pd.DataFrame({"id": ["a"], "position": [1]})
    with pytest.raises(InputError, match="positions is a DataFrame: workers are told of a run in plain text"):
        embed_spec(tmp_path, "t", {"model": "m"}, positions=table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0/4", "no share 0 of 4. Shares are counted from 1: write #SBATCH --array=1-N"),
        ("5/4", "no share 5 of 4"),
        ("1/0", "no share 1 of 0"),
        ("/4", "give I/N, the I-th of N shares, such as 2/16. Is SLURM_ARRAY_TASK_ID set"),
        ("2", "give I/N"),
        ("-1/4", "give I/N"),
        ("1/4/4", "give I/N"),
        ("a/b", "give I/N"),
    ],
)
def test_shares_that_are_none(text, message, capsys):
    with pytest.raises(InputError, match=message):
        parse_shard(text)
    parser = argparse.ArgumentParser()
    workers.add_worker_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--shard={text}"])
    assert message.split(".")[0] in capsys.readouterr().err


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 60))
def test_shares_and_devices_split_the_blocks(shares, devices, blocks):
    """Every block is one worker's, however many machines with however many devices there are."""
    own = []
    for share in range(1, shares + 1):
        number, of = parse_shard(f"{share}/{shares}")
        for place in range(devices):
            own += range((number - 1) * devices + place, blocks, of * devices)
    assert sorted(own) == list(range(blocks))


def test_devices(monkeypatch):
    assert parse_devices(" cuda:0, cuda:3 ") == ["cuda:0", "cuda:3"]
    assert parse_devices("cpu*2,cpu") == ["cpu"] * 3
    for text in ("gpu", "cpu,", "", "cpu*0", "cuda:x", "cpu*-1"):
        with pytest.raises(InputError, match="is not a device. Give all, cuda:0,cuda:1 or cpu"):
            parse_devices(text)
    with pytest.raises(InputError, match="give devices of one kind"):
        parse_devices("cpu,cuda")
    with pytest.raises(InputError, match="more than 1024 processes"):
        parse_devices("cpu*99999999999999")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=r"no CUDA device. `--devices cpu\*2` runs two on the CPU"):
        parse_devices("all")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert parse_devices("all") == ["cuda:0", "cuda:1", "cuda:2"]


def test_each_process_sees_its_own_card(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")
    environment, device, threads = processes._environment("cuda:1", 2)
    assert (environment["CUDA_VISIBLE_DEVICES"], device, threads) == ("GPU-7", "cuda", 0)
    with pytest.raises(InputError, match="no cuda:2: CUDA_VISIBLE_DEVICES is '4,GPU-7'"):
        processes._environment("cuda:2", 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert processes._environment("cuda:1", 2)[0]["CUDA_VISIBLE_DEVICES"] == "1"
    assert processes._environment("cuda", 2)[0]["CUDA_VISIBLE_DEVICES"] == "0"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    assert [processes._fair_threads(number) for number in (1, 5, 12, 50)] == [12, 2, 1, 1]
    environment, device, threads = processes._environment("cpu", 2)
    assert (environment["OMP_NUM_THREADS"], device, threads) == ("2", "cpu", 2)
    assert "CUDA_VISIBLE_DEVICES" not in environment


# ---- the command line ----------------------------------------------------------------------------


def arguments(*words, store="s"):
    parser = argparse.ArgumentParser()
    workers.add_worker_arguments(parser)
    parser.set_defaults(store=store, task="t", device="cpu")
    return parser.parse_args(words)


def test_which_arguments_ask_for_workers(monkeypatch):
    assert not workers.asks_for_workers(arguments())
    assert not workers.asks_for_workers(arguments("--shard", "1/2"))
    calls = []
    monkeypatch.setattr(processes, "run_on_devices", lambda *a, **o: calls.append((a, o)))
    monkeypatch.setattr(scheduler, "run_on_scheduler", lambda *a, **o: calls.append((a, o)))
    for words in (["--devices", "cpu*2", "--shard", "2/3"], ["--scheduler", "tcp://h:1", "--blocks-per-task", "7"]):
        assert workers.asks_for_workers(arguments(*words))
        workers.run_workers(arguments(*words), {"model": "m"}, {"keep": "rows"}, progress=False)
    spec = embed_spec("s", "t", {"model": "m"}, keep="rows")
    assert calls == [
        ((spec, ["cpu", "cpu"]), {"shard": (2, 3), "progress": False}),
        ((spec, "tcp://h:1"), {"blocks_per_task": 7, "progress": False}),
    ]


def test_arguments_that_exclude_each_other():
    for words in (["--devices", "cpu"], ["--shard", "1/2"]):
        with pytest.raises(InputError, match="--scheduler gives out the blocks itself"):
            workers.run_workers(arguments("--scheduler", "tcp://h:1", *words), {}, {})
    with pytest.raises(InputError, match="--blocks-per-task belongs to --scheduler"):
        workers.run_workers(arguments("--devices", "cpu", "--blocks-per-task", "2"), {}, {})


def test_what_a_report_says():
    base = WorkersReport("s", "t", "m", 2, 5, 1, 0, 0, 2.0, 0.5, ())
    assert base.exit_code == 0
    assert base.lines() == [
        "1 blocks were there already.",
        "2 workers embedded 5 blocks in 2.0 s.",
        "t/m is complete in s.",
    ]
    others = base._replace(blocks_others=3)
    assert others.exit_code == 0
    assert others.lines()[-1] == "This share of t/m is done; 3 blocks of others are not yet."
    failed = base._replace(failures=("worker 1: killed",), blocks_left=2)
    assert failed.exit_code == 1
    assert failed.lines()[0] == "failed: worker 1: killed"
    assert "2 blocks are left. What was committed is safe; the same command goes on" in failed.lines()[-1]
    assert "t in s: all blocks are left" in failed._replace(model="", blocks_left=0).lines()[-1]
    assert base._replace(failures=("x",)).exit_code == 1
    assert json.loads(json.dumps(failed.to_dict()))["failures"] == ["worker 1: killed"]


# ---- processes -----------------------------------------------------------------------------------


def test_two_processes_give_the_values_of_one(store):
    model = load(MODEL)
    embedstore.embed(store, "t", model, name="one", progress=False)
    prepare(store, "t", model)
    spec = embed_spec(store, "t", {"model": str(MODEL)})
    # By its URL: the second worker begins when the first one has found the arrays, as for a store without locks.
    url = spec._replace(store=f"file://{spec.store}")
    report = run_on_devices(url, ["cpu", "cpu"], shard=(1, 2), progress=False)
    emb = store.embedding("t", "nt_v1")
    assert {block % 4 for block in emb.missing()} == {2, 3}
    assert (report.blocks, report.blocks_others) == (emb.blocks - len(emb.missing()), len(emb.missing()))
    report = run_on_devices(spec, ["cpu", "cpu"], progress=False)
    assert (report.exit_code, report.workers, report.model) == (0, 2, "nt_v1"), report
    assert report.blocks > 0
    assert report.blocks_before > 0
    assert report.blocks + report.blocks_before == store.embedding("t", "nt_v1").blocks
    np.testing.assert_allclose(
        store.open("t", "nt_v1")["embedding"].to_numpy(), store.open("t", "one")["embedding"].to_numpy(), atol=2e-3
    )
    assert store.verify().sound


def test_workers_that_fail_are_reported_one_line_each(store, tmp_path, caplog):
    spec = embed_spec(store, "t", {"model": str(tmp_path / "gone")})
    report = run_on_devices(spec, ["cpu", "cpu"], progress=False)
    assert report.exit_code == 1
    assert len(report.failures) == 2
    for number, line in enumerate(report.failures, 1):
        assert line.startswith(
            f"worker {number} of 2 on cpu: exit code 1: InputError: '{tmp_path / 'gone'}' is neither"
        )
    with pytest.raises(InputError, match="devices is empty"):
        run_on_devices(spec, [])


def test_a_share_in_this_process(store, toy):
    spec, said = embed_spec(store, "t", {"model": "toy"}), []
    for number, before in ((1, 0), (2, 0), (1, None)):
        report = workers.embed_share(spec, (number, 2), lambda **answer: said.append(answer))
        own = range(number - 1, store.embedding("t", "toy").blocks, 2)
        assert said.pop() == {"name": "toy", "before": len(own) if before is None else before}
        assert not set(store.embedding("t", "toy").missing()) & set(own)
        assert report.blocks == (0 if before is None else len(own))


def test_a_store_that_is_not_there_is_not_created(tmp_path):
    spec = embed_spec(tmp_path / "gone.zarr", "t", {"model": str(MODEL)})
    with pytest.raises(NotInStoreError, match="There is no store at"):
        workers.load_spec(spec)
    assert not (tmp_path / "gone.zarr").exists()


class _Ends:
    """A worker that does nothing until it is told to end, and then takes its time or does not end at all."""

    def __init__(self, deaf: bool) -> None:
        ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if deaf else ""
        code = f"import signal, time; {ignore} print('{{}}', flush=True); time.sleep(600)"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.mark.parametrize("deaf", [False, True])
def test_a_stopped_parent_stops_its_workers(store, monkeypatch, caplog, deaf):
    started = []

    def start(_):
        started.append(_Ends(deaf).process)
        return started[-1]

    def stopped(*_, **__):
        raise KeyboardInterrupt

    def listening(worker):
        assert worker.process.stdout.readline() == "{}\n"
        real(worker)

    real = processes._Worker.listen
    monkeypatch.setattr(processes._Worker, "listen", listening)
    monkeypatch.setattr(processes, "_start", start)
    monkeypatch.setattr(processes, "_watch", stopped)
    monkeypatch.setattr(processes, "PATIENCE", 0.2 if deaf else 60.0)
    with pytest.raises(KeyboardInterrupt):
        run_on_devices(embed_spec(store, "t", {"model": "m"}), ["cpu", "cpu"], progress=False)
    wanted = -signal.SIGKILL if deaf else -signal.SIGTERM
    assert [process.returncode for process in started] == [wanted, wanted]
    assert ("they are killed" in caplog.text) == deaf


def test_a_worker_in_this_process(store, toy, tmp_path):
    """`main` of a worker, in a process of its own that has the toy model: what it answers, and its exit codes."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1] / "helpers")!r})
import embedstore.models, toys
from embedstore import processes
def load(**options):
    if options["model"] == "stops":
        import os, signal; os.kill(os.getpid(), signal.SIGTERM)
    print("not an answer")
    return toys.ToyModel()
embedstore.models.load = load
sys.exit(processes.main())
"""
    for model, codes in (("toy", 0), ("stops", 143)):
        order = {"spec": embed_spec(store, "t", {"model": model}).to_json(), "shard": [1, 1], "threads": 1}
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        answers = [json.loads(line) for line in process.stdout]
        process.stdin.close()
        log = process.stderr.read()
        assert process.wait(60) == codes, log
        process.stdout.close()
        process.stderr.close()
        if codes:
            assert answers == [{"error": "stopped"}]
        else:
            assert answers == [{"name": "toy", "before": 0}]
            assert "not an answer" in log
    assert not store.embedding("t", "toy").missing()


# ---- several that begin at once ------------------------------------------------------------------


def test_waiting_for_another_that_adds_or_creates(tmp_path, caplog):
    """The one that waits goes on when the other is done, and gives up when it takes too long."""
    caplog.set_level("INFO")
    lock, order = tmp_path / ".locks" / "t.lock", []

    def second():
        with shards.claim(lock, "task 't'", wait=60):
            order.append("second")

    thread = threading.Thread(target=second)
    with shards.claim(lock, "task 't'"):
        thread.start()
        deadline = time.monotonic() + 120
        while "Another run is writing task 't'; waiting up to 60 s" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        order.append("first")
        with pytest.raises(BlockTakenError, match="Another run is writing task"), shards.claim(lock, "task", wait=0.05):
            pass
    thread.join(120)
    assert order == ["first", "second"]
