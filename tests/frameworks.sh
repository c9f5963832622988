#!/usr/bin/env bash
# Converters against their frameworks: an environment each, and its tests. Without names: all.
#   bash tests/frameworks.sh [torch|escnn|keras|jax|sklearn]...
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

torch="torch==2.13.0"  # first and pinned: a package that asks for torch may bring another build
failed=()
[ $# -gt 0 ] || set -- torch escnn keras jax sklearn
for name in "$@"; do
    case $name in torch | escnn | keras | jax | sklearn) ;; *)
        echo "$name: one of torch, escnn, keras, jax, sklearn" >&2
        exit 2
        ;;
    esac
done

install() {
    python3 -m venv "$work/$1"
    pip=("$work/$1/bin/python" -m pip install --quiet --disable-pip-version-check)
    case $1 in
        torch) "${pip[@]}" "$torch"; "${pip[@]}" onnxscript safetensors torchvision==0.28.0 timm==1.0.31 ;;
        escnn) "${pip[@]}" "$torch"; "${pip[@]}" joblib; "${pip[@]}" --no-deps escnn==1.0.11 ;;
        keras) "${pip[@]}" "$torch"; "${pip[@]}" onnxscript keras==3.15.1 ;;
        jax) "${pip[@]}" jax==0.10.2 jax2onnx==0.17.1 flax equinox ;;
        sklearn) "${pip[@]}" scikit-learn skl2onnx==1.20.0 ;;
    esac
    "${pip[@]}" '.[test]'
}

# The next environment is made while the tests of one run.
install "$1" &
for name in "$@"; do
    wait $!
    shift
    [ $# = 0 ] || install "$1" &
    tests=(tests/converters/test_from_"$name"*.py)
    # Two more that need its exporters, and a second oracle of resampling.
    [ "$name" != torch ] || tests+=(tests/test_naive.py tests/model/test_free_batch.py)
    echo "== $name"
    "$work/$name/bin/python" -m pytest -n auto "${tests[@]}" || failed+=("$name")
    # What pages say their commands write, those that need PyTorch too.
    [ "$name" != torch ] || "$work/torch/bin/python" docs/outputs.py --check || failed+=(outputs)
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
