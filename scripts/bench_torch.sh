#!/bin/sh
# The small model's training step and inference beside PyTorch's, alternating on the same cores. Arguments go to bench_torch.py
# (--help lists them). PYTHON names a Python that has torch and transformers; without it they are installed into a throw-away
# environment.
set -eu
cd "$(dirname "$0")/.."

server=$(cargo bench -p lacuna-models --bench step_server --no-run --message-format=json |
    sed -n 's/.*"name":"step_server".*"executable":"\([^"]*\)".*/\1/p')

if [ -z "${PYTHON:-}" ]; then
    environment=$(mktemp -d)
    trap 'rm -rf "$environment"' EXIT
    python3 -m venv "$environment"
    PYTHON=$environment/bin/python
    "$PYTHON" -m pip install --quiet torch transformers --extra-index-url https://download.pytorch.org/whl/cpu
fi
"$PYTHON" scripts/bench_torch.py "$server" "$@"
