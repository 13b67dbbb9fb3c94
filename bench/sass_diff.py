"""Compare the machine code (SASS) of every CUDA kernel before and after a change.

The kernels of a base commit and of the working tree are compiled with the options that
CMakeLists.txt gives them, and kept in build/sass-diff/ until their code (not a comment) changes.
Two kernels are the same if their encoded instructions, registers and memory are.

This needs nvcc and the packages nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm, but no GPU.

Example: python bench/sass_diff.py HEAD~1 --arch sm_90a --rename swap_=swap_ab_
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "build_backend")]

import sass  # noqa: E402
import vgg_toolkit  # noqa: E402

OPTIONS = ("-std=c++17", "-O3", "-DNDEBUG", "-lineinfo")  # of a Release build

FAMILY = re.compile(r"vgg_kernels\((\w+) (compute_\w+) \"([^\"]*)\"([^)]*)\)")
INCLUDE = re.compile(r'^#include "(.*)"', re.MULTILINE)
CODE = re.compile(r"^ +/\*[0-9a-f]{4,}\*/ +(.*?) *;? +/\* (0x\w+) \*/\n +/\* (0x\w+) \*/", re.M)
USAGE = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


@dataclass(frozen=True)
class Kernel:
    """Machine code of one kernel."""

    instructions: tuple[str, ...]
    """Labels have no number: "@P0 BRA `(label)"."""
    encoding: str
    counters: dict[str, int]  # sizes by name

    def __str__(self) -> str:
        return ", ".join(f"{n} {name}" for name, n in self.counters.items() if n)


@dataclass(frozen=True)
class Source:
    """One file of kernels in one tree, and what it is compiled for."""

    path: Path
    csrc: Path
    front_end: str
    arch: str

    def text(self) -> str:
        """Return the file and everything it includes, without comments and spacing."""
        seen: dict[Path, str] = {}

        def read(path: Path) -> None:
            seen[path] = path.read_text()
            for name in INCLUDE.findall(seen[path]):
                if self.csrc / name not in seen:
                    read(self.csrc / name)

        read(self.path)
        return "\n".join(" ".join(re.sub("//.*", "", text).split()) for text in seen.values())

    def compiled(self, nvcc: str, folder: Path) -> Path:
        """Return the cubin, compiled unless the cache has it."""
        version = subprocess.check_output([nvcc, "--version"], text=True)
        target = f"--generate-code=arch={self.front_end},code={self.arch}"
        key = "\n".join([version, *OPTIONS, target, self.text()])
        cubin = folder / f"{self.path.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.cubin"
        if not cubin.exists():
            print(f"compiling {self.path.relative_to(self.csrc)} for {self.arch}", file=sys.stderr)
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                made = Path(temporary) / cubin.name
                command = [nvcc, *OPTIONS, target, f"-I{self.csrc}", "-cubin", "-o", str(made)]
                subprocess.run([*command, str(self.path)], check=True)
                made.rename(cubin)
        return cubin


def find_sources(tree: Path, archs: list[str]) -> Iterator[Source]:
    """Return the kernels' sources in CMakeLists.txt, once for each architecture."""
    text = (tree / "CMakeLists.txt").read_text()
    for _, front_end, outputs, files in FAMILY.findall(text):
        for arch in outputs.split(";"):
            if arch.startswith("sm_") and (not archs or arch in archs):
                for file in files.split():
                    yield Source(tree / file, tree / "csrc", front_end, arch)


def count(text: str) -> dict[str, int]:
    """Count the instructions of a listing, in all and in the loop with most matrix products."""
    code, loops = sass.parse_code(text)
    kernel = sass.Kernel("", "", 0, 0, 0, code, loops)
    loop = kernel.main_loop("HGMMA") or kernel.main_loop("HMMA") or kernel.main_loop("FFMA")
    counts = {"instructions": len(code) - kernel.opcodes["NOP"]}
    if loop:
        counts["in the main loop"] = len(loop.instructions) - loop.opcodes["NOP"]
    return counts


def opcodes(kernel: Kernel) -> Counter[str]:
    """Count the opcodes, with modifiers, without operands."""
    return Counter(re.sub(r"^@\S+ ", "", each).split()[0] for each in kernel.instructions)


