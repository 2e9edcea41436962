#!/bin/sh
# Compiles the small model's kernels to kernels/cuda/ptx with nvcc 13.0 (NVCC, or .tools/cuda/root/bin/nvcc, or the one on the PATH).
# With --check: compares with what is there, and changes nothing.
set -eu
cd "$(dirname "$0")/../kernels/cuda"
nvcc=${NVCC:-../../.tools/cuda/root/bin/nvcc}
[ -x "$nvcc" ] || nvcc=$(command -v nvcc) || { echo "nvcc 13.0 is not there: set NVCC to its path" >&2; exit 1; }
"$nvcc" --version | grep -q 'release 13\.0,' || { echo "$nvcc is not of CUDA 13.0: its PTX would differ" >&2; exit 1; }
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
for format in f32:FLOAT bf16:BF16; do
    # The first comments name the compiler's build, and internal names the folder.
    "$nvcc" -std=c++17 -O3 -DNUMBER="${format#*:}" -ptx -arch=compute_80 cu/kernels.cu -o "$made/ptx"
    sed -e '/^\/\//d' -e 's/_INTERNAL_[0-9a-f]\{8\}_/_INTERNAL_00000000_/g' "$made/ptx" > "$made/${format%:*}.ptx"
    rm "$made/ptx"
done
if [ "${1:-}" = --check ]; then
    diff -rq "$made" ptx && echo "kernels/cuda/ptx is what the sources give"
else
    cp "$made"/*.ptx ptx/
fi
