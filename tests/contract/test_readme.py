"""README.md: what it shows is true, and README.zh-CN.md says the same."""

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

from apps.about import ROOT
from apps.config import BaseConfig, config
from tests.support import live, programs, readme

PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")}
ENGLISH, CHINESE = PAGES.values()
LIFETIMES = ("JWT_ACCESS_TOKEN_EXPIRES", "JWT_REFRESH_TOKEN_EXPIRES", "SESSION_LIFETIME")

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Live]:
    with live.live_server(tmp_path_factory.mktemp("readme")) as running:
        yield running


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_every_line_works_when_pasted_in_order(server: live.Live, shell: str) -> None:
    """The answers are those that README.md shows."""
    program = programs.skip_unless_installed("zsh") if shell == "zsh" else shell
    script, address = ROOT / "tests" / "support" / "readme.py", server.url.removeprefix("http://")
    done = subprocess.run([sys.executable, script, program, address], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES)
def test_no_line_to_paste_has_a_comment(page: str) -> None:
    """An interactive zsh passes it to the command as arguments."""
    lines = [line for block in readme.blocks(page, "bash") for line in block.splitlines()]
    assert [line for line in (*lines, *readme.commands(page)) if re.search(r"(^|\s)#", line)] == []


def tables(page: str) -> list[list[list[str]]]:
    """Return the cells of each row of each table."""
    found = re.findall(r"(?:^\|.*\|\n)+", page, re.MULTILINE)
    return [[row.strip("|").split("|") for row in table.splitlines()] for table in found]


def lifetimes(page: str) -> list[list[timedelta]]:
    """Return the lifetimes in development and in production, row by row, of the table that compares the profiles."""
    units = {"minute": "minutes", "day": "days", "分钟": "minutes", "天": "days"}
    (table,) = [table for table in tables(page) if table[0][1:] == [" `development` ", " `production` "]]
    found = [re.findall(r"(\d+) (minute|day|分钟|天)", "|".join(row)) for row in table]
    return [[timedelta(**{units[unit]: int(number)}) for number, unit in row] for row in found if row]


@pytest.mark.parametrize("page", PAGES)
def test_the_table_of_profiles_has_their_lifetimes(page: str) -> None:
    profiles: list[type[BaseConfig]] = [config["development"], config["production"]]
    assert lifetimes(PAGES[page]) == [[getattr(profile, name) for profile in profiles] for name in LIFETIMES]


def code_of(page: str) -> list[str]:
    """Return the blocks of code without their comments."""
    return [re.sub(r"^# .*$", "#", block, flags=re.MULTILINE) for block in _FENCE.findall(page)]


def outline(page: str) -> list[str]:
    """Return one word for each heading, block of code, table row, list item and paragraph, in order."""
    words = {"#": r"#+(?= )", "code": "```", "row": r"\|", "item": r"(?:-|\d+\.) "}
    text = re.sub(r"<!--.*?-->\n", "", _FENCE.sub("```", page))
    parts = re.split(r"\n\n+|\n(?=\||- |\d+\. |#)", text.strip())
    return [next((word for word, pattern in words.items() if re.match(pattern, part)), "text") for part in parts]


def names(page: str) -> list[list[str]]:
    """Return the code and the links of each section, sorted: the order of words differs between the languages."""
    text = _FENCE.sub("", page).replace("zh-CN.", "")
    text = re.sub(r"\((\S+?\.md)#[^)]*\)", r"(\1)", text)
    sections = re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]
    return [sorted({*_CODE.findall(section), *re.findall(r"\]\(([^)#]+)", section)}) for section in sections]


def differences(english: str, chinese: str) -> list[str]:
    """Return what one of the pages has and the other has not."""
    found = [] if outline(english) == outline(chinese) else ["outline"]
    found += [] if code_of(english) == code_of(chinese) else ["code"]
    for section, other in zip(names(english), names(chinese), strict=False):
        found += sorted({*section} ^ {*other})
    return found


def test_both_languages_have_the_same_parts_code_names_and_links() -> None:
    assert differences(ENGLISH, CHINESE) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("\n## 测试\n", "\n"),
        ("| `GET /api/v1/audit` | 访问令牌 | 查看自己账号的安全事件 |\n", ""),
        ("`CACHE_TTL`", "这段时间"),
        ("curl -sS ", "curl "),
        ("4. 令牌的 `sub`", "令牌的 `sub`"),
        ("(docs/security.md)", "(docs/data.md)"),
    ],
)
def test_two_pages_that_differ_fail(right: str, wrong: str) -> None:
    changed = CHINESE.replace(right, wrong)
    assert changed != CHINESE
    assert differences(ENGLISH, changed) != []
