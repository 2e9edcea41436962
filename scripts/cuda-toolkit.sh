# Sourced by cuda-backend.sh and cuda-ptx.sh: CUDA 13.0.2 from PyPI, under .tools/cuda. No GPU and no driver is needed.

# wheels EXTRA...: a toolkit with these parts of it; prints its folder. What the wheels lack are names (lib64, .so without a version) and
# the driver's stub to link against.
wheels() {
    local root=.tools/cuda/root parts ready
    parts=$(IFS=,; echo "$*")
    ready=.tools/cuda/ready-$parts
    if [ ! -f "$ready" ]; then
        echo "cuda-toolkit: pip install cuda-toolkit[$parts] 13.0.2 into .tools/cuda" >&2
        [ -x .tools/cuda/venv/bin/pip ] || "${LACUNA_PYTHON:-python3}" -m venv .tools/cuda/venv
        .tools/cuda/venv/bin/pip install --quiet --no-compile --disable-pip-version-check "cuda-toolkit[$parts]==13.0.2" >&2 || return
        ln -sfn "$(realpath .tools/cuda/venv/lib/python3*/site-packages/nvidia/cu13)" $root
        ln -sfn lib $root/lib64
        for name in libcudart libcublas libcublasLt libnvvm; do
            ! compgen -G "$root/lib/$name.so.*" >/dev/null || ln -sf "$(cd $root/lib && ls $name.so.* | head -1)" $root/lib/$name.so
        done
        driver_stub $root
        touch "$ready"
    fi
    realpath $root
}

# An empty libcuda.so with the names of the driver's functions: the linker asks for one, the driver brings the real one.
driver_stub() {
    local work
    work=$(mktemp -d)
    mkdir -p "$1/lib/stubs"
    grep -ohE '\bcu[A-Z][A-Za-z0-9_]*\b *\(' "$1/include/cuda.h" | tr -d ' (' | sort -u >"$work/names"
    # Names that a macro maps to a versioned one.
    grep -oE '#define +cu[A-Za-z0-9_]+ +(__CUDA_API_PER_THREAD_DEFAULT_STREAM|__CUDA_API_PTDS|__CUDA_API_PTSZ)?\(?cu[A-Za-z0-9_]+' \
        "$1/include/cuda.h" | sed -E 's/.*[ (](cu[A-Za-z0-9_]+)$/\1/' | sort -u | { grep -vxFf "$work/names" || true; } >"$work/versioned"
    sed 's/.*/void &(void) {}/' "$work/names" "$work/versioned" >"$work/stub.c"
    cc -w -fno-builtin -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$1/lib/stubs/libcuda.so" "$work/stub.c"
    rm -r "$work"
}
