"""embedstore: embed genome tasks once with a frozen language model, then probe, score and study from a zarr store.

Names are imported when they are first used, so that ``import embedstore`` stays fast.

Examples
--------
>>> import embedstore
>>> store = embedstore.open_store("memory://", mode="a")
>>> store.tasks()
[]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedstore.embedding import EmbedReport, embed, prepare
    from embedstore.planning import EmbedPlan, plan
    from embedstore.rows import Embedding, Rows
    from embedstore.store import Store, open_store

__version__ = "0.1.0"

_HOME = {
    "open_store": "embedstore.store",
    "Store": "embedstore.store",
    "Embedding": "embedstore.rows",
    "Rows": "embedstore.rows",
    "embed": "embedstore.embedding",
    "prepare": "embedstore.embedding",
    "plan": "embedstore.planning",
    "EmbedPlan": "embedstore.planning",
    "EmbedReport": "embedstore.embedding",
}

__all__ = ["EmbedPlan", "EmbedReport", "Embedding", "Rows", "Store", "embed", "open_store", "plan", "prepare"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'embedstore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
