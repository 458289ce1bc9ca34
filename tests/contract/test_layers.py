"""Imports go one way: view, service, model; and forms know no database (DESIGN 3)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

APPS = Path(__file__).parents[2] / "apps"
ABOVE_MODELS = ("apps.api_v1", "apps.services", "apps.forms", "apps.errors", "apps.commands", "flask")
FORBIDDEN = {
    "models": ABOVE_MODELS,
    "services": ("apps.api_v1", "apps.forms", "apps.commands", "apps.utils.response", "flask.request", "flask.g"),
    "forms": ("apps.api_v1", "apps.services", "apps.models", "apps.extensions", "apps.database.engine", "sqlalchemy"),
    "api_v1": ("apps.extensions", "apps.commands", "sqlalchemy", "redis"),
    "utils": ("apps.api_v1", "apps.services", "apps.commands"),
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by dots"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_a_layer_imports_nothing_above_it(layer: str) -> None:
    paths = sorted((APPS / layer).glob("**/*.py"))
    assert paths
    wrong = {
        (path.name, name)
        for path in paths
        for name in imports(path)
        if any(f"{name}.".startswith(f"{forbidden}.") for forbidden in FORBIDDEN[layer])
    }
    assert wrong == set()


def test_there_is_one_clock_and_one_envelope() -> None:
    """DESIGN 3: seams are one function each, and the envelope is made in one place."""
    sources = {path.relative_to(APPS).as_posix(): path.read_text(encoding="utf-8") for path in APPS.glob("**/*.py")}
    assert [name for name, source in sources.items() if "datetime.now(" in source] == ["utils/clock.py"]
    assert [name for name, source in sources.items() if '"state": 0' in source] == ["utils/response.py"]
    assert [name for name, source in sources.items() if "jsonify" in source] == []
