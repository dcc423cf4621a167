"""Which of its processes the agent is now."""

import sys
from typing import NoReturn

from penstock.agent.base import EXIT_BROKEN, Broken, Failed, load_config, write_all
from penstock.agent.child import describe, die_with, exit_now, import_distributed, set_dask_config
from penstock.agent.scheduler import run_scheduler
from penstock.agent.supervisor import supervise
from penstock.agent.worker import run_worker


def child_main(parent: int, reason_fd: int) -> NoReturn:
    """The child's main. Leaves by ``os._exit``: no thread of the user's may hold us back."""
    die_with(parent)
    reason, code = "", 1
    try:
        config = load_config()
        import_distributed()
        set_dask_config()
        import asyncio

        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        main = run_scheduler if config["role"] == "scheduler" else run_worker
        code = loop.run_until_complete(main(config))
    except Broken as error:
        reason, code = str(error), EXIT_BROKEN
    except Failed as error:
        reason = str(error)
    except BaseException as error:
        import traceback

        traceback.print_exc()
        reason = describe(error)
    write_all(reason_fd, reason.encode("utf-8", "replace")[:4096])
    exit_now(code)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child_main(int(sys.argv[2]), int(sys.argv[3]))
    sys.exit(supervise(sys._getframe().f_code))
