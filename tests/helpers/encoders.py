"""Transformer encoders of the golden folders, the native classes of transformers, and changed copies of folders."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from embedstore.models.bert import build_bert, build_big_bird, build_dnabert2, build_gena_bert
from embedstore.models.calm import build_calm
from embedstore.models.checkpoints import read_checkpoint
from embedstore.models.esm import build_esm

GOLDEN = Path(__file__).parents[1] / "golden"
BUILDERS = {
    "nt_v1": build_esm,
    "nt_v2": build_esm,
    "esm1b": build_esm,
    "esm2": build_esm,
    "dnabert": build_bert,
    "grover": build_bert,
    "dnabert2": build_dnabert2,
    "gena_bert_last_ln": build_gena_bert,
    "gena_bert_no_last_ln": build_gena_bert,
    "gena_bigbird": build_big_bird,
    "calm": build_calm,
}
NATIVE = {
    "nt_v1": "EsmForMaskedLM",
    "esm1b": "EsmForMaskedLM",
    "esm2": "EsmForMaskedLM",
    "dnabert": "BertForMaskedLM",
    "grover": "BertForMaskedLM",
    "gena_bigbird": "BigBirdForMaskedLM",
}
REMOVED = object()


def build(family, folder=None):
    """Build the encoder of a family from its golden folder, or from another."""
    return BUILDERS[family](read_checkpoint(folder or GOLDEN / family))


encoder = cache(build)


@cache
def arrays(family):
    return np.load(GOLDEN / family / "cases.npz")


@cache
def cases(family):
    """Return what is in cases.json; of the cases those whose input is not cut into pieces."""
    content = json.loads((GOLDEN / family / "cases.json").read_text())
    content["cases"] = [case for case in content["cases"] if f"{case['id']}/piece" not in arrays(family).files]
    return content


@torch.no_grad()
def compute(network, ids, layer=-1, lengths=None):
    return network(torch.as_tensor(ids), layer, None if lengths is None else torch.as_tensor(lengths))


def random_ids(family, *shape, seed=0):
    """Draw ids of letters and words: none of them is special in any family."""
    low, high = {"esm1b": (4, 24), "esm2": (4, 24), "calm": (4, 68), "grover": (5, 111)}.get(family, (6, 300))
    return torch.from_numpy(np.random.default_rng(seed).integers(low, high, shape))


def native(family, folder=None):
    """Load the class of transformers with the weights of a golden folder."""
    import transformers
    from transformers.utils import logging

    logging.set_verbosity_error()  # the file has a pooler, the class has none
    logging.disable_progress_bar()
    return getattr(transformers, NATIVE[family]).from_pretrained(folder or GOLDEN / family).eval()


@torch.no_grad()
def run_native(model, ids, **arguments):
    """Run a native model; a BigBird afresh, because one short input turns it to full attention for good."""
    if model.config.model_type == "big_bird":
        model.bert.set_attention_type("block_sparse")
    return model(torch.as_tensor(ids), output_hidden_states=True, **arguments)


def shake(model):
    """Draw weights that make every part count: the usual start hides a forgotten norm and makes attention flat."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            is_scale = "LayerNorm.weight" in name or "layer_norm.weight" in name
            weight.normal_(1.0 if is_scale else 0.0, 0.2)
    return model.eval()


def copy_of(family, folder):
    for name in ("config.json", "tokenizer_config.json", "model.safetensors"):
        if (GOLDEN / family / name).exists():
            shutil.copy(GOLDEN / family / name, folder)
    return folder


def change_config(folder, **fields):
    """Change fields of config.json; the value REMOVED takes one out."""
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not REMOVED}))


def change_weights(folder, changes):
    """Set tensors of model.safetensors by name; the value REMOVED takes one out."""
    weights = load_file(folder / "model.safetensors") | changes
    save_file({k: v.clone() for k, v in weights.items() if v is not REMOVED}, folder / "model.safetensors")


def rename_weights(folder, rename):
    """Give the tensors of model.safetensors other names; those that are named None are left out."""
    weights = load_file(folder / "model.safetensors")
    save_file({rename(k): v for k, v in weights.items() if rename(k)}, folder / "model.safetensors")
