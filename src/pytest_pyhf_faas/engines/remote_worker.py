"""Runs on a worker without this package: calls and answers are JSON.

This is the one function that an executor has to carry, as source; see `remote` for the other end.
"""

from __future__ import annotations


def run_call(call: str) -> str:  # noqa: C901, PLR0915 - one function is what executors carry
    """Run a function of modules that came along.

    Parameters
    ----------
    call : str
        JSON: ``package`` (a name that no other content has), ``modules`` (dotted names and
        sources, zlib in base64, in the order of their imports), ``function`` ("module.name", or
        ``null`` to ask only for an answer), ``args``, ``timeout_s`` (or ``null``),
        ``client`` (host and process that wait for the answer) and ``environment`` (variables that
        are set where they are not yet).

    Returns
    -------
    str
        JSON: ``worker`` (host and process), and one of ``value``, ``timeout`` (the time limit that
        ended it) and ``error`` (``type``, ``message`` and ``traceback``).
    """
    import base64
    import contextlib
    import faulthandler
    import importlib
    import json
    import linecache
    import os
    import signal
    import socket
    import sys
    import threading
    import time
    import traceback
    import types
    import zlib
    from multiprocessing import util

    hard_limit_after_s = 10.0
    request = json.loads(call)
    package, limit_s = request["package"], request["timeout_s"]
    here = socket.gethostname()
    client = request["client"][1] if request["client"][0] == here else None
    children: dict[str, int] = {}  # of our parent, and when they started
    noted = [sys.maxsize]  # when that was looked at last, as a start time
    own_process = [here, os.getpid()] != request["client"]
    can_be_interrupted = threading.current_thread() is threading.main_thread()
    limited = limit_s is not None and own_process and can_be_interrupted

    def install() -> None:
        for name, value in request["environment"].items():
            os.environ.setdefault(name, value)
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = []
        for name, packed in request["modules"].items():
            source = zlib.decompress(base64.b64decode(packed)).decode()
            module = types.ModuleType(f"{package}.{name}")
            module.__path__ = []  # others may be in it
            module.__file__ = f"<{module.__name__}>"
            # So that a traceback shows the lines.
            lines = source.splitlines(keepends=True)
            linecache.cache[module.__file__] = len(source), None, lines, module.__file__
            sys.modules[module.__name__] = module
            exec(compile(source, module.__file__, "exec"), module.__dict__)  # noqa: S102
            above, _, last = module.__name__.rpartition(".")
            setattr(sys.modules[above], last, module)
        if own_process:
            # A worker whose manager was killed must not go on computing. It may end by
            # itself, too, as soon as it has finished a call: then what is left goes with it.
            parent = os.getppid()
            note_children(parent)
            threading.Thread(target=end_with, args=(parent,), daemon=True).start()
            util.Finalize(None, end_orphans, args=(parent,), exitpriority=100)

    def end_with(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
            note_children(parent)
        end_orphans(parent)
        os._exit(1)

    def stat_of(process: str) -> tuple[list[int], int]:
        """Return parent and group of a process, and when it started: in ticks since the boot."""
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123
            stat = file.read().rpartition(")")[2].split()
        return [int(stat[1]), int(stat[2])], int(stat[19])

    def note_children(parent: int) -> None:
        """Record what the manager has started, while it lives and its children are known.

        If the kernel does not show them (or is not Linux), they are left alone.
        """
        with contextlib.suppress(OSError, AttributeError, IndexError, ValueError):
            now = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
            for thread in os.listdir(f"/proc/{parent}/task"):  # noqa: PTH208
                with open(f"/proc/{parent}/task/{thread}/children") as file:  # noqa: PTH123
                    for child in file.read().split():
                        (its_parent, _group), started = stat_of(child)
                        if its_parent == parent:
                            children[child] = started
            if os.getppid() == parent:
                noted[0] = now

    def end_orphans(parent: int) -> None:
        """End what the manager started for itself, if the manager has ended.

        They are then orphans of the same group, and remain if nothing cleans up a job (Slurm
        without cgroups): those that were noted, and those that came after the last note, as
        workers that the manager started just before it died. What the script of the job started is
        older, and no child of the manager.
        """
        orphaned = [os.getppid(), os.getpgrp()]
        if orphaned[0] == parent:
            return
        for entry in os.listdir("/proc") if os.path.isdir("/proc/self") else ():  # noqa: PTH112, PTH208
            with contextlib.suppress(OSError, ValueError, IndexError):
                ids, started = stat_of(entry)
                its = started >= noted[0] or children.get(entry) == started
                if ids == orphaned and its and int(entry) not in (os.getpid(), client):
                    os.kill(int(entry), signal.SIGKILL)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    answer: dict[str, object]
    previous = None
    nowhere = open(os.devnull, "w")  # noqa: PTH123, SIM115
    try:
        if package not in sys.modules:
            try:
                install()
            except BaseException:
                for name in [n for n in sys.modules if n.split(".")[0] == package]:
                    del sys.modules[name]
                raise
        module_name, _, name = (request["function"] or "").rpartition(".")
        if name:
            function = getattr(importlib.import_module(f"{package}.{module_name}"), name)
        else:
            function = bool
        if limited:
            previous = signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, limit_s)
            # Compiled code that never returns to Python is ended with its worker.
            faulthandler.dump_traceback_later(limit_s + hard_limit_after_s, exit=True, file=nowhere)
        answer = {"value": function(*request["args"])}
    except KeyboardInterrupt:
        if not limited:
            raise
        answer = {"timeout": limit_s}
    except BaseException as error:  # noqa: BLE001 - a worker that dies of it reports nothing
        answer = {
            "error": {
                "type": type(error).__name__,
                "message": str(error)[:50_000],
                "traceback": traceback.format_exc()[-50_000:],
            }
        }
    finally:
        if previous is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
            signal.signal(signal.SIGALRM, previous)
        nowhere.close()
    worker = [here, os.getpid()]
    try:
        return json.dumps({"worker": worker, **answer}, allow_nan=False)
    except (TypeError, ValueError) as error:
        message = f"its answer cannot be sent as JSON: {error}"
        what = {"type": type(error).__name__, "message": message}
        return json.dumps({"worker": worker, "error": what})
