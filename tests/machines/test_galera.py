"""MariaDB Galera: three nodes accept writes, and two applications change one user at the same time."""

import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from apps.database.migrations import upgrade
from apps.extensions import db
from apps.models import User
from apps.services import audit
from tests.machines import servers_home, wait_until
from tests.support import programs, servers, stores
from tests.support.live import free_port
from tests.support.people import People, Person

pytestmark = pytest.mark.timeout(240)
PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")
TIMES = 25  # changes by each application


class Node:
    def __init__(self, folder: Path, mariadbd: Path) -> None:
        self.folder, self.mariadbd = folder, mariadbd
        self.gcomm, self.ist = free_port(), free_port()

    @property
    def options(self) -> list[str]:
        place = [f"--datadir={self.folder}", f"--socket={self.folder}.socket", f"--pid-file={self.folder}.pid"]
        return ["--no-defaults", "--skip-networking", "--innodb-log-file-size=8M", *place]

    @property
    def url(self) -> str:
        query = {"unix_socket": f"{self.folder}.socket"}
        return sa.URL.create("mysql+pymysql", "root", database="mysql", query=query).render_as_string()

    def start(self, nodes: "list[Node]", *, is_first: bool = False) -> None:
        others = ",".join(f"127.0.0.1:{node.gcomm}" for node in nodes)
        cluster = [  # wsrep-sync-wait: docs/scaling.md requires it; without it a node may return old rows
            *("--wsrep-on=ON", f"--wsrep-provider={PROVIDER}", "--binlog-format=ROW", "--innodb-autoinc-lock-mode=2"),
            *(f"--wsrep-cluster-address=gcomm://{others}", "--wsrep-node-address=127.0.0.1", "--wsrep-sync-wait=1"),
            f"--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{self.gcomm};ist.recv_addr=127.0.0.1:{self.ist}",
            *(["--wsrep-new-cluster"] if is_first else []),
        ]
        with Path(f"{self.folder}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.mariadbd, *self.options, *cluster],
                cwd=self.folder, stdout=log, stderr=log, **servers._servers_user(),
            )  # fmt: skip
        wait_until(lambda: Path(f"{self.folder}.socket").is_socket() and servers._answers(self.url), 60)

    def status(self, name: str) -> str:
        engine = sa.create_engine(self.url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            return str(connection.exec_driver_sql(f"SHOW STATUS LIKE '{name}'").one()[1])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    """Three nodes. The second and third start from copies of the first, so that no state transfer is needed."""
    with servers_home() as home:
        yield from start_nodes(home)


def start_nodes(home: servers.Home) -> Iterator[list[Node]]:
    try:
        mariadbd, setup = servers._find(home, "mariadbd"), servers._find(home, "mariadb-install-db")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    programs.skip_unless_installed("galera")
    nodes = [Node(home.folder / f"node-{number}", mariadbd) for number in range(3)]
    options = ["--skip-test-db", "--auth-root-authentication-method=normal"]
    user = servers._servers_user()
    subprocess.run([setup, *nodes[0].options, *options], check=True, capture_output=True, cwd=home.folder, **user)
    nodes[0].start(nodes, is_first=True)
    nodes[0].stop()
    for node in nodes[1:]:
        shutil.copytree(nodes[0].folder, node.folder)
    servers._change_owner(home.folder)
    with ExitStack() as stack:
        for number, node in enumerate(nodes):
            node.start(nodes, is_first=number == 0)
            stack.callback(node.kill)
        wait_until(lambda: {node.status("wsrep_cluster_size") for node in nodes} == {"3"}, 60)
        wait_until(lambda: {node.status("wsrep_local_state_comment") for node in nodes} == {"Synced"}, 60)
        yield nodes


def test_two_nodes_that_change_one_user_lose_nothing(nodes: list[Node]) -> None:
    """N2, L3: a conflict at the commit (1213) is retried or refused (409); all nodes have the same rows at the end."""
    with ExitStack() as stack:
        urls = [servers.create_database(nodes[0].url, "gatehouse"), *(swap(node) for node in nodes[1:])]
        apps = [stack.enter_context(stores.application(url, "", CACHE_TTL=1)) for url in urls]
        upgrade(apps[0])
        alice = People(FlaskClient(apps[0])).sign_up()
        before = int(alice.get("/users/").headers["ETag"].strip('"'))
        statuses = change_at_once(apps[:2], alice)
        assert set(statuses) <= {200, 409, 503}  # 503: all five tries conflicted
        assert statuses[200] >= TIMES
        for app in apps:
            with app.app_context():
                assert db.session.get_one(User, alice.id).version == before + statuses[200]
                db.session.rollback()
                assert audit.verify() == 1 + statuses[200]


def swap(node: Node) -> str:
    return sa.make_url(node.url).set(database="gatehouse").render_as_string()


def change_at_once(apps: list[Flask], person: Person) -> Counter[int]:
    statuses: Counter[int] = Counter()
    barrier = threading.Barrier(len(apps))

    def change(index: int) -> None:
        mine = Person(FlaskClient(apps[index]), person.id, person.username, person.access_token, person.refresh_token)
        barrier.wait()
        for number in range(TIMES):
            body = {"mobile": f"132{index}{number:07}"}
            statuses[mine.patch(f"/users/{mine.id}", json=body).status_code] += 1

    threads = [threading.Thread(target=change, args=(index,)) for index in range(len(apps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses
