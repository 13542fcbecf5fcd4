"""Plans of many jobs that are alike."""

from __future__ import annotations

from itertools import pairwise

from graphs import plan_of

from celery_flows.plan import Node, Plan
from celery_flows.states import Kind


def alike(plan: Plan, *names: str) -> Plan:
    """Let jobs lose their names, so that they are alike."""
    for name in names:
        plan.nodes[name] = Node(name, Kind.TASK, "shop.score")
    return plan


def wide(number: int, *, named: bool = False) -> Plan:
    """A job before many that are alike, but perhaps for their names, and one after all of them."""
    names = [f"n{one}" for one in range(number)]
    plan = plan_of(" ".join(f"first>{name} {name}>last" for name in names))
    return plan if named else alike(plan, *names)


def row(number: int, *, named: bool = False) -> Plan:
    """Many jobs one after another."""
    names = [f"n{one}" for one in range(number)]
    plan = plan_of(" ".join(f"{one}>{other}" for one, other in pairwise(names)))
    return plan if named else alike(plan, *names)


def different(number: int) -> Plan:
    """Jobs of which each calls something else."""
    plan = Plan()
    for one in range(number):
        plan.add(Node(f"n{one}", Kind.TASK, f"shop.task_{one}"))
    return plan
