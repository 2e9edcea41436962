#!/usr/bin/env bash
# Puts what scripts/gpu-check.sh needs beside this repository into a folder and packs it, for a machine without cargo and network:
# executables, back ends for GPUs, and llama.cpp's server. Python there has numpy, and torch for a comparison.
#
#   scripts/gpu-kit.sh                         target/gpu-kit and target/gpu-kit.tar.xz, with libggml-cuda.so
#   scripts/gpu-kit.sh cuda vulkan             with these back ends; scripts/cuda-backend.sh and scripts/vulkan-backend.sh build them
#
# LACUNA_BACKENDS   where the back ends are (default: $LACUNA_HOME/backends/VERSION)
# LACUNA_PYTHON     the Python to use (default: python3)
# JOBS              compilers at work at once (default: all cores)
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/backend.sh
. scripts/backend.sh

python=${LACUNA_PYTHON:-python3}
xllamacpp=2026.10.11549
kit=target/gpu-kit
from=${LACUNA_BACKENDS:-$(lacuna_home)/backends/$version}

# executables PACKAGE OPTION...: builds what cargo's options name and puts it into the kit, stripped.
executables() {
    local name path
    say "cargo build --release -p $*"
    cargo build --release --locked ${JOBS:+-j "$JOBS"} -p "$@" --message-format json-render-diagnostics | "$python" -c '
import json, sys
for line in map(json.loads, sys.stdin):
    if line.get("executable"):
        print(line["target"]["name"], line["executable"])' | while read -r name path; do strip -o "$kit/$name" "$path"; done
}

mkdir -p "$kit"
rm -rf "$kit/backends"
mkdir -p "$kit/backends/$version"
for backend in "${@:-cuda}"; do cp "$from/libggml-$backend.so" "$kit/backends/$version/"; done
# Together: dependencies may be built otherwise for one of them alone.
executables lacuna --bin lacuna --bench speed --bench decode
# The small model's bench on a GPU, where it is there.
[ ! -e models/benches/step_cuda.rs ] || executables lacuna-models --bench step_cuda
if [ ! -d "$kit/site" ]; then
    say "pip download xllamacpp $xllamacpp"
    wheel=$(mktemp -d)
    "$python" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: --dest "$wheel" "xllamacpp==$xllamacpp"
    "$python" -m zipfile -e "$wheel"/*.whl "$wheel/site"
    # Two thirds of it are debugging information.
    strip --strip-debug "$wheel"/site/xllamacpp/*.so
    mv "$wheel/site" "$kit/site"
    rm -r "$wheel"
fi
say "packing"
tar -C target -c gpu-kit | xz -6 -T "${JOBS:-0}" >target/gpu-kit.tar.xz
du -m "$kit"/* target/gpu-kit.tar.xz >&2
