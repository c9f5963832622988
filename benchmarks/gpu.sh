#!/usr/bin/env bash
# The whole run on a machine with a GPU: values of processor and GPU compared, then timings.
#   benchmarks/gpu.sh WORK       WORK holds what bench_throughput.py --only resnet50 made
#   PROVIDER=cpu benchmarks/gpu.sh WORK --quick     tries the script out without a GPU
# The Python called python has onnx-geed, torch, and onnxruntime-gpu.
set -euo pipefail
work=${1:?the folder that bench_throughput.py --only resnet50 filled}
shift
provider=${PROVIDER:-cuda}
here=$(dirname "$0")
python - "$provider" <<'EOF'
import sys

import onnxruntime as ort

if hasattr(ort, "preload_dlls"):
    ort.preload_dlls()
print("onnxruntime", ort.__version__, ort.get_available_providers())
if sys.argv[1] == "cuda" and "CUDAExecutionProvider" not in ort.get_available_providers():
    sys.exit("this onnxruntime has no CUDA provider: pip install onnxruntime-gpu")
EOF
python "$here/bench_gpu.py" --work "$work" --provider "$provider" "$@"
