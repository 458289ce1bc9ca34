"""deploy/gatehouse.env.example, filled in: systemd, compose and the shell line of docs/deploy.md read the same."""

import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from apps.about import ROOT
from tests.support import live, programs
from tests.support.people import BIRTH, PASSWORD

GENERATOR = Path("/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator")


@pytest.fixture
def filled_in(tmp_path: Path) -> dict[str, str]:
    """Fill in the example and return the expected value of each line."""
    key, index, field = (secrets.token_urlsafe(32) for _ in range(3))
    text = (ROOT / "deploy" / "gatehouse.env.example").read_text()
    for before, after in (
        ("JWT_SECRET_KEY=''", f"JWT_SECRET_KEY='{key}+/='"),
        ("INDEX_KEY=''", f"INDEX_KEY='{index}'"),
        ('[""]', f'["{field}"]'),
        (
            "postgresql://gatehouse:PASSWORD@database/gatehouse",
            f"sqlite:///{tmp_path}/a.sqlite3?timeout=9&cached_statements=64",
        ),
        ("redis://cache:6379/0", "redis://127.0.0.1:1/0"),
    ):
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "gatehouse.env").write_text(text)
    return {
        "GATEHOUSE_PROFILE": "production",
        "DATABASE_URL": f"sqlite:///{tmp_path}/a.sqlite3?timeout=9&cached_statements=64",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "GATEHOUSE_JWT_SECRET_KEY": f"{key}+/=",
        "GATEHOUSE_FIELD_ENCRYPTION_KEYS": f'["{field}"]',
        "GATEHOUSE_FIELD_INDEX_KEY": index,
        "GATEHOUSE_TRUSTED_PROXIES": "1",
        "GATEHOUSE_PROCESSES": "4",
    }


def test_systemd_reads_it(filled_in: dict[str, str], tmp_path: Path) -> None:
    """Read by the generator for environment.d, which shares its parser with EnvironmentFile=."""
    if not GENERATOR.exists():
        pytest.skip("no systemd here")
    (tmp_path / "environment.d").mkdir()
    shutil.copy(tmp_path / "gatehouse.env", tmp_path / "environment.d" / "gatehouse.conf")
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    printed = subprocess.run([GENERATOR], env=environ, capture_output=True, text=True, check=True).stdout
    read = dict(word.split("=", 1) for word in shlex.split(printed))  # the generator prints shell syntax
    assert filled_in.items() <= read.items()


def test_compose_reads_it(filled_in: dict[str, str], tmp_path: Path) -> None:
    program = programs.skip_unless_installed("docker-compose")
    shutil.copy(ROOT / "deploy" / "compose.yaml", tmp_path)
    done = subprocess.run([program, "config"], cwd=tmp_path, capture_output=True, text=True, check=True)
    for service in ("gatehouse", "migrate"):
        assert yaml.safe_load(done.stdout)["services"][service]["environment"] == filled_in


def test_the_line_for_the_first_admin_makes_one(filled_in: dict[str, str], tmp_path: Path) -> None:
    """The exact line of docs/deploy.md, with other paths, and with options instead of prompts."""
    (line,) = re.findall(r"sudo -u gatehouse sh -c '(.*)'", (ROOT / "docs" / "deploy.md").read_text())
    line = line.replace("/etc/gatehouse", str(tmp_path)).replace(".venv/bin/python", sys.executable)
    options = ["--password-stdin", "--username=white-rabbit", "--mobile=13200001111", "--age=40", f"--birth={BIRTH}"]
    live.checkout(tmp_path)
    run(tmp_path, [sys.executable, "manage.py", "db", "upgrade"], **filled_in)
    assert "created admin white-rabbit" in run(tmp_path, ["sh", "-c", f"{line} {shlex.join(options)}"])


def run(folder: Path, command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=live.unconfigured() | environment, input=PASSWORD + "\n",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
