"""A process that is told what to do by lines of JSON, and answers each with a number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


class Told:
    """The process of a script in tests/crash, which says ``ready`` before it listens."""

    def __init__(self, script: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(TESTS / "crash" / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{TESTS / 'helpers'}:{TESTS.parent}", "OMP_NUM_THREADS": "1"},
        )
        if self._process.stdout.readline() != "ready\n":
            self.close()
            raise AssertionError(f"{script} did not start")

    def _ask(self, *words: object) -> int:
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()
