"""The command `embedstore probe`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstore.arguments import add_store_argument

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from probes.specs import Spec


def add_probe(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `embedstore probe` to the command line.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    """
    text = "train a probe of a task on stored embeddings, and test it once"
    example = "Example: embedstore probe gene_finding --model lm --store store.zarr --recipe best --seed 1"
    parser = commands.add_parser("probe", help=text, description=text, epilog=example)
    parser.add_argument("task", metavar="TASK", help="a task in the store")
    models = "an embedding in the store, or a baseline of letters: onehot, kmer1 to kmer6, gc"
    parser.add_argument("--model", required=True, metavar="M", help=models)
    add_store_argument(parser)
    parser.add_argument("--probe", default="cnn", metavar="KIND", help=f"{_KINDS} (default: %(default)s)")
    parser.add_argument("--recipe", default="bend", help="bend or best (default: %(default)s)")
    parser.add_argument("--out", metavar="DIR", help="folder for results (default: beside the store)")
    parser.add_argument("--fold", type=int, metavar="K", help="part to test on, for tasks with cross-validation")
    parser.add_argument("--test", metavar="SPLIT", help="test on this split, for tasks with several, such as CASP12")
    parser.add_argument("--allow-partial", action="store_true", help="use what is embedded, where some is not yet")
    parser.add_argument(
        "--predictions", action="store_true", help="write the predictions of test samples into the store"
    )
    recipe = parser.add_argument_group("in place of the recipe's settings")
    recipe.add_argument("--epochs", type=int, metavar="N", help="times that all training samples are used")
    recipe.add_argument("--batch-size", type=int, metavar="N", help="samples of a training step")
    recipe.add_argument("--learning-rate", type=float, metavar="R", help="highest rate of AdamW, above 0")
    recipe.add_argument("--hidden", type=int, metavar="N", help="hidden channels of the network")
    recipe.add_argument(
        "--patience", type=int, metavar="N", help="stop after so many epochs without a better validation metric"
    )
    recipe.add_argument(
        "--seed", type=int, metavar="N", help="of weights and order of samples (default: from settings and data)"
    )
    recipe.add_argument("--device", help="cpu, cuda, ... (default: the best there is)")
    recipe.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any other parameter")
    parser.set_defaults(run=_probe)


# Written out, because the modules that know them take a second to import.
_KINDS = "cnn, linear, mlp, attention, resnet, basset, ridge, logistic, slots, slots_ridge or majority"
_ARGUMENTS = ("store", "task", "model", "probe", "recipe", "out", "fold", "test", "allow_partial", "predictions")
_RECIPE = ("epochs", "batch_size", "learning_rate", "hidden", "patience", "seed", "device")


def _probe(arguments: argparse.Namespace) -> int:
    """Run a probe and print its result."""
    import time

    from embedstore.outputs import check_folder
    from embedstore.store import open_store
    from probes.experiment import run_probe
    from probes.results import RESULT, results_folder
    from probes.roles import tested_on

    out = check_folder(arguments.out or results_folder(arguments.store))
    if arguments.device is not None:
        from embedstore.models.model import usable_device

        usable_device(arguments.device)
    overrides = {name: getattr(arguments, name) for name in _RECIPE if getattr(arguments, name) is not None}
    began = time.time()
    result = run_probe(
        open_store(arguments.store, mode="a" if arguments.predictions else "r"),
        arguments.task,
        arguments.model,
        probe=arguments.probe,
        recipe=arguments.recipe,
        out=out,
        fold=arguments.fold,
        splits=tested_on(arguments.test),
        allow_partial=arguments.allow_partial,
        predictions=arguments.predictions,
        **overrides | dict(_setting(text) for text in arguments.set),
    )
    row = result.row
    before = result.path is not None and (result.path / RESULT).stat().st_mtime < began - 1
    print(result.per_class.to_string(float_format="{:.3f}".format))
    print(
        f"{row['task']}/{row['model']}: test {row['metric']} {row['test']:.4f} "
        f"(95 % interval {row['low']:.4f} to {row['high']:.4f} over {row['n_test']} samples), "
        f"validation {row['valid']:.4f}, epoch {row['best_epoch']} of {row['epochs']}"
    )
    if row["blocks_missing"]:
        print(f"PARTIAL: {row['blocks_missing']} blocks of the embedding were missing, and their samples left out")
    found = "It was finished before, and is read again. " if before else ""
    print(f"{found}Learning curves, checkpoint and this table are in {result.path}")
    return 0


def _setting(text: str) -> tuple[str, Any]:
    """Read a parameter and its value, written as in TOML."""
    import tomllib

    from embedstore.errors import InputError

    name, equals, value = text.partition("=")
    try:
        read = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        read = value
    if not equals or not name or value == "":
        raise InputError(f"--set {text}: NAME=VALUE is wanted, such as encoder_kernel=9")
    name = name.replace("-", "_")
    if name in _ARGUMENTS:
        raise InputError(f"--set {text}: {name} is no parameter of a probe; the command has an argument for it")
    return name, read


