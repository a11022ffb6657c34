"""Why a coding sequence is refused: one line for each reason."""

from __future__ import annotations

REASONS = {
    "empty": "There is no sequence.",
    "protein_instead_of_nucleotide": "The sequence has letters of amino acids, not of nucleotides.",
    "not_nucleotides": "The sequence has characters that are no nucleotides, such as those of a web page.",
    "not_multiple_of_3": "The length is not a multiple of 3: the sequence is cut, or out of frame.",
    "internal_stop": "There is a stop codon before the end.",
    "ambiguous_codon": "More than 1 % of the codons have letters that leave the amino acid open.",
    "partial_5": "The translation is the end of the protein: the beginning of the coding sequence is missing.",
    "partial_3": "The translation is the beginning of the protein: the end of the coding sequence is missing.",
    "precursor": "The protein is part of the translation, as a mature chain is of its precursor.",
    "wrong_frame": "The protein is read from the second or third nucleotide (codon_start is 2 or 3).",
    "contig": "The sequence holds the coding sequence of the protein somewhere inside, as a whole contig does.",
    "frameshift": "The protein begins in one reading frame and ends in another, by slippage or a missing base.",
    "translation_differs": "The translation is not the protein.",
    "not_of_this_parent": "The genotype does not fit the parent it is said to be a variant of.",
    "several_tables": "Several different genetic codes give the protein.",
    "no_protein": "There is no protein to find the genetic code by.",
    "unknown_table": "There is no such genetic code.",
    "not_true_or_false": "The column says neither true nor false.",
    "wrong_id": "The id is empty, too long, or not printable ASCII.",
    "repeated_id": "Another row has the same id.",
    "no_label": "There is no label.",
    "label_is_no_number": "The label is no finite number.",
    "label_length": "There is not one label for each residue.",
    "unknown_class": "A residue's label is none of the classes.",
    "mask": "The mask is not 0 or 1 for each residue.",
    # Below: what curation finds (embedstore.curation).
    "recoded": "The record says that an amino acid is not read by the genetic code (selenocysteine, RNA editing).",
    "isoform": "The accession names an isoform, and no coding sequence of the entry gives it.",
    "species_mismatch": "The coding sequences that give the protein are of another species.",
    "not_a_protein": "The protein has letters that are no amino acids, or looks like DNA.",
    "not_an_accession": "There is no accession of UniProt to look for.",
    "obsolete_accession": "UniProt has dropped the accession, and UniParc knows no coding sequence of this protein.",
    "no_cds_known": "UniProt names no coding sequence.",
    "no_natural_cds": "All coding sequences that UniProt names differ from the protein, or are synthetic.",
    "not_in_files": "The local files have neither a name nor a translation of it.",
    "not_found": "The database has no such record.",
    "withdrawn": "The record was suppressed or withdrawn.",
    "wrong_record": "The database gave another record than was asked for.",
    "unreadable": "The record is not as its format wants it.",
    "no_chain": "The structure has no such protein chain.",
    "no_alignment": "The chain is aligned with no UniProt sequence.",
    "part_of_chain": "A part of the chain is not in the UniProt sequence, such as an expression tag.",
    "gapped_alignment": "The chain is aligned with the UniProt sequence in several pieces.",
    "residues_differ": "Residues of the chain differ from the UniProt sequence, or from the list.",
    # Below: a server is to blame; the next run asks again.
    "connection": "The connection broke, or could not be made.",
    "timeout": "The server did not answer in time.",
    "too_many_requests": "The server asks for fewer requests (429), however slow they were.",
    "server_error": "The server failed (500 to 504).",
    "refused": "The server refuses to answer.",
    "empty_body": "The answer is empty.",
    "html_page": "The answer is a page of HTML instead of data.",
    "not_json": "The answer is not JSON, or was cut short.",
    "truncated": "The record was cut short.",
    "graphql_error": "The GraphQL server reports an error.",
    "job_error": "The ID mapping job ended with an error.",
    "job_not_done": "The ID mapping job does not end.",
    "paging_loop": "The pages of a result go round in a circle.",
    "incomplete_pages": "The pages of a result do not hold all that was announced.",
    "not_cached": "The run is offline, and the answer is not in the cache.",
}
"""What can be wrong with one coding sequence, by the reason code that tables of rejects hold."""

TRANSIENT = frozenset(
    (
        "connection", "timeout", "too_many_requests", "server_error", "refused", "empty_body", "html_page", "not_json",
        "truncated", "graphql_error", "job_error", "job_not_done", "paging_loop", "incomplete_pages", "not_cached",
    )
)  # fmt: skip
"""Reasons for which a server is to blame, and nothing is said of the protein."""
