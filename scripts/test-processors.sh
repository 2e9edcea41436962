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
    apt-get install -y -qq qemu-user >/dev/null 2>&1 || true
    qemu=$(command -v qemu-x86_64 || true)
fi
[ -n "$qemu" ] || skip "there is no qemu-x86_64 (package qemu-user)"

target=${CARGO_TARGET_DIR:-target}
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
tests=$(cargo test --no-run --release --locked -p lacuna-kernels --lib --message-format json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
for cpu in qemu64 Nehalem SandyBridge Haswell; do
    # It fails as models are not fetched; only a signal is of interest. What an emulator lacks of a processor it says on stderr.
    status=0
    LACUNA_HOME=$home "$qemu" -cpu "$cpu" "$target/release/lacuna" doctor >"$home/doctor" 2>"$home/stderr" || status=$?
    kernels=$(grep '^kernels' "$home/doctor" || true)
    [ "$status" -lt 128 ] && [ -n "$kernels" ] || { cat "$home/doctor" "$home/stderr" >&2; echo "test-processors: $cpu: exit status $status" >&2; exit 1; }
    "$qemu" -cpu "$cpu" "$tests" --quiet >"$home/tests" 2>&1 || { cat "$home/tests" >&2; echo "test-processors: $cpu: tests fail" >&2; exit 1; }
    echo "test-processors: $cpu: $kernels; $(grep '^test result' "$home/tests")"
done
