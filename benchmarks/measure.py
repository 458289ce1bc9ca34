"""Times and rates, measured alternately, so that a slower phase of the machine affects all candidates alike."""

import re
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


def in_turn(acts: Mapping[str, Callable[[], object]], rounds: int, calls: int) -> dict[str, list[float]]:
    """Return the microseconds per call of each act, one number per round. The first round only warms up."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(rounds + 1):
        for name, act in acts.items():
            times[name].append(_time(act, calls))
    return {name: figures[1:] for name, figures in times.items()}


def _time(act: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        act()
    return (time.perf_counter() - started) / calls * 1e6


def ratio(dividends: Sequence[float], divisors: Sequence[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(dividends, divisors, strict=True))


@dataclass(frozen=True)
class Load:
    """The result of `wrk`: requests per second, latencies in milliseconds, and the number of failed requests."""

    rate: float
    p50: float
    p99: float
    errors: int


def wrk(url: str, *, connections: int, seconds: int, token: str = "", script: Path | None = None) -> Load:
    """Send requests over `connections`, one after the other on each: reads with `token`, or those of `script`."""
    headers = ["-H", f"Authorization: Bearer {token}"] if token else []
    script_options = ["-s", str(script)] if script else []
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=10s", "--latency"]
    output = subprocess.run(
        [*command, *headers, *script_options, url], capture_output=True, text=True, check=True
    ).stdout
    return Load(
        rate=float(_find(r"Requests/sec:\s+([0-9.]+)", output)[0]),
        p50=_milliseconds(r"50%\s+([0-9.]+)(us|ms|s|m)", output),
        p99=_milliseconds(r"99%\s+([0-9.]+)(us|ms|s|m)", output),
        errors=_errors(output),
    )


def _find(pattern: str, output: str) -> tuple[str, ...]:
    match = re.search(pattern, output)
    if match is None:
        raise SystemExit(f"unexpected output of wrk:\n{output}")
    return match.groups()


def _milliseconds(pattern: str, output: str) -> float:
    number, unit = _find(pattern, output)
    return float(number) * _UNITS[unit]


def _errors(output: str) -> int:
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    return sum(int(number) for match in (refused, broken) if match for number in match.groups())
