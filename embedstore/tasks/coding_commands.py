"""The command ``coding``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstore.arguments import add_store_argument, checked_store
from embedstore.commands import print_table
from embedstore.errors import InputError
from embedstore.outputs import check_file, write_atomically

if TYPE_CHECKING:
    import argparse

    from embedstore.tasks.coding import CodingData


def add_coding(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command ``coding``.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    """
    text = "read the coding sequences of a protein task, check every row, and add them and their proteins to a store"
    example = "Example: embedstore coding proteins.tsv --task melting_point --store store.zarr"
    parser = commands.add_parser("coding", help=text, description=text, epilog=example)
    parser.add_argument(
        "path", metavar="PATH", help="folder of FASTA files, FASTA file, CSV, TSV, Parquet or JSON lines"
    )
    parser.add_argument("--task", required=True, metavar="T", help="a published task, or your own record: a TOML file")
    add_store_argument(parser)
    parser.add_argument("--name", metavar="N", help="of the task in the store; the proteins' is N.protein")
    parser.add_argument(
        "--column", action="append", default=[], metavar="A=B", help="column B of the table is A, as in label=median_Tm"
    )
    parser.add_argument("--split", metavar="NAME", help="split of all rows, for a table that does not say")
    parser.add_argument(
        "--ids",
        choices=("given", "row"),
        default="given",
        help="row: number the rows, where ids repeat (default: %(default)s)",
    )
    parser.add_argument(
        "--faults", choices=("refuse", "reject"), default="refuse",
        help="what to do with rows that are not as they must be (default: %(default)s); reject leaves them out",
    )  # fmt: skip
    parser.add_argument("--rejects", metavar="F", help="write the rows that were left out to this file, tab-separated")
    parser.add_argument(
        "--species", metavar="F", help="table of species: protein_sha256, label, species; tab-separated"
    )
    parser.add_argument(
        "--transl-table", default="1", metavar="N", help="genetic code of rows that name none, or 'find' (default: 1)"
    )
    parser.add_argument(
        "--val", choices=("given", "grouped"), default="given",
        help="grouped: divide training and validation samples anew, no protein in both (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of divisions (default: %(default)s)")
    parser.add_argument("--label-order", metavar="LETTERS", help="classes of residues in the order of their numbers")
    parser.add_argument(
        "--stops", choices=("refuse", "X"), default="refuse",
        help="stop codons inside a protein: X writes them as an unknown residue (default: %(default)s)",
    )  # fmt: skip
    parser.set_defaults(run=_coding)


def _coding(arguments: argparse.Namespace) -> int:
    """Read, check, add, and say what differs."""
    from embedstore import open_store
    from embedstore.tasks import coding_task, protein_task, read_coding

    if arguments.rejects and arguments.faults == "refuse":
        raise InputError("--rejects names a file for rows that are left out; say --faults reject to leave them out.")
    rejects = check_file(arguments.rejects, option="--rejects", source=arguments.path) if arguments.rejects else None
    checked_store(arguments.store)
    data = read_coding(
        arguments.path,
        arguments.task,
        columns=_columns(arguments.column),
        split=arguments.split,
        ids=arguments.ids,
        faults=arguments.faults,
        species=arguments.species,
        table=_table(arguments.transl_table),
        val=arguments.val,
        seed=arguments.seed,
        label_order=arguments.label_order,
    )
    name = arguments.name or data.record.name
    tasks = [coding_task(data, name), protein_task(data, f"{name}.protein", stops=arguments.stops)]
    if rejects is not None:
        write_atomically(rejects, data.rejects.to_csv(sep="\t", index=False).encode())
    store = open_store(arguments.store, mode="a")
    for task in tasks:
        store.add_task(task)
        print(task)
    _print(data, arguments.rejects)
    return 0


def _print(data: CodingData, rejects: str | None) -> None:
    """Print what was left out, and what differs from what was published."""
    if len(data.rejects):
        counts = data.rejects["reason"].value_counts()
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
        print(
            f"\n{len(data.rejects):,} rows were left out: {reasons}." + (f" They are in {rejects}." if rejects else "")
        )
    if len(data.differences):
        print("\nWhat differs from the published task, or should not be")
        print_table(
            [{str(name): str(cell) for name, cell in row.items()} for row in data.differences.to_dict("records")]
        )


def _columns(given: list[str]) -> dict[str, str] | None:
    """Read what columns are called."""
    pairs = [text.partition("=") for text in given]
    for text, (name, sign, theirs) in zip(given, pairs, strict=True):
        if not (name and sign and theirs):
            raise InputError(
                f"--column {text!r}: a name, '=' and the column of the table are wanted, as label=median_Tm."
            )
    return {name: theirs for name, _, theirs in pairs} or None


def _table(text: str) -> Any:
    """Read the number of a genetic code, or ``find``."""
    from embedstore.tasks.coding_rows import FIND

    if text != FIND and not text.isdigit():
        raise InputError(f"--transl-table is {text!r}; the number of a genetic code, or {FIND!r}, is wanted.")
    return text if text == FIND else int(text)
