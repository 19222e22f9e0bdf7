"""A program whose work is counted: `python counting.py PROGRAM …`.

SIGUSR1 begins to count, SIGUSR2 ends it and writes what was counted as JSON to the file that COUNTS
names: the main thread's interpreter instructions by function, or, where COUNTED is `memory`, the
bytes that were allocated at the most and at the end, and the objects that only the cycle collector
could free. Each signal is answered by a line on the standard output.
"""

import gc
import json
import os
import runpy
import signal
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_is_memory = os.environ.get("COUNTED") == "memory"
_counts: Counter[CodeType] = Counter()


def _enter(frame: FrameType, event: str, argument: object) -> Any:
    frame.f_trace_opcodes = True
    frame.f_trace_lines = False
    return _step


def _step(frame: FrameType, event: str, argument: object) -> Any:
    if event == "opcode":
        _counts[frame.f_code] += 1
    return _step


def _begin(number: int, frame: FrameType | None) -> None:
    if _is_memory:
        gc.collect()
        gc.disable()
        tracemalloc.start()
    else:
        _counts.clear()
        sys.settrace(_enter)
    print("counting", flush=True)


def _end(number: int, frame: FrameType | None) -> None:
    Path(os.environ["COUNTS"]).write_text(json.dumps(_memory() if _is_memory else _instructions()))
    print("counted", flush=True)


def _instructions() -> Counter[str]:
    sys.settrace(None)
    by_name: Counter[str] = Counter()
    for code, count in _counts.items():
        by_name[f"{code.co_filename}:{code.co_qualname}"] += count
    return by_name


def _memory() -> dict[str, int]:
    at_end, at_most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    in_cycles = gc.collect()
    gc.enable()
    return {"at_most": at_most, "at_end": at_end, "in_cycles": in_cycles}


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _begin)
    signal.signal(signal.SIGUSR2, _end)
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
