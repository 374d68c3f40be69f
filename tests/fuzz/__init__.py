"""Random input for what reads files, answers, hosts and paths.

`just test` gives each test a few examples, always the same; `just fuzz` many, each time others.
"""

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("FUZZ", "0"))


def examples(few: int) -> settings:
    """Half as many examples, or as many times as many as the environment variable FUZZ says."""
    return settings(
        max_examples=few * TIMES or max(10, few // 2),
        derandomize=not TIMES,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],  # the machine may be busy
    )
