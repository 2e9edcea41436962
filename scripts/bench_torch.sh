#!/bin/sh
# Compares the small model's training step and inference with PyTorch's, alternating on the same cores. Arguments go to bench_torch.py
# (--help lists them). PYTHON names a Python that has torch and transformers; without it they are installed into a temporary
# environment, from wherever pip's settings say. PIP_EXTRA_INDEX_URL may name an index of CPU builds, which saves gigabytes of CUDA
# libraries.
set -eu
cd "$(dirname "$0")/.."

server=$(cargo bench -p lacuna-models --bench step_server --no-run --message-format=json |
    sed -n 's/.*"name":"step_server".*"executable":"\([^"]*\)".*/\1/p')

if [ -z "${PYTHON:-}" ]; then
    environment=$(mktemp -d)
    trap 'rm -rf "$environment"' EXIT
    python3 -m venv "$environment"
    PYTHON=$environment/bin/python
    "$PYTHON" -m pip install --quiet torch transformers
fi
"$PYTHON" scripts/bench_torch.py "$server" "$@"
