"""The layout: the import order of the folders, the file names, and the place of shared mechanisms."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.about import ROOT

APPS = ROOT / "apps"

# Top to bottom: a line imports only from lines below it, and the folders of one line do not import each other.
LAYERS = [
    ["manage.py"],
    ["apps/commands"],
    ["wsgi.py"],
    ["apps/__init__.py"],
    ["apps/api_v1"],
    ["apps/http"],
    ["apps/services"],
    ["apps/observability"],
    ["apps/settings"],
    ["apps/models", "apps/database"],
    ["apps/extensions.py", "apps/rate_limits"],
    ["apps/forms", "apps/security", "apps/cache"],
    ["apps/config.py"],
    ["apps/utils", "apps/errors.py", "apps/about.py"],
]
LEVEL = {place: number for number, line in enumerate(LAYERS) for place in line}

# Libraries and modules that a layer must not import, because they belong to another layer.
FORBIDDEN = {
    "apps/models": ("flask",),
    "apps/services": ("apps.utils.response", "flask.request", "flask.g"),
    "apps/forms": ("sqlalchemy", "redis"),
    "apps/api_v1": ("apps.extensions", "sqlalchemy", "redis"),
}
UTILS = {"__init__", "clock", "device", "ids", "phone", "response", "strict_json", "username"}


def imports(path: Path) -> Iterator[str]:
    """Yield the full name of each import of a file, at its top or within a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(place: str) -> list[Path]:
    path = ROOT / place
    return [path] if path.is_file() else sorted(path.glob("**/*.py"))


def place_of(name: str) -> str | None:
    """Return the folder or file of LAYERS that the imported `name` belongs to, or None for a library."""
    head, *rest = name.split(".")
    if head in ("manage", "wsgi"):
        return f"{head}.py"
    if head != "apps":
        return None
    return next((place for place in (f"apps/{rest[0]}", f"apps/{rest[0]}.py") if place in LEVEL), "apps/__init__.py")


def wrong_imports(place: str, path: Path) -> Iterator[str]:
    for name in imports(path):
        target = place_of(name)
        if target and target != place and LEVEL[target] <= LEVEL[place]:
            yield f"{path.relative_to(ROOT)} imports {name}"


def test_the_list_names_every_folder_and_file() -> None:
    found = {f"apps/{path.name}" for path in APPS.iterdir() if path.is_dir() and list(path.glob("*.py"))}
    found |= {f"apps/{path.name}" for path in APPS.glob("*.py")} | {"manage.py", "wsgi.py"}
    assert found == set(LEVEL)


@pytest.mark.parametrize("place", LEVEL)
def test_a_layer_imports_only_from_layers_below_it(place: str) -> None:
    assert [wrong for path in files(place) for wrong in wrong_imports(place, path)] == []


def test_an_import_within_a_function_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "late.py").write_text("def read():\n    from apps.services.user import read_user\n")
    (tmp_path / "peer.py").write_text("from apps.cache import store\n")
    (tmp_path / "below.py").write_text("from apps.utils import clock\nimport json\n")
    wrong = [
        wrong for name in ("late", "peer", "below") for wrong in wrong_imports("apps/forms", tmp_path / f"{name}.py")
    ]
    assert wrong == ["late.py imports apps.services.user.read_user", "peer.py imports apps.cache.store"]


@pytest.mark.parametrize("place", FORBIDDEN)
def test_a_layer_does_not_know_what_belongs_to_another(place: str) -> None:
    wrong = {
        (path.name, name)
        for path in files(place)
        for name in imports(path)
        if any(f"{name}.".startswith(f"{forbidden}.") for forbidden in FORBIDDEN[place])
    }
    assert wrong == set()


def test_utils_holds_seven_small_files() -> None:
    sizes = {path.stem: len(path.read_text().splitlines()) for path in (APPS / "utils").glob("*.py")}
    assert set(sizes) == UTILS
    assert max(sizes.values()) <= 100


def test_there_is_one_clock_and_one_envelope() -> None:
    sources = {path.relative_to(APPS).as_posix(): path.read_text(encoding="utf-8") for path in APPS.glob("**/*.py")}
    assert [name for name, source in sources.items() if "datetime.now(" in source] == ["utils/clock.py"]
    assert [name for name, source in sources.items() if '"state": 0' in source] == ["utils/response.py"]
    assert [name for name, source in sources.items() if "jsonify" in source] == []
