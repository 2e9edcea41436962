#!/usr/bin/env bash
# Licences, sources and known advisories of all dependencies (deny.toml).
#
# Advisories are compared with RustSec's database, which is fetched with git. Where that cannot be reached this says so and checks the
# rest: an advisory is then not seen.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo "deny: cargo install cargo-deny (takes some minutes, once)" >&2
    if ! cargo install --locked cargo-deny >&2 </dev/null; then
        echo "deny: cargo-deny cannot be installed: licences and advisories were not checked" >&2
        exit 0
    fi
fi
cargo deny --log-level error check licenses bans sources
if database=$(cargo deny --log-level error fetch db 2>&1); then
    cargo deny --log-level error check advisories
else
    echo "deny: advisories were not checked; the database cannot be fetched: ${database##*$'\n'}" >&2
fi
