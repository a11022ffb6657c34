"""The known architectures: how each is recognised, built, tokenised and cut. The one place to add another."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from embedstore.errors import CheckpointError, InputError
from embedstore.models import awd_lstm, bert, caduceus, calm, convnet, esm, hyenadna, native
from embedstore.models.windows import by_letters, by_tokens, in_order
from embedstore.tokenizers import (
    BpeTokenizer,
    CharacterTokenizer,
    CodonTokenizer,
    KmerTokenizer,
    LongestMatchTokenizer,
    OverlappingKmerTokenizer,
    bend_order,
)
from embedstore.tokenizers.vocabulary import read_words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embedstore.models.checkpoints import Checkpoint
    from embedstore.models.network import Network
    from embedstore.models.windows import WindowRule
    from embedstore.tokenizers import Tokenizer

_DNABERT2_LETTERS = 10_000  # what its authors advise, and BEND's rule; its positions have no limit


class Architecture(NamedTuple):
    """What it takes to run the checkpoints of one architecture.

    Attributes
    ----------
    recognise
        Whether a checkpoint is of this architecture, by the fields of its config, the keys of its weights and, where
        two architectures differ in nothing else, its vocabulary.
    build
        The network with the checkpoint's weights.
    tokenizer
        The tokenizer of a checkpoint folder.
    window_rule
        How sequences are cut, given the tokenizer and the checkpoint.
    """

    recognise: Callable[[Checkpoint], bool]
    build: Callable[[Checkpoint], Network]
    tokenizer: Callable[[Path], Tokenizer]
    window_rule: Callable[[Any, Checkpoint], WindowRule]


def _whole(tokenizer: Tokenizer, _checkpoint: Checkpoint) -> WindowRule:
    return by_letters(tokenizer)


def _all_positions(tokenizer: Tokenizer, checkpoint: Checkpoint) -> WindowRule:
    """Fill every position of a model that counts tokens, the special ones included."""
    room = checkpoint.integer("max_position_embeddings") - len(tokenizer.prefix) - len(tokenizer.suffix)
    return by_tokens(tokenizer, max(1, room))


def _stated_length(tokenizer: Tokenizer, checkpoint: Checkpoint) -> WindowRule:
    """Cut where the tokenizer's file says; a file without a length says 10 ** 30."""
    stated = checkpoint.tokenizer_config.get("model_max_length")
    return by_letters(tokenizer, stated if isinstance(stated, int) and 0 < stated < 10**9 else None)


def _nucleotide_transformer(tokenizer: KmerTokenizer, checkpoint: Checkpoint) -> WindowRule:
    most = esm.esm_max_tokens(checkpoint)
    return by_letters(tokenizer, (most - len(tokenizer.prefix) - len(tokenizer.suffix)) * tokenizer.k, most)


def _vocabulary(checkpoint: Checkpoint) -> list[str]:
    """Return the words of a checkpoint's vocabulary file; none where it has no such file."""
    path = checkpoint.folder / "vocab.txt"
    return read_words(path) if path.is_file() else []


def _has_kmers(checkpoint: Checkpoint) -> bool:
    """Tell whether a vocabulary holds nucleotide words, and not the residues of proteins."""
    return any(len(word) > 1 and set(word) <= set("ACGT") for word in _vocabulary(checkpoint))


def _all_kmers(checkpoint: Checkpoint) -> bool:
    """Tell whether a vocabulary holds nucleotide words of one length only: DNABERT's."""
    return len({len(word) for word in _vocabulary(checkpoint) if word and set(word) <= set("ACGT")}) == 1


def _grover_tokenizer(folder: Path) -> Tokenizer:
    if (folder / "tokenizer.json").is_file():
        return BpeTokenizer.from_folder(folder)
    return LongestMatchTokenizer.from_folder(folder)


def _of_type(model_type: str) -> Callable[[Checkpoint], bool]:
    """Recognise a checkpoint by what its config says, where that says enough."""
    return lambda checkpoint: checkpoint.config.get("model_type") == model_type


