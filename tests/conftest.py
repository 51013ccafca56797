"""Settings of the whole test run."""

import os

from hypothesis import HealthCheck, settings

# Examples are drawn the same way every time, and no example is timed: the machines of CI are shared.
settings.register_profile(
    "winohw", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("winohw")

# Tests that run side by side share two cores: one thread each.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
