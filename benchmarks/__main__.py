"""The command line: `python -m benchmarks fanout drain --n 20000`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import drain, fanout
from benchmarks.compare import compare
from benchmarks.report import print_table, write_json
from benchmarks.services import services

CASES = {"fanout": fanout, "drain": drain}


def main() -> None:
    """Measure the cases asked for, in one world of services and one worker."""
    asked = _parser().parse_args()
    with services(asked.broker, asked.database, asked.scratch) as world:
        pairs = [compare(name, CASES[name], world, asked.n, asked.repetitions) for name in asked.cases]
    rows = [row for measured in pairs for row in measured]
    facts = {"n": asked.n, "repetitions": asked.repetitions, "broker": asked.broker, "database": asked.database}
    print_table(rows, facts)
    print("written to", write_json(rows, facts, asked.out))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="+", choices=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--n", type=int, default=20_000, help="jobs per run (%(default)s)")
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each side, alternating (%(default)s)")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--database", choices=["postgres", "mysql", "sqlite"], default="postgres")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the JSON")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files; by default one is made")
    return parser


if __name__ == "__main__":
    main()
