"""Errors: the docstring is the message, the facts are attributes, and they survive pickling."""

from __future__ import annotations

import inspect
import pickle
import string
from typing import get_type_hints

import pytest

from celery_flows import errors
from celery_flows.errors import BatchFinished, ConfigurationError, FlowsError, WaitTimeout

ALL = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, FlowsError)]


def facts_of(error: type[FlowsError]) -> dict[str, object]:
    """A value for each fact that an error's message or annotations name."""
    names = {name for _, name, _, _ in string.Formatter().parse(error.__doc__ or "") if name}
    hints = get_type_hints(error)
    return {
        name: 7.5 if hints.get(name) is float else 7 if hints.get(name) is int else f"<{name}>"
        for name in names | {*hints}
    }


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_the_docstring_is_the_message(error: type[FlowsError]) -> None:
    """On one line, with every fact filled in, each of which is annotated and an attribute."""
    facts = facts_of(error)
    made = error(**facts)
    assert str(made)
    assert "\n" not in str(made)
    assert "  " not in str(made)
    assert not set("{}") & set(str(made))
    assert {name: getattr(made, name) for name in facts} == facts
    assert {*facts} == {*get_type_hints(error)}


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_an_error_may_cross_processes(error: type[FlowsError]) -> None:
    """Type, message and facts are the same after pickling."""
    made = error(**facts_of(error))
    back = pickle.loads(pickle.dumps(made))
    assert (type(back), str(back), vars(back)) == (error, str(made), vars(made))


@pytest.mark.parametrize("error", [one for one in ALL if one is not FlowsError], ids=lambda error: error.__name__)
def test_every_message_is_a_sentence(error: type[FlowsError]) -> None:
    """It begins with a capital and ends with a full stop, unless it is somebody else's words."""
    doc = inspect.cleandoc(error.__doc__ or "")
    assert doc == "{problem}" or ((doc[0].isupper() or doc[0] == "{") and doc.rstrip('"')[-1] in ".)}")


def test_a_message_says_what_to_do_next() -> None:
    """An example, in the words that a user reads."""
    error = BatchFinished(batch_id="b", state="complete")
    assert str(error) == (
        "Batch b is finished (complete), so nothing can be added to it. Make a new one with Batch.create()."
    )
    assert (error.batch_id, error.state) == ("b", "complete")


def test_facts_may_hold_braces() -> None:
    """What a user wrote is no template."""
    assert str(ConfigurationError(problem="{no} {0} %s")) == "{no} {0} %s"


def test_a_timeout_is_one_to_python_too() -> None:
    """Whoever waits catches it as TimeoutError."""
    with pytest.raises(TimeoutError, match=r"after 2\.5 seconds"):
        raise WaitTimeout(batch_id="b", timeout=2.5, progress="0 of 1")
