"""Logins, relative to bare argon2 verifications on the same cores; and reads during a flood of logins."""

import os
import statistics
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measure import Load, ratio, wrk
from benchmarks.service import Service, send, service
from benchmarks.stores import Stores, migrate
from tests.support.people import sign_up_body

ACCOUNTS = 1000  # the same number as in login.lua
LOGGING_IN = 6  # concurrent logins: the capacity of one worker, so that none is refused even if one gets them all
LOGIN = Path(__file__).parent / "login.lua"
VERIFY = """
import sys, time
from argon2 import PasswordHasher
hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
stored = hasher.hash("correct horse battery")
count, started = 0, time.perf_counter()
while time.perf_counter() - started < float(sys.argv[1]):
    hasher.verify(stored, "correct horse battery")
    count += 1
print(count / (time.perf_counter() - started))
"""


def measure(stores: Stores, *, is_quick: bool) -> dict[str, Any]:
    """Return logins and bare verifications per second, their ratio, and the cost of reads in a flood of logins."""
    rounds, seconds = (1, 4) if is_quick else (7, 10)
    with stores.empty_database("gatehouse_bench") as database_url:
        migrate(database_url)
        with service(database_url, stores.empty_redis()) as ours:
            _sign_up(ours)
            logins, bare = [], []
            for _ in range(rounds):
                bare.append(_verify(seconds))
                logins.append(_log_in(ours, LOGGING_IN, seconds))
                print(f"  bare {bare[-1]:.1f}/s, {logins[-1]}", flush=True)
            calm, flooded, flood = _read_in_a_flood(ours, seconds)
    return {
        "bare_verifications_a_second": round(statistics.median(bare), 1),
        "logins_a_second": round(statistics.median(load.rate for load in logins), 1),
        "login_p99": round(statistics.median(load.p99 for load in logins), 1),
        "login_errors": sum(load.errors for load in logins),
        "ratio": round(ratio([load.rate for load in logins], bare), 2),
        "reads_alone": asdict(calm),
        "reads_in_a_flood": asdict(flooded),
        "the_flood": asdict(flood),
    }


def _sign_up(ours: Service) -> None:
    bodies = [sign_up_body(f"bench-{number}") for number in range(1, ACCOUNTS + 1)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda body: send("POST", ours.url, body), bodies))


def _verify(seconds: int) -> float:
    """Return the verifications per second of one process per core."""
    command = [sys.executable, "-c", VERIFY, str(seconds)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(os.cpu_count() or 1)]
    return sum(float(process.communicate()[0]) for process in processes)


def _log_in(ours: Service, connections: int, seconds: int) -> Load:
    return wrk(ours.url.replace("/users/", "/login"), connections=connections, seconds=seconds, script=LOGIN)


def _read_in_a_flood(ours: Service, seconds: int) -> tuple[Load, Load, Load]:
    """Read over eight connections, first alone, then while 256 connections log in: far more than can be hashed."""
    calm = wrk(ours.url, token=ours.token, connections=8, seconds=seconds)
    floods: list[Load] = []
    flooding = threading.Thread(target=lambda: floods.append(_log_in(ours, 256, seconds + 4)))
    flooding.start()
    flooding.join(2)
    flooded = wrk(ours.url, token=ours.token, connections=8, seconds=seconds)
    flooding.join()
    return calm, flooded, floods[0]
