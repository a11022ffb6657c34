"""The command ``curate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from embedstore.curation import Client, Curation


def add_curate(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command ``curate``.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    """
    text = "find the true coding sequence of every protein of a list, in FASTA files and in public databases"
    example = "Example: embedstore curate proteins.csv --fasta cds.fa --out curated"
    parser = commands.add_parser("curate", help=text, description=f"{text}. See docs/curation.md.", epilog=example)
    parser.add_argument(
        "list", metavar="LIST", help="CSV, TSV, JSON lines or Parquet with id or accession, and protein"
    )
    parser.add_argument("--out", default="curated", metavar="DIR", help="folder for the files (default: %(default)s)")
    parser.add_argument("--fasta", nargs="+", default=[], metavar="F", help="FASTA files of coding sequences")
    parser.add_argument(
        "--names", nargs="+", default=[], metavar="COLUMN", help="further columns that name FASTA records"
    )
    parser.add_argument(
        "--table",
        nargs="+",
        type=int,
        default=[1, 11],
        metavar="N",
        help="genetic codes of the FASTA files (default: 1 11)",
    )
    parser.add_argument("--contact", default="", metavar="MAIL", help="ask UniProt, ENA, NCBI and RCSB; your address")
    parser.add_argument("--offline", action="store_true", help="ask nobody: use the answers kept by an earlier run")
    parser.add_argument("--cache", metavar="DIR", help="folder for the answers (default: cache in the folder of --out)")
    parser.add_argument("--rate", type=float, metavar="R", help="most requests per second to any server")
    parser.add_argument("--workers", type=int, default=4, metavar="N", help="requests under way (default: %(default)s)")
    parser.add_argument("--other-species", action="store_true", help="take coding sequences of other species too")
    for server in ("uniprot", "ena", "ncbi", "rcsb-data", "rcsb-coordinates"):
        parser.add_argument(f"--{server}-url", metavar="URL", help="another address of this service, such as a mirror")
    parser.set_defaults(run=_curate)


def _curate(arguments: argparse.Namespace) -> int:
    from embedstore.curation import Servers, curate
    from embedstore.outputs import check_folder

    check_folder(arguments.out)
    given = {name: getattr(arguments, f"{name}_url") for name in Servers._fields}
    curation = curate(
        arguments.list,
        arguments.out,
        fasta=arguments.fasta,
        client=_client(arguments),
        servers=Servers(**{name: url for name, url in given.items() if url}),
        names=arguments.names,
        tables=arguments.table,
        other_species=arguments.other_species,
        workers=arguments.workers,
        progress=True,
    )
    _print(curation, arguments.out)
    return 0


def _client(arguments: argparse.Namespace) -> Client | None:
    """Return the client that the arguments ask for; None where only files are to be searched."""
    from embedstore.curation import Client
    from embedstore.errors import InputError
    from embedstore.outputs import check_folder

    if arguments.rate is not None and not arguments.rate > 0:
        raise InputError(f"--rate is {arguments.rate}; requests per second, above 0, are wanted.")
    if not (arguments.contact or arguments.offline or not arguments.fasta):
        return None
    cache = check_folder(arguments.cache, option="--cache") if arguments.cache else Path(arguments.out) / "cache"
    return Client(cache, contact=arguments.contact, offline=arguments.offline, slowest=arguments.rate)


def _print(curation: Curation, folder: str) -> None:
    """Print what was kept, and why the others were not."""
    from embedstore.coding.reasons import REASONS

    print(_table(curation.retention))
    if len(curation.rejects):
        counts = curation.rejects.value_counts(["stage", "reason"]).reset_index()
        counts["meaning"] = counts["reason"].map(REASONS)
        print(f"\nRejected\n{_table(counts)}")
    if curation.undecided:
        print(
            f"\nUndecided, because a server failed: {curation.undecided:,}. The same command asks again for these "
            "alone."
        )
    total = len(curation.dataset) + len(curation.rejects)
    print(f"\n{len(curation.dataset):,} of {total:,} proteins have a coding sequence: {folder}/dataset.jsonl")


def _table(frame: pd.DataFrame) -> str:
    """Write a table with text to the left and numbers to the right."""
    texts = {str(name): [str(name), *map(_cell, frame[name].tolist())] for name in frame}
    left = {str(name) for name in frame if frame[name].dtype.kind not in "if"}
    width = {name: max(map(len, cells)) for name, cells in texts.items()}
    columns = [
        [cell.ljust(width[name]) if name in left else cell.rjust(width[name]) for cell in cells]
        for name, cells in texts.items()
    ]
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _cell(value: object) -> str:
    """Write a number or a text."""
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) <= 1 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
