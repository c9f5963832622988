"""``python -m onnx_geed`` is ``onnx-geed``."""

from onnx_geed.cli import install, open_streams


def main() -> None:
    """Run the command line, signals being handled from before its libraries are loaded."""
    open_streams()
    install()
    from onnx_geed.cli import cli

    cli(prog_name="onnx-geed")


if __name__ == "__main__":
    main()
