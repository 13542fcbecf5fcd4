"""What the project for tests lets its pages do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def strict_policy(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A middleware: nothing is run, drawn or sent but by files of the site itself."""

    def answer(request: Any) -> Any:
        response = get_response(request)
        response["Content-Security-Policy"] = "default-src 'self'; form-action 'self'; base-uri 'none'"
        return response

    return answer
