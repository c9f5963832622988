"""``python -m onnx_geed`` is ``onnx-geed``."""

from onnx_geed.cli import finish, install, open_streams


def main() -> None:
    """Run the command line, signals being handled from before its libraries are loaded."""
    open_streams()
    install()
    from onnx_geed.cli import cli

    try:
        cli(prog_name="onnx-geed")
    except SystemExit as end:
        finish(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise


if __name__ == "__main__":
    main()
