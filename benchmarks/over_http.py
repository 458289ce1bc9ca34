"""`GET /users/` over HTTP, compared with peers that do the same work on the same PostgreSQL and the same cores.

Every server has two workers. All servers run all the time, and are measured alternately.
"""

import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measure import Load, ratio, wrk
from benchmarks.peers import PEERS, Peer
from benchmarks.service import service
from benchmarks.stores import Stores, migrate

OURS = "Gatehouse"
CONNECTIONS = (64, 1000)


def measure(stores: Stores, *, is_quick: bool) -> dict[str, Any]:
    """Return the results of each server with 64 and 1,000 connections, and the speedup of ours."""
    with ExitStack() as stack:
        database_url = stack.enter_context(stores.empty_database("gatehouse_bench"))
        migrate(database_url)
        ours = stack.enter_context(service(database_url, stores.empty_redis()))
        reads = {OURS: (ours.url, ours.token)}
        for peer in PEERS:
            reads[peer.name] = _start(stack, stores, peer)
        rounds, seconds = (1, 3) if is_quick else (5, 8)
        loads = {str(connections): _in_turn(reads, connections, rounds, seconds) for connections in CONNECTIONS}
        held = wrk(ours.url, token=ours.token, connections=1000, seconds=5 if is_quick else 30)
    return {
        "servers": {connections: _summary(of_each) for connections, of_each in loads.items()},
        "ratios": {connections: _ratios(of_each) for connections, of_each in loads.items()},
        "thousand_connections_for_30_seconds": asdict(held),
    }


def _start(stack: ExitStack, stores: Stores, peer: Peer) -> tuple[str, str]:
    database_url = stack.enter_context(stores.empty_database(peer.database))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    return stack.enter_context(peer.start(folder, database_url, stores.redis))


def _in_turn(reads: dict[str, tuple[str, str]], connections: int, rounds: int, seconds: int) -> dict[str, list[Load]]:
    loads: dict[str, list[Load]] = {name: [] for name in reads}
    for number in range(rounds + 1):
        for name, (url, token) in reads.items():
            load = wrk(url, token=token, connections=connections, seconds=seconds if number else 3)
            if number:  # the first round warms up
                loads[name].append(load)
                print(f"  {connections} connections, {name}: {load}", flush=True)
    return loads


def _summary(loads: dict[str, list[Load]]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "rate": round(statistics.median(load.rate for load in of_one)),
            "p50": round(statistics.median(load.p50 for load in of_one), 1),
            "p99": round(statistics.median(load.p99 for load in of_one), 1),
            "errors": sum(load.errors for load in of_one),
        }
        for name, of_one in loads.items()
    }


def _ratios(loads: dict[str, list[Load]]) -> dict[str, float]:
    ours = [load.rate for load in loads[OURS]]
    return {
        name: round(ratio(ours, [load.rate for load in of_one]), 2) for name, of_one in loads.items() if name != OURS
    }
