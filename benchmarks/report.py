"""What was measured, kept in results.json, and written as docs/performance.md with its plot."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from apps import ROOT

RESULTS = Path(__file__).parent / "results.json"
PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "performance.svg"
PYTHON_WITH_MATPLOTLIB = Path(__file__).parent / ".venv" / "bin" / "python"

_PARTS = {
    "a": "a bare Flask route that answers JSON",
    "b": "one round trip to Redis, for two keys",
    "c": "PyJWT verifies an HS256 token",
    "d": "`GET /api/v1/users/`",
    "e": "`POST /api/v1/refresh`",
    "f": "the same read the tutorial's way",
    "g": "the route of (a) with the round trip of (b) within",
}


def keep(part: str, figures: dict[str, Any]) -> None:
    """Store what a part measured, and on which machine, over what it measured before."""
    kept = read()
    kept[part] = {"machine": machine(), "date": datetime.now(UTC).date().isoformat(), **figures}
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def read() -> dict[str, Any]:
    """Return what was measured so far, by part."""
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return kept


def machine() -> str:
    """Return the machine in its own words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return f"{os.cpu_count()} cores ({model}), {platform.system()} {platform.release()}, Python {platform.python_version()}"


def write() -> None:
    """Write the page, and draw the plot."""
    results = read()
    sections = [_HEAD, _in_process, _over_http, _hash_bound, _growth, _soak, _TAIL]
    texts = [section if isinstance(section, str) else section(results) for section in sections]
    PAGE.write_text("\n".join(text for text in texts if text))
    if not PYTHON_WITH_MATPLOTLIB.exists():
        sys.exit("no plot: benchmarks/.venv is missing")
    plot = Path(__file__).parent / "plot.py"
    subprocess.run([PYTHON_WITH_MATPLOTLIB, plot, RESULTS, PLOT], check=True)


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table; all columns but the first are numbers."""
    names = list(head)
    lines = [names, ["---"] + ["---:"] * (len(names) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


_HEAD = """# What it costs

Written by `python -m benchmarks`; no number is put in by hand. Machines differ and are noisy, so what counts are the ratios: whatever is compared
ran in turn, in one run. To run it yourself, with a PostgreSQL that runs, and `redis-server` and `wrk` on the machine:

```
python3 -m venv benchmarks/.venv && benchmarks/.venv/bin/pip install --require-hashes -r benchmarks/peers/requirements.txt
npm ci --prefix benchmarks/peers
.venv/bin/python -m benchmarks
```

A part alone is `python -m benchmarks in-process` (or `over-http`, `hash-bound`, `growth`, `soak`); `--quick` shows in two minutes that all
parts run, and writes nothing.

![throughput beside the peers, cost beside the parts](performance.svg)
"""


def _in_process(results: dict[str, Any]) -> str:
    found = results.get("in-process")
    if not found:
        return ""
    by_call, by_loop, functions = found["by_call"], found["by_loop"], found["functions"]
    rows = [
        (f"({name}) {what}", *(f"{of['medians'][name]:.0f}" for of in (by_call, by_loop, functions)))
        for name, what in _PARTS.items()
    ]
    compared = [
        (f"{name}: {what}", *(f"{of['ratios'][name]:.2f}" for of in (by_call, by_loop, functions)), target)
        for name, (what, target) in _RATIOS.items()
    ]
    return (
        f"## One request, in one process\n\nMedians; {_where(found)}.\n\n"
        + table(("", "µs, call by call", "µs, in loops", "functions called"), rows)
        + "\n"
        + table(("ratio", "call by call", "in loops", "functions called", "target"), compared)
        + _IN_PROCESS_WORDS
    )


_RATIOS = {
    "d/(a+b)": ("the read to the parts it cannot do without", "at most 1.5"),
    "e/(a+b)": ("the refresh to the same", "at most 1.5"),
    "f/(a+b)": ("the tutorial's way to the same", ""),
    "f/d": ("the tutorial's way to ours", ""),
    "g/(a+b)": ("the parts in one request to the parts apart", ""),
}

_IN_PROCESS_WORDS = """
Call by call, one of each is timed in turn, ten thousand times: as in a service, nothing finds the processor's caches as it left them. In loops, 250
calls of one are timed before 250 of the next, so (a) and (b) each have the caches to themselves, which no request that does both has: (g) does
nothing but both, and even it costs more than the sum of the loops.

Beyond (a) and (b) the read finds the token among the verified ones, looks at the session and the user that came from Redis, decrypts the mobile
number, and sets an ETag, a request id and the security headers. The refresh also counts itself against two limits and signs a token. (b) is what
redis-py takes; the read goes around its pool, and lets the kernel time the connection (`apps/cache/redis_pool.py`).
"""


def _over_http(results: dict[str, Any]) -> str:
    found = results.get("over-http")
    if not found:
        return ""
    text = f"""## The read of oneself, over HTTP

