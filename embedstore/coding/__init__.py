"""Coding sequences: genetic codes, codons, composition, codon usage, and codon strategies."""

from embedstore.coding.codons import CdsCheck, Codons, check_cds, clean_cds, find_table, read_codons, translate
from embedstore.coding.genetic_code import CODONS, GeneticCode, genetic_code
from embedstore.coding.strategies import STRATEGIES, Strategy, consensus, parse_strategy, recode
from embedstore.coding.usage import codon_usage

__all__ = [
    "CODONS",
    "STRATEGIES",
    "CdsCheck",
    "Codons",
    "GeneticCode",
    "Strategy",
    "check_cds",
    "clean_cds",
    "codon_usage",
    "consensus",
    "find_table",
    "genetic_code",
    "parse_strategy",
    "read_codons",
    "recode",
    "translate",
]
