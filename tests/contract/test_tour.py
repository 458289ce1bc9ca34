"""docs/tour.md, docs/tour.zh-CN.md and docs/cache.md show the code as it is.

The pages keep these conventions, and the checks below read them:
- A file is named by its path in backticks: `apps/http/endpoint.py`.
- "`name` (`path`)", with ASCII or full-width brackets, says that `name` is defined in the file.
- A stop is a line "`path`, `name`", as a heading or alone. The next block of Python belongs to it.
- In a block of Python, `...` stands for left-out lines. The lines after "# The lesson" are the tutorial's, and end at
  "# Gatehouse".
- A line "path name" in a block of output says that the file defines `name`.
"""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeGuard

import pytest

from apps.about import ROOT

ENGLISH, CHINESE, CACHE = (ROOT / "docs" / name for name in ("tour.md", "tour.zh-CN.md", "cache.md"))
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ENGLISH, CHINESE, CACHE)}
SOURCES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in ROOT.glob("apps/**/*.py")}

_PATH = r"`((?:(?:apps|docs|tests|deploy|migrations)/[\w./-]*|wsgi\.py|manage\.py))`"
_NAME = r"`([A-Za-z_][\w.]*)`"
_DEFINED = re.compile(rf"{_NAME}\s?[(（]{_PATH}[)）]|{_NAME}\s*\n\s*[(（]{_PATH}[)）]")
_STOP = re.compile(rf"^(?:### \d+\. )?{_PATH}[,，] ?{_NAME}:?$")
_CALL = re.compile(r"^(apps/\S+\.py) ([\w.<>]+)$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LESSON = {"# The lesson", "# 教程"}
# Names of the tutorial, of other libraries and of the wire, which the pages mention and `apps/` need not hold.
_FOREIGN = {
    "get_jwt_identity", "create_access_token", "create_refresh_token", "HttpResponse.params_error", "form.validate",
    "db.auto_commit", "self.add_cache", "self.extract_user_info", "self.get_user_info", "self.user_not_found",
    "User.query.all", "SignUpForm.from_json", "grep", "GatehouseCacheGone", "wsgi.py", "manage.py",
}  # fmt: skip


@cache
def definitions(path: str) -> dict[str, ast.stmt]:
    """Return {qualified name: statement} of all classes, functions and assigned names of a file."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.stmt]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
                yield prefix + child.name, child
                inner = "." if isinstance(child, ast.ClassDef) else ".<locals>."
                yield from walk(child, prefix + child.name + inner)
            elif isinstance(child, (ast.Assign, ast.AnnAssign)):
                targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                names = [name.id for target in targets for name in ast.walk(target) if _is_name(name)]
                yield from ((prefix + name, child) for name in names)
            else:
                yield from walk(child, prefix)

    return dict(walk(ast.parse((ROOT / path).read_text(encoding="utf-8")), ""))


def _is_name(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def source_of(path: str, name: str) -> list[str]:
    """Return the lines of a definition, without comments at their ends."""
    node = definitions(path)[name]
    first = min(part.lineno for part in (node, *getattr(node, "decorator_list", ())))
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()[first - 1 : node.end_lineno]
    return [_without_comment(line) for line in lines]


def missing_files(page: str) -> list[str]:
    return [path for path in re.findall(_PATH, page) if not (ROOT / path).exists()]


def places(page: str) -> list[tuple[str, str]]:
    """Return every (path, name) that the page says belong together."""
    found = [(match[2] or match[4], match[1] or match[3]) for match in _DEFINED.finditer(page)]
    found += [(match[1], match[2]) for match in map(_STOP.match, page.splitlines()) if match]
    return found + _CALL.findall(page)


def undefined_names(page: str) -> list[str]:
    return [
        f"{name} in {path}" for path, name in places(page) if (ROOT / path).is_file() and name not in definitions(path)
    ]


def unknown_identifiers(page: str) -> list[str]:
    """Return the identifiers in backticks, other than those of `places`, that occur nowhere in `apps/`."""
    named = set(re.findall(r"`([A-Za-z_]\w*(?:\.\w+)*)(?:\(\))?`", _FENCE.sub("", page)))
    named -= {name for _, name in places(page)} | _FOREIGN
    words = {word for text in SOURCES.values() for word in re.findall(r"\w+(?:\.\w+)*", text)}
    words |= {part for word in words for part in word.split(".")}
    return sorted(name for name in named if name.removesuffix("_total") not in words)


def stops(page: str) -> list[tuple[str, str, list[str]]]:
    """Return the path, the name and the lines of our code of each stop of the page."""
    found: list[tuple[str, str, list[str]]] = []
    is_python = is_ours = False
    for line in page.splitlines():
        match = _STOP.match(line)
        if match:
            found.append((match[1], match[2], []))
        elif line.startswith("```"):
            is_python = is_ours = line == "```python"
            assert not is_python or (found and not found[-1][2]), f"a block of Python without a stop before {line}"
        elif is_python and line in _LESSON:
            is_ours = False
        elif is_python and line == "# Gatehouse":
            is_ours = True
        elif is_ours:
            found[-1][2].append(line)
    return found


def wrong_excerpts(page: str) -> list[str]:
    return [f"{name} in {path}" for path, name, code in stops(page) if not _occurs(code, path, name)]


def _occurs(code: list[str], path: str, name: str) -> bool:
    """Return True if the definition has the lines in this order, at one indentation, contiguous except at `...`."""
    if not code or name not in definitions(path):
        return False
    source = source_of(path, name)
    pieces: list[list[str]] = [[]]
    for line in code:
        if line.strip() == "...":
            pieces.append([])
        else:
            pieces[-1].append(_without_comment(line))
    indents = {len(line) - len(line.lstrip()) for line in source}
    return any(_follow([piece for piece in pieces if piece], source, " " * indent) for indent in indents)


def _follow(pieces: list[list[str]], source: list[str], indent: str) -> bool:
    at = 0
    for piece in pieces:
        wanted = [line and indent + line for line in piece]
        starts = range(at, len(source) - len(wanted) + 1)
        start = next((start for start in starts if source[start : start + len(wanted)] == wanted), None)
        if start is None:
            return False
        at = start + len(wanted)
    return True


def _without_comment(line: str) -> str:
    return re.sub(r"\s+# .*$", "", line).rstrip()


def unknown_messages(page: str) -> list[str]:
    """Return the texts of shown log lines that no source holds."""
    return [text for text in re.findall(r'"message":"([^"]*)"', page) if f'"{text}"' not in "".join(SOURCES.values())]


def glossary(page: str) -> list[str]:
    """Return the terms of the last table."""
    rows = page.rpartition("\n## ")[2].splitlines()
    return [row.split("|")[1].strip() for row in rows if row.startswith("|")][2:]


def differences(english: str, chinese: str) -> list[str]:
    """Return in what the two tours differ."""
    found = [] if stops(english) == stops(chinese) else ["stops"]
    terms, translated = glossary(english), glossary(chinese)
    if not 0 < len(terms) == len(translated) <= 25:
        found.append(f"{len(terms)} terms, {len(translated)} translated")
    found += [term for term, other in zip(terms, translated, strict=False) if f"（{term}）" not in other]
    code = [[re.sub("# 教程|# The lesson", "", block) for block in _FENCE.findall(page)] for page in (english, chinese)]
    return found if code[0] == code[1] else [*found, "code"]


CHECKS: list[Callable[[str], list[str]]] = [
    missing_files, undefined_names, unknown_identifiers, wrong_excerpts, unknown_messages
]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("check", CHECKS)
def test_a_page_shows_the_code_as_it_is(check: Callable[[str], list[str]], page: str) -> None:
    assert check(PAGES[page]) == []


def test_both_languages_have_the_same_stops_and_terms() -> None:
    assert differences(PAGES["tour.md"], PAGES["tour.zh-CN.md"]) == []


def test_the_tours_have_both_requests() -> None:
    paths = [path for path, _, _ in stops(PAGES["tour.md"])]
    assert paths.index("apps/api_v1/user.py") < paths.index("apps/api_v1/token.py")


@pytest.mark.parametrize(
    ("check", "page", "right", "wrong"),
    [
        (missing_files, "tour.md", "`apps/forms/user.py`", "`apps/forms/users.py`"),
        (missing_files, "tour.zh-CN.md", "`apps/forms/user.py`", "`apps/forms/users.py`"),
        (missing_files, "cache.md", "`apps/cache/memory.py`", "`apps/cache/process.py`"),
        (undefined_names, "tour.md", "`_sign_up`", "`_signs_up`"),
        (undefined_names, "tour.zh-CN.md", "`fill`（", "`fills`（"),
        (undefined_names, "tour.md", "`authenticate`\n", "`authenticates`\n"),
        (undefined_names, "tour.md", "`hashing_slot` (`apps/security/password_hash.py`)", "`hashing_slot` (`wsgi.py`)"),
        (undefined_names, "tour.md", "token.py _verification_key", "token.py _verify_key"),
        (undefined_names, "cache.md", "`bump_epoch`\n", "`raise_epoch`\n"),
        (unknown_identifiers, "tour.md", "`policy`", "`guard`"),
        (unknown_identifiers, "cache.md", "`cache_epoch.unread`", "`doubts.unread`"),
        (wrong_excerpts, "tour.md", "db.session.commit()", "db.session.flush()"),
        (wrong_excerpts, "tour.md", "cache_new(user, session)\n", "cache_new(session, user)\n"),
        (wrong_excerpts, "tour.zh-CN.md", "    session.refresh_generation += 1", "  session.refresh_generation += 1"),
        (wrong_excerpts, "tour.md", "    ...\n    return session, None", "    return session, None"),
        (wrong_excerpts, "tour.md", "    ...\nif not _has_our_claims", "if not _has_our_claims"),
        (wrong_excerpts, "cache.md", "`apps/services/session.py`, `_purge`", "`apps/services/session.py`, `_touch`"),
        (wrong_excerpts, "cache.md", "`apps/services/session.py`, `_purge`", "`apps/services/audit.py`, `_purge`"),
        (unknown_messages, "cache.md", "Redis is back: reads", "Redis has come back: reads"),
    ],
)
def test_a_page_that_is_wrong_fails(check: Callable[[str], list[str]], page: str, right: str, wrong: str) -> None:
    """Each check can fail."""
    changed = PAGES[page].replace(right, wrong)
    assert changed != PAGES[page]
    assert check(changed) != []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("### 6. `apps/database/transaction.py`，`_commit`", "### 6. `apps/database/transaction.py`，`_with_retries`"),
        ("session.refresh_generation += 1", "session.version += 1"),
        ("| 租约（lease） |", "| 租约（version） |"),
        ("| 胡椒（pepper） | 计算哈希之前混入每个密码的秘密值 |\n", ""),
        ("my-refresh", "another"),
    ],
)
def test_two_tours_that_differ_fail(right: str, wrong: str) -> None:
    changed = PAGES["tour.zh-CN.md"].replace(right, wrong)
    assert changed != PAGES["tour.zh-CN.md"]
    assert differences(PAGES["tour.md"], changed) != []


def test_a_glossary_of_more_than_25_terms_fails() -> None:
    english = PAGES["tour.md"] + "| one | more |\n| two | more |\n"
    chinese = PAGES["tour.zh-CN.md"] + "| 一（one） | 多 |\n| 二（two） | 多 |\n"
    assert differences(english, chinese) == ["26 terms, 26 translated"]
