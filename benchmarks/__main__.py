"""Run all benchmarks, or the named parts, and write docs/performance.md."""

import argparse
import json
import shutil
import sys

from benchmarks import growth, hash_bound, in_process, over_http, report, soak
from benchmarks.stores import Stores
from tests.faults import redis_server

PARTS = {
    "in-process": in_process.measure,
    "over-http": over_http.measure,
    "hash-bound": hash_bound.measure,
    "growth": growth.measure,
    "soak": soak.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--postgresql", default="postgresql://postgres@127.0.0.1:5432/postgres", metavar="URL")
    parser.add_argument(
        "--redis", metavar="URL", help="this Redis database is emptied; by default, a server is started"
    )
    parser.add_argument("--quick", action="store_true", help="check that every part runs, and write nothing")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if not shutil.which("wrk"):
        sys.exit("wrk is missing (Debian: apt-get install wrk)")
    with redis_server() as own:
        measure(options, Stores(options.postgresql, options.redis or own.url))
    if not options.quick:
        report.write()


def measure(options: argparse.Namespace, stores: Stores) -> None:
    for part in options.parts or PARTS:
        print(part, flush=True)
        figures = PARTS[part](stores, is_quick=options.quick)
        print(json.dumps({name: value for name, value in figures.items() if name != "megabytes"}, indent=1), flush=True)
        if not options.quick:
            report.keep(part, figures)


if __name__ == "__main__":
    main()
