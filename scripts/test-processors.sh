#!/usr/bin/env bash
# Runs the binary and the tests of our kernels on emulated processors, from the oldest x86-64 on: one build must run on all of them.
#
#   scripts/test-processors.sh
#
# It needs Linux on x86-64 and qemu-user, which it installs where it may. Where that cannot be had it says so and succeeds.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() { echo "test-processors: SKIPPED: $*" >&2; exit 0; }

[ "$(uname -sm)" = "Linux x86_64" ] || skip "only the build for Linux on x86-64 is one for all processors"
qemu=$(command -v qemu-x86_64 || command -v qemu-x86_64-static || true)
if [ -z "$qemu" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get install -y -qq qemu-user >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq qemu-user; } >/dev/null 2>&1 || true
    qemu=$(command -v qemu-x86_64 || true)
fi
[ -n "$qemu" ] || skip "there is no qemu-x86_64 (package qemu-user)"

target=${CARGO_TARGET_DIR:-target}
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
# The unit tests of our kernels and of those beneath ggml, each a program. The whole workspace: for a part of it, dependencies may be built
# otherwise.
tests=$(cargo test --no-run --release --locked --workspace --message-format json |
    sed -n '/"name":"lacuna_\(ggml_\)\?kernels","src_path"/s/.*"executable":"\([^"]*\)".*/\1/p')
[ "$(wc -l <<<"$tests")" = 2 ] || { echo "test-processors: the tests were not found: $tests" >&2; exit 1; }

# on CPU KERNELS: on this processor, `lacuna doctor` names these kernels and the tests pass.
on() {
    # It fails as models are not fetched. What an emulator lacks of a processor it says on stderr.
    LACUNA_HOME=$home "$qemu" -cpu "$1" "$target/release/lacuna" doctor >"$home/doctor" 2>"$home/stderr" || true
    if ! grep -qE "^kernels +$2" "$home/doctor"; then
        cat "$home/doctor" "$home/stderr" >&2
        echo "test-processors: $1: \`lacuna doctor\` should say: kernels $2" >&2
        exit 1
    fi
    for test in $tests; do
        "$qemu" -cpu "$1" "$test" --quiet >"$home/tests" 2>&1 || { cat "$home/tests" >&2; echo "test-processors: $1: tests fail" >&2; exit 1; }
        echo "test-processors: $1: $(grep '^test result' "$home/tests")"
    done
}

on qemu64 "ggml's .portable."
on Nehalem "ggml's .portable."
on SandyBridge "ggml's .portable."
# Emulators before QEMU 7.2 have no AVX2.
if "$qemu" -version | head -1 | awk '{ split($3, v, "."); exit !(v[1] > 7 || (v[1] == 7 && v[2] >= 2)) }'; then
    on Haswell "lacuna's for avx2, self-test passed; the rest is ggml's .haswell."
fi
