"""Fit batches, each with one fault in pyhf and in a process of its own.

Reads ``{fault: batch}`` from its input and writes ``{fault: answer}``. All processes are forked
from this one, which has imported pyhf and has no threads.
"""

import json
import os
import sys

from tests.sensitivity.faults import faulty_fit_batch


def fitted(name, batch):
    """Return the answer to a batch, as JSON, of a process that has a fault."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        with os.fdopen(write, "w") as pipe:
            json.dump(faulty_fit_batch(name, batch), pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = json.load(pipe)
    os.waitpid(pid, 0)
    return answer


if __name__ == "__main__":
    json.dump(
        {name: fitted(name, batch) for name, batch in json.load(sys.stdin).items()}, sys.stdout
    )
