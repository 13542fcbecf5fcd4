"""examples/django_shop, with a worker process on Redis and PostgreSQL, and requests by Django's test client."""

from __future__ import annotations

import json
import re
from pathlib import Path

from djangos import server_database
from projects import ROOT, Project
from services import own_database

REQUESTS = """
from functools import partial
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import IntegrityError
from django.test import Client
from celery_flows import Batch
from celery_flows.contrib.django.models import FlowBatch, FlowJob
from orders.models import Item

call_command("check", databases=["default"], fail_level="INFO")
call_command("makemigrations", check=True, dry_run=True)
print = partial(print, "=")
client = Client()
order = {"customer": "", "items": ["tea"]}
try:
    client.post("/orders", order, "application/json")
except IntegrityError:
    print("refused", FlowBatch.objects.count(), FlowJob.objects.count())
order = {"customer": "Ann", "items": ["tea", "cup", "pot"]}
answer = client.post("/orders", order, "application/json")
print(answer.status_code)
batch = Batch.get(answer.json()["batch"])
print(batch.wait(60))
while FlowBatch.objects.get(id=batch.id).callbacks.pending().exists():
    pass
shown = client.get(f"/orders/{answer.json()['order']}").json()
print(shown["status"], shown["is_sent"], shown["complete"], list(Item.objects.values_list("packed", flat=True)))
print(client.get("/orders/99").status_code)
client.force_login(User.objects.create_superuser("ann"))
print(client.get("/admin/celery_flows/").status_code)
call_command("flows", "explain", batch.id)
"""


def test_the_shop(tmp_path: Path, redis_url: str) -> None:
    """A request that fails leaves no batch; one that succeeds has its items packed, each once."""
    folder = ROOT / "examples/django_shop"
    with own_database("postgres") as url:
        project = Project(folder, tmp_path, redis_url, url)
        # The environment would name a database that Django's transactions are not of.
        del project.environment["CELERY_FLOWS_DATABASE_URL"]
        project.environment["SHOP_DATABASE"] = json.dumps(server_database(url))
        manage = str(folder / "manage.py")
        project.run(manage, "migrate", "--verbosity", "0")
        assert "(the latest)" in project.run("-m", "celery", "-A", "shop", "flows", "current")
        # Its own tests, in a database that Django makes and drops for them; it is told to find them here.
        assert "Ran 4 tests" in project.run(manage, "test", str(folder), "--noinput")
        with project.worker("shop", "--concurrency", "2"):
            said = project.run(manage, "shell", "-c", REQUESTS)
    assert re.findall("^= (.*)", said, re.MULTILINE) == [
        "refused 0 0",
        "202",
        "complete",
        "complete True 3 [1, 1, 1]",
        "404",
        "200",
    ]
    assert said.splitlines()[-1].endswith("is complete. It waits for nothing.")
