"""The scripts beside the tests make sure of the programs that they need, or say what to install."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def run_bash(checkout: Path, tmp_path: Path, source: str, programs: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run shell source beside `system.sh`, with these programs and no other on PATH."""
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    system = checkout / "scripts" / "lib" / "system.sh"
    return subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", f'source "{system}"\n{source}'],
        env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_a_program_that_is_there_is_not_installed(checkout: Path, tmp_path: Path) -> None:
    programs = {"serves": "", "id": "echo 0", "apt-get": "exit 9"}
    run = run_bash(checkout, tmp_path, "ensure_program serves its-package; echo on", programs)
    assert (run.returncode, run.stdout, run.stderr) == (0, "on\n", "")


def test_who_may_not_install_is_told_what_to_install(checkout: Path, tmp_path: Path) -> None:
    programs = {"id": "echo 1000", "apt-get": "echo touched"}
    run = run_bash(checkout, tmp_path, "ensure_program serves its-package; echo on", programs)
    assert (run.returncode, run.stdout) == (1, "")
    assert "serves is needed" in run.stderr and "apt-get install its-package" in run.stderr
