"""Arguments that several commands take, and what they name: a model, a task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from embedstore.errors import InputError, did_you_mean
from embedstore.models.precision import Precision, default_precision
from embedstore.outputs import check_folder

if TYPE_CHECKING:
    import argparse

    from embedstore.models import Model
    from embedstore.tasks import Task


def add_store_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--store``."""
    parser.add_argument("--store", default="store.zarr", metavar="S", help="path or URL (default: %(default)s)")


def checked_store(path: str) -> str:
    """Return where a store is, or is to be made, if it is no folder of this machine or can be one.

    Parameters
    ----------
    path
        What ``--store`` names.

    Returns
    -------
    str

    Raises
    ------
    InputError
        It, or what it would lie in, is a file, or may not be written to.
    """
    if "://" not in path and not Path(path).is_dir() and not Path(path).is_file():
        check_folder(path, option="--store")
    return path


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says which model to load."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="M",
        help="a known model, a checkpoint folder, a record (.toml), an installed encoder, or ORG/NAME with --revision",
    )
    parser.add_argument("--checkpoint", metavar="DIR", help="local folder with the weights of a known model")
    parser.add_argument("--revision", metavar="HASH", help="40-digit commit of a hub model")
    parser.add_argument(
        "--layer",
        type=_layer,
        default=-1,
        metavar="L",
        help="hidden state: -1 the last (default), 0 the embeddings, k after block k, mean, or 9-12 (their mean)",
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        help="of the sums (default: float32; tf32 on CUDA where float16 rows are stored)",
    )
    parser.add_argument(
        "--overlap",
        type=int,
        default=0,
        metavar="N",
        help="letters that windows share, each keeping the half nearer to its centre (default: disjoint windows)",
    )
    parser.add_argument("--no-windows", action="store_true", help="refuse sequences longer than the model's context")
    parser.add_argument(
        "--rules",
        choices=("authors", "bend", "kernels"),
        help="run it as its authors publish it, as BEND's code did, or as GPU kernels do (default: its record's)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps (default: %(default)s)")
    parser.add_argument("--name", metavar="N", help="name of the embedding in the store (default: the model's)")


def add_keeping_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says what is kept of each sample."""
    parser.add_argument(
        "--keep",
        choices=("rows", "pooled", "both"),
        default="both",
        help="rows, the mean of each sequence, or both (default: %(default)s)",
    )
    parser.add_argument(
        "--positions",
        metavar="P",
        help="keep only the rows of some positions: a tab-separated file with id and position (0-based), or a column "
        "of the sample table",
    )
    parser.add_argument(
        "--strands",
        choices=("forward", "both"),
        default="forward",
        help="both: the mean, at each nucleotide, of the sequence and its reverse complement (default: %(default)s)",
    )
    parser.add_argument(
        "--resolution",
        choices=("token", "nucleotide"),
        default="token",
        help="what a stored row is (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype", choices=("float16", "float32"), default="float16", help="of stored rows (default: %(default)s)"
    )


def keeping(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what `embedstore.embed` and `plan` are told: where rows go and which are kept."""
    names = ("name", "keep", "positions", "strands", "resolution", "dtype")
    return {name: getattr(arguments, name) for name in names}


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the files that a task is read from."""
    files = parser.add_argument_group("input files, for a task that is not in the store yet")
    files.add_argument("--bed", metavar="F", help="regions in BEND's format: header; chromosome, start, end; split ...")
    files.add_argument("--fasta", metavar="F", help="the genome (with --bed), or sequences by themselves")
    files.add_argument("--labels", metavar="F", help="hdf5 file with a dataset `labels`, one row per region")
    files.add_argument("--table", metavar="F", help="CSV, TSV or Parquet: id, sequence, label, split")
    files.add_argument("--record", metavar="R", help="task record or TOML file (default: the one named like the task)")
    files.add_argument(
        "--alphabet",
        choices=("dna", "protein"),
        help="what the letters of --table or --fasta are (default: what the record says, or dna)",
    )
    files.add_argument(
        "--empty-labels",
        choices=("refuse", "zero"),
        default="refuse",
        help="rows without a label (default: %(default)s)",
    )
    add_other_letters(files)


def add_other_letters(parser: argparse._ActionsContainer) -> None:
    """Add ``--other-letters``."""
    parser.add_argument(
        "--other-letters",
        choices=("refuse", "N"),
        default="refuse",
        help="letters other than A, C, G, T, N: refuse, or read as N (default: %(default)s)",
    )


def model_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what `embedstore.models.load` is told, as plain data."""
    from embedstore.models.records import installed

    precision = arguments.precision
    if precision is None and arguments.model not in installed():
        devices = getattr(arguments, "devices", None)
        device = "cuda" if devices and not devices.startswith(("cpu", "mps")) else arguments.device
        precision = default_precision(device, arguments.dtype)
    return {
        "model": arguments.model,
        "checkpoint": arguments.checkpoint,
        "revision": arguments.revision,
        "device": arguments.device,
        "layer": arguments.layer,
        "precision": precision,
        "windows": not arguments.no_windows,
        "overlap": arguments.overlap,
        "rules": arguments.rules,
    }


def load_model(arguments: argparse.Namespace) -> Model:
    """Load the model that the arguments name."""
    from embedstore.models import load

    return load(**model_arguments(arguments))


def _layer(text: str) -> int | str:
    """Read a layer: a number, or the name of a mean, which only the model can check."""
    try:
        return int(text)
    except ValueError:
        return text


def load_task(arguments: argparse.Namespace) -> Task | None:
    """Read the task from the input files that the arguments name; None where they name none."""
    from embedstore import tasks

    files = {name: getattr(arguments, name) for name in ("bed", "table", "fasta", "labels", "record")}
    given = {name: file for name, file in files.items() if file}
    if not given:
        return None
    for name, file in given.items():
        if name != "record" and not Path(file).is_file():
            wrong = f"{file} is a folder" if Path(file).is_dir() else f"there is no file {file}"
            raise InputError(f"--{name}: {wrong}.")
    options = {"name": arguments.task, "other_letters": arguments.other_letters}
    own = {**options, "alphabet": arguments.alphabet}
    kinds = sorted(given.keys() - {"record"})
    if kinds == ["table"]:
        return tasks.from_table(arguments.table, record=arguments.record, empty_labels=arguments.empty_labels, **own)
    if kinds == ["fasta"]:
        return tasks.from_fasta(arguments.fasta, record=arguments.record, **own)
    if kinds not in (["bed", "fasta"], ["bed", "fasta", "labels"]):
        raise InputError(
            f"These do not make a task: {', '.join(f'--{name}' for name in given)}. Give --bed with --fasta (the "
            "genome) and, where labels are in a file of their own, --labels; or --table alone; or --fasta alone."
        )
    if arguments.alphabet == "protein":
        raise InputError("--alphabet protein: a BED file names regions of a genome, not proteins.")
    return tasks.from_bed(
        arguments.bed,
        arguments.fasta,
        record=arguments.record or _own_record(arguments.task),
        labels=arguments.labels,
        empty_labels=arguments.empty_labels,
        **options,
    )


def _own_record(task: str) -> str:
    """Return the name of the published record of a task; a task of the user's own needs --record."""
    from embedstore import tasks

    if task not in tasks.names():
        raise InputError(
            f"No published task is called {task!r}.{did_you_mean(task, tasks.names())} For a task of your own, say "
            "what is predicted with --record: a TOML file, or the name of a published task that predicts the same."
        )
    return task
