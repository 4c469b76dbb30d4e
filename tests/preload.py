"""Libraries that stand between a process and the system (``LD_PRELOAD``), compiled for a test."""

from __future__ import annotations

import subprocess
from pathlib import Path


def build(source: Path, folder: Path) -> str:
    """Compile a C file; what ``LD_PRELOAD`` is to be."""
    library = folder / f"{source.stem}.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
    return str(library)
