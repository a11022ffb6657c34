"""The command line: it parses, calls and prints.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the store is damaged, 130 stopped by Ctrl-C, 143 stopped by SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import signal
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from embedstore import __version__
from embedstore.arguments import (
    add_input_arguments,
    add_keeping_arguments,
    add_model_arguments,
    add_store_argument,
    checked_store,
    keeping,
    load_model,
    load_task,
    model_arguments,
)
from embedstore.cluster import add_slurm
from embedstore.commands import show
from embedstore.errors import CorruptError, EmbedstoreError, InputError, NotInStoreError, did_you_mean
from embedstore.models.commands import add_models, add_pretrain
from embedstore.tasks.commands import add_download, add_tasks
from embedstore.workers import add_worker_arguments, asks_for_workers, run_workers

if TYPE_CHECKING:
    from embedstore.embedding import EmbedReport
    from embedstore.store import Store

STAGES = ("tokenising", "computing", "copying", "writing", "committing")


class _Terminated(BaseException):
    """SIGTERM arrived; unwinds like Ctrl-C, so that finished blocks are committed."""


class _Parser(argparse.ArgumentParser):
    """A parser that names the closest command when one is mistyped."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice: '" in message and self._subparsers is not None:
            word = message.split("invalid choice: '")[1].split("'", maxsplit=1)[0]
            message = f"there is no command {word!r}.{did_you_mean(word, _commands(self))}"
        super().error(message)


def _commands(parser: argparse.ArgumentParser) -> list[str]:
    actions = parser._actions  # noqa: SLF001 - argparse has no public way to ask
    return [name for a in actions if isinstance(a, argparse._SubParsersAction) for name in a.choices]  # noqa: SLF001


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line, commands of other packages included."""
    parser = _Parser(
        prog="embedstore",
        description="Embed genome tasks once with a frozen language model; probe, score and study from a zarr store.",
        epilog="`embedstore demo` shows the whole way on a simulated genome in a few minutes.",
    )
    parser.add_argument("--version", action="version", version=f"embedstore {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--verbose", action="store_true", help="say what is being done")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_store_commands(commands)
    _add_embed(commands, "plan", "say what embedding would take, without doing it", _plan)
    _add_embed(commands, "embed", "embed a task with a model into a store; goes on where a stopped run was", _embed)
    add_slurm(commands)
    add_pretrain(commands)
    add_models(commands)
    add_tasks(commands)
    add_download(commands)
    for plugin in sorted(entry_points(group="embedstore.commands"), key=lambda point: point.name):
        plugin.load()(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv
        Words after the program's name; those of the process by default.

    Returns
    -------
    int
        Exit code.
    """
    # Before torch is loaded: by default its idle threads spin, and beside any other busy process that made two threads
    # five times slower than one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.INFO if arguments.verbose else logging.WARNING)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return int(arguments.run(arguments))
    except (EmbedstoreError, OSError, ModuleNotFoundError) as error:
        if arguments.debug:
            raise
        cure = " `pip install 'embedstore[all]'` brings all packages." if isinstance(error, ImportError) else ""
        print(f"embedstore: {error}{cure}", file=sys.stderr)
        return 3 if isinstance(error, CorruptError) else 1
    except (MemoryError, RuntimeError) as error:
        if arguments.debug or not _no_memory(error):
            raise
        print(
            f"embedstore: there is not enough memory: {' '.join(str(error).split())}. A smaller model, batch or window "
            "needs less.",
            file=sys.stderr,
        )
        return 1
    except (KeyboardInterrupt, _Terminated) as stop:
        what, code = ("stopped", 130) if isinstance(stop, KeyboardInterrupt) else ("terminated", 143)
        print(
            f"\nembedstore: {what}. What was committed is safe; the same command goes on from there.", file=sys.stderr
        )
        return code
    finally:
        signal.signal(signal.SIGTERM, before)


def _no_memory(error: Exception) -> bool:
    """Tell whether memory is exhausted, without loading torch, which has no class of its own for that on a CPU."""
    said = "allocate memory" in str(error) or "not enough memory" in str(error)
    return said or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _terminate(*_: object) -> NoReturn:
    raise _Terminated


