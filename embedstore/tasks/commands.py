"""The commands ``tasks`` and ``download``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from embedstore.commands import print_table, show

if TYPE_CHECKING:
    import argparse

    from embedstore.tasks import Publication, TaskRecord


def add_tasks(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command ``tasks``."""
    text = "list the published tasks, or show one: its files, recipe, published numbers and traps"
    tasks = commands.add_parser("tasks", help=text, description=text, epilog="Example: embedstore tasks gene_finding")
    tasks.add_argument("task", nargs="?", metavar="TASK", help="its name, or your own record: a TOML file")
    tasks.add_argument("--json", action="store_true", help="everything, for programs")
    tasks.set_defaults(run=_tasks)


def add_download(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command ``download``."""
    text = "fetch the released files of a task (not the genome), and write down their checksums"
    example = "Example: embedstore download gene_finding --out data"
    parser = commands.add_parser("download", help=text, description=text, epilog=example)
    parser.add_argument("task", metavar="TASK", help="a published task, or your own record: a TOML file")
    parser.add_argument("--out", default="data", metavar="DIR", help="folder for the files (default: %(default)s)")
    parser.set_defaults(run=_download)


def _tasks(arguments: argparse.Namespace) -> int:
    from embedstore.tasks import names, publication

    if not arguments.task:
        found = [publication(name) for name in names()]
        if arguments.json:
            print(json.dumps([_plain(one) for one in found], indent=2))
        else:
            print_table([_summary(one) for one in found])
        return 0
    one = publication(arguments.task)
    if arguments.json:
        print(json.dumps(_plain(one), indent=2))
    else:
        _print(one, arguments.task)
    return 0


def _download(arguments: argparse.Namespace) -> int:
    from embedstore.tasks import download
    from embedstore.tasks.downloads import CHECKSUMS

    files = download(arguments.task, arguments.out, progress=True)
    for path in files:
        print(path)
    print(f"Their checksums are in {files[0].parent / CHECKSUMS}.")
    return 0


def _plain(publication: Publication) -> dict[str, Any]:
    """Return everything as data that JSON can hold."""
    return {
        **publication._asdict(),
        "record": publication.record.to_dict(),
        "labels": publication.labels._asdict(),
        "coding": publication.coding._asdict(),
        "splits": list(publication.splits),
    }


def _summary(publication: Publication) -> dict[str, str]:
    """Return a row of the table of tasks."""
    record = publication.record
    kind = f"bin of {record.bin_size}" if record.level == "bin" else record.level
    return {
        "name": record.name,
        "level": "variant" if publication.labels.source == "variants" else kind,
        "labels": _labels(record),
        "samples": f"{publication.samples:,}",
        "metric": record.metric,
        "genome": record.genome,
        "citation": record.citation.split(",")[0],
    }


def _labels(record: TaskRecord) -> str:
    """Say in two words what the labels are."""
    if record.type == "value":
        return f"{len(record.names)} numbers" if len(record.names) > 1 else "a number"
    return f"{len(record.names)} classes" if record.type == "class" else f"{len(record.names)} x yes/no"


def _print(publication: Publication, given: str) -> None:
    """Print one task: record, files, numbers, traps, and the commands that use it."""
    record = publication.record.to_dict()
    probe = record.pop("probe")
    record["names"] = ", ".join(record["names"])
    show(**{name: value for name, value in record.items() if value})
    _section("Columns of the released file", publication.columns)
    _section("Labels", {"layout": publication.labels.layout} if publication.labels.layout else {})
    if publication.labels.source == "coding":
        _section("Coding sequences", publication.coding._asdict())
    _section("Samples", {whose: _counted(counts) for whose, counts in publication.counts.items()})
    _section("Recipe", {**probe, **publication.recipe})
    title = f"Published: {publication.metric} ({publication.source})"
    _section(title, {name: _number(publication, name) for name in publication.values})
    _section("Notes", publication.notes)
    _section("Files", publication.downloads)
    print("\nTo use it, in Python" if publication.labels.source == "variants" else "\nTo use it")
    print("\n".join(f"  {line}".rstrip() for line in usage(publication, given)))


def _section(title: str, values: dict[str, Any]) -> None:
    if values:
        print(f"\n{title}")
        width = max(map(len, values))
        print("\n".join(f"  {name:{width}}  {value}" for name, value in values.items()))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,}" if split == "all" else f"{count:,} {split}" for split, count in counts.items())


def _number(publication: Publication, name: str) -> str:
    spread = publication.spread.get(name)
    return f"{publication.values[name]:.2f}" + (f" ± {spread:.2f}" if spread is not None else "")


def usage(publication: Publication, given: str) -> list[str]:
    """Return the lines that bring a task into a store, as they are to be typed.

    Parameters
    ----------
    publication
        The task.
    given
        Its name, or the path of its TOML file.

    Returns
    -------
    list of str
        Commands of a shell; for a task of variants, Python. ``MODEL`` and the FASTA are to be filled in.
    """
    name = publication.record.name
    files = list(publication.downloads)
    bed = next((f"data/{file}" for file in files if file.endswith(".bed")), f"{name}.bed")
    hdf5 = next((f"data/{file}" for file in files if file.endswith(".hdf5")), f"{name}.hdf5")
    fasta = f"{publication.record.genome or 'genome'}.fa"
    if publication.labels.source == "variants":
        return [
            "from analysis import score_variants",
            "from embedstore import models, tasks",
            "",
            *([f'tasks.download("{given}", "data")'] if files else []),
            f'variants = tasks.read_variants("{bed}", "{given}")',
            'model = models.load("MODEL")',
            f'scores = score_variants(variants, "{fasta}", model, "store.zarr", name="{name}")',
        ]
    if publication.labels.source == "coding":
        return [
            f"embedstore coding {publication.coding.folder or name} --task {given} --store store.zarr",
            f"embedstore embed {name} --store store.zarr --model MODEL",
            f"embedstore embed {name}.protein --store store.zarr --model PROTEIN_MODEL",
        ]
    options = f"--bed {bed} --fasta {fasta}"
    options += f" --labels {hdf5}" if publication.labels.source == "hdf5" else ""
    options += f" --record {given}" if given != name else ""
    options += " --empty-labels zero" if publication.labels.empty else ""
    fold = " --fold 1" if publication.splits and publication.splits[0].startswith("part") else ""
    return [
        *([f"embedstore download {given} --out data"] if files else []),
        f"embedstore embed {name} --store store.zarr --model MODEL {options}",
        f"embedstore probe {name} --store store.zarr --model MODEL{fold}",
    ]