# ---- results -------------------------------------------------------------------------------------


def add_results(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `embedstore results` to the command line.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    """
    text = "print the table of results, models x tasks, with intervals and published numbers"
    example = "Example: embedstore results store.zarr --format markdown"
    parser = commands.add_parser("results", help=text, description=text, epilog=example)
    parser.add_argument("store", metavar="STORE", help="path or URL of the store")
    parser.add_argument("--out", metavar="DIR", help="folder of the results (default: beside the store)")
    parser.add_argument("--task", metavar="T", help="only this task")
    formats = ("text", "csv", "markdown", "latex")
    parser.add_argument("--format", choices=formats, default="text", help="of the table (default: %(default)s)")
    parser.add_argument("--long", action="store_true", help="a row for each result, with all its numbers")
    parser.set_defaults(run=_results)


def _results(arguments: argparse.Namespace) -> int:
    """Print the table of results."""
    from pathlib import Path

    from embedstore.errors import InputError, did_you_mean
    from embedstore.store import open_store
    from probes import tables
    from probes.results import read_results, results_folder

    out = Path(arguments.out) if arguments.out else results_folder(arguments.store)
    rows = read_results(out)
    if rows.empty:
        open_store(arguments.store)  # a mistyped path has another cure
        raise InputError(
            f"there are no finished results in {out}. `embedstore probe {arguments.task or 'TASK'} --model MODEL "
            f"--store {arguments.store} --out {out}` makes one, `embedstore sweep FILE.toml` many."
        )
    known = set(rows["task"])
    if arguments.task is not None and arguments.task not in known:
        raise InputError(f"{out} has no results of task {arguments.task!r}.{did_you_mean(arguments.task, known)}")
    if arguments.task is not None:
        rows = rows[rows["task"] == arguments.task]
    write = {"text": tables.to_text, "csv": tables.to_csv, "markdown": tables.to_markdown, "latex": tables.to_latex}
    print(write[arguments.format](tables.results_table(rows, progress=True), long=arguments.long), end="")
    return 0


# ---- sweeps --------------------------------------------------------------------------------------


def add_sweep(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `embedstore sweep` to the command line.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    """
    text = "train and test many probes: tasks x models x probes x folds x seeds, as a TOML file says"
    example = "Example: embedstore sweep all.toml --workers 4"
    parser = commands.add_parser("sweep", help=text, description=f"{text}. See docs/sweeps.md.", epilog=example)
    parser.add_argument("file", metavar="FILE.toml", help="what to run: a store, and tables [[run]]")
    parser.add_argument("--out", metavar="DIR", help="folder for results (default: the file's, or beside the store)")
    parser.add_argument("--dry-run", action="store_true", help="list the probes and which are finished; run nothing")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, metavar="N", help="processes on this machine (default: one, in order)")
    where.add_argument("--scheduler", metavar="ADDRESS", help="let the workers of a dask.distributed scheduler do it")
    parser.set_defaults(run=_sweep)


def _sweep(arguments: argparse.Namespace) -> int:
    """Run a sweep and print its results."""
    import contextlib

    from embedstore.outputs import check_folder
    from probes.combine import reasons
    from probes.scheduler import connected
    from probes.sweep_file import read_sweep
    from probes.sweeping import sweep
    from probes.tables import results_table, to_text

    asked = read_sweep(arguments.file)
    out = check_folder(arguments.out) if arguments.out else check_folder(asked.out, option="out")
    for line in reasons(asked.left_out):
        print(line)
    if arguments.dry_run:
        return _dry_run(asked.specs, out)
    with contextlib.ExitStack() as held:
        wanted = arguments.scheduler or arguments.workers
        client = None if wanted is None else held.enter_context(connected(wanted))
        rows = sweep(asked.specs, out, client)
    done = rows[rows["status"] != "failed"]
    if len(done):
        print(to_text(results_table(done, out=out)))
    for spec, status, error in zip(asked.specs, rows["status"], rows["error"], strict=True):
        if status == "failed":
            print(f"failed: {spec}: {error}")
    before = int((rows["status"] == "found").sum())
    print(
        f"{len(done)} of {len(rows)} probes are finished, {before} of them before this run; their results are in {out}"
    )
    return 0 if len(done) == len(rows) else 1


def _dry_run(specs: list[Spec], out: Path) -> int:
    """Print what a sweep would run."""
    from probes.sweeping import finished

    done = [finished(spec, out) for spec in specs]
    for spec, there in zip(specs, done, strict=True):
        settings = "".join(f" {name}={value}" for name, value in spec.settings.items())
        print(f"{'finished' if there else 'to run':9} {spec}{settings}")
    print(f"{len(specs)} probes, {sum(done)} of them finished; results go to {out}")
    return 0
