"""Frozen language models: records of the known ones, checkpoint loading, pieces and hidden states, pretraining.

Importing this package does not import torch; `load` does.
"""

from __future__ import annotations

from embedstore.models.loading import load
from embedstore.models.model import Model
from embedstore.models.records import ModelRecord, record, records
from embedstore.models.windows import Piece

__all__ = ["Model", "ModelRecord", "Piece", "load", "record", "records"]
