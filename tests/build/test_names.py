"""Names of tests: ``test_<subject>_<condition>``, short enough to read in a report."""

from __future__ import annotations

import ast
from pathlib import Path

LONGEST = 50


def test_names_have_at_most_50_characters() -> None:
    long = [
        f"{path.name}: {node.name}"
        for path in Path(__file__).parents[1].rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if len(node.name) > LONGEST
    ]
    assert not long, long
