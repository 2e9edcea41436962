#!/usr/bin/env bash
# Builds libggml-cuda.so, which lacuna loads at run time, from the llama.cpp that lacuna was built with.
#
#   scripts/cuda-backend.sh              for the GPU of this machine (or, without one, for Hopper: 90-real)
#   scripts/cuda-backend.sh '80-virtual;90-real'   for these architectures, in CMake's words
#   scripts/cuda-backend.sh release      for everything from Turing to Blackwell: 95 minutes on two cores
#
# One architecture takes 37 minutes of one core. The compiler is nvcc of CUDA 12 or 13 on the PATH or in /usr/local/cuda; without one,
# CUDA 13.0.2 is installed with pip under .tools/cuda (840 MB, no GPU and no driver needed).
#
# LACUNA_BACKENDS   where the library goes (default: what `lacuna doctor` says, $LACUNA_HOME/backends/VERSION)
# LACUNA_PYTHON     the Python to use (default: python3)
# JOBS              compilers at work at once (default: all cores)
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/backend.sh
. scripts/backend.sh
# shellcheck source=scripts/cuda-toolkit.sh
. scripts/cuda-toolkit.sh

cuda_root() {
    local nvcc
    nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
    if [ -n "$nvcc" ] && "$nvcc" --version | grep -qE 'release 1[23]\.'; then dirname "$(dirname "$(realpath "$nvcc")")"; return; fi
    wheels nvcc cudart cublas cccl crt nvvm
}

this_gpu() {
    local capability
    # Without a GPU nothing is said.
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null || true)
    capability=$(sort -u <<<"$capability" | tr -d . | sed -n 's/.$/&-real/p' | paste -sd ';')
    echo "${capability:-90-real}"
}

case ${1:-} in
    "") architectures=$(this_gpu) ;;
    release) architectures='75-real;80-real;86-real;89-real;90-real;120-real;120-virtual' ;;
    *) architectures=$1 ;;
esac

cuda=$(cuda_root)
build=target/backends/cuda
say "CUDA in $cuda, for $architectures"
export PATH="$cuda/bin:$PATH" CUDA_PATH="$cuda"
configure "$build" -DGGML_CUDA=ON -DGGML_CUDA_NCCL=OFF -DCMAKE_CUDA_COMPILER="$cuda/bin/nvcc" -DCUDAToolkit_ROOT="$cuda" \
    -DCMAKE_CUDA_ARCHITECTURES="$architectures" -DGGML_CUDA_FA_QUANTS="f16-f16;q8_0-q8_0"
compile "$build" ggml-cuda
# cuBLAS is found beside the library, in this CUDA, or in the system's.
link "$build" ggml-cuda -L"$cuda/lib64" -l:libcudart_static.a -lcublas -L"$cuda/lib64/stubs" -lcuda -ldl -lrt -lpthread \
    -Wl,-rpath,"\$ORIGIN:$cuda/lib64:/usr/local/cuda/lib64"
