"""Set-up of every test."""

import signal

# Whoever starts the tests under nohup, or in the background of a script, hands an ignored SIGHUP or
# SIGINT down to every process of theirs.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
