"""The command `embedstore represent`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import pandas as pd
    from matplotlib.axes import Axes

    from embedstore.store import Store

    _Drawn = tuple[str, pd.DataFrame, Axes]


def add_represent(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `embedstore represent` to the command line.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    """
    from embedstore.arguments import add_store_argument

    text = "study the space that a model makes of a task: GC content in it, maps, neighbours, similarity of models"
    description = f"{text}. Tables and figures go to a folder."
    example = "Example: embedstore represent gene_finding --model lm onehot --store store.zarr --out pictures"
    parser = commands.add_parser("represent", help=text, description=description, epilog=example)
    parser.add_argument("task", metavar="TASK", help="name of the task in the store")
    parser.add_argument("--model", nargs="+", required=True, metavar="M", help="embeddings, or onehot, kmer3, gc, ...")
    add_store_argument(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for tables (CSV) and figures (PNG)")
    parser.add_argument(
        "--by",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="colour maps by these and compare neighbours in them: columns of the sample table, label (default: gc, or "
        "of proteins length)",
    )
    parser.add_argument(
        "--method", choices=("pca", "tsne", "umap"), default="pca", help="of maps (default: %(default)s)"
    )
    parser.add_argument(
        "--window", type=int, metavar="N", help="decode GC content of windows of N nucleotides (default: of samples)"
    )
    parser.add_argument("--group", metavar="COLUMN", help="hold out samples together that are alike in this column")
    parser.add_argument("--seed", type=int, default=0, help="of draws and maps (default: %(default)s)")
    parser.set_defaults(run=_represent)


def _represent(arguments: argparse.Namespace) -> int:
    """Write tables and figures, and print the tables."""
    from matplotlib import pyplot as plt

    from analysis.plots import save_figure
    from embedstore.outputs import check_folder
    from embedstore.store import open_store

    out, store = check_folder(arguments.out), open_store(arguments.store)
    _check(store, arguments)
    for name, table, ax in _drawn(store, arguments):
        figure: Any = ax.figure
        path = save_figure(figure, out / f"{name}.png", table)
        plt.close(figure)
        if "x" not in table:
            print(f"\n{name}\n{table.to_string(index=False, float_format='{:.3f}'.format)}")
        print(f"{path} and {path.with_suffix('.csv')}")
    return 0


def _check(store: Store, arguments: argparse.Namespace) -> None:
    """Refuse what cannot be done before anything is written."""
    from analysis.representations import sample_values
    from embedstore.errors import InputError, NotInStoreError, check_seed, did_you_mean
    from probes.reading import open_rows

    check_seed(arguments.seed)
    window, longest = arguments.window, int(store.lengths(arguments.task).max())
    dna = store.record(arguments.task).alphabet == "dna"
    if not dna and (window is not None or arguments.group is not None):
        raise InputError(
            f"task {arguments.task!r} is of proteins, which have no GC content: leave out --window and --group."
        )
    for model in arguments.model:
        open_rows(store, arguments.task, model)
    if window is not None and not 2 <= window <= longest:
        raise InputError(f"--window is {window}; 2 to {longest:,} nucleotides, the longest sample, are wanted.")
    known = {
        "--by": sample_values(store, arguments.task, [0]).columns,
        "--group": store.samples(arguments.task).columns,
    }
    for option, names in (("--by", arguments.by), ("--group", [arguments.group] if arguments.group else [])):
        for name in names:
            if name not in known[option]:
                raise NotInStoreError(
                    f"{option} {name}: task {arguments.task!r} has no such column.{did_you_mean(name, known[option])}"
                )


def _drawn(store: Store, arguments: argparse.Namespace) -> Iterator[_Drawn]:
    """Yield name, numbers and picture of everything that is asked for."""
    import pandas as pd

    from analysis.gc_content import gc_decodability
    from analysis.representation_plots import (
        plot_decodability,
        plot_embedding_map,
        plot_neighbours,
        plot_similarity,
    )
    from analysis.representations import embedding_map, neighbours
    from analysis.similarity import similarity_table

    task, models = arguments.task, list(dict.fromkeys(arguments.model))
    dna = store.record(task).alphabet == "dna"
    by = list(dict.fromkeys([*arguments.by, *(["gc"] if dna else [] if arguments.by else ["length"])]))
    for model in models:
        table = embedding_map(store, task, model, method=arguments.method, seed=arguments.seed)
        for column in by:
            yield f"{task}.{model}.map.{column}", table, plot_embedding_map(table, colour=column)
        near = neighbours(store, task, model, by, seed=arguments.seed)
        yield f"{task}.{model}.neighbours", near, plot_neighbours(near)
    if dna:
        per: dict[str, Any] = {"per": "window", "window": arguments.window} if arguments.window else {}
        found = [gc_decodability(store, task, model, group=arguments.group, **per).table for model in models]
        decoded = pd.concat([one.assign(model=model) for one, model in zip(found, models, strict=True)])
        yield f"{task}.decodability", decoded, plot_decodability(decoded)
    if len(models) > 1:
        alike = similarity_table(store, [(task, model) for model in models], seed=arguments.seed)
        yield f"{task}.similarity", alike, plot_similarity(alike)
