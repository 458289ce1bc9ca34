"""The console lines of README.md, pasted into a shell while `manage.py run` listens on port 5000.

`python tests/support/readme.py SHELL [ADDRESS]` shows where the answers differ from those in README.md. It needs no
package.
"""

import difflib
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[2]
ADDRESS = "127.0.0.1:5000"
_VARIES = [(r"\beyJ[\w.-]+", "eyJhbGciOiJI..."), (r'"id":\d+', '"id":1')]


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of code of a language in a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """Return the lines after `$` in a page."""
    return [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]


def shown(page: str) -> list[str]:
    """Return the answers in a page."""
    return [
        line for block in blocks(page, "console") for line in block.splitlines() if not line.startswith(("$ ", "# "))
    ]


def paste(shell: str, address: str = ADDRESS) -> list[str]:
    """Run the commands of README.md in one shell and delete the user; return how the answers differ, as a diff."""
    typed = "\n".join(commands("README.md")).replace(ADDRESS, address)
    done = subprocess.run([shell], input=typed, capture_output=True, text=True, check=False, timeout=60)
    _delete_user(address)
    answers = re.sub("}{", "}\n{", done.stdout)  # an answer ends without a newline
    for pattern, example in _VARIES:
        answers = re.sub(pattern, example, answers)
    return list(difflib.unified_diff(shown("README.md"), answers.splitlines(), "README.md", shell, lineterm=""))


def _delete_user(address: str) -> None:
    body = b'{"username": "12345678", "password": "12345678"}'
    login = Request(f"http://{address}/api/v1/login", body, {"Content-Type": "application/json"})
    with urlopen(login) as response:
        data = json.load(response)["data"]
    headers = {"Authorization": f"Bearer {data['access_token']}"}
    urlopen(Request(f"http://{address}/api/v1/users/{data['id']}", None, headers, method="DELETE")).close()


if __name__ == "__main__":
    sys.exit("\n".join(paste(*sys.argv[1:])) or 0)
