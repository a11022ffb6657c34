"""SLURM jobs: the scripts that are written, and that the array does the work, with an `sbatch` that runs it here."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from toys import random_sequences

import embedstore
from embedstore import cluster, tasks
from embedstore.cluster import Jobs, array_script, dask_script, seconds
from embedstore.errors import EmbedstoreError, InputError, WorkersError
from embedstore.models import load

ANY_PORT = {"dashboard_address": ":0"}
MODEL = Path(__file__).parents[1] / "golden" / "nt_v1"
EMBED = ["embed", "t", "--model", "m", "--store", "s.zarr"]


@pytest.fixture
def run(capsys):
    """Run `embedstore slurm`; give its exit code and what it printed."""

    def run(*words):
        capsys.readouterr()
        parser = argparse.ArgumentParser()
        cluster.add_slurm(parser.add_subparsers(required=True))
        try:
            arguments = parser.parse_args(["slurm", *map(str, words)])
            code = arguments.run(arguments)
        except EmbedstoreError as error:
            return 1, str(error)
        except SystemExit as stop:
            code = int(stop.code)
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


# ---- what is asked for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("90", 5400), ("1:30", 90), ("4:00:00", 14400), ("2-0", 172800), ("1-2:3", 93780), ("1-2:3:4", 93784)],
)
def test_time_limits_as_slurm_reads_them(text, wanted):
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "4h", "0", "0:00", "1-", "1:2:3:4", "-5", "4:00:00\n#SBATCH -x"])
def test_times_that_are_none(text):
    with pytest.raises(InputError, match="--time"):
        array_script(Jobs(time=text), EMBED)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"jobs": 0}, "--jobs is 0: it must be at least 1"),
        ({"cpus": 0}, "--cpus is 0"),
        ({"gpus": -1}, "--gpus is -1"),
        ({"memory": "lots"}, "--memory 'lots': write a whole number and a unit"),
        ({"memory": "64G\n#SBATCH --wrap=x"}, "--memory"),
        ({"partition": "gpu; rm -rf ~"}, "--partition 'gpu; rm -rf ~': only letters"),
        ({"partition": "a\nb"}, "--partition"),
        ({"account": "$(id)"}, "--account"),
    ],
)
@pytest.mark.parametrize("script", [array_script, dask_script])
def test_values_that_slurm_or_a_shell_would_misread(script, fields, message):
    with pytest.raises(InputError, match=re.escape(message)):
        script(Jobs(**fields), EMBED)


@pytest.mark.parametrize("script", [array_script, dask_script])
def test_commands_that_are_not_embed(script):
    with pytest.raises(InputError, match="After -- comes an embed command"):
        script(Jobs(), ["probe", "t"])
    with pytest.raises(InputError, match="After -- comes an embed command"):
        script(Jobs(), [])
    for word in ("--shard=1/2", "--shard", "--scheduler"):
        with pytest.raises(InputError, match=f"{word.split('=')[0]} is what the recipe adds"):
            script(Jobs(), [*EMBED, word])


# ---- the array -----------------------------------------------------------------------------------


def directives(script):
    return dict(line.split()[1].split("=", 1) for line in script.splitlines() if re.match(r"#SBATCH --\S+=", line))


def command(script):
    return shlex.split(script.splitlines()[-1])


def test_the_array_script():
    script = array_script(Jobs(16, "1-12", 1, 6, "48G", "gpu", "lab-7"), EMBED)
    assert directives(script) == {
        "--job-name": "embedstore",
        "--array": "1-16",
        "--time": "1-12",
        "--cpus-per-task": "6",
        "--mem": "48G",
        "--gres": "gpu:1",
        "--partition": "gpu",
        "--account": "lab-7",
        "--output": "embedstore-%A_%a.log",
        "--open-mode": "append",
        "--signal": "B:TERM@120",
    }
    assert "#SBATCH --requeue\n" in script
    assert "SHARES=16\n" in script
    assert command(script) == [
        "exec",
        sys.executable,
        "-m",
        "embedstore",
        *EMBED,
        "--device",
        "cuda",
        "--shard",
        "$SHARD",
    ]
    # sbatch reads no directive after the first command.
    assert script.rindex("#SBATCH") < script.index("SHARES=")


def test_what_is_not_asked_for_is_left_out():
    plain = array_script(Jobs(gpus=0), EMBED)
    assert {"--gres", "--partition", "--account"} & set(directives(plain)) == set()
    assert command(plain)[4:] == [*EMBED, "--shard", "$SHARD"]
    assert command(array_script(Jobs(gpus=4), EMBED))[-4:-2] == ["--devices", "all"]
    for own in (["--device", "cuda:1"], ["--device=cpu"], ["--devices", "cuda:0"]):
        assert command(array_script(Jobs(gpus=2), [*EMBED, *own]))[4:-2] == [*EMBED, *own]


def test_words_with_the_signs_of_a_shell_arrive_as_they_are(tmp_path):
    """Run the last line by a shell, with a program that shows its words in place of Python."""
    odd = [
        "a b",
        "$(touch canary)",
        "`touch canary`",
        "; touch canary",
        "'\"'",
        "\\",
        "*",
        "&& false",
        "$HOME",
        "\n#SBATCH",
    ]
    script = array_script(Jobs(2, gpus=0), [*EMBED, "--name", *odd])
    shown = tmp_path / "show"
    shown.write_text(f"#!{sys.executable}\nimport sys, json\nprint(json.dumps(sys.argv[1:]))\n")
    shown.chmod(0o755)
    file = tmp_path / "job.sh"
    file.write_text(script.replace(f"exec {sys.executable}", f"exec {shown}"))
    environment = {"PATH": os.environ["PATH"], "SLURM_ARRAY_TASK_ID": "2", "HOME": "/home"}
    done = subprocess.run(["bash", file], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert json.loads(done.stdout) == ["-m", "embedstore", *EMBED, "--name", *odd, "--shard", "2/2"]
    assert not (tmp_path / "canary").exists()
    del environment["SLURM_ARRAY_TASK_ID"]
    done = subprocess.run(["bash", file], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode
    assert "start this file with sbatch" in done.stderr


SBATCH = """#!/usr/bin/env bash
# Runs each job of an array at once, and waits for all of them.
script=$(mktemp)
cat "${1:-/dev/stdin}" > "$script"
last=$(sed -n 's/^#SBATCH --array=1-//p' "$script")
for index in $(seq "$last"); do
  SLURM_ARRAY_TASK_ID=$index bash "$script" > "job$index.log" 2>&1 &
