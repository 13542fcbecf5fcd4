"""examples/flows, with a worker process on Redis and SQLite: each program on real input."""

from __future__ import annotations

import email
import json
from collections.abc import Iterator

import pytest
from PIL import Image
from projects import ROOT, Project, wait_until

FLOWS = ROOT / "examples/flows"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Project]:
    """The project with its worker."""
    scratch = tmp_path_factory.mktemp("flows")
    project = Project(FLOWS, scratch, redis_url, f"sqlite:///{scratch / 'flows.sqlite3'}")
    project.run("-m", "celery", "-A", "work", "flows", "upgrade")
    with project.worker("work", "--concurrency", "2"):
        yield project


def run(project: Project, *words: str) -> list[str]:
    """Run the program, and return the lines that it printed."""
    return project.run(str(FLOWS / "run.py"), *words).splitlines()


def test_a_message_is_kept_assigned_and_answered(project: Project) -> None:
    """The sequence ends with a file and two mails, of which one went to who knows about invoices."""
    said = run(project, "contact", "form", "joel@example.org", "My invoice is missing")
    assert said == ["complete {'total': 4, 'complete': 4, 'failed': 0, 'cancelled': 0, 'pending': 0}"]
    form = project.scratch / "form"
    assert json.loads((form / "1.json").read_text()) == {
        "from": "joel@example.org",
        "text": "My invoice is missing",
    }
    mail = email.message_from_bytes((form / "1-grace@example.org.eml").read_bytes())
    assert (mail["Subject"], mail.get_payload()) == ("joel@example.org wrote", "My invoice is missing\n")
    assert (form / "1-joel@example.org.eml").exists()


def test_a_sender_without_an_address_stops_it(project: Project) -> None:
    """The step that fails is named, and those before it have done their work."""
    said = run(project, "contact", "anonymous", "nobody", "An order")
    assert said == [
        "failed {'total': 4, 'complete': 3, 'failed': 1, 'cancelled': 0, 'pending': 0}",
        "thank ValueError nobody is no address",
    ]
    assert (project.scratch / "anonymous/1-ada@example.org.eml").exists()


def test_sales_are_imported_part_by_part(project: Project) -> None:
    """The report's numbers are those of the file, whatever order the parts ran in."""
    *tree, said = run(project, "sales", "sales")
    assert tree == [
        "ImportSales",
        "  sales.prepare",
        "  - sales.import_part, 5 times",
        "  - sales.count_lines",
        "    sales.check_lines",
        "  sales.report",
    ]
    assert said == "complete {'total': 9, 'complete': 9, 'failed': 0, 'cancelled': 0, 'pending': 0}"
    head, *rows = (project.scratch / "sales/report.csv").read_text().splitlines()
    found = {region: (int(sales), total) for region, sales, total in (row.split(",") for row in rows)}
    assert (head, found) == ("region,sales,total", expected_sales())


def expected_sales() -> dict[str, tuple[int, str]]:
    """The same numbers, added up in one go."""
    lines = [line.split(",") for line in (FLOWS / "sales.csv").read_text().splitlines()[1:]]
    found = {}
    for wanted in sorted({region for _, region, _, _ in lines}):
        cents = [int(pieces) * round(float(price) * 100) for _, region, pieces, price in lines if region == wanted]
        found[wanted] = (len(cents), f"{sum(cents) / 100:.2f}")
    return found


def test_a_gallery_of_photos(project: Project) -> None:
    """Each photo has a thumbnail, one that is none is tolerated, and the page shows what there is."""
    photos = project.scratch / "photos"
    photos.mkdir()
    for number in range(5):
        Image.new("RGB", (400, 200 + 50 * number), (50 * number, 90, 120)).save(photos / f"{number}.png")
    (photos / "5.png").write_text("no picture")
    said = run(project, "gallery", "gallery", *(str(path) for path in sorted(photos.iterdir())))
    assert said[0] == "complete {'total': 10, 'complete': 8, 'failed': 1, 'cancelled': 1, 'pending': 0}"
    assert said[1].startswith("gallery.make_thumbnail UnidentifiedImageError")
    page = (project.scratch / "gallery/index.html").read_text().splitlines()
    assert page[0] == '<img src="0.jpg" width="160" height="80">'
    assert len(page) == len(list((project.scratch / "gallery").glob("*.jpg"))) == 5
    assert (project.scratch / "gallery/note.txt").read_text() == "your gallery is ready"


def test_every_bottle_has_a_label(project: Project) -> None:
    """Cases are whole or the last of their beer, no bottle is missing or twice, and the note comes at the end."""
    said = run(project, "bottling", "labels")
    assert said == ["complete {'total': 17, 'complete': 17, 'failed': 0, 'cancelled': 0, 'pending': 0}"]
    labels = project.scratch / "labels"
    written = [line for path in labels.glob("*.txt") for line in path.read_text().splitlines()]
    brews = {"helles": 120, "pilsner": 47, "porter": 30}
    assert sorted(written) == sorted(
        f"{beer} no. {n + 1}" for beer, bottles in brews.items() for n in range(bottles)
    )
    note = labels / "delivery.note"
    wait_until(lambda: note.exists() and bool(note.read_text()))
    assert note.read_text() == "17 cases\n"
