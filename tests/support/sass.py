"""Machine code (SASS) and PTX of the kernels, extracted from the compiled module.

NVIDIA's tools (packages nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm) read it without a GPU.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGES = {"cuobjdump": "nvidia-cuda-cuobjdump", "nvdisasm": "nvidia-cuda-nvdisasm"}

FUNCTION = re.compile(r"^\s+\.section\s+\.text\.(\w+),", re.MULTILINE)
LABEL = re.compile(r"(\.L_\S+):")
INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(\S.*?)\s*;")
BRANCH = re.compile(r"BRA\b.*`\((\.L_\S+?)\)")
USAGE = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)")
ENTRY = re.compile(r"\.entry (\w+)\(")


@dataclass(frozen=True)
class Loop:
    """The instructions between a backward branch's target, at ``begin``, and the branch."""

    begin: int
    instructions: tuple[str, ...]

    @cached_property
    def opcodes(self) -> Counter[str]:
        return count_opcodes(self.instructions)

    def encloses(self, other: Loop) -> bool:
        end, other_end = (loop.begin + len(loop.instructions) for loop in (self, other))
        return self != other and self.begin <= other.begin and other_end <= end


@dataclass(frozen=True)
class Kernel:
    """One kernel's machine code for one architecture."""

    name: str
    arch: str
    registers: int
    """Per thread."""
    stack_bytes: int
    local_bytes: int
    instructions: tuple[str, ...]
    """Instructions without predicates, for example "LDG.E.128 R4, desc[UR4][R2.64]"."""
    loops: tuple[Loop, ...]

    @cached_property
    def opcodes(self) -> Counter[str]:
        return count_opcodes(self.instructions)

    def main_loop(self, opcode: str) -> Loop | None:
        """Return the innermost loop with the most such opcodes, or None without such a loop.

        Inner loops without the opcode count as if they ran once.
        """
        loops = [loop for loop in self.loops if loop.opcodes[opcode]]
        innermost = [loop for loop in loops if not any(map(loop.encloses, loops))]
        return max(innermost, key=lambda loop: loop.opcodes[opcode], default=None)


def count_opcodes(instructions: tuple[str, ...]) -> Counter[str]:
    """Count instructions by opcode without modifiers, for example "LDG"."""
    return Counter(re.split(r"[. ]", instruction, maxsplit=1)[0] for instruction in instructions)


def find_tool(tool: str) -> Path | None:
    try:
        files = importlib.metadata.files(PACKAGES[tool]) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in files if file.stem == tool)
    return next((path for path in paths if path.is_file()), None)


def missing_package() -> str | None:
    return next((PACKAGES[tool] for tool in PACKAGES if find_tool(tool) is None), None)


def run_tool(tool: str, *arguments: str | Path, cwd: Path) -> str:
    binaries = [str(path.parent) for path in map(find_tool, PACKAGES) if path]
    path = os.pathsep.join([*binaries, os.environ.get("PATH", "")])  # cuobjdump calls nvdisasm
    done = subprocess.run(
        [str(find_tool(tool)), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def disassemble(module: Path) -> list[Kernel]:
    """Return every kernel of a shared library, for every architecture."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        listed = run_tool("cuobjdump", "-lelf", module, cwd=folder).count("ELF file")
        run_tool("cuobjdump", "-xelf", "all", module, cwd=folder)
        cubins = sorted(folder.glob("*.cubin"))
        assert len(cubins) == listed, "cubins of the same name overwrite each other"
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # each waits for a process
            return [kernel for kernels in pool.map(disassemble_cubin, cubins) for kernel in kernels]


def disassemble_cubin(cubin: Path) -> list[Kernel]:
    arch = cubin.suffixes[-2][1:]  # relu.sm_80.cubin
    usage = {
        name: (int(registers), int(stack_bytes), int(local_bytes))
        for name, registers, stack_bytes, local_bytes in USAGE.findall(
            run_tool("cuobjdump", "-res-usage", cubin, cwd=cubin.parent)
        )
    }
    code = run_tool("nvdisasm", "-c", "-ndf", cubin, cwd=cubin.parent) if usage else ""
    _, *parts = FUNCTION.split(code)  # name, its text, name, its text ...
    texts = dict(zip(parts[::2], parts[1::2], strict=True))
    assert texts.keys() == usage.keys(), f"{cubin.name}: {texts.keys() ^ usage.keys()}"
    return [Kernel(name, arch, *usage[name], *parse_code(text)) for name, text in texts.items()]


def parse_code(text: str) -> tuple[tuple[str, ...], tuple[Loop, ...]]:
    """Return the instructions and loops of one function's listing."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if label := LABEL.match(line):
            labels[label[1]] = len(instructions)
        elif instruction := INSTRUCTION.match(line):
            instructions.append(instruction[1])
    loops = []
    for index, instruction in enumerate(instructions):
        branch = BRANCH.match(instruction)
        if branch and labels[branch[1]] <= index:
            begin = labels[branch[1]]
            loops.append(Loop(begin, tuple(instructions[begin : index + 1])))
    return tuple(instructions), tuple(loops)


def is_ptxas_of(ptx: str) -> bool:
    """Return whether ptxas exists in the release whose front end made this PTX."""
    ptxas = shutil.which("ptxas")
    if ptxas is None:
        return False
    version = subprocess.run([ptxas, "--version"], check=True, capture_output=True, text=True)
    release = re.search(r"release .*, V[\d.]+", version.stdout)
    return release is not None and release[0] in ptx


def assemble(ptx: str, arch: str) -> tuple[list[Kernel], str]:
    """Assemble kernels for ``arch`` by ptxas; return them and ptxas' warnings."""
    with tempfile.TemporaryDirectory() as temporary:
        cubin = Path(temporary) / f"module.{arch}.cubin"
        done = subprocess.run(
            ["ptxas", f"-arch={arch}", "-o", str(cubin), "-"],
            input=ptx,
            check=True,
            capture_output=True,
            text=True,
        )
        return disassemble_cubin(cubin), done.stdout + done.stderr


def embedded_ptx(module: Path) -> list[str]:
    """Return the PTX files of a shared library that have kernels."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run_tool("cuobjdump", "-xptx", "all", module, cwd=folder)
        texts = [path.read_text() for path in sorted(folder.glob("*.ptx"))]
    return [text for text in texts if ENTRY.search(text)]


def block_sizes(ptx: str) -> dict[str, int]:
    """Return threads per block by kernel, from __launch_bounds__."""
    found = re.findall(ENTRY.pattern + r"[^{]*?\.maxntid (\d+)", ptx)
    return {name: int(threads) for name, threads in found}


def normalized_ptx(ptx: str) -> str:
    """Remove comments, spacing and source lines (-lineinfo) from PTX."""
    ptx = re.sub(r"//.*|/\*.*?\*/", "", ptx)
    ptx = re.sub(r"^\s*\.section\s+\.debug_\w+\s*\{.*?^\s*\}", "", ptx, flags=re.M | re.S)
    lines = (" ".join(line.split()) for line in ptx.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith((".file ", ".loc ")))


def entries(ptx: str) -> dict[str, str]:
    """Return each kernel's text in normalized PTX; the key "" has the text before the first."""
    head, *parts = ENTRY.split(ptx)
    return {"": head, **dict(zip(parts[::2], parts[1::2], strict=True))}
