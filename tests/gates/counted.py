"""``llm-proxy`` with a counter: a line of figures on descriptor REPLIES for each byte on ASKS.

python counted.py calls|kernel ASKS REPLIES serve --config FILE …
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType

Figures = dict[str, int]


def calls() -> Callable[[], Figures]:
    """Counts the calls of functions, Python's and built-in ones, in this thread."""
    figures = {"call": 0, "c_call": 0}

    def told(frame: FrameType, event: str, argument: object) -> None:
        if event in figures:
            figures[event] += 1

    sys.setprofile(told)
    return lambda: {"python": figures["call"], "built_in": figures["c_call"]}


def kernel() -> Callable[[], Figures]:
    """Reads what the preloaded library counted in the main thread."""
    library = ctypes.CDLL(None)
    library.counted_allocations.restype = library.counted_system_calls.restype = ctypes.c_ulong
    return lambda: {
        "allocations": library.counted_allocations(),
        "system_calls": library.counted_system_calls(),
    }


def answer(asks: int, replies: int, figures: Callable[[], Figures]) -> None:
    """Tell the figures as often as they are asked for."""
    while os.read(asks, 1):
        os.write(replies, json.dumps(figures()).encode() + b"\n")


def main() -> None:
    what, asks, replies, *words = sys.argv[1:]
    from proxy_api._cli import main as llm_proxy

    figures = {"calls": calls, "kernel": kernel}[what]()
    threading.Thread(target=answer, args=(int(asks), int(replies), figures), daemon=True).start()
    sys.argv = ["llm-proxy", *words]
    llm_proxy()


if __name__ == "__main__":
    main()
