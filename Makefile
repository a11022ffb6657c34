# Two commands set everything up on a machine that has Python (3.11 or newer), pip and make.
PYTHON ?= python3
BIN := .venv/bin
# Waiting threads sleep: where they spin, a second busy process slows torch down many times.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test coverage benchmarks clean

demo: .venv/demo
	$(BIN)/embedstore demo

test: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile
	$(BIN)/pytest -n 2 --nbmake --nbmake-timeout=900 --timeout=1800 notebooks

# Apart from the tests, which take half as long again while their lines are counted.
coverage: .venv/test
	$(BIN)/coverage erase
	$(BIN)/pytest -n 2 --dist loadfile --cov --cov-report=
	$(BIN)/coverage report --fail-under=95

benchmarks: .venv/test
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/storage.py
	$(BIN)/python benchmarks/probe_epoch.py
	$(BIN)/python benchmarks/probe_training.py
	$(BIN)/python benchmarks/linear.py
	$(BIN)/python benchmarks/sweep.py
	$(BIN)/python benchmarks/embedding.py
	$(BIN)/python benchmarks/workers.py
	$(BIN)/python benchmarks/tokenizing.py
	$(BIN)/python benchmarks/encoders.py
	$(BIN)/python benchmarks/precision.py
	$(BIN)/python benchmarks/variants.py
	$(BIN)/python benchmarks/variant_precision.py
	$(BIN)/python benchmarks/codons.py
	$(BIN)/python benchmarks/melting_point.py
	$(BIN)/python benchmarks/coding_language_model.py

.venv/bin/python:
	$(PYTHON) -m venv .venv

# torch comes first and pinned: a range would let pip take a build with gigabytes of CUDA packages.
.venv/demo: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	touch $@

.venv/test: .venv/demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage demo
