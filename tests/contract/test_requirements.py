"""Requirement ids: docs/security.md explains every id in use, and a test cites every id of the table.

No docstring or comment of this file may contain an id: it would count as a test of that id.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from apps.about import ROOT

PAGE = ROOT / "docs" / "security.md"
FOLDERS = (".ci", "apps", "benchmarks", "deploy", "docs", "migrations", "tests")

# An id is one capital letter and a number up to 999, as a whole word. "ES256", "%D9" and "A.2" are not ids.
ID = re.compile(r"(?<![\w%])[A-Z][1-9]\d{0,2}(?!\w)")
# Ruff's rule codes look like ids; they follow "noqa:".
RULE_CODES = re.compile(r"noqa: *[A-Z]+\d+(?:, *[A-Z]+\d+)*")
MARKDOWN_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)

ROW = re.compile(r"^\| ([A-Z][1-9]\d{0,2}) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)]+)\)")
SOURCE = re.compile(r"ASVS \d+\.\d+\.\d+(?:(?:, |-)\d+\.\d+\.\d+)*|RFC \d+ \d[\d., ]*")

# Design documents that are not in the repository. The names of the second line are also words: a number must follow.
FOREIGN = re.compile(
    r"\b(?:ACCOUNT_LIFE|DESIGN|ECOSYSTEM|HOUSE|OPENAPI_TOOLS)\b"
    r"|\b(?:INTEGRATION|OIDC|SECURITY|STYLE) (?:[A-Z]\d|\d+\b(?!\.\d))"
    r"|\.\./shared/"
)
DOCUMENT = re.compile(r"(?<![\w.-])[A-Z][A-Z_]*\.md\b")

Row = tuple[str, str, list[Path]]


@cache
def files() -> list[Path]:
    """Return the files of the repository, without installed and generated ones."""
    found = [*ROOT.iterdir(), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))]
    return [path for path in found if path.is_file() and not {"__pycache__", "node_modules"} & {*path.parts}]


@cache
def ids_in(path: Path) -> frozenset[str]:
    """Return the ids that a file cites: in Python's docstrings, comments and ids of cases, and in Markdown's prose."""
    text = path.read_text(encoding="utf-8")
    if not ID.search(text):
        return frozenset()
    parts = [MARKDOWN_CODE.sub("", text)] if path.suffix == ".md" else python_texts(text)
    return frozenset(name for part in parts for name in ID.findall(RULE_CODES.sub("", part)))


def python_texts(source: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
        elif isinstance(node, ast.keyword) and node.arg in ("id", "ids"):  # of pytest.param and parametrize
            yield from re.findall(r"'[^']*'|\"[^\"]*\"", ast.unparse(node.value))


@cache
def rows() -> dict[str, Row]:
    """Return {id: (promise, source, linked files)} of the table."""
    found = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert len(found) == len({row[0] for row in found}), "an id is listed twice"
    return {
        name: (promise, source, [(PAGE.parent / link).resolve() for link in LINK.findall(links)])
        for name, promise, source, links in found
    }


def test_every_id_in_use_is_in_the_table() -> None:
    """If this fails, add a row to docs/security.md or cite the intended id."""
    cited = {path: ids_in(path) for path in files() if path.suffix in (".py", ".md") and path != PAGE}
    unknown = {str(path.relative_to(ROOT)): names - rows().keys() for path, names in cited.items()}
    assert {path: names for path, names in unknown.items() if names} == {}


def test_every_id_in_the_table_is_cited_by_a_test() -> None:
    cited = {name for path in (ROOT / "tests").rglob("test_*.py") for name in ids_in(path)}
    assert rows()
    assert rows().keys() - cited == set()


def test_every_row_links_to_tests_that_cite_its_id() -> None:
    """If a test file was renamed, change its links in docs/security.md."""
    tests = {*(ROOT / "tests").rglob("test_*.py")}
    wrong = {
        (name, str(path.relative_to(ROOT)))
        for name, (_, _, links) in rows().items()
        for path in links
        if path not in tests or name not in ids_in(path)
    }
    assert wrong == set()
    assert [name for name, (_, _, links) in rows().items() if not links] == []


def test_every_row_has_a_promise_and_a_source() -> None:
    odd = {
        name
        for name, (promise, source, _) in rows().items()
        if not promise.endswith(".") or not (source == "-" or all(map(SOURCE.fullmatch, source.split("; "))))
    }
    assert odd == set()


def test_no_file_cites_a_document_that_is_not_in_the_repository() -> None:
    """If this fails, write it in plain words, or cite the id without the document."""
    names = {path.name for path in files()}
    cited = {}
    for path in (path for path in files() if path not in (PAGE, Path(__file__))):
        text = path.read_text(encoding="utf-8", errors="ignore")
        found = FOREIGN.findall(text) + [name for name in DOCUMENT.findall(text) if name not in names]
        if found:
            cited[str(path.relative_to(ROOT))] = found
    assert cited == {}