done
wait
echo "Submitted batch job 4711"
"""


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A folder to run in, with an sbatch that runs the jobs here."""
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(SBATCH)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return program


def test_an_array_of_jobs_embeds(sbatch, run, tmp_path):
    """Two jobs that start at once on a store that does not exist; the values are those of one process."""
    sequences = random_sequences([150] * 40)
    (tmp_path / "in put.fa").write_text("".join(f">s{n}\n{text}\n" for n, text in enumerate(sequences)))
    words = ["embed", "t", "--model", MODEL, "--store", "s.zarr", "--fasta", "in put.fa", "--record", "gene_finding"]
    code, text = run("array", "--jobs", 2, "--gpus", 0, "--out", "job.sh", "--", *words)
    assert (code, text) == (0, "Submitted batch job 4711\n")
    logs = [(tmp_path / f"job{number}.log").read_text() for number in (1, 2)]
    store = embedstore.open_store(tmp_path / "s.zarr")
    assert not store.embedding("t", "nt_v1").missing(), logs
    assert store.verify().sound
    one = embedstore.open_store(tmp_path / "one.zarr", mode="a")
    one.add_task(tasks.from_sequences("t", sequences))
    embedstore.embed(one, "t", load(MODEL), progress=False)
    np.testing.assert_allclose(
        store.open("t", "nt_v1")["embedding"].to_numpy(), one.open("t", "nt_v1")["embedding"].to_numpy(), atol=2e-3
    )
    # Again, on standard input: nothing is left to do, and the jobs say so.
    assert run("array", "--jobs", 2, "--gpus", 0, "--", *words) == (0, "Submitted batch job 4711\n")
    assert "t/nt_v1 is complete in s.zarr" in (tmp_path / "job1.log").read_text()


def test_what_sbatch_says_when_it_fails(sbatch, run, monkeypatch):
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 3\n")
    code, text = run("array", "--", *EMBED)
    assert (code, text) == (1, "sbatch failed with exit code 3: sbatch: error: invalid partition")
    monkeypatch.setenv("PATH", "/nowhere")
    code, text = run("array", "--", *EMBED)
    assert code == 1
    assert text.startswith("There is no sbatch on this machine. --dry-run prints the script")
    with pytest.raises(WorkersError):
        cluster.submit("x")


def test_dry_run_prints_and_writes_nothing(sbatch, run, tmp_path):
    before = sorted(tmp_path.iterdir())
    for kind, script in (("array", array_script), ("dask", dask_script)):
        code, text = run(kind, "--jobs", 3, "--dry-run", "--out", "x", "--", *EMBED)
        assert (code, text) == (0, script(Jobs(3), EMBED))
    assert sorted(tmp_path.iterdir()) == before


