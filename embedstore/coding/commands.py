"""The command ``recode``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    import pandas as pd
    from numpy.typing import NDArray


def add_recode(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command ``recode``.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    """
    from embedstore.arguments import add_store_argument

    text = "add tasks with the same proteins and other codons to a store"
    parser = commands.add_parser(
        "recode",
        help=text,
        description=f"{text}; `embedstore recode TASK` without a strategy lists the strategies",
        epilog="Example: embedstore recode melting_point --strategy permuted --seeds 5 --store store.zarr",
    )
    parser.add_argument("task", metavar="TASK", help="name of a task of coding sequences in the store")
    add_store_argument(parser)
    parser.add_argument(
        "--strategy",
        action="append",
        default=[],
        metavar="C",
        help="codon strategy, such as permuted or 'window_permuted(8)'; may be given several times",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="K", help="seeds 0 to K - 1 (default: %(default)s)")
    parser.add_argument("--table", type=int, metavar="N", help="genetic code of all samples (default: their column)")
    parser.add_argument(
        "--species-column", default="species", metavar="NAME", help="column of species (default: %(default)s)"
    )
    parser.add_argument(
        "--usage", metavar="FILE", help="codon usage, tab-separated: a row per species (default: of the train samples)"
    )
    parser.add_argument(
        "--parent",
        metavar="FASTA",
        help="parent of all variants, for shared strategies; 'consensus' takes the commonest codon at each place",
    )
    parser.set_defaults(run=_recode)


def _recode(arguments: argparse.Namespace) -> int:
    from embedstore.coding.recoding import recoded_task, stored_task
    from embedstore.coding.strategies import STRATEGIES, parse_strategy
    from embedstore.errors import InputError
    from embedstore.store import open_store

    if not arguments.strategy:
        width = max(map(len, STRATEGIES))
        print("Codon strategies, for --strategy:")
        for one in STRATEGIES.values():
            print(f"  {one.name + (f'({one.parameter})' if one.parameter else ''):{width + 9}} {one.text}")
        return 0
    if arguments.seeds < 1:
        raise InputError(f"--seeds is {arguments.seeds}; one seed or more is wanted.")
    for strategy in arguments.strategy:
        parse_strategy(strategy)  # before any task is added
    open_store(arguments.store)  # a mistyped path must not become a new store
    store = open_store(arguments.store, mode="a")
    task = stored_task(store, arguments.task)
    options = {
        "table": "transl_table" if arguments.table is None else arguments.table,
        "species": arguments.species_column,
        "usage": _usage(arguments.usage),
        "parent": _parent(arguments.parent),
    }
    for strategy in arguments.strategy:
        for seed in range(arguments.seeds):
            recoded = recoded_task(task, strategy, seed=seed, **options)
            if recoded is task:
                print(f"{task.name} is the task itself: strategy 'true' changes nothing.")
                break
            store.add_task(recoded)
            print(recoded.name)
    return 0


def _usage(path: str | None) -> pd.DataFrame | None:
    """Read a table of codon usage."""
    import pandas as pd

    from embedstore.errors import InputError

    if path is None:
        return None
    try:
        table = pd.read_csv(path, sep="\t", index_col=0)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--usage {path}: cannot be read: {error}. A tab-separated table is wanted: the species first, then a "
            "column for each codon."
        ) from error
    text = [str(column) for column in table.columns if table[column].dtype.kind not in "if"]
    if text:
        raise InputError(
            f"{path}: columns that are not numbers: {', '.join(text[:5])}. The first column names species."
        )
    return table


def _parent(given: str | None) -> NDArray[Any] | str | None:
    """Read the only sequence of a FASTA file."""
    from embedstore.errors import InputError
    from embedstore.genome import Genome

    if given in (None, "consensus"):
        return given
    genome = Genome(given)
    if len(genome.contigs) != 1:
        raise InputError(f"{given}: {len(genome.contigs):,} sequences; one, the parent, is wanted.")
    ((name, length),) = genome.contigs.items()
    return genome.fetch(name, 0, length)
