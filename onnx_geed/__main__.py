"""``python -m onnx_geed`` is ``onnx-geed``."""

import sys

from onnx_geed.cli import finish, install, leave_at_the_end, open_streams


def main() -> None:
    """Run the command line, signals being handled from before its libraries are loaded.

    It ends in ``SystemExit``.
    """
    open_streams()
    install()
    from onnx_geed.cli import cli

    try:
        cli(prog_name="onnx-geed")
    except SystemExit as end:
        finish(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise


def program() -> None:
    """Be the program: as :func:`main`, but the process ends with it.

    Where a script's own lines call it, nothing that they do afterwards counts.
    """
    try:
        main()
    finally:
        leave_at_the_end(sys._getframe().f_back)


if __name__ == "__main__":
    program()
