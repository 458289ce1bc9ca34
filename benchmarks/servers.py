"""Compare WSGI servers: granian and gunicorn in alternating rounds, on the same application, database and cache.

    .venv/bin/pip install gunicorn==27.0.1
    .venv/bin/python -m benchmarks.servers --database postgresql://... --redis redis://... [--rounds 5]

Needs `wrk`. Prints requests per second and the 99th percentile of `GET /api/v1/users/` with a token, and the ratio.
"""

import argparse
import json
import os
import re
import secrets
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
WORKERS, THREADS, CONNECTIONS, SECONDS = 2, 8, 64, 8
COMMANDS = {
    "granian": [sys.executable, "manage.py", "serve", f"--workers={WORKERS}", f"--threads={THREADS}", "--port=5801"],
    "gunicorn": [
        *(str(BIN / "gunicorn"), "wsgi:app", "--worker-class=gthread", "--bind=127.0.0.1:5802", "--log-level=warning"),
        *(f"--workers={WORKERS}", f"--threads={THREADS}", "--keep-alive=30"),
    ],
}
PORTS = {"granian": 5801, "gunicorn": 5802}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--database", required=True)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    environ = os.environ | {
        "DATABASE_URL": options.database,
        "REDIS_URL": options.redis,
        "GATEHOUSE_LOG_LEVEL": "WARNING",
        "GATEHOUSE_JWT_ACCESS_TOKEN_EXPIRES": "3600",
        "GATEHOUSE_CACHE_TTL": "3600",
        "GATEHOUSE_JWT_REFRESH_TOKEN_EXPIRES": "7200",
    }
    subprocess.run([sys.executable, "manage.py", "db", "upgrade"], cwd=ROOT, env=environ, check=True)
    servers = {name: start(command, environ) for name, command in COMMANDS.items()}
    try:
        token = sign_up(PORTS["granian"])
        results = measure(token, options.rounds)
    finally:
        for server in servers.values():
            server.send_signal(signal.SIGTERM)
            server.wait(40)
    report(results)


def start(command: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def sign_up(port: int) -> str:
    body = {
        "username": f"bench-{secrets.token_hex(6)}",
        "password": secrets.token_hex(8),
        "mobile": "13200001111",
        "info": {"age": 18, "birth": "2000-01-31 12:30:59"},
    }
    for _ in range(50):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/v1/users/", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request) as response:
                token: str = json.load(response)["data"]["access_token"]
                return token
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server did not start")


def measure(token: str, rounds: int) -> dict[str, list[tuple[float, float]]]:
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in PORTS}
    for _ in range(rounds + 1):
        for name, port in PORTS.items():
            results[name].append(wrk(port, token))
    return {name: figures[1:] for name, figures in results.items()}  # the first round warms up


def wrk(port: int, token: str) -> tuple[float, float]:
    output = subprocess.run(
        [
            *("wrk", "-t2", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-H", f"Authorization: Bearer {token}"),
            f"http://127.0.0.1:{port}/api/v1/users/",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Non-2xx" not in output, output
    number, unit = re.findall(r"99%\s+([0-9.]+)(us|ms|s)", output)[0]
    milliseconds = float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    return float(re.findall(r"Requests/sec:\s+([0-9.]+)", output)[0]), milliseconds


def report(results: dict[str, list[tuple[float, float]]]) -> None:
    for name, figures in results.items():
        rates, latencies = zip(*figures, strict=True)
        print(f"{name:9} {statistics.median(rates):7.0f} requests/s   p99 {statistics.median(latencies):6.1f} ms")
    ratios = [a[0] / b[0] for a, b in zip(results["granian"], results["gunicorn"], strict=True)]
    print(f"granian / gunicorn: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
