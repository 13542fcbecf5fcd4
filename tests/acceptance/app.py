"""The app that acceptance tests run in real workers.

Both sides make the same app: the worker's process from the environment, the test from the same settings.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
from importlib import import_module
from typing import Final

from acceptance.making import make_app

#: Where a worker's process reads what its app is made with.
SETTINGS: Final = "FLOWS_ACCEPTANCE_SETTINGS"

JOBS: Final = ("jobs", "writing", "dying", "plain", "canvas", "flowing", "struck")

for name in JOBS:
    import_module(f"acceptance.{name}")
import_module("chaos.work")

if SETTINGS in os.environ:
    # For a test that asks what a process does that does not end; its pool inherits it.
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    app = make_app(json.loads(os.environ[SETTINGS]))
    # A patch records what it did with `seen`.
    for patch in os.environ["FLOWS_ACCEPTANCE_PATCHES"].split():
        getattr(import_module("acceptance.patches"), patch)()
