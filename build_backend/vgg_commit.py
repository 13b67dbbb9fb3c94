"""Commit of the sources; as a script, writes a C++ file that defines it for the build.

Usage: vgg_commit.py FILE OPTION, with the name of a build option or an empty OPTION.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

FILE = "COMMIT"
"""File that holds the commit in a source distribution, which has no git history."""


def source_commit(root: Path) -> str:
    """Return the full hash of HEAD, with "-dirty" if tracked files differ, or "unknown".

    ``VGG_CUDA_COMMIT`` overrides it. Raises ValueError if it contains other characters than
    letters, digits and ``-._+``.
    """
    commit = os.environ.get("VGG_CUDA_COMMIT") or _of_checkout(root) or _of_file(root) or "unknown"
    if not re.fullmatch(r"[\w.+-]+", commit):
        raise ValueError(f"commit: expected letters, digits and -._+, got {commit!r}")
    return commit


def _of_checkout(root: Path) -> str | None:
    if not (root / ".git").exists():  # git would otherwise find a repository around the sources
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("-dirty" if _git(root, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    # The build may run as another user than the owner, and concurrently with other git commands.
    options = ["-c", f"safe.directory={root}", "--no-optional-locks"]
    run = subprocess.run(
        ["git", *options, *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return run.stdout.strip()


def _of_file(root: Path) -> str | None:
    file = root / FILE
    return file.read_text().strip() if file.exists() else None


def with_option(commit: str, option: str) -> str:
    """Add the name of a build option to the commit, before a final "-dirty"; nothing if empty.

    Reports and caches then distinguish builds whose kernels differ.
    """
    dirty = "-dirty" if commit.endswith("-dirty") else ""
    return f"{commit.removesuffix(dirty)}-{option}{dirty}" if option else commit


def write_cpp(commit: str, target: Path) -> None:
    """Write ``target`` only if its content changes, so that it is not recompiled needlessly."""
    text = f'#include "device.h"\n\nconst char* vgg::commit() {{ return "{commit}"; }}\n'
    if not target.exists() or target.read_text() != text:
        target.write_text(text)


if __name__ == "__main__":
    target, option = sys.argv[1:]
    commit = source_commit(Path(__file__).resolve().parents[1])
    write_cpp(with_option(commit, option), Path(target))