ARCHITECTURES: dict[str, Architecture] = {
    "nucleotide_transformer": Architecture(
        lambda checkpoint: esm.is_esm(checkpoint) and _has_kmers(checkpoint),
        esm.build_esm,
        KmerTokenizer.from_folder,
        _nucleotide_transformer,
    ),
    "esm": Architecture(
        lambda checkpoint: esm.is_esm(checkpoint) and not _has_kmers(checkpoint),
        esm.build_esm,
        CharacterTokenizer.from_vocabulary,
        lambda tokenizer, checkpoint: by_letters(tokenizer, esm.esm_max_tokens(checkpoint) - 2),
    ),
    "dnabert": Architecture(
        lambda checkpoint: bert.is_bert(checkpoint) and _all_kmers(checkpoint),
        bert.build_bert,
        OverlappingKmerTokenizer.from_folder,
        lambda tokenizer, checkpoint: by_letters(tokenizer, None, checkpoint.integer("max_position_embeddings")),
    ),
    "grover": Architecture(
        lambda checkpoint: bert.is_bert(checkpoint) and not _all_kmers(checkpoint),
        bert.build_bert,
        _grover_tokenizer,
        _all_positions,
    ),
    "dnabert2": Architecture(
        bert.is_dnabert2,
        bert.build_dnabert2,
        BpeTokenizer.from_folder,
        lambda tokenizer, _checkpoint: by_letters(tokenizer, _DNABERT2_LETTERS),
    ),
    "gena_bert": Architecture(bert.is_gena_bert, bert.build_gena_bert, BpeTokenizer.from_folder, _all_positions),
    "gena_bigbird": Architecture(_of_type("big_bird"), bert.build_big_bird, BpeTokenizer.from_folder, _all_positions),
    "modernbert": Architecture(
        _of_type("modernbert"), native.build_modernbert, BpeTokenizer.from_folder, _all_positions
    ),
    "hyenadna": Architecture(
        _of_type("hyenadna"),
        hyenadna.build_hyenadna,
        lambda folder: CharacterTokenizer.from_characters(folder, suffix=("[SEP]",)),
        lambda tokenizer, checkpoint: by_letters(tokenizer, checkpoint.integer("max_seq_len") - 2),
    ),
    "caduceus": Architecture(
        _of_type("caduceus"), caduceus.build_caduceus, CharacterTokenizer.from_characters, _stated_length
    ),
    "convnet": Architecture(_of_type("ConvNet"), convnet.build_convnet, CharacterTokenizer.from_folder, _whole),
    "awd_lstm": Architecture(_of_type("AWDLSTM"), awd_lstm.build_awd_lstm, CharacterTokenizer.from_folder, _whole),
    "calm": Architecture(
        _of_type("calm"),
        calm.build_calm,
        CodonTokenizer.from_folder,
        lambda tokenizer, checkpoint: by_tokens(tokenizer, checkpoint.integer("max_positions") - 2),
    ),
    "esmc": Architecture(native.is_esmc, native.build_esmc, CharacterTokenizer.from_folder, _all_positions),
    "prott5": Architecture(_of_type("t5"), native.build_prott5, CharacterTokenizer.from_sentencepiece, _whole),
}


def _without_final_norm(checkpoint: Checkpoint) -> Network:
    network = bert.build_gena_bert(checkpoint)
    network.final_norm = nn.Identity()
    return network


def _with_cls(folder: Path) -> Tokenizer:
    return CharacterTokenizer.from_characters(folder, prefix=("[CLS]",), suffix=("[SEP]",))


def _bend_dnabert(tokenizer: OverlappingKmerTokenizer, checkpoint: Checkpoint) -> WindowRule:
    rule = ARCHITECTURES["dnabert"].window_rule(tokenizer, checkpoint)
    return in_order(rule, lambda length: bend_order(length, tokenizer.k), "k-mers in the order of BEND's code")


# Other ways of running a model than the one above: `load(rules=...)`.
RULES: dict[str, dict[str, Architecture]] = {
    "authors": ARCHITECTURES,
    # As BEND's embedders did, where that differs from what the models' authors publish.
    "bend": {
        "dnabert": ARCHITECTURES["dnabert"]._replace(window_rule=_bend_dnabert),
        "hyenadna": ARCHITECTURES["hyenadna"]._replace(tokenizer=_with_cls),
        "gena_bert": ARCHITECTURES["gena_bert"]._replace(build=_without_final_norm),
        **{
            name: ARCHITECTURES[name]
            for name in (
                "nucleotide_transformer",
                "grover",
                "dnabert2",
                "gena_bigbird",
                "caduceus",
                "convnet",
                "awd_lstm",
            )
        },
    },
    # As GPU kernels do where the code that stands in for them does something else.
    "kernels": {"caduceus": ARCHITECTURES["caduceus"]._replace(build=partial(caduceus.build_caduceus, kernels=True))},
}


def recognise(checkpoint: Checkpoint) -> str:
    """Return the name of a checkpoint's architecture.

    Parameters
    ----------
    checkpoint
        Config and weights.

    Returns
    -------
    str
        A key of `ARCHITECTURES`.

    Raises
    ------
    CheckpointError
        If it is none of them.
    """
    for name, architecture in ARCHITECTURES.items():
        if architecture.recognise(checkpoint):
            return name
    config = checkpoint.config
    raise CheckpointError(
        f"{checkpoint.folder}: config.json says architectures={config.get('architectures')!r}, "
        f"model_type={config.get('model_type')!r}; known here: {', '.join(ARCHITECTURES)}."
    )


def architecture(name: str, rules: str) -> Architecture:
    """Return what it takes to run an architecture.

    Parameters
    ----------
    name
        A key of `ARCHITECTURES`.
    rules
        A key of `RULES`.

    Returns
    -------
    Architecture

    Raises
    ------
    InputError
        If there are no such rules, or none for this architecture.
    """
    if rules not in RULES:
        raise InputError(f"rules is {rules!r}; it must be one of {', '.join(RULES)}.")
    if name not in RULES[rules]:
        raise InputError(f"There are no rules {rules!r} for {name!r} models, only for {', '.join(RULES[rules])}.")
    return RULES[rules][name]
