#!/usr/bin/env bash
# Measures the generator against llama.cpp's server on the same cores, alternating, and prints a table.
#
#   scripts/bench-generate.sh            1,000 texts a stage, 5 alternations: about two hours on two cores
#   LACUNA_BENCH_TEXTS=100 scripts/bench-generate.sh
#
# LACUNA_BENCH_TEXTS         texts a stage and side
# LACUNA_BENCH_ALTERNATIONS  how often each side is measured (default: 5)
# LACUNA_BENCH_STAGES        only the stages whose name contains one of these words, separated by commas
# LACUNA_BENCH_SLOTS         widths that the server may choose from (default: 8,16,32)
# LACUNA_BENCH_THREADS       cores of both sides (default: all)
# LACUNA_BENCH_GGUF          the model (default: the fetched smollm2-135m-instruct)
# LACUNA_BENCH_SERVER        a command that starts a server in place of scripts/llama_server.py, with the same arguments and output
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.tools/bench-venv
xllamacpp=2026.10.11549

if [ -z "${LACUNA_BENCH_SERVER:-}" ]; then
    if [ ! -e "$venv/ready-$xllamacpp" ]; then
        echo "bench-generate: installing xllamacpp $xllamacpp into $venv" >&2
        "${LACUNA_PYTHON:-python3}" -m venv --clear "$venv"
        "$venv/bin/python" -m pip --disable-pip-version-check install --quiet "xllamacpp==$xllamacpp"
        touch "$venv/ready-$xllamacpp"
    fi
    export LACUNA_BENCH_SERVER="$PWD/$venv/bin/python $PWD/scripts/llama_server.py"
fi
if [ -f .tools/env ]; then
    # shellcheck source=/dev/null
    . ./.tools/env
fi
exec cargo bench --locked --bench generate
