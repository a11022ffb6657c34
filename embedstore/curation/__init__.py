"""Finding the true coding sequences of proteins, in local files and in public databases."""

from embedstore.curation.client import Client
from embedstore.curation.network import Servers
from embedstore.curation.pipeline import Curation, curate

__all__ = ["Client", "Curation", "Servers", "curate"]
