"""Build backend: scikit-build-core, with nvcc from the package index if the machine has none.

See vgg_toolkit.py for the choice of compilers and vgg_commit.py for the commit.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vgg_toolkit
from scikit_build_core import build as core
from scikit_build_core.build import get_requires_for_build_sdist
from vgg_commit import FILE, source_commit

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
]

Settings = dict[str, Any] | None


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Return the requirements of scikit-build-core and, depending on VGG_CUDA_TOOLKIT, nvcc."""
    vgg_toolkit.check_host_compiler()
    return core.get_requires_for_build_wheel(config_settings) + vgg_toolkit.requirements()


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """Return the requirements of an editable build, which are those for a wheel."""
    vgg_toolkit.check_host_compiler()
    return core.get_requires_for_build_editable(config_settings) + vgg_toolkit.requirements()


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """Build a wheel."""
    _choose_compilers()
    return core.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """Build an editable wheel, which links to the sources."""
    _choose_compilers()
    return core.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """Build a source distribution that records the commit of the sources."""
    with _commit_file(Path.cwd()):
        return core.build_sdist(sdist_directory, config_settings)


def _choose_compilers() -> None:
    """Check the compilers before CMake starts, and pass on the chosen nvcc."""
    vgg_toolkit.check_host_compiler()
    nvcc = vgg_toolkit.choose_nvcc()
    # Always set: otherwise CMake would use the cached choice of the last build.
    os.environ["VGG_CUDA_TOOLKIT"] = vgg_toolkit.mode() if nvcc else "none"
    if nvcc:
        os.environ["CUDACXX"] = nvcc


@contextlib.contextmanager
def _commit_file(root: Path) -> Iterator[None]:
    file = root / FILE
    if file.exists():  # the sources are a source distribution already
        yield
        return
    file.write_text(source_commit(root) + "\n")
    try:
        yield
    finally:
        file.unlink()
