"""Tokenizers, most of them lookup tables: token ids and the letters that each token stands for."""

from __future__ import annotations

from embedstore.tokenizers.bpe import BpeTokenizer
from embedstore.tokenizers.character import CharacterTokenizer
from embedstore.tokenizers.codon import CodonTokenizer
from embedstore.tokenizers.kmer import KmerTokenizer
from embedstore.tokenizers.longest import LongestMatchTokenizer
from embedstore.tokenizers.overlapping import OverlappingKmerTokenizer, bend_order
from embedstore.tokenizers.tokens import Tokenizer, Tokens

__all__ = [
    "BpeTokenizer",
    "CharacterTokenizer",
    "CodonTokenizer",
    "KmerTokenizer",
    "LongestMatchTokenizer",
    "OverlappingKmerTokenizer",
    "Tokenizer",
    "Tokens",
    "bend_order",
]
