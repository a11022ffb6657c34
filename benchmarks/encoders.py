"""Our encoder against the native class of transformers: same weights, same batches, tokens per second.

Every family that has a native class: ESM-2, ESM-1b and NT v1 (learned positions), DNABERT and GROVER (BERT), GENA-LM
BigBird on both sides of the length at which its attention becomes sparse. Pairs are interleaved, so that whatever else
the machine does falls on both. Then sequences of mixed lengths through ours: one at a time, in padded batches, and
packed in one stream. Run: python benchmarks/encoders.py [--device cuda] [--precision float32] [--only-mixed]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import transformers
from common import machine, table

from embedstore.batches import plan_batches
from embedstore.models import bert, esm
from embedstore.models.checkpoints import Checkpoint
from embedstore.models.precision import arithmetic, check_precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstore.models.precision import Precision

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


def esm_family(name: str, letters: int, positions: str, longest: int, **config: Any) -> Family:
    """Return a family whose native class is that of ESM."""
    settings = SIZES | {"pad_token_id": 1, "mask_token_id": 2, "max_position_embeddings": longest} | config
    native = transformers.EsmConfig(vocab_size=letters, position_embedding_type=positions, **settings)
    return Family(name, transformers.EsmModel, native, esm.build_esm)


def families() -> list[Family]:
    """Return what is compared."""
    return [
        esm_family("ESM-2", 33, "rotary", 1026, token_dropout=True),
        esm_family("ESM-1b", 33, "absolute", 1026, token_dropout=True, emb_layer_norm_before=True),
        esm_family("NT v1", 4105, "absolute", 1002),
        Family(
            "DNABERT, GROVER",
            transformers.BertModel,
            transformers.BertConfig(vocab_size=4101, layer_norm_eps=1e-12, max_position_embeddings=512, **SIZES),
            bert.build_bert,
            ((16, 88), (4, 510)),
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


def seconds(run: Callable[[], object], device: torch.device, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the time of one run."""
    began = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - began


def native_table(device: torch.device, precision: Precision) -> None:
    """Measure our encoder against the native classes and print ratios."""
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
    table("Encoder against the native class, 6 layers; medians and the median ratio of interleaved pairs", rows)


def fill(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Put sequences into padded batches as is usual: sorted by length, each as full as the budget allows."""
    batches: list[list[int]] = [[]]
    for index in np.argsort(-lengths, kind="stable"):
        if batches[-1] and lengths[batches[-1][0]] * (len(batches[-1]) + 1) > budget:
            batches.append([])
        batches[-1].append(int(index))
    return [np.array(batch) for batch in batches]


def mixed_table(device: torch.device, precision: Precision, sequences: int, repeats: int) -> None:
    """Measure one at a time, padded batches and streams on genes of 1.4 to 14 kb in words of six, and print ratios."""
    family = families()[0]
    network = pair(family, device)[1]
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.uniform(np.log(233), np.log(2333), sequences)).astype(np.int64)
    ids = [torch.from_numpy(rng.integers(5, 30, length)).to(device) for length in lengths]

    def padded(batch: np.ndarray) -> torch.Tensor:
        together = torch.nn.utils.rnn.pad_sequence([ids[i] for i in batch], batch_first=True)
        return network(together, -1, torch.from_numpy(lengths[batch]).to(device))

    def stream(batch: np.ndarray) -> torch.Tensor:
        return network.forward_packed(torch.cat([ids[i] for i in batch]), -1, lengths[batch].tolist())

    ways = [("one at a time", [np.array([i]) for i in range(sequences)], lambda batch: network(ids[batch[0]][None]))]
    ways += [("padded, 4,096", fill(lengths, 4096), padded)]
    ways += [("padded by at most 5 %, 4,096", plan_batches(lengths, 4096, pads=True), padded)]
    ways += [(f"packed, {size:,}", plan_batches(lengths, size, packs=True), stream) for size in (1024, 4096, 16384)]
    # What else a machine does lengthens the time that passes, but not the time that one thread works.
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    with arithmetic(precision, device):
        for _, batches, run in ways:
            run(batches[-1])
        times = [
            [seconds(lambda: [run(batch) for batch in batches], device, clock) for _, batches, run in ways]  # noqa: B023
            for _ in range(repeats)
        ]
    rows = [("way, token budget", "batches", "padded/real", "ktoken/s", "ratio to one at a time")]
    for (name, batches, run), own in zip(ways, zip(*times, strict=True), strict=True):
        size = sum(len(b) * lengths[b].max() for b in batches) / lengths.sum() if run is padded else 1
        ratio = statistics.median(line[0] / one for line, one in zip(times, own, strict=True))
        speed = lengths.sum() / statistics.median(own) / 1e3
        rows.append((name, str(len(batches)), f"{size:.2f}", f"{speed:.1f}", f"{ratio:.2f}"))
    title = f"{sequences} sequences of {lengths.min():,} to {lengths.max():,} tokens, {family.name}, 6 layers of 320"
    unit = "processor seconds" if alone else "seconds"
    table(f"{title}; {unit}, medians and the median ratio of {repeats} interleaved rounds", rows)


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--sequences", type=int, default=96, help="of the table of mixed lengths (96)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of the table of mixed lengths (5)")
    parser.add_argument("--only-mixed", action="store_true", help="leave the native classes out")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    precision = check_precision(arguments.precision, device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{machine()}, torch {torch.__version__}, transformers {transformers.__version__}; {name}, {precision}")
    if not arguments.only_mixed:
        native_table(device, precision)
    mixed_table(device, precision, arguments.sequences, arguments.repeats)


if __name__ == "__main__":
    main()
