"""Imports in vgg_cuda/ go down the layers, and no modules import each other in a cycle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vgg_cuda"
LAYERS = (
    {"_C", "startup", "text", "activations", "arrays", "configs", "layers", "summary", "system"},
    {"images", "weights"},
    {"reference", "backends"},
    {"ops", "forward", "tuning"},
    {"vgg", "predictions"},
    {"interop", "verification", "planning", "bench", "selftest"},
    {"", "cli", "__main__"},  # "" is vgg_cuda/__init__.py, which exports what users import
)
"""Modules and folders of the package, lowest layer first. Later public packages join interop."""


def modules() -> dict[str, Path]:
    """Return every module's path by its name below ``vgg_cuda``; the package itself is ""."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path], nodes: list[ast.AST]) -> Iterator[str]:
    """Yield the modules of the package that the ``nodes`` of module ``name`` import."""
    folder = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    folder = [part for part in folder if part]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = folder[: len(folder) - node.level + 1]
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                member = f"{module}.{alias.name}".lstrip(".")
                yield member if member in known or member == "_C" else module
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            assert not any((name or "").startswith("vgg_cuda") for name in names), (path, names)


def level(module: str) -> int:
    [found] = [i for i, units in enumerate(LAYERS) if module.split(".")[0] in units]
    return found


def test_imports_go_down() -> None:
    known = modules()
    climbing = [
        f"{name} imports {target}"
        for name, path in known.items()
        for target in imports(name, path, known, list(ast.walk(ast.parse(path.read_text()))))
        if level(target) > level(name)
    ]
    assert not climbing, climbing


def test_no_import_cycles() -> None:
    """Imports inside functions, and those for type checkers alone, are no cycle."""
    known = modules()
    graph = {
        name: set(imports(name, path, known, ast.parse(path.read_text()).body)) - {name, "_C"}
        for name, path in known.items()
    }
    while leaves := [name for name, targets in graph.items() if not targets]:
        for name in leaves:
            del graph[name]
        for targets in graph.values():
            targets.difference_update(leaves)
    assert not graph, f"modules in or above a cycle: {sorted(graph)}"
