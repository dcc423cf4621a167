"""What Dask logged in the scheduler or in one of its workers, for who cannot see the job's output."""

from typing import Any, Callable, Iterable, Tuple

from penstock.agent.base import Message
from penstock.agent.child import describe

LOG_MOST = 200000  # characters of one answer; a frame holds a megabyte

LOG_LINES = 2000

LOG_NOTE = "(Only what Dask logged: the whole output is with the job until it ends.)\n"


def log_text(lines: Iterable[Tuple[str, str]], size: int) -> str:
    """The end of a log, as ``get_logs`` of distributed returns it: (level, line) pairs."""
    text = "".join("%s\n" % line for _, line in lines)
    return LOG_NOTE + text[-max(0, min(size, LOG_MOST) - len(LOG_NOTE)) :] if text else ""


async def send_output(scheduler: Any, message: Message, send: Callable[[Message], bool]) -> None:
    """Answer the server's question for the output of a job (``s0-0``, ``w1-3``)."""
    job, size = str(message.get("job")), message.get("size")
    try:
        text = log_text(
            await logged_by(scheduler, job), size if isinstance(size, int) else LOG_MOST
        )
    except Exception as error:
        text = "No output can be had: %s\n" % describe(error)
    send({"op": "output", "id": message.get("id"), "text": text})


async def logged_by(scheduler: Any, job: str) -> Any:
    """(level, line) pairs, oldest first; none of a worker that has not joined."""
    if job.startswith("s"):
        return scheduler.get_logs(n=LOG_LINES)[::-1]
    for state in list(scheduler.workers.values()):
        if str(state.name) == job:
            found = await scheduler.get_worker_logs(n=LOG_LINES, workers=[state.address])
            return found.get(state.address, ())[::-1]
    return ()