# ---- store commands ------------------------------------------------------------------------------


def _add_store_commands(commands: argparse._SubParsersAction[Any]) -> None:
    for name, text, run in (
        ("info", "show what a store holds", _info),
        ("verify", "read everything and check every digest; exit code 3 on damage", _verify),
        ("repair", "remove damaged and unfinished blocks and stray files, so that `embed` redoes them", _repair),
    ):
        example = f"Example: embedstore {name} store.zarr"
        parser = commands.add_parser(name, help=text, description=text, epilog=example)
        parser.add_argument("store", metavar="STORE", help="path or URL of the store")
        if name == "info":
            parser.add_argument("--json", action="store_true", help="everything, for programs")
        parser.set_defaults(run=run)


def _info(arguments: argparse.Namespace) -> int:
    from embedstore.describe import contents
    from embedstore.store import open_store

    store = open_store(arguments.store)
    if arguments.json:
        print(json.dumps({"store": store.path, "contents": contents(store)}, indent=2))
    else:
        print(store)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from embedstore.integrity import verify
    from embedstore.store import open_store

    report = verify(open_store(arguments.store), progress=True)
    for line in report.problems.itertuples():
        print(f"damaged: {line.problem}")
    missing = f", {report.missing} blocks are not embedded yet" if report.missing else ""
    print(f"{report.blocks} blocks, {report.samples:,} samples read, {len(report.problems)} faults{missing}")
    if not report.sound:
        print(f"`embedstore repair {arguments.store}` removes what is damaged; embedding again restores it.")
    return 0 if report.sound else 3


def _repair(arguments: argparse.Namespace) -> int:
    from embedstore.integrity import repair
    from embedstore.store import open_store

    open_store(arguments.store)  # a mistyped path must not become a new store
    done = repair(open_store(arguments.store, mode="a"))
    for line in done.itertuples():
        print(f"removed {line.path}: {line.reason}")
    print(f"{len(done)} things removed." if len(done) else "Nothing to repair.")
    return 0


# ---- embedding -----------------------------------------------------------------------------------


def _add_embed(commands: argparse._SubParsersAction[Any], name: str, text: str, run: Any) -> None:
    example = (
        f"Example: embedstore {name} gene_finding --bed genes.bed --labels genes.hdf5 --fasta genome.fa --model lm"
    )
    parser = commands.add_parser(name, help=text, description=text, epilog=example)
    parser.add_argument("task", metavar="TASK", help="name of the task in the store")
    add_store_argument(parser)
    add_model_arguments(parser)
    add_input_arguments(parser)
    add_keeping_arguments(parser)
    if name == "embed":
        parser.add_argument(
            "--codec", choices=("none", "zstd"), default="none", help="compression of rows (default: %(default)s)"
        )
        parser.add_argument(
            "--batch-tokens", type=int, metavar="N", help="most tokens in a batch (default: by a trial)"
        )
        parser.add_argument(
            "--quarantine",
            action="store_true",
            help="store NaN for samples for which the model gives NaN or infinity, and list them; by default stop",
        )
        parser.add_argument("--json", action="store_true", help="the report, for programs")
        add_worker_arguments(parser)
    parser.set_defaults(run=run)


def _plan(arguments: argparse.Namespace) -> int:
    from embedstore.describe import human_bytes
    from embedstore.planning import plan

    plan_ = plan(
        _planned_store(arguments),
        arguments.task,
        load_model(arguments),
        **keeping(arguments),
    )
    rows = "none" if arguments.keep == "pooled" else f"{plan_.rows:,}"
    show(
        task=plan_.task,
        model=plan_.model,
        samples=f"{plan_.samples:,} ({plan_.nucleotides:,} nucleotides)",
        tokens="nothing is left to compute" if plan_.tokens != plan_.tokens else f"about {plan_.tokens:,.0f}",
        rows=f"{rows} in {plan_.blocks} blocks",
        on_disk=human_bytes(plan_.bytes),
        done_already=f"{plan_.rows_done:,} rows in {plan_.blocks_done} blocks",
        batches=f"of {plan_.batch_tokens:,} tokens",
        time_left=f"about {plan_.seconds:,.0f} s on {arguments.device}",
        free_space=human_bytes(plan_.free_bytes if plan_.free_bytes is not None else _free_bytes(arguments.store)),
    )
    return 0


