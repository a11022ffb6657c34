"""docs/python.md lists every public name with the first line of its docstring; `python -P tests/test_docs_python.py`
writes these lines anew.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "python.md"
PACKAGES = {
    "embedstore": "the store, and what fills it",
    "embedstore.tasks": "what to embed and to predict: [tasks.md](tasks.md), [protein_tasks.md](protein_tasks.md)",
    "embedstore.models": "frozen language models: [models.md](models.md), [own_models.md](own_models.md)",
    "embedstore.variants": "variants, made a task: [variants.md](variants.md)",
    "embedstore.coding": "codons and codon strategies: [codons.md](codons.md)",
    "embedstore.curation": "the true coding sequences of proteins: [curation.md](curation.md)",
    "probes": "probes and fine-tuning: [probes.md](probes.md), [finetuning.md](finetuning.md), [sweeps.md](sweeps.md)",
    "analysis": "scores, representations and figures: [variants.md](variants.md), "
    "[representations.md](representations.md)",
}
HEAD = """# The names of the Python packages

What each package offers, by the first line of its documentation; `help(probes.sweep)` shows all of it, with every
parameter, its unit and its default. Commands do the same from a shell: `embedstore --help`.

Whole studies have modules of their own, imported by name: `analysis.melting_point.study`
([melting_point.md](melting_point.md)), `analysis.report` ([report.md](report.md)), `embedstore.scheduler` and
`embedstore.cluster` ([cluster.md](cluster.md)).
"""
CONSTANTS = {
    "CODONS": "The 64 codons, in the order of all tables of codons.",
    "STRATEGIES": "Every codon strategy by name.",
}


def first_line(package: str, name: str) -> str:
    """The first line of a name's docstring, as Markdown: a bar would end the cell of the table."""
    if name in CONSTANTS:
        return CONSTANTS[name]
    line = inspect.getdoc(getattr(import_module(package), name)).split("\n\n")[0].replace("\n", " ")
    return re.sub(r":\w+:`", "`", line).replace("``", "`").replace("|", "\\|")


def page() -> str:
    parts = [HEAD]
    for package, about in PACKAGES.items():
        rows = [f"| `{name}` | {first_line(package, name)} |" for name in import_module(package).__all__]
        parts.append(f"## {package}: {about}\n\n| name | what it is |\n| --- | --- |\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_listed_with_its_first_line(package):
    part = re.search(rf"^## {re.escape(package)}:.*?(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", part, re.MULTILINE))
    names = import_module(package).__all__
    assert list(listed) == list(names), "python -P tests/test_docs_python.py writes them anew"
    assert listed == {name: first_line(package, name) for name in names}


def test_every_page_is_linked_from_the_readme():
    readme = (DOCS.parent / "README.md").read_text()
    assert [page.name for page in sorted(DOCS.glob("*.md")) if f"](docs/{page.name})" not in readme] == []


def test_links_between_pages_lead_somewhere():
    for source in (*DOCS.glob("*.md"), DOCS.parent / "README.md"):
        for target in re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", source.read_text()):
            assert (source.parent / target).exists(), f"{source.name}: {target}"


if __name__ == "__main__":
    PAGE.write_text(page())
