"""Play every scene, print the table, and write it into docs/reliability.md."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from apps.about import ROOT
from tests.faults.bench.load import NO_ANSWER
from tests.faults.bench.run import Verdict, run

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- begin: written by python -m tests.faults.bench -->", "<!-- end -->"
HEAD = (
    "| what fails | what clients see while it lasts | p99 of a read | p99 before | back after | "
    "lost writes | others' answers | stale reads |\n|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few scenes, seconds each; nothing is written")
    options = parser.parse_args()
    print(HEAD)
    verdicts = []
    for verdict in run(is_short=options.short):
        verdicts.append(verdict)
        print(row(verdict), flush=True)
    if not options.short:
        write(PAGE, [row(verdict) for verdict in verdicts])
    for verdict in verdicts:
        if not verdict.is_good:
            print(f"NOT GOOD: {verdict}", file=sys.stderr)
    sys.exit(not all(verdict.is_good for verdict in verdicts))


def row(verdict: Verdict) -> str:
    cells = [
        verdict.scene,
        seen(verdict.seen),
        f"{verdict.p99 * 1000:.0f} ms",
        f"{verdict.healthy_p99 * 1000:.0f} ms",
        f"{max(0.0, verdict.recovery):.1f} s",
        str(len(verdict.lost)),
        str(verdict.wrong),
        str(len(verdict.stale)),
    ]
    return f"| {' | '.join(cells)} |"


def seen(counts: Counter[tuple[str, int]]) -> str:
    """Return "reads 200 (812), 503 (4); writes 200 (290)"."""
    parts = []
    for what in ("read", "write", "login"):
        statuses = {status: count for (name, status), count in sorted(counts.items()) if name == what}
        if statuses:
            texts = [f"{'no answer' if status == NO_ANSWER else status} ({n:,})" for status, n in statuses.items()]
            parts.append(f"{what}s {', '.join(texts)}")
    return "; ".join(parts)


def write(page: Path, rows: list[str]) -> None:
    text = page.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END, 1)[1]
    page.write_text(f"{before}{BEGIN}\n{HEAD}\n" + "\n".join(rows) + f"\n{END}{after}")


if __name__ == "__main__":
    main()
