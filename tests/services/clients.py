"""What tests of the loopback Globus Compute do as its clients."""

from __future__ import annotations


def make_executor(endpoint, client, **options):
    """An executor that has to do with JSON only, as ours."""
    from globus_compute_sdk import Executor
    from globus_compute_sdk.serialize import (
        AllCodeStrategies,
        AllowlistWildcard,
        ComputeSerializer,
        JSONData,
    )

    serializer = ComputeSerializer(
        strategy_code=AllCodeStrategies(),
        strategy_data=JSONData(),
        allowed_deserializer_types=[AllowlistWildcard.CODE, JSONData],
    )
    return Executor(
        endpoint_id=endpoint,
        client=client,
        serializer=serializer,
        result_serializers=[JSONData()],
        api_burst_limit=8,
        api_burst_window_s=1,
        **options,
    )


def square(value):
    return [value * value]


def note_and_wait(path, seconds):
    """Leave a line for each execution."""
    import os
    import pathlib
    import time

    with pathlib.Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return "done"


def since(counters, before, name):
    """How much a counter has grown."""
    return counters.get(name, 0) - before.get(name, 0)
