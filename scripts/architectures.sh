#!/usr/bin/env bash
# Whether each architecture of scripts/architectures.py writes and judges, many texts at once, as one text at a time does, or is refused
# with its reason. Prints a table.
#
#   scripts/architectures.sh FOLDER     FOLDER is made by scripts/architectures.py
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(cd "$1" && pwd)
lacuna=${LACUNA:-target/release/lacuna}
tests='test(/llama::tests::(posteriors_do_not|hidden_states_do_not|likelihoods_do_not|greedy_texts|every_layout|every_request)/)'
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT

echo "| model | architecture | tests | what is said |"
echo "| --- | --- | --- | --- |"
for file in "$folder"/*.gguf; do
    name=$(basename "$file" .gguf)
    said=$(LACUNA_HOME=$home "$lacuna" doctor "$file" 2>&1 >"$home/report" | tail -1) || true
    if [ -n "$said" ]; then
        echo "| $name | | refused | ${said#*.gguf: } |"
        continue
    fi
    architecture=$(sed -n "s/^| [^|]*$name.gguf *| \([^ ]*\) .*/\1/p" "$home/report")
    outcome=$(LACUNA_TEST_GGUF=$file cargo nextest run --release --locked --no-fail-fast -p lacuna --lib -E "$tests" 2>&1 || true)
    passed=$(grep -c '^ *PASS' <<<"$outcome" || true)
    failed=$(sed -n 's/^ *FAIL.*llama::tests::\([a-z_]*\).*/\1/p' <<<"$outcome" | sort -u | paste -sd, -)
    # What no hidden states can be read of is judged by its prompt alone.
    said=$(grep -o 'only those of 1..=0' <<<"$outcome" | head -1 || true)
    [ -z "$said" ] || { failed=${failed/hidden_states_do_not_depend_on_the_batch_or_on_the_layers_above/}; said="its hidden states cannot be read"; }
    echo "| $name | $architecture | $passed passed${failed:+, failed: $failed} | $said |"
done
