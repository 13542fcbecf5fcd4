"""The command line: `python -m benchmarks fanout drain --n 20000`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.cases import CASES
from benchmarks.compare import compare
from benchmarks.report import print_table, write_json
from benchmarks.services import services


def main() -> None:
    """Measure the cases asked for, in one world of services."""
    asked = _parser().parse_args()
    with services(asked.broker, asked.database, asked.scratch) as world:
        for name in asked.cases:
            case = CASES[name]
            n = asked.n or case.n
            rows = compare(case, world, n, asked.repetitions)
            facts = {
                "n": n,
                "repetitions": len(rows[0].ours),
                "broker": asked.broker,
                "database": asked.database,
            }
            print_table(case, rows, facts)
            print("written to", write_json(case, rows, facts, asked.out), flush=True)


def _parser() -> argparse.ArgumentParser:
    cases = "\n".join(f"  {case.name:12} {case.about} (n = {case.n:,})" for case in CASES.values())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\n\ncases:\n{cases}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="+", choices=CASES, metavar="CASE", help="one or more of the above")
    parser.add_argument("--n", type=int, help="jobs per run, instead of the case's own number")
    parser.add_argument("--repetitions", type=int, default=5, help="runs of each side, alternating (%(default)s)")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--database", choices=["postgres", "mysql", "sqlite"], default="postgres")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files; by default one is made")
    return parser


if __name__ == "__main__":
    main()
