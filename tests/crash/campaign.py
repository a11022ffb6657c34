"""Kill workers and schedulers of embedding runs many times, and print what came of it.

    python tests/crash/campaign.py --kills 200

Exit code 1 if a row was lost, a store ended with other values, or `verify` found a fault.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from kills import KINDS, Tally, campaign


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    arguments = parser.parse_args()
    began = time.monotonic()
    shares = dict(zip(KINDS, (2, 2, 1), strict=True))  # a scheduler takes its workers with it: the slowest to set up
    kills = {kind: arguments.kills * share // 5 for kind, share in shares.items()}
    kills[KINDS[0]] += arguments.kills - sum(kills.values())

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.0f} s  {line}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        found = campaign(Path(folder), kills, arguments.seed, say)
    rows = [
        (
            "killed",
            "kills",
            "stores compared",
            "rows lost",
            "stores wrong",
            "verify faults",
            "runs that ended otherwise",
        )
    ]
    rows += [tuple(map(str, tally)) for tally in found]
    rows.append(("all", *(str(sum(column)) for column in zip(*(tally[1:] for tally in found), strict=True))))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    print(f"\nkill -9, seed {arguments.seed}, {time.monotonic() - began:.0f} s")
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    return int(any(any(tally[Tally._fields.index("lost") :]) for tally in found))


if __name__ == "__main__":
    sys.exit(main())
