"""The layers of docs/architecture.md, kept by a machine."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import medsynth_ray

ROOT = Path(medsynth_ray.__file__).parent
ROLES = {"data", "spaces", "samplers", "generators", "gates", "metrics", "mixers", "classifiers", "stats", "report"}
SHARED = {"protocols", "images", "space", "seeds", "errors", "registry", "config", "sections", "checkpoints"}
FILES = sorted(ROOT.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Full names of everything that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
@pytest.mark.parametrize(
    ("package", "home"), [("ray", "engine/"), ("mlflow", "tracking/"), ("qiskit_ibm_runtime", "quantum/ibm.py")]
)
def test_one_home_for_each_outside_world(path: Path, package: str, home: str) -> None:
    offending = {name for name in imports(path) if name.split(".")[0] == package}
    if name_of(path) == "doctor.py" and package == "ray":
        offending = set()  # the doctor asks whether Ray can be imported at all
    assert not offending or name_of(path).startswith(home), f"{name_of(path)} imports {sorted(offending)}"


@pytest.mark.parametrize("path", [p for p in FILES if p.relative_to(ROOT).parts[0] in ROLES], ids=name_of)
def test_a_role_imports_no_other_role(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    parts = {name.split(".")[1] for name in imports(path) if name.startswith("medsynth_ray.")}
    assert parts <= SHARED | {own}, f"{name_of(path)} imports {sorted(parts - SHARED - {own})}"


def test_import_is_cheap_and_pulls_in_nothing_heavy() -> None:
    code = "import sys, medsynth_ray; print(sorted({'torch', 'ray', 'mlflow', 'numpy'} & set(sys.modules)))"
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert time.monotonic() - start < 5  # a loaded machine; benchmarks/quickstart.py measures the real target


def test_help_is_cheap_and_pulls_in_nothing_heavy() -> None:
    code = (
        "import sys\nfrom medsynth_ray.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'ray', 'mlflow', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
