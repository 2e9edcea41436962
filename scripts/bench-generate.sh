#!/usr/bin/env bash
# Measures the generator against llama.cpp's server on the same cores, both sides alternating, and prints a table.
#
#   scripts/bench-generate.sh            1,000 texts per stage, 5 alternations: about two hours on two cores
#   LACUNA_BENCH_TEXTS=100 scripts/bench-generate.sh
#
# LACUNA_BENCH_TEXTS         texts per stage and side
# LACUNA_BENCH_ALTERNATIONS  how often each side is measured (default: 5)
# LACUNA_BENCH_STAGES        only the stages whose name contains one of these words, separated by commas
# LACUNA_BENCH_SLOTS         numbers of slots to try for the server, the fastest counts (default: 8,16,32)
# LACUNA_BENCH_THREADS       cores that each side uses (default: all)
# LACUNA_BENCH_GGUF          the model (default: the fetched smollm2-135m-instruct)
# LACUNA_BENCH_NATIVE=1      build a llama-server for this processor (from llama-cpp-python's source, some minutes, once) and use it
#                            instead of xllamacpp's, which is one build for every processor with AVX2
# LACUNA_BENCH_SERVER        a command that starts a server instead of scripts/llama_server.py, with the same arguments and output
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.tools/bench-venv
xllamacpp=2026.10.11549
llama_cpp_python=0.3.36
native=.tools/llama-server-$llama_cpp_python

if [ -f .tools/env ]; then
    # shellcheck source=/dev/null
    . ./.tools/env
fi
if [ -n "${LACUNA_BENCH_NATIVE:-}" ] && [ -z "${LACUNA_BENCH_SERVER:-}" ]; then
    if [ ! -x "$native/build/bin/llama-server" ]; then
        echo "bench-generate: building llama-server from llama-cpp-python $llama_cpp_python in $native" >&2
        rm -rf "$native/download"
        mkdir -p "$native/download"
        # pip knows the mirrors and proxies that are set up here. It asks the package's build backend for metadata, but compiles nothing.
        "${LACUNA_PYTHON:-python3}" -m pip --disable-pip-version-check download --quiet --no-deps --no-binary llama-cpp-python \
            --dest "$native/download" "llama-cpp-python==$llama_cpp_python"
        tar -xzf "$native/download/llama_cpp_python-$llama_cpp_python.tar.gz" -C "$native" --strip-components=3 \
            "llama_cpp_python-$llama_cpp_python/vendor/llama.cpp"
        rm -rf "$native/download"
        cmake -S "$native" -B "$native/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF \
            -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
        cmake --build "$native/build" --target llama-server -j "$(nproc)"
    fi
    export LACUNA_BENCH_SERVER="${LACUNA_PYTHON:-python3} $PWD/scripts/llama_server.py --binary $PWD/$native/build/bin/llama-server"
fi
if [ -z "${LACUNA_BENCH_SERVER:-}" ]; then
    if [ ! -e "$venv/ready-$xllamacpp" ]; then
        echo "bench-generate: installing xllamacpp $xllamacpp into $venv" >&2
        "${LACUNA_PYTHON:-python3}" -m venv --clear "$venv"
        "$venv/bin/python" -m pip --disable-pip-version-check install --quiet "xllamacpp==$xllamacpp"
        touch "$venv/ready-$xllamacpp"
    fi
    export LACUNA_BENCH_SERVER="$PWD/$venv/bin/python $PWD/scripts/llama_server.py"
fi
exec cargo bench --locked --bench generate
