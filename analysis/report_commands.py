"""The command `embedstore report`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_report(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `embedstore report` to the command line.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    """
    text = "write a page of HTML: a melting-point study, the results of a store, or both, beside the paper's numbers"
    parser = commands.add_parser(
        "report",
        help=text,
        description=f"{text}. The page needs no network and no scripts.",
        epilog="Example: embedstore report study store.zarr --out report.html",
    )
    parser.add_argument(
        "places",
        nargs="+",
        metavar="DIR_OR_STORE",
        help="folder that `embedstore melting-point` wrote, a store with results beside it, or a folder of results",
    )
    parser.add_argument("--out", required=True, metavar="FILE.html", help="the page")
    parser.add_argument("--title", default="", metavar="TEXT", help="default: what the page is about")
    parser.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    from analysis.report import check_report, find_sources, write_report
    from probes.results import read_results
    from probes.tables import results_table

    # Intervals of many results take minutes, which are not to be lost to a name.
    check_report(arguments.out)
    study, folder = find_sources(arguments.places)
    results = None if folder is None else results_table(read_results(folder), progress=True)
    path = write_report(arguments.out, study=study, results=results, title=arguments.title)
    print(f"{path}: {path.stat().st_size / 2**10:,.0f} KiB, opens in any browser.")
    if study is not None:
        print(f"Verdict: {study.record['conclusion']}")
    return 0
