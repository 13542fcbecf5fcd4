"""What celery-flows keeps for one app: settings, database, publisher; and finding it again."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from celery import Celery, _state
from celery.utils.imports import import_from_cwd
from kombu.utils.imports import symbol_by_name

from celery_flows.codec import Codec
from celery_flows.errors import ConfigurationError, InvalidSetting, NoFlows, NotCelery
from celery_flows.merging import NAMED, Merge, Merges
from celery_flows.messaging.config import read_settings
from celery_flows.messaging.hosting import Place, place_of
from celery_flows.messaging.lease import Lease
from celery_flows.messaging.publisher import Publisher
from celery_flows.queries.redact import Redact
from celery_flows.settings import MEMORY_METHODS, Settings, has_methods
from celery_flows.states import BatchState
from celery_flows.store import schema
from celery_flows.store.database import Connection, Database
from celery_flows.store.joined import Joinable, connection_of
from celery_flows.transitions.lose import LossPolicy
from celery_flows.transitions.prune import FATES, prune

logger = logging.getLogger(__name__)

_ATTRIBUTE = "_flows_runtime"

_every: weakref.WeakSet[Runtime] = weakref.WeakSet()
_lock = threading.Lock()


class Runtime:
    """The working parts of one app. Nothing is read or opened before it is asked for."""

    def __init__(self, app: Celery, send_task: Callable[..., Any]) -> None:
        self._app = weakref.ref(app)
        #: Celery's own `send_task`, which publishes at once.
        self.send_task = send_task
        #: In a worker's main process, its lease.
        self.lease: Lease | None = None
        #: Whether this process is a worker's.
        self.is_worker = False

    @property
    def app(self) -> Celery:
        """The app."""
        app = self._app()
        assert app is not None, "the app is gone"
        return app

    @cached_property
    def settings(self) -> Settings:
        """The app's settings, read once; reading them configures the app."""
        return read_settings(self.app.conf)

    @cached_property
    def database(self) -> Database:
        """The app's database, whose schema is checked at first use; a framework's is used as its own code does."""
        place = self.place
        if place.make is None:
            return self.new_database()
        return place.make(lambda: self.is_worker, self._options(check=True))

    @property
    def place(self) -> Place:
        """Where the database is.

        Raises:
            ConfigurationError: no database is configured.
        """
        return place_of(self.app, self.settings)

    @cached_property
    def publisher(self) -> Publisher:
        """What hands messages to the broker."""
        return Publisher(self.app, self.send_task, self.database, self.settings)

    @property
    def loss_policy(self) -> LossPolicy:
        """What the settings say of lost jobs."""
        return LossPolicy(self.settings.on_loss, self.settings.max_losses)

    def joined(self, given: Joinable) -> Connection:
        """The connection of a transaction that is joined, in a database that has our tables.

        Raises:
            BlockMisuse: it is none, or commits each statement on its own.
            SchemaMissing: the database has no tables.
            SchemaOutdated: they are older than this code.
        """
        connection = connection_of(given)
        self.database.check_once()
        return connection

    def prune(self, age: float, states: Sequence[BatchState] = FATES, *, at_most: int | None = None) -> int:
        """Forget batches that were finished so `age` seconds ago, with their memories."""
        forget = None if self.memory is None else self._forget
        return prune(self.database, age, states, at_most=at_most, forget=forget)

    def _forget(self, run_id: str) -> None:
        try:
            self.memory.clear(run_id)
        except Exception as error:
            # The batch is gone already; what stays of it there is nothing that anybody would ask for.
            logger.warning("The memory of run %s could not be cleared: %r", run_id, error)

    @cached_property
    def redact(self) -> Redact | None:
        """What hides arguments and errors where jobs are shown, or None."""
        return Redact.of(_resolve(self.settings.redact))

    @cached_property
    def merges(self) -> Merges:
        """How keys of runs' memories are merged.

        Raises:
            InvalidSetting: something among them is no merge.
        """
        return Merges({key: _merge(key, given) for key, given in self.settings.merges.items()})

    @cached_property
    def memory(self) -> Any:
        """What keeps the memories of runs; None: the database.

        Raises:
            InvalidSetting: it lacks one of the methods for it.
        """
        memory = _resolve(self.settings.memory)
        if memory is not None and not has_methods(memory, MEMORY_METHODS):
            allowed = f"an object with the methods {', '.join(MEMORY_METHODS)}"
            raise InvalidSetting(name="flows_memory", value=memory, allowed=allowed)
        return memory

    @cached_property
    def codec(self) -> Codec | None:
        """What encrypts what users' data holds, or None.

        Raises:
            InvalidSetting: it lacks one of the methods for it.
        """
        codec = _resolve(self.settings.codec)
        if codec is not None and not isinstance(codec, Codec):
            raise InvalidSetting(
                name="flows_codec", value=codec, allowed="an object with the methods encode(text) and decode(text)"
            )
        return codec

    def new_database(self, *, check: bool = True) -> Database:
        """Make a database object with connections of its own.

        Args:
            check: whether its first use sees that the schema is there and new enough.

        Raises:
            ConfigurationError: no database is configured.
        """
        place = self.place
        return Database(place.url, engine_options=place.engine_options, **self._options(check=check))

    def _options(self, *, check: bool) -> dict[str, Any]:
        return {
            "prefix": self.settings.table_prefix,
            "schema": self.settings.schema,
            "codec": self.codec,
            "on_first_use": schema.check if check else None,
        }


