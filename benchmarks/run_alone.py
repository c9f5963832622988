"""Run a command, then print its seconds and its peak memory in MiB, as the system counts them.

    python -S run_alone.py COMMAND ARGUMENT...

A small process of its own, since Linux counts a child's peak from what its parent held when it
started it. The command's output goes nowhere, its errors to stderr.
"""

import os
import sys
import time

command = sys.argv[1:]
silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
started = time.perf_counter()
process = os.posix_spawn(command[0], command, os.environ, file_actions=silent)
_, status, usage = os.wait4(process, 0)
seconds = time.perf_counter() - started
if status:
    sys.exit(os.waitstatus_to_exitcode(status) or 1)
# Kilobytes, but for bytes on macOS.
print(seconds, usage.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024))