def _free_bytes(path: str) -> int | None:
    """Return the free space where a store would be made; None where that is not a disk of this machine."""
    if "://" in path:
        return None
    place = Path(path).expanduser().absolute()
    return shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.exists())).free


def _planned_store(arguments: argparse.Namespace) -> Store:
    """Return the store, or one in memory with the task where the store does not have it: a plan writes nothing."""
    from embedstore.store import open_store

    known: list[str] = []
    try:
        store = open_store(arguments.store)
        known = store.tasks()
        if arguments.task in known:
            return store
    except NotInStoreError:
        pass
    task = load_task(arguments)
    if task is None:
        raise _no_input(arguments, known)
    store = open_store("memory://", mode="a")
    store.add_task(task)
    return store


def _no_input(arguments: argparse.Namespace, known: list[str]) -> InputError:
    return InputError(
        f"Task {arguments.task!r} is not in {arguments.store} yet: name its input files (--bed with --fasta, --fasta, "
        f"or --table).{did_you_mean(arguments.task, known)}"
    )


def _embed(arguments: argparse.Namespace) -> int:
    from embedstore.embedding import embed
    from embedstore.store import open_store

    checked_store(arguments.store)
    task = load_task(arguments)
    if task is None:
        # Without input files the task must be there: a mistyped path must not become a new store.
        try:
            known = open_store(arguments.store).tasks()
        except NotInStoreError:
            known = []
        if arguments.task not in known:
            raise _no_input(arguments, known)
    options = {name: getattr(arguments, name) for name in ("codec", "batch_tokens", "quarantine")}
    options |= keeping(arguments)
    # Workers load the model themselves; here it would only take memory, and perhaps a device.
    model = None if asks_for_workers(arguments) else load_model(arguments)
    store = open_store(arguments.store, mode="a")
    if task is not None:
        store.add_task(task)
    if model is None:
        together = run_workers(arguments, model_arguments(arguments), options)
        print(json.dumps(together.to_dict(), indent=2) if arguments.json else "\n".join(together.lines()))
        return together.exit_code
    report = embed(store, arguments.task, model, shard=arguments.shard, **options)
    if arguments.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        _print_report(report, store.path)
    return 0


def _print_report(report: EmbedReport, path: str) -> None:
    """Print what a run did, and what held it up."""
    from embedstore.describe import human_bytes

    if report.blocks_before:
        print(f"{report.blocks_before} blocks were there already.")
    if report.blocks:
        rate = (
            ""
            if math.isnan(report.utilisation)
            else f"; over the run it did {report.utilisation:.0%} of its matrix-product rate"
        )
        print(
            f"Embedded {report.samples:,} sequences, {report.rows:,} rows, {human_bytes(report.bytes)} in "
            f"{report.seconds:.1f} s: {report.tokens / report.seconds:,.0f} tokens/s, "
            f"{human_bytes(report.bytes / report.seconds)}/s."
        )
        stages = ", ".join(f"{name} {getattr(report.busy, name) / report.seconds:.0%}" for name in STAGES)
        print(f"Busy, side by side: {stages}. The device was idle {report.idle:.1%} of the time{rate}.")
        print(
            f"Bottleneck: {report.bottleneck}. Batches of up to {report.batch_tokens:,} tokens, padded to "
            f"{report.padding:.3f} of the real ones."
        )
    if report.quarantined:
        ids = ", ".join(report.quarantined[:5]) + (", ..." if len(report.quarantined) > 5 else "")
        print(f"Quarantined, stored as NaN: {len(report.quarantined):,} sequences: {ids}")
    if report.blocks_left:
        print(f"This share of {report.task}/{report.model} is done; {report.blocks_left} blocks of others are not yet.")
    else:
        print(f"{report.task}/{report.model} is complete in {path}.")
