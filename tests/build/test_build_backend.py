"""The build backend: compilers, build requirements, and the commit that it embeds."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYPI = "cuda-toolkit[nvcc,cudart,crt,nvvm,cccl]==13.0.3.0"


def backend_module(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "build_backend"))
    return import_module(name)


@pytest.fixture
def toolkit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Return the module as on Linux with g++, without CUDA and without VGG_CUDA_TOOLKIT."""
    module = backend_module(monkeypatch, "vgg_toolkit")
    roots = ("CUDACXX", "CUDAToolkit_ROOT", "CUDA_HOME", "CUDA_PATH")
    for name in ("VGG_CUDA_TOOLKIT", "CXX", *roots):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(module, "DEFAULT_NVCC", str(tmp_path / "nowhere" / "nvcc"))
    monkeypatch.setattr(module, "pypi_has_toolkit", lambda: True)
    monkeypatch.setattr(module, "pypi_nvcc", lambda: None)
    add_program(tmp_path / "bin", "g++", "exit 0")
    return module


def add_program(folder: Path, name: str, script: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def add_nvcc(folder: Path, release: str, *, compiles: bool = True) -> str:
    version = f"echo 'Cuda compilation tools, release {release}, V{release}.1'; exit 0"
    outcome = "exit 0" if compiles else "echo 'unsupported GNU version' >&2; exit 1"
    return add_program(folder, "nvcc", f'if [ "$1" = --version ]; then {version}; fi; {outcome}')


def test_no_nvcc_asks_for_the_package(toolkit: ModuleType) -> None:
    assert toolkit.requirements() == [PYPI]


def test_no_nvcc_and_no_package_is_an_error(toolkit: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"without --no-build-isolation.*VGG_CUDA_TOOLKIT=none"):
        toolkit.choose_nvcc()


def test_no_nvcc_uses_the_package(
    toolkit: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(toolkit, "pypi_nvcc", lambda: "/env/nvcc")
    assert toolkit.choose_nvcc() == "/env/nvcc"
    add_nvcc(tmp_path / "bin", "11.8")
    assert toolkit.choose_nvcc() == "/env/nvcc"


@pytest.mark.parametrize("release", ["12.8", "13.0", "14.2"])
def test_good_nvcc_is_used(toolkit: ModuleType, tmp_path: Path, release: str) -> None:
    nvcc = add_nvcc(tmp_path / "bin", release)
    assert toolkit.requirements() == []
    assert toolkit.choose_nvcc() == nvcc


@pytest.mark.parametrize("release", ["11.8", "12.7"])
def test_old_nvcc_is_passed_over(toolkit: ModuleType, tmp_path: Path, release: str) -> None:
    add_nvcc(tmp_path / "bin", release)
    assert toolkit.requirements() == [PYPI]


def test_newer_nvcc_behind_an_old_one(
    toolkit: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_nvcc(tmp_path / "bin", "11.8")
    good = add_nvcc(tmp_path / "cuda" / "bin", "13.0")
    monkeypatch.setattr(toolkit, "DEFAULT_NVCC", good)
    assert toolkit.choose_nvcc() == good


@pytest.mark.parametrize("root", ["CUDAToolkit_ROOT", "CUDA_HOME", "CUDA_PATH"])
def test_toolkit_roots(
    toolkit: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: str
) -> None:
    add_nvcc(tmp_path / "bin", "13.0")
    chosen = add_nvcc(tmp_path / "other" / "bin", "12.9")
    monkeypatch.setenv(root, str(tmp_path / "other"))
    assert toolkit.choose_nvcc() == chosen


def test_broken_nvcc_is_an_error_with_the_remedy(toolkit: ModuleType, tmp_path: Path) -> None:
    nvcc = add_nvcc(tmp_path / "bin", "13.0", compiles=False)
    with pytest.raises(SystemExit) as error:
        toolkit.choose_nvcc()
    for part in (nvcc, "cannot compile", "VGG_CUDA_TOOLKIT=pypi", "=none", "unsupported GNU"):
        assert part in str(error.value)


def test_nvcc_that_does_not_run_is_an_error(toolkit: ModuleType, tmp_path: Path) -> None:
    add_program(tmp_path / "bin", "nvcc", "exit 127")
    with pytest.raises(SystemExit, match=r"does not run.*VGG_CUDA_TOOLKIT=pypi"):
        toolkit.choose_nvcc()


def test_cudacxx_wins_and_must_work(
    toolkit: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_nvcc(tmp_path / "bin", "13.0")
    mine = add_nvcc(tmp_path / "mine", "12.9")
    monkeypatch.setenv("CUDACXX", mine)
    assert toolkit.choose_nvcc() == mine
    add_nvcc(tmp_path / "mine", "12.0")
    with pytest.raises(SystemExit, match=r"CUDACXX=.*expected an nvcc >= 12.8, got 12.0"):
        toolkit.choose_nvcc()
    monkeypatch.setenv("CUDACXX", str(tmp_path / "missing"))
    with pytest.raises(SystemExit, match="got not found"):
        toolkit.choose_nvcc()


def test_mode_system(toolkit: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VGG_CUDA_TOOLKIT", "system")
    assert toolkit.requirements() == []
    with pytest.raises(SystemExit, match=r"VGG_CUDA_TOOLKIT=system.*expected an nvcc >= 12.8"):
        toolkit.choose_nvcc()
    nvcc = add_nvcc(tmp_path / "bin", "13.0")
    assert toolkit.choose_nvcc() == nvcc


def test_mode_pypi_ignores_the_machine(
    toolkit: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_nvcc(tmp_path / "bin", "13.0", compiles=False)
    monkeypatch.setenv("VGG_CUDA_TOOLKIT", "pypi")
    monkeypatch.setattr(toolkit, "pypi_nvcc", lambda: "/env/nvcc")
    assert toolkit.requirements() == [PYPI]
    assert toolkit.choose_nvcc() == "/env/nvcc"


def test_mode_none_needs_nothing(
    toolkit: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_nvcc(tmp_path / "bin", "13.0", compiles=False)
    monkeypatch.setenv("VGG_CUDA_TOOLKIT", "none")
    assert toolkit.requirements() == []
    assert toolkit.choose_nvcc() is None


@pytest.mark.parametrize("value", ["cuda", "pypi,system", " none"])
def test_unknown_mode_lists_the_valid_ones(
    toolkit: ModuleType, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("VGG_CUDA_TOOLKIT", value)
    with pytest.raises(SystemExit, match="auto, system, pypi, none"):
        toolkit.requirements()


def test_missing_compiler_is_named(
    toolkit: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toolkit.check_host_compiler()
    monkeypatch.setenv("CXX", "my-c++ -m64")
    with pytest.raises(SystemExit, match=r"my-c\+\+ -m64 not found"):
        toolkit.check_host_compiler()
    monkeypatch.delenv("CXX")
    (tmp_path / "bin" / "g++").unlink()
    with pytest.raises(SystemExit, match=r"g\+\+ not found.*Install g\+\+"):
        toolkit.check_host_compiler()


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_hooks(
    toolkit: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    pytest.importorskip("scikit_build_core", reason="the backend's own requirement")
    backend = backend_module(monkeypatch, "vgg_build")
    asked = getattr(backend, f"get_requires_for_build_{kind}")
    monkeypatch.chdir(ROOT)  # as installers do
    monkeypatch.setattr(backend.core, f"get_requires_for_build_{kind}", lambda settings: ["ninja"])
    assert asked() == ["ninja", PYPI]
    nvcc = add_nvcc(tmp_path / "bin", "13.0")
    assert asked() == ["ninja"]

    # The backend chooses compilers before CMake starts, and passes them in the environment.
    monkeypatch.setenv("CUDACXX", nvcc)
    seen = {}
    monkeypatch.setattr(
        backend.core, f"build_{kind}", lambda *_: seen.update(backend.os.environ) or "name.whl"
    )
    assert getattr(backend, f"build_{kind}")("dist") == "name.whl"
    assert seen["CUDACXX"] == nvcc
    (tmp_path / "bin" / "g++").unlink()
    for hook in (asked, lambda: getattr(backend, f"build_{kind}")("dist")):
        with pytest.raises(SystemExit, match=r"g\+\+ not found"):
            hook()


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    run = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return run.stdout.strip()


def test_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = backend_module(monkeypatch, "vgg_commit")
    monkeypatch.delenv("VGG_CUDA_COMMIT", raising=False)
    assert module.source_commit(tmp_path) == "unknown"
    (tmp_path / "COMMIT").write_text("abc123\n")
    assert module.source_commit(tmp_path) == "abc123"

    git(tmp_path, "init")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "one")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert module.source_commit(tmp_path) == head
    (tmp_path / "untracked").write_text("")
    assert module.source_commit(tmp_path) == head
    (tmp_path / "file").write_text("2")
    assert module.source_commit(tmp_path) == f"{head}-dirty"
    (tmp_path / "inner").mkdir()
    assert module.source_commit(tmp_path / "inner") == "unknown"  # not the outer repository

    monkeypatch.setenv("VGG_CUDA_COMMIT", "release-1")
    assert module.source_commit(tmp_path) == "release-1"
    monkeypatch.setenv("VGG_CUDA_COMMIT", 'x"; evil')
    with pytest.raises(ValueError, match="commit"):
        module.source_commit(tmp_path)


@pytest.mark.parametrize(
    ("commit", "option", "expected"),
    [
        ("abc", "", "abc"),
        ("abc-dirty", "", "abc-dirty"),
        ("abc", "debug-waits", "abc-debug-waits"),
        ("abc-dirty", "debug-waits", "abc-debug-waits-dirty"),
        ("abc-dirty-2", "debug-waits", "abc-dirty-2-debug-waits"),
    ],
)
def test_commit_names_a_build_option(
    commit: str, option: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert backend_module(monkeypatch, "vgg_commit").with_option(commit, option) == expected


def test_commit_file_is_rewritten_if_it_differs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = backend_module(monkeypatch, "vgg_commit")
    target = tmp_path / "commit.cpp"
    module.write_cpp("abc", target)
    assert '"abc"' in target.read_text()
    before = target.stat().st_mtime_ns
    module.write_cpp("abc", target)
    assert target.stat().st_mtime_ns == before
    module.write_cpp("def", target)
    assert '"def"' in target.read_text()


def test_script_prints_the_nvcc_or_the_error(tmp_path: Path) -> None:
    script = str(ROOT / "build_backend" / "vgg_toolkit.py")
    nvcc = add_nvcc(tmp_path, "13.0")
    environment = {"PATH": "/usr/bin:/bin", "CUDACXX": nvcc}
    run = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout == nvcc
    environment["VGG_CUDA_TOOLKIT"] = "maybe"
    run = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    assert "auto, system, pypi, none" in run.stderr
    assert "Traceback" not in run.stderr
