"""The page about secondary structure: its code runs as shown, and its tables say what there is."""

from __future__ import annotations

import re
from pathlib import Path

from residue_tasks import NAMES, coding_sequences, part_of, planted, structure_store

import embedstore
from probes.residues import TAILS, count_residues

PAGE = (Path(__file__).parents[2] / "docs" / "secondary_structure.md").read_text()


def test_the_code_and_the_tables_of_the_page(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    splits = (["train"] * 4 + ["valid", "CASP12", "CB513", "TS115"]) * 5
    made = structure_store(coding_sequences(40), splits=splits, path="store.zarr")
    from embedstore.models.function import function_model

    embedstore.embed(made, "structure", function_model("lm", planted, version="1"), progress=False)
    found: dict[str, object] = {}
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    exec(compile(code, "secondary_structure.md", "exec"), found)
    assert found["result"].row["test"] == 1
    table = found["table"]
    assert list(dict.fromkeys(table["test_set"])) == sorted(
        ["CASP12", "CB513", "TS115"], key=found["split"].tolist().index
    )
    first = re.findall(r"^\| `([\w ]+)`(?: \.\.\. `(\w+)`)? \|", PAGE, re.MULTILINE)
    kinds = [name for name, _ in first[:4]]
    assert sorted(kinds) == sorted(count_residues(part_of(made, "train")).index)
    measures = [name for name, last in first[4:] if not last] + [f"f1_{name}" for name in NAMES]
    assert sorted(measures) == sorted(set(table["measure"]))
    assert ("f1_G", "f1_C") in first
    assert all(f'tail="{tail}"' in PAGE for tail in TAILS if tail != "slot0")
