"""R2 divided between protein, species, codon usage and the order of codons, whatever two of them share included."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

from analysis.melting_point.data import PERMUTED, PROTEIN, TRUE
from analysis.melting_point.design import SPECIES
from analysis.melting_point.inference import MEASURES, estimate
from analysis.melting_point.partition import MEAN, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from analysis.melting_point.inference import Draws

PLAYERS = (PROTEIN, SPECIES, "composition", "local")
"""What `shapley` divides R2 between."""


def shapley_contrasts() -> dict[str, dict[str, float]]:
    """Return the mean contribution of each of `PLAYERS` over the orders in which they can be added, as contrasts.

    The true order of codons can only be added to their composition, never taken without it: orders in which ``local``
    precedes ``composition`` do not exist, and 12 of the 24 are left. The four add up to the R2 of all less that of the
    mean.

    Returns
    -------
    dict
        Name of the player -> prediction -> weight.

    Notes
    -----
    Shapley value under precedence constraints: Faigle and Kern 1992, Int. J. Game Theory 21:249.
    """
    orders = [order for order in permutations(PLAYERS) if order.index("composition") < order.index("local")]
    found: dict[str, dict[str, float]] = {player: {} for player in PLAYERS}
    for order in orders:
        for place, player in enumerate(order):
            weights = found[player]
            for name, sign in ((_coalition(order[: place + 1]), 1), (_coalition(order[:place]), -1)):
                weights[name] = weights.get(name, 0.0) + sign / len(orders)
    return found


def _coalition(players: Sequence[str]) -> str:
    """Return the prediction that some players make."""
    coding = TRUE if "local" in players else PERMUTED if "composition" in players else None
    parts = [name for name in (PROTEIN, SPECIES) if name in players]
    if coding and parts == [SPECIES]:
        return joined(coding, SPECIES)
    return joined(*parts, *([coding] if coding else [])) or MEAN


def shapley_table(drawn: Draws) -> pd.DataFrame:
    """Return what each of `PLAYERS` contributes, with intervals; see `shapley_contrasts`.

    Parameters
    ----------
    drawn
        Draws of all predictions of the partition, those of each strategy alone included.

    Returns
    -------
    pandas.DataFrame
        player, measure, estimate, low, high, p.
    """
    import pandas as pd

    rows = [
        {"player": player, "measure": measure, **estimate(drawn, weights, measure)._asdict()}
        for measure in MEASURES
        for player, weights in shapley_contrasts().items()
    ]
    return pd.DataFrame(rows)
