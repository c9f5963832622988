"""``python -m onnx_geed`` is ``onnx-geed``."""

from onnx_geed.cli import cli

cli(prog_name="onnx-geed")
