"""Fetching checkpoint folders from the Hugging Face hub, at a fixed commit and without code files."""

from __future__ import annotations

from pathlib import Path

from embedstore.errors import CheckpointError
from embedstore.models.checkpoints import TOKENIZER_FILES

_DESCRIPTION = ["config.json", *TOKENIZER_FILES]


def fetch(repository: str, revision: str) -> Path:
    """Return the local folder of a repository, downloading what is not in the cache yet.

    Parameters
    ----------
    repository
        ``"organisation/name"``.
    revision
        A commit, 40 hexadecimal digits.

    Returns
    -------
    Path
        Folder in the cache of huggingface_hub (``HF_HOME``). ``HF_HUB_OFFLINE`` is respected.

    Raises
    ------
    CheckpointError
        If it is not in the cache and cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    def snapshot(weights: list[str]) -> Path:
        # Code files match no pattern, so none is even downloaded.
        return Path(snapshot_download(repository, revision=revision, allow_patterns=[*_DESCRIPTION, *weights]))

    try:
        folder = snapshot(["*.safetensors", "model.safetensors.index.json"])
        if not any(folder.glob("*.safetensors")):
            folder = snapshot(["pytorch_model*.bin", "pytorch_model.bin.index.json"])
    except Exception as error:
        # The client and its transport have many errors without a common parent; all mean that it is not here.
        raise CheckpointError(
            f"Cannot fetch {repository} at {revision} from the Hugging Face hub: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]} Where there is no network: download it elsewhere with `hf download "
            f"{repository} --revision {revision} --local-dir FOLDER` and give that folder as checkpoint=."
        ) from error
    return folder
