"""Celery's canvas as a flow."""

from __future__ import annotations

from typing import Any, ClassVar

from celery import Signature

from celery_flows.codec import decode, encode
from celery_flows.errors import NotJson, PlanInvalid
from celery_flows.flow import Flow, Launcher
from celery_flows.ids import new_id
from celery_flows.messaging.block import Block
from celery_flows.messaging.planning import planning
from celery_flows.messaging.runtime import find_runtime
from celery_flows.preview import Preview
from celery_flows.store import batches


class CanvasFlow(Flow):
    """A flow that was written as Celery's canvas; made by `Workflow.from_canvas`."""

    flow_kind: ClassVar[str] = "canvas"
    remember: ClassVar[bool] = False

    def _fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        canvas, *more = args
        self._recorder.canvas(canvas, tuple(more), kwargs, {})

    def _enroll(self, block: Block, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        if args:
            return super()._enroll(block, args, kwargs)
        # What is to be planned here waits in the batch's row, so that no message grows with it.
        with self._runtime.database.reading() as connection:
            stored = decode(batches.plan_of(connection, self._runtime.database.tables, self.id) or "null")
        canvas, more, given = stored["canvas"]
        return super()._enroll(block, (Signature.from_dict(canvas), *more), given)


class CanvasLauncher(Launcher[CanvasFlow]):
    """A canvas as a flow to be started; what `Workflow.from_canvas` gives."""

    def __init__(self, canvas: Any, **options: Any) -> None:
        super().__init__(CanvasFlow, **options)
        self._canvas = canvas

    def using(self, **options: Any) -> CanvasLauncher:
        """Say more about the flow, before it is started; as `Flow.using`."""
        said = {name: value for name, value in CanvasFlow.using(**options)._options.items() if name in options}
        made = CanvasLauncher(self._canvas, **{**self._options, **said})
        made._callbacks, made._seeds = [*self._callbacks], {**self._seeds}
        return made

    def start(self, *args: Any, **kwargs: Any) -> CanvasFlow:
        """Plan here and now, enroll all tasks in one transaction, and publish those whose turn it is.

        Args: what comes before the arguments of the first task, or of each of the first group, as in Celery.

        Raises:
            UnknownTask: a task is not registered with the app.
            PlanInvalid: a chord has no body.
            NotJson: an argument can't be stored.
        """
        return super().start(self._canvas, *args, **kwargs)

    def delay(self, *args: Any, **kwargs: Any) -> CanvasFlow:
        """Let a worker plan it, and return it at once.

        Args: as for `start`.

        Raises:
            NotJson: an argument can't be stored.
        """
        try:
            stored = encode({"canvas": [dict(self._canvas), args, kwargs]})
        except (TypeError, ValueError) as error:
            raise NotJson(task=repr(self._canvas), argument="An argument", problem=f"{error}.") from error

        def fill(flow: CanvasFlow, block: Block) -> str:
            block.keep(planning(CanvasFlow.flow_call(), flow.id))
            return stored

        return self._launch(fill)

    def preview(self, *args: Any, **kwargs: Any) -> Preview:
        """Plan, and run nothing: prints as a tree; see also `to_mermaid()` and `to_dict()`."""
        runtime = find_runtime(self._options["app"])
        return Preview("canvas", CanvasFlow(new_id(), runtime).planned(self._canvas, *args, **kwargs))


def canvas_launcher(canvas: Any) -> CanvasLauncher:
    """What starts a canvas as a flow.

    Raises:
        PlanInvalid: it is no signature.
    """
    if not isinstance(canvas, dict):
        raise PlanInvalid(
            problem=f"{canvas!r} is no signature: from_canvas takes a chain, group, chord or the like"
        )
    signature = canvas if isinstance(canvas, Signature) else Signature.from_dict(canvas)
    return CanvasLauncher(signature, **CanvasFlow.using()._options)
