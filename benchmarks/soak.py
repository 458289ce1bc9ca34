"""The memory of a worker during ten minutes of reads, refreshes, logins and sign-ups."""

import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import wrk
from benchmarks.service import Service, send, service
from benchmarks.stores import Stores, migrate
from tests.support.people import PASSWORD, sign_up_body

_INTERVAL = 5.0  # seconds between two samples


def measure(stores: Stores, *, is_quick: bool) -> dict[str, Any]:
    """Return the resident megabytes of the larger worker, sampled every five seconds."""
    seconds = 20 if is_quick else 600
    with stores.empty_database("gatehouse_bench") as database_url:
        migrate(database_url)
        with service(database_url, stores.empty_redis()) as ours:
            over = threading.Event()
            people = threading.Thread(target=_come_and_go, args=(ours, over))
            reads: list[Any] = []
            reading = threading.Thread(
                target=lambda: reads.append(wrk(ours.url, token=ours.token, connections=64, seconds=seconds))
            )
            people.start()
            reading.start()
            megabytes = []
            started = time.monotonic()
            while reading.is_alive():
                reading.join(_INTERVAL)
                megabytes.append([round(time.monotonic() - started), _largest_worker(ours.process_id)])
            over.set()
            people.join()
    tenth = max(len(megabytes) // 10, 1)
    return {
        "megabytes": megabytes,
        "first_tenth": max(size for _, size in megabytes[tenth : 2 * tenth] or megabytes),
        "last_tenth": max(size for _, size in megabytes[-tenth:]),
        "requests": round(reads[0].rate * seconds),
        "errors": reads[0].errors,
    }


def _come_and_go(ours: Service, over: threading.Event) -> None:
    """Sign up, log in, refresh and read, as one new user after another, so that every token is new to the workers."""
    api = ours.url.removesuffix("/users/")
    number = 0
    while not over.wait(0.1):
        number += 1
        name = f"soak-{number:06}"
        send("POST", f"{api}/users/", sign_up_body(name))
        signed_in = send("POST", f"{api}/login", {"username": name, "password": PASSWORD})
        refreshed = send("POST", f"{api}/refresh", token=signed_in["refresh_token"])
        send("GET", f"{api}/users/", token=refreshed["access_token"])


def _largest_worker(process_id: int) -> float:
    """Return the resident megabytes of the largest child process (proc(5))."""
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    return max(_resident(int(child)) for child in children)


def _resident(process_id: int) -> float:
    status = Path(f"/proc/{process_id}/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return round(int(kilobytes) / 1024, 1)
