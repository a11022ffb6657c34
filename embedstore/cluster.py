"""Jobs for SLURM: recipes, as files that a user can read and edit, filled in from the command line.

An array of jobs needs nothing but the store: each job does its share of the blocks. The other recipe starts a dask
scheduler, whose workers are jobs (dask-jobqueue).
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.errors import InputError, WorkersError
from embedstore.outputs import check_file, write_atomically

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
_MEMORY = re.compile(r"(\d+)([KMGT]?)B?", re.IGNORECASE)
# These stand in #SBATCH lines, which no shell reads and nothing quotes.
_WORD = re.compile(r"[A-Za-z0-9_.,:@+-]+")
_OWN = ("--shard", "--devices", "--scheduler")
_SPARE, _STAGGER = 600, 300  # seconds before the time limit at which dask workers begin to end, and end apart


class Jobs(NamedTuple):
    """What jobs are asked for.

    Attributes
    ----------
    jobs
        How many.
    time
        Limit of each, as SLURM writes it: ``4:00:00``, ``1-12`` (days-hours), or minutes.
    gpus, cpus, memory
        Of each; memory such as ``64G``.
    partition, account
        Of the cluster; None for its defaults.
    """

    jobs: int = 4
    time: str = "4:00:00"
    gpus: int = 1
    cpus: int = 8
    memory: str = "64G"
    partition: str | None = None
    account: str | None = None

    def check(self) -> None:
        """Raise InputError where SLURM would misread a value, or a shell would run it."""
        seconds(self.time)
        for name, least in (("jobs", 1), ("cpus", 1), ("gpus", 0)):
            if getattr(self, name) < least:
                raise InputError(f"--{name} is {getattr(self, name)}: it must be at least {least}.")
        if not _MEMORY.fullmatch(self.memory):
            raise InputError(f"--memory {self.memory!r}: write a whole number and a unit, such as 64G.")
        for name in ("partition", "account"):
            value = getattr(self, name)
            if value is not None and not _WORD.fullmatch(value):
                raise InputError(f"--{name} {value!r}: only letters, digits and _ . , : @ + - can stand there.")


def seconds(time: str) -> int:
    """Return a time limit of SLURM in seconds.

    Parameters
    ----------
    time
        ``minutes``, ``minutes:seconds``, ``hours:minutes:seconds``, ``days-hours``, ``days-hours:minutes`` or
        ``days-hours:minutes:seconds``.

    Raises
    ------
    InputError
        If it is none of them, or nothing.

    Examples
    --------
    >>> seconds("90"), seconds("4:00:00"), seconds("1-12")
    (5400, 14400, 129600)
    """
    found = _TIME.fullmatch(time)
    if not found:
        raise InputError(f"--time {time!r}: write hours:minutes:seconds, days-hours, or minutes.")
    days, *rest = found.groups()
    parts = [int(part) for part in rest if part is not None]
    if days is not None:  # hours come first
        total = int(days) * 86400 + sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    else:
        units = (3600, 60, 1) if len(parts) == 3 else (60, 1)
        total = sum(part * unit for part, unit in zip(parts, units, strict=False))
    if not total:
        raise InputError(f"--time {time!r} is no time at all.")
    return total


def array_script(jobs: Jobs, embed: Sequence[str]) -> str:
    """Return the batch script of an array of jobs, each of which does one share of the blocks.

    Parameters
    ----------
    jobs
        What to ask for.
    embed
        Words of an ``embedstore embed`` command, without the program's name.

    Returns
    -------
    str

    Raises
    ------
    InputError
        If a value would be misread, or the words hold what the recipe adds.
    """
    jobs.check()
    words = [sys.executable, "-m", "embedstore", *_for_devices(jobs, embed, several="all")]
    lines = {
        "#SBATCH --array=": f"#SBATCH --array=1-{jobs.jobs}",
        "#SBATCH --time=": f"#SBATCH --time={jobs.time}",
        "#SBATCH --cpus-per-task=": f"#SBATCH --cpus-per-task={jobs.cpus}",
        "#SBATCH --mem=": f"#SBATCH --mem={jobs.memory}",
        "#SBATCH --gres=": f"#SBATCH --gres=gpu:{jobs.gpus}" if jobs.gpus else None,
        "##SBATCH --partition=": f"#SBATCH --partition={jobs.partition}" if jobs.partition else None,
        "##SBATCH --account=": f"#SBATCH --account={jobs.account}" if jobs.account else None,
        "SHARES=": f"SHARES={jobs.jobs}",
        "exec ": f'exec {shlex.join(words)} --shard "$SHARD"',
    }
    return _filled("slurm_array.sh", lines)


def dask_script(jobs: Jobs, embed: Sequence[str]) -> str:
    """Return a Python script that starts a dask scheduler, submits jobs as its workers, and embeds.

    Parameters
    ----------
    jobs, embed
        As for `array_script`.

    Returns
    -------
    str

    Raises
    ------
    InputError
        As `array_script`.
    """
    jobs.check()
    if jobs.gpus > 1:
        raise InputError(f"--gpus {jobs.gpus}: a dask worker computes on one. Ask for more --jobs with --gpus 1.")
    limit = seconds(jobs.time)
    life = [max(limit - _SPARE, limit * 4 // 5), min(_STAGGER, limit // 10)]
    number, unit = _MEMORY.fullmatch(jobs.memory).groups()  # type: ignore[union-attr]  # checked above
    values = {
        "JOBS": jobs.jobs,
        "TIME": jobs.time,
        "CPUS": jobs.cpus,
        "MEMORY": f"{number}{unit.upper() or 'M'}iB",
        "GPUS": jobs.gpus,
        "PARTITION": jobs.partition,
        "ACCOUNT": jobs.account,
        "LIFETIME": ["--lifetime", f"{life[0]}s", "--lifetime-stagger", f"{life[1]}s"],
        "EMBED": _for_devices(jobs, embed, several=None),
    }
    return _filled("slurm_dask.py", {f"{name} = ": f"{name} = {value!r}" for name, value in values.items()})


def _for_devices(jobs: Jobs, embed: Sequence[str], *, several: str | None) -> list[str]:
    """Return the words of an embed command, checked, with the device that the jobs have where none is named."""
    words = list(embed)
    if words[:1] != ["embed"]:
        raise InputError(f"After -- comes an embed command: -- embed TASK --model M --store S. Found {words[:3]!r}.")
    named = [word.split("=")[0] for word in words]
    for own in _OWN:
        if own in named and not (own == "--devices" and several):
            raise InputError(f"{own} is what the recipe adds: leave it out.")
    if not jobs.gpus or "--device" in named or "--devices" in named:
        return words
    return [*words, "--devices", several] if several and jobs.gpus > 1 else [*words, "--device", "cuda"]


def _filled(recipe: str, lines: dict[str, str | None]) -> str:
    """Return a recipe in which the line that begins with each key is replaced; None leaves one as a comment or out."""
    text = files("embedstore").joinpath("recipes", recipe).read_text(encoding="utf-8")
    found: list[str] = []
    left = dict(lines)
    for line in text.splitlines():
        start = next((key for key in left if line.startswith(key)), None)
        new = left.pop(start) if start is not None else line
        if new is not None:
            found.append(new)
    assert not left, left
    return "\n".join(found) + "\n"


# ---- the command ---------------------------------------------------------------------------------


def add_slurm(commands: argparse._SubParsersAction[Any], show: Callable[[str], object] = print) -> None:
    """Add `embedstore slurm` to the command line.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    show
        Where lines for the user go.
    """
    text = "embed with SLURM jobs: an array of them, or as dask workers; or print the script"
    slurm = commands.add_parser("slurm", help=text, description=text)
    kinds = slurm.add_subparsers(title="kinds", metavar="KIND", required=True, dest="kind")
    asked = Jobs()
    for kind, text in (
        ("array", "submit an array of jobs, each of which does its own share; nothing else is needed"),
        ("dask", "write a script that starts a dask scheduler, whose workers are jobs"),
    ):
        parser = kinds.add_parser(
            kind,
            help=text,
            description=text,
            usage=f"embedstore slurm {kind} [options] -- embed TASK --model M ...",
            epilog=f"Example: embedstore slurm {kind} --jobs 8 -- embed gene_finding --model lm --store store.zarr",
        )
        for name, metavar in (("jobs", "N"), ("time", "T"), ("gpus", "N"), ("cpus", "N"), ("memory", "M")):
            usual = getattr(asked, name)
            about = "jobs" if name == "jobs" else "limit of each" if name == "time" else "of each"
            parser.add_argument(
                f"--{name}", type=type(usual), default=usual, metavar=metavar, help=f"{about} (default: {usual})"
            )
        parser.add_argument("--partition", metavar="P", help="of the cluster, default its own")
        parser.add_argument("--account", metavar="A", help="that the jobs are charged to, default your usual one")
        parser.add_argument("--out", metavar="FILE", help="write the script there (dask: default embedstore_dask.py)")
        parser.add_argument("--dry-run", action="store_true", help="print the script; write and submit nothing")
        parser.add_argument("embed", nargs="*", metavar="embed TASK ...", help="the command to run, after --")
        parser.set_defaults(run=lambda arguments: _slurm(arguments, show))


def _slurm(arguments: argparse.Namespace, show: Callable[[str], object]) -> int:
    """Print, write or submit a script."""
    if arguments.kind == "dask":
        arguments.out = arguments.out or "embedstore_dask.py"
    jobs = Jobs(*(getattr(arguments, name) for name in Jobs._fields))
    script = (array_script if arguments.kind == "array" else dask_script)(jobs, arguments.embed)
    _check_command(arguments.embed)
    if arguments.dry_run:
        show(script.removesuffix("\n"))
        return 0
    if arguments.out:
        _write(Path(arguments.out), script)
    if arguments.kind == "array":
        show(submit(script, arguments.out))
    else:
        start = shlex.join([sys.executable, arguments.out])
        show(f"{arguments.out} is written. Start it where jobs can be submitted, and let it run: {start}")
    return 0


def _check_command(embed: Sequence[str]) -> None:
    """Let the embed command's own parser refuse what is mistyped now, rather than in each job."""
    from embedstore.cli import build_parser

    build_parser().parse_args(list(embed))


def _write(path: Path, script: str) -> None:
    """Write a script, unless another one is there."""
    path = check_file(path)
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") != script:
        raise InputError(f"{path} exists and is another file. Remove it, or write to another one (--out).")
    write_atomically(path, script.encode())


def submit(script: str, path: str | None = None) -> str:
    """Give a batch script to ``sbatch``.

    Parameters
    ----------
    script
        Its text.
    path
        Where it is written, if it is; else it is given on standard input.

    Returns
    -------
    str
        What ``sbatch`` said.

    Raises
    ------
    WorkersError
        If there is no ``sbatch`` here, or it fails.
    """
    program = shutil.which("sbatch")
    if program is None:
        raise WorkersError("There is no sbatch on this machine. --dry-run prints the script, --out FILE writes it.")
    words = [program] if path is None else [program, path]
    text = None if path else script
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)  # noqa: S603 - the user's
    if done.returncode:
        raise WorkersError(f"sbatch failed with exit code {done.returncode}: {' '.join(done.stderr.split())}")
    return done.stdout.strip()
