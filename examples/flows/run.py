"""Run one of them, see how it goes, and say how it went: `python run.py NAME FOLDER [PHOTO ...]`."""

from __future__ import annotations

import sys

from bottling import BottleBeer
from contact import ContactForm
from gallery import Gallery
from sales import ImportSales

from celery_flows import Batch


def start(name: str, folder: str, more: list[str]) -> Batch:
    """Start the flow of that name."""
    match name:
        case "contact":
            sender, text = more
            return ContactForm.start(folder=folder, number=1, sender=sender, text=text)
        case "sales":
            print(ImportSales.preview(folder))
            return ImportSales.start(folder)
        case "gallery":
            return Gallery.using(description=f"Gallery in {folder}").start(more, folder)
        case "bottling":
            return BottleBeer.delay(folder)
    raise SystemExit(f"there is no {name}: contact, sales, gallery or bottling")


def main(name: str, folder: str, *more: str) -> None:
    """Start it, wait until it is finished, and print its progress."""
    run = start(name, folder, list(more))
    print(run.wait(timeout=60), dict(run.progress))
    for job in run.failed_jobs:
        print(job.name or job.task, job.error_class, job.error_message)


if __name__ == "__main__":
    main(*sys.argv[1:])
