#!/usr/bin/env bash
# Compiles the CUDA kernels to kernels/cuda/ptx, for any GPU from compute capability 8.0 on.
#
#   scripts/cuda-ptx.sh            nvcc must be of CUDA 13.0: another one writes other PTX. Without it, PyPI's is taken (.tools/cuda)
#   scripts/cuda-ptx.sh --check    compares with what is there and changes nothing; where nvcc cannot be had it says so and succeeds
#
# NVCC   the nvcc to use
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/cuda-toolkit.sh
. scripts/cuda-toolkit.sh

is_13_0() { "$1" --version 2>/dev/null | grep -q 'release 13\.0,'; }
compiler() {
    local nvcc
    for nvcc in "${NVCC:-nvcc}" /usr/local/cuda/bin/nvcc; do
        if is_13_0 "$nvcc"; then echo "$nvcc"; return; fi
    done
    echo "$(wheels nvcc crt nvvm cudart cccl)/bin/nvcc"
}

nvcc=$(compiler) && is_13_0 "$nvcc" || {
    echo "cuda-ptx: SKIPPED: there is no nvcc of CUDA 13.0, and it cannot be installed" >&2
    [ "${1:-}" = --check ]
    exit
}
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
cd kernels/cuda
for format in f32:FLOAT bf16:BF16; do
    # The first comments name the compiler's build, and internal names the folder.
    "$nvcc" -std=c++17 -O3 -DNUMBER="${format#*:}" -ptx -arch=compute_80 cu/kernels.cu -o "$made/ptx"
    sed -e '/^\/\//d' -e 's/_INTERNAL_[0-9a-f]\{8\}_/_INTERNAL_00000000_/g' "$made/ptx" >"$made/${format%:*}.ptx"
    rm "$made/ptx"
done
if [ "${1:-}" = --check ]; then
    diff -rq "$made" ptx && echo "kernels/cuda/ptx is what the sources give"
else
    cp "$made"/*.ptx ptx/
fi
