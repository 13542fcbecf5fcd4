"""Who looks at each call on its way to the broker: then none may be made like another."""

from __future__ import annotations

from typing import Any, Final

from celery import Celery, signals
from celery.app import amqp as celerys_amqp
from celery.app import base as celerys_base
from celery.app.routes import MapRoute
from kombu import messaging as kombus_messaging

_LISTENING: Final = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)

#: How deep Celery describes arguments in a message's headers, unless `task_repr_maxlevels` (5.7) says otherwise.
_LEVELS: Final = 3


def is_plain(app: Celery) -> bool:
    """Whether Celery alone decides what becomes of a call, and by its task and options only."""
    amqp, conf = app.amqp, app.conf
    return (
        _is_of(type(app).send_task, celerys_base)
        and _is_of(type(amqp)._create_task_sender, celerys_amqp)
        and _is_of(amqp.send_task_message, celerys_amqp)
        and _is_of(amqp.create_task_message, celerys_amqp)
        and conf.task_protocol == 2
        and not conf.task_send_sent_event
        and conf.get("task_repr_maxlevels", _LEVELS) == _LEVELS
        and not any(signal.receivers for signal in _LISTENING)
        and all(isinstance(route, MapRoute) for route in amqp.router.routes or ())
    )


def is_plain_producer(producer: Any) -> bool:
    """Whether kombu alone decides what a message that is given to a producer looks like."""
    return _is_of(type(producer).publish, kombus_messaging) and _is_of(type(producer)._publish, kombus_messaging)


def _is_of(function: Any, module: Any) -> bool:
    """Whether a function is a module's own. One that wraps it may call itself by the same name and module."""
    code = getattr(function, "__code__", None)
    is_wrapped = getattr(function, "__wrapped__", None) is not None
    return code is not None and code.co_filename == module.__file__ and not is_wrapped
