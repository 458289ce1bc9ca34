"""docs/deploy.md, "One machine": its commands, from top to bottom, on real servers.

Only paths and ports are changed. Functions of the shell stand in for what needs root, the network or systemd; the
stand-in for systemctl runs the commands of the units.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apps.about import ROOT
from tests.machines import servers_home
from tests.machines.test_postgresql_replica import Server
from tests.support import live, programs, servers
from tests.support.people import BIRTH, PASSWORD

pytestmark = pytest.mark.timeout(180)

PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
STAND_INS = r"""
set -euo pipefail
sudo() { [ "$1" != -u ] || shift 2; "$@"; }
apt-get() { :; }
useradd() { :; }
git() { :; }
python3() { :; }
nginx() { command "$NGINX" -c "$MACHINE/etc/nginx/nginx.conf" "$@"; }
unit() {  # NAME INSTANCE: run the command of a unit with its environment
  local file="$MACHINE/etc/systemd/system/$1.service"
  (cd "$MACHINE/opt/gatehouse" && set -a && . "$MACHINE/etc/gatehouse/gatehouse.env" &&
    sh -c "$(sed -n "s/%i/${2-}/;s/^ExecStart=//p" "$file")") >>"$MACHINE/log" 2>&1
}
systemctl() {
  case "$*" in
    "restart redis-server") redis-server "$MACHINE/etc/redis/redis.conf" >>"$MACHINE/log" 2>&1 & ;;
    daemon-reload) ;;
    "start gatehouse-migrate") unit gatehouse-migrate ;;
    "enable --now "*)
      for name in "${@:3}"; do
        [[ $name == gatehouse@* ]] || continue
        unit gatehouse@ "${name#*@}" &
        until curl --silent --fail --output "$MACHINE/none" "127.0.0.1:${name#*@}/healthz"; do sleep 0.2; done
      done ;;
    "reload nginx") nginx -g "daemon off;" >>"$MACHINE/log" 2>&1 & ;;
    *) echo "unknown: systemctl $*" >&2; return 1 ;;
  esac
}
"""
NGINX = """pid {machine}/nginx.pid;
error_log {machine}/log;
{user}
events {{}}
http {{
    access_log off;
    {places}
    include {machine}/etc/nginx/conf.d/*.conf;
    include {machine}/etc/nginx/sites-enabled/*;
}}
"""


class Machine:
    """A folder that stands for the root of a Debian, with a PostgreSQL that checks passwords."""

    def __init__(self, folder: Path, postgresql: Server, nginx: str) -> None:
        self.folder, self.postgresql, self.nginx = folder, postgresql, nginx
        self.redis, self.plain, self.tls, *self.ports = (live.free_port() for _ in range(5))
        for name in ("etc/redis", "etc/nginx/conf.d", "etc/nginx/sites-enabled", "etc/systemd/system"):
            (folder / name).mkdir(parents=True)
        (folder / "etc/redis/redis.conf").write_text(f"bind 127.0.0.1\nport {self.redis}\ndir {folder}\n")
        self.lay_out_nginx()
        self.lay_out_code()

    def lay_out_nginx(self) -> None:
        """Make the main file of Debian, and its default site."""
        places = " ".join(f"{name}_temp_path {self.folder}/{name};" for name in ("client_body", "proxy", "fastcgi"))
        places += f"uwsgi_temp_path {self.folder}/uwsgi; scgi_temp_path {self.folder}/scgi;"
        user = "user root;" if os.geteuid() == 0 else ""
        nginx = self.folder / "etc/nginx"
        (nginx / "nginx.conf").write_text(NGINX.format(machine=self.folder, places=places, user=user))
        (nginx / "sites-enabled/default").write_text(
            f"server {{ listen 127.0.0.1:{self.plain} default_server; location / {{ return 404; }} }}"
        )

    def lay_out_code(self) -> None:
        """Make /opt/gatehouse, as `git clone` and `pip install` do."""
        code = self.folder / "opt/gatehouse"
        shutil.copytree(ROOT / "deploy", code / "deploy")
        live.checkout(code)
        for name in ("python", "pip"):
            (code / ".venv/bin").mkdir(parents=True, exist_ok=True)
            (code / ".venv/bin" / name).write_text(
                f'#!/bin/sh\nexec "{sys.executable}" "$@"\n' if name == "python" else ""
            )
            (code / ".venv/bin" / name).chmod(0o755)
        for path in (code / "deploy").rglob("*"):
            if path.is_file():
                path.write_text(self.here(path.read_text()))

    def here(self, text: str) -> str:
        """Return a text with the paths and ports of this machine."""
        for before, after in (
            ("/etc/", f"{self.folder}/etc/"),
            ("/opt/", f"{self.folder}/opt/"),
            (" -g gatehouse", ""),
            ("cache:6379", f"cache:{self.redis}"),
            ("listen 80;", f"listen 127.0.0.1:{self.plain};"),
            ("listen 443 ", f"listen 127.0.0.1:{self.tls} "),
            ("http://localhost/", f"http://localhost:{self.plain}/"),
            ("https://localhost/", f"https://localhost:{self.tls}/"),
            ("5000", str(self.ports[0])),
            ("5001", str(self.ports[1])),
            ("create-admin'", f"create-admin {self.admin}' <<< '{PASSWORD}'"),
        ):
            text = text.replace(before, after)
        return text

    @property
    def admin(self) -> str:
        return f'--password-stdin --username=white-rabbit --mobile=13200001111 --age=40 --birth="{BIRTH}"'

    def run(self, commands: str) -> str:
        """Run commands in bash and return what they print; the servers that they start run until the end."""
        environ = live.unconfigured() | {
            "MACHINE": str(self.folder),
            "NGINX": self.nginx,
            "PATH": f"{self.postgresql.programs}:{os.environ['PATH']}",
            "PGHOST": str(self.postgresql.folder.parent),
            "PGUSER": "postgres",
            "PGPORT": str(self.postgresql.port),
        }
        script = self.folder / "script"
        script.write_text(STAND_INS + self.here(commands))
        with (self.folder / "printed").open("wb") as printed:
            process = subprocess.Popen(["bash", script], env=environ, stdout=printed, stderr=printed, process_group=0)
            self.group = process.pid
            status = process.wait(120)
        text = (self.folder / "printed").read_text()
        assert status == 0, f"{text}\n{(self.folder / 'log').read_text()}"
        return text


@contextmanager
def postgresql_with_passwords(home: servers.Home) -> Iterator[Server]:
    """Start a PostgreSQL as Debian configures it: no password on the socket, one over TCP."""
    try:
        initdb = servers._find(home, "initdb").resolve()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    server = Server(home.folder / "data", initdb.parent)
    options = ("--auth-local=trust", "--auth-host=trust", "--username=postgres", "-EUTF8", "--no-locale", "--no-sync")
    server.run("initdb", "-D", server.folder, *options)
    server.start()
    try:
        rules = server.folder / "pg_hba.conf"
        rules.write_text(re.sub(r"^(host.*)trust$", r"\1scram-sha-256", rules.read_text(), flags=re.MULTILINE))
        server.execute("SELECT pg_reload_conf()")
        yield server
    finally:
        server.kill()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    nginx = programs.skip_unless_installed("nginx")
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server here")
    with servers_home() as home, postgresql_with_passwords(home) as postgresql:
        machine = Machine(tmp_path, postgresql, nginx)
        try:
            yield machine
        finally:
            os.killpg(machine.group, signal.SIGTERM)


def test_the_commands_of_the_page_make_a_service_behind_nginx(machine: Machine) -> None:
    section = PAGE.partition("## One machine")[2].partition("### Update")[0]
    printed = machine.run("\n".join(re.findall(r"^```bash\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)))
    assert "created admin white-rabbit with id 1" in printed
    answers = [json.loads(answer) for answer in re.findall(r'\{"code".*?"state":0\}', printed)]
    assert [answer["code"] for answer in answers] == [200, 200, 200, 403]
    assert [answer["data"] for answer in answers[:3]] == [{"cache": True, "database": True}] * 3
    assert answers[3]["error"] == {"type": "https_required"}
