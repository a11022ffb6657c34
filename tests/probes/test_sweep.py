"""Sweeps: in order and on dask workers, found results, failures, the live table, the command."""

from __future__ import annotations

import argparse
import pickle
import threading
import time

import distributed
import pandas as pd
import pytest
import torch
from clients import two_workers
from probe_tasks import planted_store
from sweeps import PAUSE, install, logged, run_spec, spec_folder

from embedstore.errors import InputError, WorkersError
from probes import experiment, live, scheduler, sweeping
from probes.combine import make_specs
from probes.live import Live
from probes.scheduler import connected
from probes.specs import Spec
from probes.sweeping import finished, jobs, one_thread, run_job, sweep

PARTS = [f"part{i % 4 + 1}" for i in range(48)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "s.zarr"
    planted_store("sequence", "class", splits=PARTS, path=path, hidden=4, epochs=2, batch_size=8)
    return path


@pytest.fixture
def stand_in(monkeypatch):
    install(monkeypatch)


@pytest.fixture
def specs(path):
    return [Spec(str(path), "planted", "toy", fold=fold, seed=seed) for fold in (1, 2) for seed in (0, 1)]


@pytest.fixture(scope="module")
def client():
    with two_workers() as client:
        yield client


def values(table: pd.DataFrame) -> pd.DataFrame:
    """What must not depend on where a probe ran."""
    return table.drop(columns=["seconds", "status", "path"], errors="ignore")


# ---- machinery, with stand-ins -------------------------------------------------------------------


@pytest.mark.parametrize("where", ["here", "workers"])
def test_rows_in_the_order_of_the_specs_and_found_the_second_time(specs, tmp_path, stand_in, client, where) -> None:
    specs = specs[::-1]
    given = {"client": client if where == "workers" else None, "progress": False}
    first = sweep(specs, tmp_path / "out", **given)
    assert first["status"].tolist() == ["done"] * 4
    assert [(row.fold, row.seed) for row in first.itertuples()] == [(s.fold, s.seed) for s in specs]
    assert first.columns[-3:].tolist() == ["path", "status", "error"]
    assert first["path"].tolist() == [str(spec_folder(s, tmp_path / "out")) for s in specs]
    assert first["error"].eq("").all()
    again = sweep(specs, tmp_path / "out", **given)
    assert again["status"].tolist() == ["found"] * 4
    pd.testing.assert_frame_equal(values(first), values(again))
    counts = logged(tmp_path / "out")
    assert sum(counts.values()) == 8
    assert all(counts[f"done {spec_folder(s, tmp_path / 'out').name}"] == 1 for s in specs)
    assert client.status == "running", "a client that was given is left open"
    assert finished(specs[0], tmp_path / "out")
    assert not finished(specs[0], tmp_path / "elsewhere")


def test_results_are_beside_the_store_by_default(path, specs, stand_in) -> None:
    from probes.results import results_folder

    sweep(specs[:1], progress=False)
    assert finished(specs[0], results_folder(specs[0].store))
    with pytest.raises(InputError, match="the specs name 2 stores .*: say by out where results go"):
        sweep([specs[0], specs[0]._replace(store="/other.zarr")], progress=False)


def test_relative_paths_are_made_absolute_for_workers(specs, tmp_path, stand_in, monkeypatch, path) -> None:
    seen = []
    monkeypatch.setattr(sweeping, "run_job", lambda specs, out: seen.append((specs, out)) or run_job(specs, out))
    monkeypatch.chdir(path.parent)
    sweep([specs[0]._replace(store="s.zarr")], "out", progress=False)
    assert seen == [([specs[0]], str(path.parent / "out"))]


@pytest.mark.parametrize("where", ["here", "workers"])
def test_a_failure_stops_no_other_and_is_tried_again(specs, tmp_path, stand_in, client, caplog, where) -> None:
    specs.insert(0, specs[0]._replace(settings={"epochs": 13}))
    given = {"client": client if where == "workers" else None, "progress": False}
    for status in ("done", "found"):
        table = sweep(specs, tmp_path / "out", **given)
        assert table["status"].tolist() == ["failed"] + [status] * 4
        assert table["error"][0] == "ValueError: thirteen epochs bring bad luck"
        assert table.columns[:4].tolist() == ["task", "model", "probe", "recipe"]
        assert table[["task", "model", "fold"]].iloc[0].tolist() == ["planted", "toy", 1]
        assert "failed: planted/toy cnn bend fold 1 seed 0: ValueError: thirteen" in caplog.text
        assert "1 of 5 probes failed" in caplog.text
        caplog.clear()


def test_a_store_that_is_gone_is_a_failure_too(specs, tmp_path, stand_in, monkeypatch) -> None:
    monkeypatch.setattr(experiment, "spec_folder", lambda *_: (_ for _ in ()).throw(OSError("the disk is gone")))
    table = sweep(specs[:1], tmp_path, progress=False)
    assert table["error"].tolist() == ["OSError: the disk is gone"]


def test_ridges_of_a_task_and_model_are_one_task(path, tmp_path, stand_in) -> None:
    ridge = [Spec(str(path), "planted", model, "ridge", fold=f) for f in (1, 2) for model in ("toy", "onehot")]
    mixed = [ridge[0], Spec(str(path), "planted", "toy"), *ridge[1:]]
    assert [job.places for job in jobs(mixed)] == [[0, 3], [1], [2, 4]]
    table = sweep(mixed, tmp_path, progress=False)
    assert table["model"].tolist() == [spec.model for spec in mixed]
    assert table["probe"].tolist() == [spec.probe for spec in mixed]
    assert logged(tmp_path)["ridges 2"] == 2
    assert len(jobs([ridge[0], ridge[2]._replace(allow_partial=True)])) == 2


def test_a_ridge_that_fails_fails_alone(path, tmp_path, stand_in, caplog) -> None:
    ridge = [Spec(str(path), "planted", "toy", "ridge", fold=f) for f in (1, 2, 3)]
    ridge[1] = ridge[1]._replace(settings={"epochs": 13})
    table = sweep(ridge, tmp_path, progress=False)
    assert table["status"].tolist() == ["done", "failed", "done"]
    assert "3 probes could not be solved together" in caplog.text


def test_one_thread_and_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_threads_of_a_worker_do_not_run_probes_side_by_side(specs, tmp_path, stand_in, monkeypatch) -> None:
    """They share torch's random numbers: a probe that runs beside another would draw other first weights."""
    inside, most = [0], [0]

    def counted(spec, out):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1
        return run_spec(spec, out)

    monkeypatch.setattr(experiment, "run_spec", counted)
    threads = [threading.Thread(target=run_job, args=([spec], str(tmp_path))) for spec in specs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert sum(logged(tmp_path).values()) == 8


def test_a_task_carries_no_data(client, path, tmp_path, stand_in, monkeypatch) -> None:
    """The message of a task is under a kilobyte, as the scheduler gets it."""
    sizes = []
    real = client.submit

    def submit(function, *arguments, **options):
        sizes.append(len(pickle.dumps((function, arguments))))
        return real(function, *arguments, **options)

    monkeypatch.setattr(client, "submit", submit)
    settings = {"epochs": 20, "hidden": 64, "learning_rate": 0.003, "patience": 5}
    cnn = [Spec(str(path), "planted", "toy", fold=fold, settings=settings) for fold in (1, 2, 3)]
    ridge = [Spec(str(path), "planted", "toy", "ridge", fold=fold) for fold in range(1, 11)]
    sweep([*cnn, *ridge], tmp_path / "out", client, progress=False)
    assert len(sizes) == 4
    assert max(sizes) <= 1024, sizes


def test_a_window_of_tasks_is_given_out(specs, tmp_path, stand_in, client, monkeypatch) -> None:
    most = [0]
    real = scheduler.Tasks._ended

    def ended(tasks):
        most[0] = max(most[0], len(tasks._pending))
        return real(tasks)

    monkeypatch.setattr(scheduler.Tasks, "_ended", ended)
    monkeypatch.setattr(scheduler, "WINDOW", 2)
    assert sweep(specs, tmp_path, client, progress=False)["status"].eq("done").all()
    assert most == [2]


def test_ctrl_c_takes_back_what_waits(specs, tmp_path, stand_in, client, monkeypatch) -> None:
    """What was finished is found by the next sweep, and what waited was not begun."""
    monkeypatch.setenv(PAUSE, "0.2")
    many = [spec._replace(seed=seed) for spec in specs for seed in range(25)]

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Live, "take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(many, tmp_path, client, progress=False)
    deadline = time.monotonic() + 120
    while any(client.processing().values()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    monkeypatch.undo()
    begun = sum(word.startswith("begun") for word in logged(tmp_path))
    assert 1 <= begun < len({(s.fold, s.seed) for s in many})


def test_a_scheduler_that_goes_away(specs, tmp_path, stand_in, monkeypatch) -> None:
    monkeypatch.setenv(PAUSE, "0.3")
    with connected_here() as (cluster, client):
        monkeypatch.setattr(Live, "take", lambda *_: cluster.scheduler.status.__class__ and client.close())
        with pytest.raises(WorkersError, match="is gone, or has dropped this sweep. What is finished is on disk; the"):
            sweep(specs, tmp_path, client, progress=False)
    monkeypatch.undo()


class connected_here:
    """A cluster of one worker in this process, for tests that break it."""

    def __enter__(self):
        self.cluster = distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", worker_dashboard_address=None
        )
        self.client = distributed.Client(self.cluster, set_as_default=False)
        return self.cluster, self.client

    def __exit__(self, *_):
        self.client.close()
        self.cluster.close()


def test_it_waits_for_a_worker(specs, tmp_path, stand_in, caplog) -> None:
    with connected_here() as (cluster, client):
        cluster.scale(0)
        deadline = time.monotonic() + 120
        while client.scheduler_info()["workers"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        found = []
        thread = threading.Thread(target=lambda: found.append(sweep(specs, tmp_path, client, progress=False)))
        thread.start()
        while "has no workers; waiting for one" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        cluster.scale(1)
        thread.join(120)
    assert found[0]["status"].eq("done").all()


def test_what_cannot_be_a_sweep(specs, tmp_path, stand_in, client) -> None:
    with pytest.raises(InputError, match="a sweep of no probes"):
        sweep([])
    with pytest.raises(InputError, match="in the memory of this process"):
        sweep([specs[0]._replace(store="memory://")], tmp_path)
    with pytest.raises(InputError, match="--workers 0: one process or more"), connected(0):
        pass
    with pytest.raises(InputError, match="Give an address such as tcp"), connected("nonsense://x"):
        pass
    with connected(client.scheduler.address) as other:
        assert other.scheduler_info()["workers"]

    class Asynchronous:
        asynchronous = True

    with pytest.raises(InputError, match="client is asynchronous"):
        sweep(specs, tmp_path, Asynchronous(), progress=False)


def test_an_error_of_dask_itself(specs, tmp_path, stand_in, client, monkeypatch) -> None:
    """As on a worker that has other packages than this machine."""

    def broken(specs, out):
        raise ModuleNotFoundError("No module named 'probes'")

    monkeypatch.setattr(sweeping, "run_job", broken)
    table = sweep(specs[:1], tmp_path, client, progress=False)
    assert table["error"].tolist() == ["ModuleNotFoundError: No module named 'probes'"]


# ---- what is shown -------------------------------------------------------------------------------


def test_the_bar_counts(specs, tmp_path, stand_in, capsys) -> None:
    sweep(specs, tmp_path, progress=True)
    shown = capsys.readouterr().err
    assert "sweep: 100%" in shown
    assert "4/4" in shown
    assert "done=4" in shown


def test_the_table(specs) -> None:
    specs = [*specs, specs[0]._replace(model="other")]
    with Live(specs, progress=False) as shown:
        shown.take(0, {"status": "done", "metric": "mcc", "test": 0.25})
        shown.take(2, {"status": "found", "metric": "mcc", "test": 0.75})
        shown.take(1, {"status": "failed"})
    table = shown.summary()
    columns = ["model", "probes", "finished", "failed", "metric", "mean", "lowest", "highest"]
    assert table[columns].iloc[0].tolist() == ["toy", 4, 2, 1, "mcc", 0.5, 0.25, 0.75]
    assert table[["model", "probes", "finished"]].iloc[1].tolist() == ["other", 1, 0]


def test_in_jupyter_a_table_is_redrawn_in_place(specs, tmp_path, stand_in, monkeypatch) -> None:
    drawn = []

    class Handle:
        def update(self, table):
            drawn.append(table)

    monkeypatch.setattr(live, "_handle", Handle)
    monkeypatch.setattr(live, "_REDRAW_SECONDS", -1.0)
    sweep(specs, tmp_path, progress=False, table=True)
    assert [table["finished"].sum() for table in drawn] == [1, 2, 3, 4, 4]


def test_a_place_on_the_page(monkeypatch) -> None:
    """With IPython itself, in a shell without a terminal."""
    from IPython.core.interactiveshell import InteractiveShell

    with pytest.raises(InputError, match="table=True needs Jupyter"):
        Live([Spec("s", "t", "m")], progress=False, table=True)
    shell = InteractiveShell.instance()
    published = []
    monkeypatch.setattr(shell.display_pub, "publish", lambda **message: published.append(message))
    try:
        with Live([Spec("s", "t", "m")], progress=False, table=True) as shown:
            shown.take(0, {"status": "done", "metric": "mcc", "test": 0.5})
    finally:
        InteractiveShell.clear_instance()
    assert len({message["transient"]["display_id"] for message in published}) == 1
    assert [message.get("update", False) for message in published] == [False, True, True]
    assert "<td>mcc</td>" in published[-1]["data"]["text/html"]
    monkeypatch.setitem(__import__("sys").modules, "IPython", None)
    assert live._handle() is None


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture
def command(path, tmp_path, capsys):
    from probes.commands import add_sweep

    file = tmp_path / "sweep.toml"
    file.write_text(f'store = "{path}"\nout = "out"\n[[run]]\ntasks = "planted"\nmodels = "toy"\nseeds = [0, 1]\n')

    def run(*words: str) -> tuple[int, str]:
        parser = argparse.ArgumentParser()
        add_sweep(parser.add_subparsers())
        arguments = parser.parse_args(["sweep", str(file), *words])
        return arguments.run(arguments), capsys.readouterr().out

    run.file = file
    return run


@pytest.fixture
def no_table(monkeypatch):
    """Stand-ins write no scores, which intervals need."""
    monkeypatch.setattr("probes.tables.results_table", lambda rows, **_: rows)
    monkeypatch.setattr("probes.tables.to_text", lambda rows: rows.to_string())


def test_the_command(command, stand_in, no_table, tmp_path) -> None:
    code, shown = command("--dry-run")
    assert code == 0
    assert shown.splitlines()[0] == "to run    planted/toy cnn bend fold 1 seed 0"
    assert shown.splitlines()[-1] == f"8 probes, 0 of them finished; results go to {tmp_path / 'out'}"
    assert not (tmp_path / "out").exists()
    code, shown = command()
    assert (code, shown.splitlines()[-1]) == (
        0,
        f"8 of 8 probes are finished, 0 of them before this run; their results are in {tmp_path / 'out'}",
    )
    assert "mcc" in shown
    assert "8 probes, 8 of them finished" in command("--dry-run")[1]
    assert "8 of 8 probes are finished, 8 of them before" in command()[1]
    code, shown = command("--out", str(tmp_path / "other"), "--dry-run")
    assert "0 of them finished" in shown


def test_the_command_says_what_was_left_out_and_what_failed(command, stand_in) -> None:
    text = command.file.read_text()
    command.file.write_text(text + 'probes = ["cnn", "majority"]\nfolds = [1]\n[run.settings]\n')
    code, shown = command("--dry-run")
    assert "Left out, 1 of what was asked for: probe 'majority' draws nothing" in shown
    command.file.write_text(text + "folds = [1]\n[run.settings]\nepochs = 13\n")
    assert "to run    planted/toy cnn bend fold 1 seed 0 epochs=13" in command("--dry-run")[1]
    code, shown = command()
    assert code == 1
    assert "failed: planted/toy cnn bend fold 1 seed 1: ValueError: thirteen epochs bring bad luck" in shown
    assert "0 of 2 probes are finished, 0 of them before this run" in shown


def test_the_command_on_a_scheduler(command, stand_in, no_table, client) -> None:
    code, shown = command("--scheduler", client.scheduler.address)
    assert code == 0
    assert "8 of 8 probes are finished, 0 of them" in shown


# ---- real probes, on processes -------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_the_same_numbers_in_order_and_on_two_processes(path, tmp_path) -> None:
    settings = {"device": "cpu"}
    several = make_specs(path, "planted", ["toy", "onehot"], ["cnn"], folds=[1, 2], settings=settings)
    several += make_specs(path, "planted", ["toy"], ["ridge", "majority"], folds=[1, 2])
    here = sweep(several, tmp_path / "here", progress=False)
    assert here["status"].tolist() == ["done"] * 8, here["error"].tolist()
    with connected(2) as client:
        there = sweep(several, tmp_path / "workers", client, progress=False)
        assert there["status"].tolist() == ["done"] * 8
        again = sweep(several, tmp_path / "workers", client, progress=False)
    assert again["status"].tolist() == ["found"] * 8
    pd.testing.assert_frame_equal(values(again), values(there))
    pd.testing.assert_frame_equal(values(there), values(here), check_exact=True)
