#!/usr/bin/env bash
# Runs tests/gpu.rs on Mesa's lavapipe, a GPU in software: layers are really offloaded, through a back end loaded at run time.
#
#   scripts/test-vulkan.sh
#
# It needs what scripts/vulkan-backend.sh needs, lavapipe, and numpy. Where that cannot be had it says so and succeeds.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() { echo "test-vulkan: SKIPPED: $*" >&2; exit 0; }

python=${LACUNA_PYTHON:-python3}
# A home of its own: only this back end is there.
export LACUNA_HOME=$PWD/target/backends/home
scripts/vulkan-backend.sh || skip "the Vulkan back end cannot be built here"
lavapipe=$(compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' | head -1 || true)
[ -n "$lavapipe" ] || skip "there is no lavapipe (package mesa-vulkan-drivers)"
if ! "$python" -c 'import numpy' 2>/dev/null; then
    export PYTHONPATH=$PWD/.tools/numpy
    "$python" -c 'import numpy' 2>/dev/null ||
        "$python" -m pip install --quiet --disable-pip-version-check --target .tools/numpy numpy || skip "numpy cannot be installed"
fi
"$python" scripts/synthetic_gguf.py tiny F16 target/backends/tiny-F16.gguf
# The device is named twice: each of two GPUs has a model.
export VK_DRIVER_FILES=$lavapipe GGML_VK_VISIBLE_DEVICES=0,0 LACUNA_TEST_GPUS=2 LACUNA_TEST_GPU_GGUF=$PWD/target/backends/tiny-F16.gguf
# Lavapipe itself may crash (Mesa 22.3), in a thread of its own.
exec cargo nextest run --release --locked --workspace --test gpu --retries 2
