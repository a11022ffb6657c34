"""Tokenizers as lookup tables: token ids and the nucleotides each token stands for."""

from __future__ import annotations

from embedstore.tokenizers.character import CharacterTokenizer
from embedstore.tokenizers.kmer import KmerTokenizer
from embedstore.tokenizers.tokens import Tokenizer, Tokens

__all__ = ["CharacterTokenizer", "KmerTokenizer", "Tokenizer", "Tokens"]
