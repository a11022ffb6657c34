"""The models known by name: ``models.toml``, one record each."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files

from embedstore.errors import InputError, did_you_mean


@dataclass(frozen=True)
class ModelRecord:
    """What is known of a published model before its checkpoint is read.

    Attributes
    ----------
    id
        Name under which embeddings are stored.
    title
        Name in words.
    architecture
        Name in `embedstore.models.architectures`, or ``"onehot"``, which is computed by the store.
    hub
        Repository on the Hugging Face hub, ``"organisation/name"``; empty when there is none.
    revision
        Commit of the hub repository, 40 hexadecimal digits; empty when the user must give one.
    context
        Longest input in nucleotides of A, C, G, T; 0 means no limit.
    width, layers
        Channels of the hidden state and number of blocks; 0 means that the checkpoint decides.
    licence, paper
        Terms of the weights, and where they were published.
    """

    id: str
    title: str
    architecture: str
    hub: str
    revision: str
    context: int
    width: int
    layers: int
    licence: str
    paper: str

    def to_dict(self) -> dict[str, str | int]:
        """Return the fields as a dict that JSON can hold."""
        return asdict(self)


@cache
def records() -> dict[str, ModelRecord]:
    """Return the records of all models known by name.

    Returns
    -------
    dict of str to ModelRecord
        Keyed by id, in the order of ``models.toml``.

    Examples
    --------
    >>> records()["nt_v2_50m_multi_species"].width
    512
    """
    text = files("embedstore.models").joinpath("models.toml").read_text(encoding="utf-8")
    return {name: ModelRecord(id=name, **fields) for name, fields in tomllib.loads(text).items()}


def record(name: str) -> ModelRecord:
    """Return the record of one model.

    Parameters
    ----------
    name
        Its id.

    Returns
    -------
    ModelRecord

    Raises
    ------
    InputError
        If there is none of that name; the message names the closest one.

    Examples
    --------
    >>> record("resnet_lm").architecture
    'convnet'
    """
    known = records()
    if name not in known:
        raise InputError(f"No model is called {name!r}.{did_you_mean(name, known)}")
    return known[name]
