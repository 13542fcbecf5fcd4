"""A workflow: thumbnails of a folder of photos, and a page that shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from work import app

from celery_flows import Workflow, current_job


@app.task
def make_thumbnail(photo: str, folder: str) -> None:
    """Write a small JPEG of a photo. A file that is no picture fails."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with Image.open(photo) as image:
        small = image.convert("RGB")
        small.thumbnail((160, 160))
        small.save(Path(folder, Path(photo).stem + ".jpg"))


@app.task
def build_manifest(folder: str) -> dict[str, list[int]]:
    """Say which thumbnails there are, and how large."""
    found = {}
    for path in sorted(Path(folder).glob("*.jpg")):
        with Image.open(path) as image:
            found[path.name] = list(image.size)
    if not found:
        raise ValueError(f"no thumbnails in {folder}")
    return found


@app.task
def write_page(folder: str) -> None:
    """Write the page, from the result of the manifest."""
    manifest: dict[str, Any] = current_job().results["manifest"]
    images = [f'<img src="{name}" width="{size[0]}" height="{size[1]}">\n' for name, size in manifest.items()]
    Path(folder, "index.html").write_text("".join(images))


@app.task
def tell_owner(folder: str, news: str) -> None:
    """Leave a note."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, "note.txt").write_text(news)


class Gallery(Workflow):
    """The manifest waits until every thumbnail is made or has failed; a photo in four may fail."""

    tolerate = "25%"

    def plan(self, photos: list[str], folder: str) -> None:
        """Say what is run, and what waits for what."""
        made = [self.run(make_thumbnail, photo, folder) for photo in photos]
        manifest = self.run(build_manifest, folder, after=made, when="settled", name="manifest")
        page = self.run(write_page, folder, after=manifest, name="page")
        self.run(tell_owner, folder, "your gallery is ready", after=page)
        self.run(tell_owner, folder, "your gallery could not be made", after=manifest, when="failure")