def test_a_mistyped_command_is_refused_before_it_is_submitted(sbatch, run, tmp_path):
    code, text = run("array", "--", *EMBED, "--dtpye", "float32")
    assert code == 2
    assert "unrecognized arguments: --dtpye" in text
    assert not list(tmp_path.glob("job*.log"))


# ---- dask ----------------------------------------------------------------------------------------


@pytest.fixture
def recipe(sbatch, run, tmp_path):
    """Write a recipe by the command, and import it."""

    def recipe(*options):
        code, text = run("dask", *options, "--out", "recipe.py", "--", *EMBED)
        assert code == 0, text
        start = f"{sys.executable} recipe.py"
        assert text == f"recipe.py is written. Start it where jobs can be submitted, and let it run: {start}\n"
        spec = importlib.util.spec_from_file_location("recipe", tmp_path / "recipe.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return recipe


def job_script(module, monkeypatch):
    import dask

    monkeypatch.setattr(sys.modules["dask_jobqueue.slurm"].SLURMCluster, "scale", lambda *_, **__: None)
    # Any free port for its pages: another cluster may run on this machine.
    settings = {"distributed.scheduler.dashboard.link": "", "jobqueue.slurm.scheduler-options": ANY_PORT}
    with dask.config.set(settings), module.make_cluster() as cluster:
        return cluster.job_script()


def test_the_dask_recipe_asks_slurm_for_what_it_was_told(recipe, monkeypatch):
    script = job_script(
        recipe("--jobs", 3, "--time", "2:00:00", "--cpus", 6, "--memory", "48G", "--partition", "gpu"), monkeypatch
    )
    head = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert {"-J embedstore", "-p gpu", "-n 1", "--cpus-per-task=6", "--mem=48G", "-t 2:00:00", "--gres=gpu:1"} == set(
        head
    )
    (worker,) = [line for line in script.splitlines() if "dask_worker" in line]
    assert worker.startswith(f"{sys.executable} -m distributed.cli.dask_worker tcp://")
    assert "--nworkers" not in worker, "one process in a job"
    for words in (
        "--nthreads 6",
        "--memory-limit 48.00GiB",
        "--resources GPU=1",
        "--lifetime 6600s",
        "--lifetime-stagger 300s",
        "--local-directory ${TMPDIR:-/tmp}",
    ):
        assert f" {words}" in worker


def test_the_dask_recipe_without_a_gpu(recipe, monkeypatch):
    script = job_script(recipe("--gpus", 0, "--time", "10"), monkeypatch)
    assert "GPU" not in script
    assert "gres" not in script
    assert "--lifetime 480s --lifetime-stagger 60s" in script


def test_the_dask_recipe_embeds_with_its_scheduler(recipe, monkeypatch):
    module = recipe("--jobs", 5)
    assert [*EMBED, "--device", "cuda"] == module.EMBED
    seen = []

    class Cluster:
        scheduler_address = "tcp://here:1"

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def scale(self, jobs):
            seen.append(jobs)

    monkeypatch.setattr(module, "make_cluster", Cluster)
    monkeypatch.setattr("embedstore.cli.main", lambda words: seen.append(words) or 7)
    assert module.main() == 7
    assert seen == [5, [*EMBED, "--device", "cuda", "--scheduler", "tcp://here:1"]]


def test_several_cards_for_a_dask_worker_are_refused():
    with pytest.raises(InputError, match="--gpus 2: a dask worker computes on one. Ask for more --jobs"):
        dask_script(Jobs(gpus=2), EMBED)
    with pytest.raises(InputError, match="--devices is what the recipe adds"):
        dask_script(Jobs(), [*EMBED, "--devices", "all"])


def test_another_file_is_not_replaced(recipe, run, tmp_path):
    recipe()
    recipe()
    code, text = run("dask", "--jobs", 9, "--out", "recipe.py", "--", *EMBED)
    assert code == 1
    assert text == "recipe.py exists and is another file. Remove it, or write to another one (--out)."


# ---- the files -----------------------------------------------------------------------------------


def test_the_recipes_are_what_the_defaults_give():
    """The shipped files are filled in as the command does by default, so they can be read and edited as they are."""
    words = ["embed", "TASK", "--model", "MODEL", "--store", "STORE.zarr"]
    array, dask = (
        files("embedstore").joinpath("recipes", name).read_text() for name in ("slurm_array.sh", "slurm_dask.py")
    )
    assert ast.dump(ast.parse(dask_script(Jobs(), words))) == ast.dump(ast.parse(dask))
    program = shlex.join([sys.executable, "-m", "embedstore"])
    lines = [line for line in array.splitlines() if not line.startswith("##SBATCH")]
    assert array_script(Jobs(), words).replace(f"exec {program}", "exec embedstore").splitlines() == lines
