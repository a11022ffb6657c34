"""Our encoder against the native class of transformers: same weights, same batches, tokens per second.

Every family that has a native class: ESM-2, ESM-1b and NT v1 (learned positions), DNABERT and GROVER (BERT), GENA-LM
BigBird on both sides of the length at which its attention becomes sparse. Pairs are interleaved, so that whatever else
the machine does falls on both. Run: python benchmarks/encoders.py [--device cuda] [--precision float32]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import transformers
from common import machine, table

from embedstore.models import bert, esm
from embedstore.models.checkpoints import Checkpoint
from embedstore.models.precision import arithmetic, check_precision

if TYPE_CHECKING:
    from collections.abc import Callable

PAIRS = 9
SIZES = {"num_hidden_layers": 6, "hidden_size": 320, "num_attention_heads": 20, "intermediate_size": 1280}
BIRD = SIZES | {
    "hidden_size": 256,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "attention_type": "block_sparse",
}


class Family(NamedTuple):
    """A native class, its config, our builder, and the batches: sequences and tokens of each."""

    name: str
    native: Any
    config: Any
    build: Callable[[Checkpoint], torch.nn.Module]
    batches: tuple[tuple[int, int], ...] = ((16, 88), (2, 1000))


def families() -> list[Family]:
    """Return what is compared."""
    ids = {"pad_token_id": 1, "mask_token_id": 2}
    short = ((16, 88), (4, 510))
    return [
        Family(
            "ESM-2",
            transformers.EsmModel,
            transformers.EsmConfig(
                vocab_size=33,
                position_embedding_type="rotary",
                token_dropout=True,
                max_position_embeddings=1026,
                **ids,
                **SIZES,
            ),
            esm.build_esm,
        ),
        Family(
            "ESM-1b",
            transformers.EsmModel,
            transformers.EsmConfig(
                vocab_size=33,
                position_embedding_type="absolute",
                token_dropout=True,
                emb_layer_norm_before=True,
                max_position_embeddings=1026,
                **ids,
                **SIZES,
            ),
            esm.build_esm,
        ),
        Family(
            "NT v1",
            transformers.EsmModel,
            transformers.EsmConfig(
                vocab_size=4105, position_embedding_type="absolute", max_position_embeddings=1002, **ids, **SIZES
            ),
            esm.build_esm,
        ),
        Family(
            "DNABERT, GROVER",
            transformers.BertModel,
            transformers.BertConfig(vocab_size=4101, layer_norm_eps=1e-12, max_position_embeddings=512, **SIZES),
            bert.build_bert,
            short,
        ),
        Family(
            "BigBird",
            transformers.BigBirdModel,
            transformers.BigBirdConfig(vocab_size=32000, max_position_embeddings=4096, **BIRD),
            bert.build_big_bird,
            ((16, 88), (1, 704), (1, 2048)),
        ),
    ]


def pair(family: Family, device: torch.device) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return their network and ours, with the same random weights."""
    torch.manual_seed(0)
    options = {"add_pooling_layer": False}
    theirs = family.native(family.config, **options).to(device).eval().requires_grad_(False)
    weights = {name: tensor.cpu() for name, tensor in theirs.state_dict().items()}
    checkpoint = Checkpoint(Path("memory"), family.config.to_dict(), {}, weights, {})
    return theirs, family.build(checkpoint).to(device).eval().requires_grad_(False)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the time of one run."""
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    precision = check_precision(arguments.precision, device)
    rows = [("family", "batch", "theirs ktoken/s", "ours ktoken/s", "ratio", "largest difference")]
    for family in families():
        theirs, ours = pair(family, device)
        for sequences, tokens in family.batches:
            ids = torch.randint(5, 30, (sequences, tokens), device=device)
            if family.name == "BigBird":
                # One input that is short enough turns the native class to full attention for good.
                theirs.set_attention_type("block_sparse")
            with arithmetic(precision, device):
                difference = (theirs(ids).last_hidden_state.float() - ours(ids).float()).abs().max().item()
                runs = [
                    (seconds(lambda: theirs(ids), device), seconds(lambda: ours(ids), device))  # noqa: B023
                    for _ in range(PAIRS)
                ]
            counts = [sequences * tokens / statistics.median(side) / 1e3 for side in zip(*runs, strict=True)]
            ratio = statistics.median(native / own for native, own in runs)
            rows.append(
                (
                    family.name,
                    f"{sequences} x {tokens}",
                    f"{counts[0]:.1f}",
                    f"{counts[1]:.1f}",
                    f"{ratio:.2f}",
                    f"{difference:.1e}",
                )
            )
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{machine()}, torch {torch.__version__}, transformers {transformers.__version__}; {name}, {precision}")
    table("Encoder against the native class, 6 layers; medians and the median ratio of interleaved pairs", rows)


if __name__ == "__main__":
    main()
