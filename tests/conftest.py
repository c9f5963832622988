"""Set-up of every test."""

import signal

# Whoever starts the tests under nohup hands an ignored SIGHUP down to every process of theirs.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
