"""Programs that make spans and end in one way or another: `python -m ...programs <which>`.

Each span's id goes to the output as it ends, in one write, from whichever process it was.
`otelbridge.configure()` stands at the top of the module, so that children that import it anew
configure themselves.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from opentelemetry import trace

import otelbridge

otelbridge.configure()


def work(number: int = 0, spans: int = 3) -> int:
    for _ in range(spans):
        with otelbridge.span(f"work {number}"):
            span_id = trace.format_span_id(trace.get_current_span().get_span_context().span_id)
        os.write(1, f"{span_id}\n".encode())
    return os.getpid()


def processes(method: str) -> None:
    """Three processes of `multiprocessing` that end by themselves."""
    work()
    context = multiprocessing.get_context(method)
    started = [context.Process(target=work, args=(number,)) for number in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0, 0]


def pool(method: str) -> None:
    """A pool whose processes get SIGTERM when its block is left."""
    work()
    with multiprocessing.get_context(method).Pool(2) as workers:
        workers.map(work, range(6))


def executor(method: str) -> None:
    """A ProcessPoolExecutor."""
    work()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as workers:
        list(workers.map(work, range(6)))


def fork(how: str) -> None:
    """A fork by hand; Python runs nothing more in a child that ends by `os._exit`."""
    work()
    pid = os.fork()
    if pid == 0:
        work()
        if how == "flush":
            otelbridge.flush()
        elif how == "wait":
            time.sleep(1)
        elif how == "return":
            return
        os._exit(0)
    os.waitpid(pid, 0)
    work()


def threads(_: str) -> None:
    """Threads of a pool and a thread that still work while the program ends."""
    ended = threading.Event()

    def late(number: int) -> None:
        ended.wait(0.3)  # until the main thread waits for its threads
        work(number)

    executor = ThreadPoolExecutor(3)
    for number in range(3):
        executor.submit(late, number)
    threading.Thread(target=late, args=(4,)).start()
    threading.Thread(target=lambda: (work(), ended.wait()), daemon=True).start()
    work()


def asyncio_run(_: str) -> None:
    """Tasks that are cancelled at the end of `asyncio.run`, inside of their spans."""

    async def waits() -> None:
        with otelbridge.span("cancelled"):
            span_id = trace.format_span_id(trace.get_current_span().get_span_context().span_id)
            os.write(1, f"{span_id}\n".encode())
            await asyncio.sleep(60)

    async def main() -> None:
        tasks = [asyncio.create_task(waits()) for _ in range(3)]
        await asyncio.sleep(0.01)
        work()
        assert not any(task.done() for task in tasks)

    asyncio.run(main())


def error(_: str) -> None:
    """An exception that nobody catches."""
    work()
    raise SystemExit(3)


def busy(_: str) -> None:
    """Spans without end; the id of each goes out with the time at which it had ended."""
    while True:
        with otelbridge.span("work"):
            span_id = trace.format_span_id(trace.get_current_span().get_span_context().span_id)
        os.write(1, f"{span_id} {time.monotonic_ns()}\n".encode())
        time.sleep(0.001)


def many(_: str) -> None:
    """Two requests' worth of spans and the end; their ids in one line."""
    ids = []
    for _number in range(600):
        with otelbridge.span("work"):
            context = trace.get_current_span().get_span_context()
            ids.append(trace.format_span_id(context.span_id))
    os.write(1, f"{' '.join(ids)}\n".encode())


def stay(_: str) -> None:
    """Nothing of its own, until its input ends."""
    sys.stdin.read()


WAYS: dict[str, Callable[[str], None]] = {
    "processes": processes,
    "pool": pool,
    "executor": executor,
    "fork": fork,
    "threads": threads,
    "asyncio": asyncio_run,
    "error": error,
    "busy": busy,
    "many": many,
    "stay": stay,
}

if __name__ == "__main__":
    WAYS[sys.argv[1]](sys.argv[2] if len(sys.argv) > 2 else "")