def _merge(key: str, given: object) -> Merge:
    merge = NAMED[given] if isinstance(given, str) and given in NAMED else _resolve(given)
    if not callable(merge):
        allowed = f"{', '.join(repr(name) for name in NAMED)}, a function (kept, given) or its dotted name"
        raise InvalidSetting(name=f"flows_merges[{key!r}]", value=given, allowed=allowed)
    return merge


def _resolve(given: object) -> Any:
    """What a setting names, or gives itself; modules beside the project are found as the app itself was."""
    return symbol_by_name(given, imp=import_from_cwd)


def attach(app: Celery, send_task: Callable[..., Any]) -> Runtime:
    """Make the app's runtime."""
    runtime = Runtime(app, send_task)
    setattr(app, _ATTRIBUTE, runtime)
    with _lock:
        _every.add(runtime)
    return runtime


def runtime_of(app: Any) -> Runtime:
    """The runtime of an app.

    Raises:
        NotCelery: it is something else.
        ConfigurationError: it has no Flows.
    """
    found = attached_to(app)
    if found is None and not isinstance(app, Celery):
        raise NotCelery(given=describe(app))
    if found is None:
        raise ConfigurationError(
            problem=f"Celery app {app.main!r} has no Flows. Install it where the app is made: "
            "Flows(app, database_url=...)"
        )
    return found


def attached_to(app: Any) -> Runtime | None:
    """The runtime of an app, or None where it has no Flows."""
    found: Runtime | None = getattr(app, "__dict__", {}).get(_ATTRIBUTE)
    return found


def find_runtime(app: Any = None) -> Runtime:
    """Find the app that is meant: the one given, the running task's, the current one, or the only one.

    Raises:
        NotCelery: what was given is not a Celery app.
        ConfigurationError: what was given has no Flows.
        NoFlows: nothing was given and nothing was found; it names the choices.
    """
    if app is not None:
        return runtime_of(_unwrap(app))
    task = _state.get_current_worker_task()
    # Not current_app: in a thread it makes a default app, which is not the user's.
    for candidate in (task and task.app, _state._tls.current_app, _state.default_app):
        found = attached_to(candidate)
        if found is not None:
            return found
    every = _living()
    if len(every) == 1:
        return every[0]
    raise NoFlows


def runtime_for(parent: Any, app: Any) -> Runtime:
    """The runtime of a new batch: of the app that is given, or its parent's, or the one found here.

    Raises:
        TypeError: the parent is no batch.
    """
    found = getattr(parent, "_runtime", None)
    if parent is not None and not isinstance(found, Runtime):
        raise TypeError(f"parent= takes a Batch, not {parent!r}: of an id, Batch.get(id) makes one")
    return find_runtime(app) if app is not None or found is None else found


def _living() -> list[Runtime]:
    with _lock:
        every = list(_every)
    if len(every) > 1:
        # Apps that nobody has any more, such as other tests made: collected before they count.
        gc.collect()
        with _lock:
            every = list(_every)
    return every


def describe(value: object) -> str:
    """Name a thing by its type, for an error."""
    return f"a {type(value).__module__}.{type(value).__qualname__}"


def _unwrap(app: Any) -> Any:
    get = getattr(type(app), "_get_current_object", None)
    return app._get_current_object() if get is not None else app


def in_transaction(
    runtime: Runtime, joined: Connection | None, work: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Do something in the transaction that is given, or in one of its own."""
    if joined is not None:
        return work(joined, runtime.database.tables, *args, **kwargs)
    return runtime.database.transact(work, runtime.database.tables, *args, **kwargs)
