"""Batches in the admin, as somebody at a browser sees them."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO

import pytest
from apps import called, messages, run_message, work
from browsers import Person
from celery import Celery
from django.contrib.auth.models import User

from celery_flows import Batch

BATCHES = "/admin/celery_flows/flowbatch/"
JOBS = "/admin/celery_flows/flowjob/"

#: Would change the page's title, if any of it were more than text.
HOSTILE = """</pre><script>document.title = "taken"</script><img src=x onerror="document.title = 'taken'">"""

COLOUR = "getComputedStyle(arguments[0])[arguments[1]]"
WIDTH = "document.documentElement.scrollWidth"


def batch_of(app: Celery, *numbers: int, done: int = 0, **options: object) -> Batch:
    """A batch of calls, of which the first so many have run; those below zero fail."""
    batch = Batch.create(app=app, **options).on("settled", app.tasks["shop.note"])  # type: ignore[arg-type]
    with batch.jobs():
        for number in numbers:
            app.tasks["shop.fail" if number < 0 else "shop.add"].delay(number)
    for message in messages(app)[:done]:
        run_message(app, message)
    return batch


def page_of(batch: Batch) -> str:
    """Where a batch has its page."""
    return f"{BATCHES}{batch.id}/change/"


def listed(person: Person) -> list[str]:
    """The first column of the list on the page."""
    return [one.text for one in person.see("#result_list .field-title")]


def luminance(colour: str) -> float:
    """How bright a colour is to the eye, from 0 to 1, as WCAG reckons it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: float, other: float) -> float:
    """How well two brightnesses can be told apart, from 1 to 21."""
    darker, lighter = sorted((one, other))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_way_in(app: Celery, stranger: Person) -> None:
    """Somebody logs in, and the list of batches shows state, counts and a bar that is drawn in proportion."""
    from PIL import Image

    User.objects.create_superuser("ann", password="open sesame")
    batch_of(app, 1, 2, -1, 3, done=3, description="Rescore", tags=["night"], tolerate=1)
    stranger.go(BATCHES)
    stranger.fill("#id_username", "ann")
    stranger.fill("#id_password", "open sesame")
    stranger.press("[type=submit]")
    assert "Rescore running 75 % 3 of 4, 1 failed batch night" in stranger.says()
    [bar] = stranger.see(".flows-progress")
    parts = [round(part.rect["width"]) for part in stranger.see(".flows-progress rect")]
    assert (bar.rect["width"], parts) == (128, [64, 32])
    drawn = Image.open(BytesIO(bar.screenshot_as_png)).convert("RGB")
    green, red, rest = (drawn.getpixel((round(drawn.width * at), drawn.height // 2)) for at in (0.25, 0.6, 0.9))
    assert green[1] > 1.5 * max(green[0], green[2])
    assert red[0] > 1.5 * max(red[1:])
    assert max(rest) - min(rest) < 10
    stranger.picture("list")


def test_a_batch_is_found(app: Celery, ann: Person) -> None:
    """The list is searched by its field, and filtered by a click."""
    batch_of(app, 1, description="Rescore", key="night")
    batch_of(app, -1, done=1, description="Mail")
    ann.go(BATCHES)
    assert listed(ann) == ["Mail", "Rescore"]
    ann.fill("#searchbar", "night")
    ann.press("#changelist-search [type=submit]")
    assert listed(ann) == ["Rescore"]
    ann.go(BATCHES)
    ann.click("failed")
    assert listed(ann) == ["Mail"]


def test_the_way_down(app: Celery, ann: Person) -> None:
    """From a batch one comes to its failed jobs and their errors, to its children, and to its callbacks."""
    batch = batch_of(app, 1, -7, done=2, description="Rescore", tolerate=1)
    parent = Batch.create(app=app, description="Season").on("complete", app.tasks["shop.note"])
    with parent.jobs(), Batch.create(app=app, description="Week 7").jobs():
        app.tasks["shop.add"].delay(1)
    ann.go(page_of(batch))
    ann.picture("page")
    ann.click("failed")
    assert listed(ann) == ["shop.fail"]
    ann.picture("failed")
    ann.click("shop.fail")
    assert "ValueError: -7" in ann.says()
    ann.picture("job")
    ann.click(f"a job of {batch.id}")
    ann.click("callbacks")
    assert listed(ann) == ["shop.note"]
    ann.go(page_of(parent))
    ann.click("children")
    assert listed(ann) == ["Week 7"]
    ann.click("Week 7")
    ann.click(parent.id)
    assert "Season" in ann.says()


def test_cancel_and_retry(app: Celery, ann: Person) -> None:
    """A batch's page has buttons that ask first, and lead back; its history tells who did what."""
    batch = batch_of(app, 1, -1, done=1, description="Rescore")
    ann.go(page_of(batch))
    ann.press(".flows-cancel")
    assert "Cancel these batches? BATCH STATE PROGRESS Rescore running 50 % 1 of 2" in ann.says()
    ann.picture("cancel")
    ann.press(".cancel-link")
    assert (batch.status, ann.see(".flows-retry")) == ("running", [])
    ann.press(".flows-cancel")
    ann.press("[type=submit][value='Yes, cancel']")
    assert "Cancelled: 1." in ann.says()
    assert (batch.status, ann.see(".flows-cancel")) == ("cancelled", [])
    called(app)
    ann.press(".flows-retry")
    ann.picture("retry")
    ann.tick("[value='all']")
    ann.press("[type=submit][value='Yes, retry']")
    assert "Retried: 1." in ann.says()
    assert (batch.status, len(called(app))) == ("running", 2)
    ann.press(".flows-explain")
    assert f"Batch {batch.id} is running, and waits for:" in ann.see(".messagelist")[0].text
    ann.picture("explained")
    ann.press(".historylink")
    history = ann.says()
    assert [history.count(one) for one in ("ann Cancelled.", "ann Retried (all).", "ann Explained.")] == [1, 1, 1]
    ann.picture("history")


def test_many_at_once(app: Celery, ann: Person) -> None:
    """Batches that are ticked in the list are cancelled together, after one question."""
    batches = [batch_of(app, number, description=f"Week {number}") for number in range(3)]
    ann.go(f"{BATCHES}?state__exact=running")
    for box in ann.see(".action-select")[:2]:
        box.click()
    ann.fill("select[name=action]", "Cancel selected")
    ann.press("button[name=index]")
    assert "Week 0" not in ann.says()
    ann.press("[type=submit][value='Yes, cancel']")
    assert "Cancelled: 2." in ann.says()
    assert listed(ann) == ["Week 0"]
    assert [batch.status for batch in batches] == ["running", "cancelled", "cancelled"]


def test_who_may_only_look(app: Celery, welcome: Callable[..., Person]) -> None:
    """Somebody with the permission to see has no actions in the list, and no buttons on a page."""
    batch = batch_of(app, 1, description="Rescore")
    bob = welcome("view_flowbatch")
    bob.go(BATCHES)
    assert (listed(bob), bob.see("select[name=action]"), bob.see(".action-select")) == (["Rescore"], [], [])
    bob.go(page_of(batch))
    assert "Rescore" in bob.says()
    assert bob.see(".flows-button, [type=submit]") == bob.see("#logout-form [type=submit]")
    assert "waits for" not in bob.says()


def test_text_is_text(app: Celery, ann: Person) -> None:
    """What a description, an argument or an error says is shown, and never run."""
    batch = batch_of(
        app, 1, description=HOSTILE, tags=[HOSTILE], context={"said": HOSTILE}, tolerate=5, key=HOSTILE
    )
    with Batch.get(batch.id, app=app).jobs():
        app.tasks["shop.fail"].apply_async((HOSTILE,), {})
    work(app)
    [failed] = batch.failed_jobs
    for number, page in enumerate([BATCHES, page_of(batch), JOBS, f"{JOBS}{failed.id}/change/"]):
        ann.go(page)
        ann.picture(f"hostile-{number}")
        assert "taken" in ann.says()
        assert ann.see("#content script:not([src]):not([type]), #content img[src=x]") == []
        assert ann.chrome.title != "taken"
    ann.go(page_of(batch))
    for button in (".flows-explain", ".flows-cancel"):
        ann.press(button)
        assert "onerror" in ann.says()
        assert ann.chrome.title != "taken"
    ann.press("[type=submit][value='Yes, cancel']")
    ann.press(".historylink")
    assert "onerror" in ann.says()
    assert ann.chrome.title != "taken"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(app: Celery, ann: Person, scheme: str) -> None:
    """In both schemes the words on each state's colour can be read, and the bar's parts be seen."""
    batch_of(app, 1, 2, -1, done=3, description="Failed")
    batch_of(app, 1, description="Running")
    batch_of(app, 1, description="Cancelled").cancel()
    ann.prefer(scheme)
    ann.go(BATCHES)
    ann.picture(scheme)
    background = luminance(ann.ask(COLOUR, ann.see("body")[0], "backgroundColor"))
    assert (background < 0.1) == (scheme == "dark")
    for state in ann.see(".flows-state"):
        words, ground = (luminance(ann.ask(COLOUR, state, name)) for name in ("color", "backgroundColor"))
        assert contrast(words, ground) > 4.5, state.text
    for part in ann.see(".flows-progress rect"):
        assert contrast(luminance(ann.ask(COLOUR, part, "fill")), background) > 3


def test_a_phone(app: Celery, ann: Person) -> None:
    """On a narrow screen no page is wider than the screen."""
    batch = batch_of(app, 1, -1, done=1, description="Rescore all leaderboards of the season that has just ended")
    ann.hold(390, 844)
    wide = {}
    for name, path in {"jobs": JOBS, "list": BATCHES, "page": page_of(batch)}.items():
        ann.go(path)
        ann.picture(f"phone-{name}")
        wide[name] = ann.ask(WIDTH)
    ann.press(".flows-cancel")
    ann.picture("phone-cancel")
    assert {**wide, "cancel": ann.ask(WIDTH)} == dict.fromkeys(["jobs", "list", "page", "cancel"], 390)
