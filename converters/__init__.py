"""Stand-alone scripts that turn models of a framework into ONNX files for onnx-geed."""