@cache
def disassemble(cubin: Path) -> dict[str, Kernel]:
    """Return the kernels of one cubin by name."""
    usage = sass.run_tool("cuobjdump", "-res-usage", cubin, cwd=cubin.parent)
    names = ("registers", "stack bytes", "shared bytes", "local bytes")
    counters = {
        name: dict(zip(names, map(int, n), strict=True)) for name, *n in USAGE.findall(usage)
    }
    code = sass.run_tool("nvdisasm", "-c", "-ndf", "-hex", cubin, cwd=cubin.parent)
    _, *parts = sass.FUNCTION.split(code)
    kernels = {}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        found = CODE.findall(text)
        assert found, f"{cubin}: {name} has no instructions"
        instructions = tuple(re.sub(r"\.L_x_\d+", "label", each) for each, *_ in found)
        encoding = "".join(low + high for _, low, high in found)
        kernels[name] = Kernel(instructions, encoding, count(text) | counters[name])
    assert kernels.keys() == counters.keys(), cubin
    return kernels


def kernels_of(tree: Path, archs: list[str], nvcc: str, folder: Path) -> dict[str, Kernel]:
    """By name and architecture: "relu_f32_v4 sm_80"."""

    def compile_one(source: Source) -> dict[str, Kernel]:
        kernels = disassemble(source.compiled(nvcc, folder))
        return {f"{name} {source.arch}": kernel for name, kernel in kernels.items()}

    found: dict[str, Kernel] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for kernels in pool.map(compile_one, find_sources(tree, archs)):
            found |= kernels
    return found


def extract(commit: str, to: Path) -> None:
    """Write a commit's sources of kernels to a folder."""
    command = ["git", "archive", commit, "CMakeLists.txt", "csrc"]
    archive = subprocess.check_output(command, cwd=ROOT)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(to, filter="data")


def report(before: dict[str, Kernel], after: dict[str, Kernel], lines: int) -> int:
    """Print the differences; return how many kernels differ."""
    names = sorted(before.keys() | after.keys())
    changed = [name for name in names if before.get(name) != after.get(name)]
    for name in changed:
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            print(f"{name}: {'added' if old is None else 'removed'}")
            continue
        print(f"{name}:\n  before: {old}\n  after:  {new}")
        more, fewer = opcodes(new) - opcodes(old), opcodes(old) - opcodes(new)
        print("  more: ", *(f"{n} {opcode}" for opcode, n in more.items()))
        print("  fewer:", *(f"{n} {opcode}" for opcode, n in fewer.items()))
        diff = difflib.unified_diff(old.instructions, new.instructions, n=1, lineterm="")
        edits = list(diff)[2:]
        for line in edits[:lines]:
            print(f"    {line}")
        if len(edits) > lines:
            print(f"    ... and {len(edits) - lines} lines more")
    print(f"{len(names) - len(changed)} kernels are the same, {len(changed)} differ")
    return len(changed)


def main() -> int:
    """Return 0 if all kernels are the same, 1 if some differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", help="commit to compare the working tree with")
    parser.add_argument(
        "--arch", action="append", default=[], help="architecture, repeatable (default: all built)"
    )
    parser.add_argument(
        "--rename", action="append", default=[], metavar="OLD=NEW",
        help="replace OLD by NEW in the base's kernel names, repeatable",
    )  # fmt: skip
    parser.add_argument("--lines", type=int, default=20, help="diff lines per kernel (default: 20)")
    args = parser.parse_args()
    nvcc = vgg_toolkit.choose_nvcc() or shutil.which("nvcc")
    if nvcc is None or sass.missing_package():
        sys.exit(f"sass_diff: expected {'nvcc' if nvcc is None else sass.missing_package()}")
    folder = ROOT / "build" / "sass-diff"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as base:
        extract(args.base, Path(base))
        before = kernels_of(Path(base), args.arch, nvcc, folder)
    for old, _, new in (rename.partition("=") for rename in args.rename):
        before = {name.replace(old, new): kernel for name, kernel in before.items()}
    return int(report(before, kernels_of(ROOT, args.arch, nvcc, folder), args.lines) > 0)


if __name__ == "__main__":
    sys.exit(main())
