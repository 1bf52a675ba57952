"""What ends a command from outside: all of it is treated as Ctrl-C, so that what was begun is tidied up.

A process may be told to ignore a signal, as ``nohup`` does with the end of its terminal and a shell with Ctrl-C for its
background jobs. What is ignored stays so.
"""

from __future__ import annotations

import signal

#: Ctrl-C, a plea to end, and the end of the terminal; the last is not known everywhere.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


def ending_signals() -> list[signal.Signals]:
    """The signals that end this process and are not ignored."""
    known = [signal.Signals[name] for name in _NAMES if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]


def end_as_by_ctrl_c() -> None:
    """Let each of them raise ``KeyboardInterrupt``; to be called from the main thread."""
    for number in ending_signals():
        signal.signal(number, signal.default_int_handler)
