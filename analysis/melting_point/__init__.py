"""What a model of coding sequences knows of melting points: species, codon usage, or the order of codons.

Nothing is imported here, so that ``import analysis`` stays fast; `analysis.melting_point.study` has the whole study.
"""
