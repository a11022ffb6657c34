"""The page about melting points: its commands and code are such that they can run, its tables are those of a study."""

from __future__ import annotations

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path

from analysis.melting_point.partition import TERMS
from analysis.melting_point.regression import PENALTIES, RATIOS
from analysis.melting_point.study import CAPTIONS
from embedstore.cli import build_parser
from embedstore.simulated_coding import WORLDS

PAGE = (Path(__file__).parents[2] / "docs" / "melting_point.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_commands_are_commands():
    commands = [shlex.split(block.replace("\\\n", " "))[1:] for block in blocks("bash")]
    parsed = [build_parser().parse_args(command) for command in commands]
    assert [(one.world, one.store) for one in parsed] == [("mixed", None), (None, "proteins.zarr")]
    assert parsed[1].coding_models == ["nt_v2_500m_multi_species", "dnabert2"]


def test_the_code_imports_what_is_there():
    (code,) = blocks("python")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert hasattr(import_module(str(node.module)), alias.name)


def test_tables_terms_and_worlds_are_those_of_the_code():
    named = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("## Beside the partition") :])) & set(CAPTIONS)
    assert named == {"augmentations", "baselines", "conditions", "controls", "decodability", "erased", "joint",
                     "left_out", "mesophiles", "strategies", "transplant", "usage", "by_species"}  # fmt: skip
    for term in TERMS:
        assert f"| `{term.name}` |" in PAGE
    for world in WORLDS:
        assert f"`{world}`" in PAGE
    assert f"among {len(PENALTIES)} values from {PENALTIES[0]:g} to {PENALTIES[-1]:g}".replace(
        "1e+06", "1e6"
    ) in " ".join(PAGE.split()).replace("1e-3", "0.001")


def test_the_ratios_are_those_of_the_code():
    said = " ".join(PAGE.split())
    assert f"a ratio of 0 (C is left out), {', '.join(f'{one:g}' for one in RATIOS[1:-1])} or {RATIOS[-1]:g}" in said