`wrk` on loopback, every server with two workers on the same cores, the same PostgreSQL and, where it uses one, the same Redis, in alternating
rounds; none writes a log line per request. Measured on {_where(found)}.
"""
    for connections, servers in found["servers"].items():
        ratios = found["ratios"][connections]
        rows = [
            (name, f"{s['rate']:,}", s["p50"], s["p99"], s["errors"], f"{ratios[name]:.1f}" if name in ratios else "")
            for name, s in servers.items()
        ]
        head = ("", "requests/s", "p50 ms", "p99 ms", "errors", "Gatehouse is faster by")
        text += f"\n{int(connections):,} connections:\n\n" + table(head, rows)
    held = found["thousand_connections_for_30_seconds"]
    return text + (
        f"\nA thousand connections for 30 seconds, Gatehouse alone: {held['rate']:,.0f} requests/s, p99 {held['p99']:.0f} ms, "
        f"{held['errors']} errors and timeouts.\n"
    )


def _hash_bound(results: dict[str, Any]) -> str:
    found = results.get("hash-bound")
    if not found:
        return ""
    flood = found["the_flood"]
    rows = [
        ("bare argon2id verifications, a process a core", f"{found['bare_verifications_a_second']:.0f}/s"),
        ("logins over HTTP", f"{found['logins_a_second']:.0f}/s"),
        ("logins / bare verifications (target: at least 0.9)", found["ratio"]),
        ("p99 of a login, 6 at a time", f"{found['login_p99']:.0f} ms"),
        ("p99 of a read, 8 at a time, alone", f"{found['reads_alone']['p99']:.0f} ms"),
        ("p99 of a read in a flood of 256 logins at a time", f"{found['reads_in_a_flood']['p99']:.0f} ms"),
        (
            "reads a second, alone and in the flood",
            f"{found['reads_alone']['rate']:.0f}, {found['reads_in_a_flood']['rate']:.0f}",
        ),
        ("errors of the reads", found["reads_alone"]["errors"] + found["reads_in_a_flood"]["errors"]),
        ("the flood: answers a second, most of them 503", f"{flood['rate']:.0f}"),
    ]
    return (
        f"## Logins\n\nargon2id at 19 MiB, two passes, one lane; {_where(found)}.\n\n"
        + table(("", ""), rows)
        + _LOGIN_WORDS
    )


_LOGIN_WORDS = """
What a login costs beside the hash are its transactions: the attempt is counted before the password is looked at, and the session and its audit
event are written after it, in two transactions. The bare verifications have both cores to themselves; the logins share them with what Python does
for the statements, with PostgreSQL and with `wrk`.
"""


def _growth(results: dict[str, Any]) -> str:
    found = results.get("growth")
    if not found:
        return ""
    sizes = [f"{size:,}" for size in found["sizes"]]
    rows = []
    for database, acts in found["microseconds"].items():
        for act, of_act in sorted(acts.items()):
            times = (f"{of_act['medians'][size]:.0f}" for size in sizes)
            rows.append((f"{database}: {act}", *times, f"{of_act['ratio']:.2f}"))
    bytes_a_row = ", ".join(f"{name} {size}" for name, size in found["bytes_a_row"].items())
    return (
        f"## A thousand users, a million users\n\nMicroseconds, in process, the three sizes in turn; {_where(found)}.\n\n"
        + table(("", *sizes, f"{sizes[-1]} / {sizes[0]} (target: at most 1.3)"), rows)
        + f"\nBytes a row in PostgreSQL, indexes included: {bytes_a_row}.\n"
    )


def _soak(results: dict[str, Any]) -> str:
    found = results.get("soak")
    if not found:
        return ""
    seconds = found["megabytes"][-1][0]
    return f"""## Memory

Under {found["requests"]:,} reads in {seconds / 60:.0f} minutes, with people who sign up, log in and refresh meanwhile, the larger of two workers had
at most {found["first_tenth"]:.0f} MB resident in the second tenth of the time and {found["last_tenth"]:.0f} MB in the last ({found["errors"]} errors;
{_where(found)}). The target is 120 MB, and flat.
"""


def _where(found: dict[str, Any]) -> str:
    return f"{found['machine']}, {found['date']}"


_TAIL = """## Kept from getting worse

`tests/contract/test_call_count.py` counts the functions that a read and a refresh call, which is the same number on every machine, and fails
when it grows by 15 %.
"""
