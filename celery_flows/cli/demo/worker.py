"""A worker process for the demo: `python -m celery_flows.cli.demo.worker RUN NUMBER SETTINGS`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from celery_flows.cli.demo.tasks import make_app


def main(run: str, number: str, flows: str) -> None:
    """Run a worker until it is told to stop.

    Args:
        run: the folder of the demo's run.
        number: how many processes it has.
        flows: settings, as JSON.
    """
    name = Path(run).name
    app = make_app(name, **json.loads(flows))
    options = ["--hostname", f"{name}@%h", "--concurrency", number, "--without-mingle", "--without-gossip"]
    app.worker_main(["--quiet", "worker", "--loglevel", "INFO", *options])


if __name__ == "__main__":
    main(*sys.argv[1:])
