#!/usr/bin/env bash
# Compares the logits of a model trained by lacuna with those that Hugging Face transformers computes from the same files.
#
#   scripts/interop.sh [MODEL]   MODEL is a model folder (default: the newest run's in runs/)
#
# LACUNA   the lacuna binary (default: target/release/lacuna)
# TEXTS    an input file for `lacuna predict` (default: 64 texts of the demo's test data)
# PIP_EXTRA_INDEX_URL   pip's own setting: an index of CPU builds of torch saves gigabytes of CUDA libraries
set -euo pipefail
cd "$(dirname "$0")/.."

lacuna=${LACUNA:-target/release/lacuna}
venv=.tools/interop-venv
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

model=${1:-}
if [ -z "$model" ]; then
    # shellcheck disable=SC2012 # ls sorts by time, and we chose the names
    model=$(ls -td runs/*/model 2>/dev/null | head -n 1 || true)
    [ -n "$model" ] || { echo "interop: no run has a model yet; run 'make demo' or name a folder with MODEL=" >&2; exit 1; }
fi

if [ ! -e "$venv/ready" ]; then
    echo "interop: installing torch and transformers into $venv" >&2
    "${LACUNA_PYTHON:-python3}" -m venv --clear "$venv"
    pip="$venv/bin/python -m pip --disable-pip-version-check install --quiet"
    $pip torch transformers
    touch "$venv/ready"
fi

texts=${TEXTS:-}
if [ -z "$texts" ]; then
    texts=$work/texts
    gold=$("$lacuna" fetch --where movie-snippets)
    head -n 64 "$gold/test.jsonl" | "$venv/bin/python" -c 'import json, sys
for line in sys.stdin: print(json.loads(line)["text"])' >"$texts"
fi

"$lacuna" predict "$model" --logits <"$texts" >"$work/predictions.jsonl"
"$venv/bin/python" scripts/interop.py "$model" "$work/predictions.jsonl"
