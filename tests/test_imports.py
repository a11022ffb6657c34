"""House rules: which way imports run, what start-up loads, which names are public, what is never used."""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {"embedstore": 0, "probes": 1, "analysis": 2, "notebooks": 3, "tests": 3, "benchmarks": 3}
PACKAGES = ("embedstore", "probes", "analysis")
HEAVY = {"torch", "transformers", "safetensors", "sklearn", "scipy", "matplotlib"}
HEAVY |= {"dask", "xarray", "pandas", "zarr", "h5py", "pyfaidx"}


class Arrow(NamedTuple):
    module: str
    target: str
    where: str
    at_import: bool  # neither in a function nor for type checkers only


def modules(root: Path) -> dict[str, Path]:
    """All modules of the three packages by name."""
    found = {}
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def arrows(root: Path) -> list[Arrow]:
    """Every import statement, and every string that names a module (they are imported on first use)."""
    known = modules(root)
    found = []

    def visit(node: ast.AST, module: str, at_import: bool) -> None:
        targets: list[str] = []
        package = module if known[module].name == "__init__.py" else module.rpartition(".")[0]
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            home = ".".join([*base, *([node.module] if node.module else [])])
            targets = [f"{home}.{a.name}" if f"{home}.{a.name}" in known else home for a in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in known:
            targets, at_import = [node.value] if "." in node.value else [], False
        where = f"{known[module].relative_to(root)}:{getattr(node, 'lineno', 0)}"
        found.extend(Arrow(module, target, where, at_import) for target in targets)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_import = False
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            at_import = False
        for child in ast.iter_child_nodes(node):
            visit(child, module, at_import)

    for module, file in known.items():
        visit(ast.parse(file.read_text()), module, True)
    return found


def back_arrows(found: list[Arrow]) -> list[str]:
    return [
        f"{arrow.where}: {arrow.module} imports {arrow.target}"
        for arrow in found
        if FLOORS.get(arrow.target.split(".")[0], -1) > FLOORS[arrow.module.split(".")[0]]
    ]


def cycle(found: list[Arrow], package: str) -> list[str]:
    """Modules of a package that import each other while they are imported, or nothing."""
    graph: dict[str, set[str]] = {}
    for arrow in found:
        if arrow.at_import and f"{arrow.target}.".startswith(f"{package}.") and arrow.module != arrow.target:
            graph.setdefault(arrow.module, set()).add(arrow.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def forbidden(root: Path) -> list[str]:
    """Uses of print, pickle and its kin, eval, exec, and torch.load of anything but weights."""
    found = []
    for file in modules(root).values():
        for node in ast.walk(ast.parse(file.read_text())):
            used = ""
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                used = next((n for n in names if n.split(".")[0] in ("pickle", "dill", "marshal", "shelve")), "")
            elif isinstance(node, ast.Call):
                called, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
                if called == "print" and not file.name.endswith(("cli.py", "commands.py")):
                    used = "print"
                elif called in ("eval", "exec", "__import__"):
                    used = called
                elif called == "torch.load" and options.get("weights_only") != "True":
                    used = "torch.load without weights_only=True"
                elif options.get("allow_pickle") == "True":
                    used = "allow_pickle=True"
            if used:
                found.append(f"{file.relative_to(root)}:{node.lineno}: {used}")
    return found


@pytest.fixture(scope="module")
def ours():
    return arrows(ROOT)


def test_imports_run_one_way(ours):
    assert {"embedstore.store", "probes.cnn", "embedstore.tasks.labels"} <= {arrow.module for arrow in ours}
    assert back_arrows(ours) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_cycles(ours, package):
    assert cycle(ours, package) == []


@pytest.fixture
def house(tmp_path):
    """A small sound copy of the house, to plant faults in."""
    sources = {
        "embedstore/__init__.py": "_HOME = {'f': 'embedstore.low'}\n",
        "embedstore/low.py": "import json\nif TYPE_CHECKING:\n    from embedstore.high import g\n",
        "embedstore/high.py": "from embedstore import low\ndef g():\n    from . import high\n",
        "probes/__init__.py": "from embedstore.low import f\n",
        "analysis/commands.py": "import probes\nprint(1)\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = arrows(tmp_path)
    assert (back_arrows(found), cycle(found, "embedstore"), forbidden(tmp_path)) == ([], [], [])
    return tmp_path


@pytest.mark.parametrize(
    ("file", "line", "target"),
    [
        ("embedstore/low.py", "import probes.cnn", "probes.cnn"),
        ("embedstore/low.py", "def f():\n    from analysis import commands", "analysis.commands"),
        ("embedstore/low.py", "home = {'x': 'analysis.commands'}", "analysis.commands"),
        ("embedstore/high.py", "if TYPE_CHECKING:\n    import tests.helpers", "tests.helpers"),
        ("probes/__init__.py", "try:\n    import analysis\nexcept ImportError:\n    pass", "analysis"),
        ("analysis/commands.py", "async def f():\n    import notebooks", "notebooks"),
    ],
)
def test_a_planted_back_arrow_is_found(house, file, line, target):
    with (house / file).open("a") as source:
        source.write(f"{line}\n")
    (found,) = back_arrows(arrows(house))
    assert found.startswith(f"{file}:")
    assert found.endswith(f" imports {target}")


def test_a_planted_cycle_is_found(house):
    (house / "embedstore/low.py").write_text("class A:\n    from .high import g\n")
    assert set(cycle(arrows(house), "embedstore")) == {"embedstore.low", "embedstore.high"}


@pytest.mark.parametrize(
    "line",
    [
        "def f():\n    print(1)",
        "from pickle import loads",
        "import pickle as p",
        "x = eval('1')",
        "import torch; torch.load('a', weights_only=False)",
        "import torch; torch.load('a')",
        "import numpy as np; np.load('a', allow_pickle=True)",
    ],
)
def test_a_planted_unsafe_call_is_found(house, line):
    (house / "embedstore/low.py").write_text(f"{line}\n")
    assert len(forbidden(house)) == 1


def test_nothing_unsafe_is_used():
    assert forbidden(ROOT) == []


def test_start_up_loads_nothing_heavy():
    """Checked on what is loaded, not on seconds; both parts in a fresh interpreter."""
    code = """
import contextlib, io, json, sys
import embedstore
loaded = [sorted(sys.modules)]
from embedstore.cli import main
shown = io.StringIO()
with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
    main(["--help"])
loaded.append(sorted(sys.modules))
print(json.dumps([loaded, shown.getvalue()]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    (imported, helped), shown = json.loads(run.stdout)
    assert "embed a task" in shown
    assert "embedstore.cli" in helped
    assert HEAVY & set(imported) == set()
    assert HEAVY & set(helped) == set()


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names(name):
    package = import_module(name)
    assert package.__all__ == sorted(package.__all__)
    for public in package.__all__:
        assert getattr(package, public).__doc__
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match=f"'{name}' has no attribute 'nothing_of_the_kind'"):
        package.nothing_of_the_kind  # noqa: B018
