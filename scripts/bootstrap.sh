#!/usr/bin/env bash
# Checks that everything a build needs is there, installs what is missing, and says what it does.
#
#   scripts/bootstrap.sh          a C++ compiler, make, cmake, libclang with headers, python3 with pip
#   scripts/bootstrap.sh --test   the same, and cargo-nextest
#
# Missing tools are installed with apt, dnf or brew. Without permission for that, cmake and libclang are installed from PyPI into
# .tools/wheels. The environment variables that a build needs are written to .tools/env, which the Makefile reads.
#
# LACUNA_BOOTSTRAP=wheels   takes cmake and libclang from PyPI even if the system has them
# LACUNA_PYTHON             the Python to use (default: python3)
set -euo pipefail
cd "$(dirname "$0")/.."

python=${LACUNA_PYTHON:-python3}
wheels=$PWD/.tools/wheels

say() { echo "bootstrap: $*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
# Whether one of the arguments exists: a pattern that the shell has expanded.
exists() { for found in "$@"; do if [ -e "$found" ]; then return 0; fi; done; return 1; }

# --- What is installed ------------------------------------------------------------------------------------------------

have_compiler() {
    # On macOS, /usr/bin/c++ exists even without a compiler: it only offers to install one.
    if [ "$(uname -s)" = Darwin ] && ! xcode-select -p >/dev/null 2>&1; then return 1; fi
    have c++ || have g++ || have clang++
}
have_libclang() {
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        [ -f "$LIBCLANG_PATH" ] || exists "$LIBCLANG_PATH"/libclang*.so* "$LIBCLANG_PATH"/libclang*.dylib
        return
    fi
    if [ "$(uname -s)" = Darwin ]; then
        exists /Library/Developer/CommandLineTools/usr/lib/libclang.dylib \
            /Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib/libclang.dylib \
            /opt/homebrew/opt/llvm/lib/libclang.dylib /usr/local/opt/llvm/lib/libclang.dylib
        return
    fi
    # The library alone is not enough: bindgen needs the compiler's own headers (stddef.h).
    exists /usr/lib/llvm*/lib/libclang*.so* /usr/lib/*-linux-gnu*/libclang*.so* /usr/lib64/libclang.so* /usr/lib/libclang.so* &&
        exists /usr/lib/llvm*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h /usr/lib64/clang/*/include/stddef.h
}
# Starting Python is the only slow check, so the interpreter that was found to have pip is remembered.
have_pip() {
    local here
    here=$(command -v "$python") || return 1
    if [ "$(cat .tools/python-with-pip 2>/dev/null)" = "$here" ]; then return; fi
    "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("pip") is None)' >/dev/null 2>&1 || return
    echo "$here" >.tools/python-with-pip
}
from_wheels() { [ "${LACUNA_BOOTSTRAP:-}" = wheels ]; }
have_wheels() { exists "$wheels"/cmake/data/bin/cmake && exists "$wheels"/clang/native/libclang*; }

missing_tools() {
    have_compiler || echo compiler
    have make || echo make
    from_wheels || have_wheels || have cmake || echo cmake
    from_wheels || have_wheels || have_libclang || echo libclang
    have_pip || echo pip
}

# --- System packages --------------------------------------------------------------------------------------------------

may_install() { [ "$(id -u)" = 0 ] || { have sudo && sudo -n true 2>/dev/null; }; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

apt_install() {
    say "apt-get install $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2 </dev/null && return
    say "trying again after apt-get update"
    as_root apt-get update >&2 </dev/null &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2 </dev/null
}
dnf_install() { say "dnf install $*"; as_root dnf install -y "$@" >&2 </dev/null; }
brew_install() { say "brew install $*"; brew install "$@" >&2 </dev/null; }

# package_of MANAGER TOOL: the packages that contain the tool.
package_of() {
    case $1:$2 in
        apt:compiler) echo build-essential ;;
        apt:libclang) echo libclang-dev ;;
        apt:pip) echo python3 python3-pip python3-venv ;;
        dnf:compiler) echo gcc gcc-c++ ;;
        dnf:libclang) echo clang-devel ;;
        dnf:pip) echo python3 python3-pip ;;
        brew:compiler) ;; # only xcode-select installs it
        brew:libclang) echo llvm ;;
        brew:pip) echo python ;;
        *) echo "$2" ;;
    esac
}

install_from_system() {
    local manager packages=""
    if have apt-get && may_install; then manager=apt
    elif have dnf && may_install; then manager=dnf
    elif have brew; then manager=brew
    else say "no permission to install system packages, or none of apt, dnf and brew"; return 0; fi
    for tool in $1; do packages="$packages $(package_of "$manager" "$tool")"; done
    # shellcheck disable=SC2086 # a list of words
    if [ -n "${packages# }" ]; then "${manager}_install" $packages || say "$manager could not install:$packages"; fi
}

# --- PyPI -------------------------------------------------------------------------------------------------------------

install_wheels() {
    if have_wheels; then return; fi
    have_pip || die "cmake and libclang are missing, and so is pip, which could install them. $by_hand"
    say "pip install --target .tools/wheels cmake libclang"
    PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check --upgrade --only-binary :all: --target "$wheels" cmake libclang >&2
}

# The compiler's own headers (stddef.h), which the libclang wheel lacks.
compiler_headers() {
    local cxx folder
    for cxx in c++ g++ clang++; do
        have $cxx || continue
        for folder in "$($cxx -print-file-name=include 2>/dev/null)" "$($cxx -print-resource-dir 2>/dev/null)/include"; do
            if [ -f "$folder/stddef.h" ]; then echo "$folder"; return; fi
        done
    done
    die "found no C++ compiler's stddef.h. $by_hand"
}

# --- The build's environment ------------------------------------------------------------------------------------------

environment() {
    echo "# Written by scripts/bootstrap.sh."
    have cargo || echo "export PATH=\"$cargo_bin:\$PATH\""
    if from_wheels || ! have cmake; then
        echo "export PATH=\"$wheels/cmake/data/bin:\$PATH\""
    fi
    if from_wheels || ! have_libclang; then
        echo "export LIBCLANG_PATH=\"$wheels/clang/native\""
        echo "export BINDGEN_EXTRA_CLANG_ARGS=\"-I$(compiler_headers)\""
    fi
}

# --- Main -------------------------------------------------------------------------------------------------------------

by_hand="Install by hand: a C++ compiler, make, cmake, libclang with its headers, python3 with pip
  Debian, Ubuntu:  apt install build-essential cmake libclang-dev python3-pip python3-venv
  Fedora:          dnf install gcc-c++ make cmake clang-devel python3-pip
  macOS:           xcode-select --install; brew install cmake llvm python"

cargo_bin=${CARGO_HOME:-${HOME:-}/.cargo}/bin
have cargo || [ -x "$cargo_bin/cargo" ] || die "Rust is missing: install it from https://rustup.rs, then try again"

mkdir -p .tools
missing=$(missing_tools)
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # a list of words
    say "missing:" $missing
    install_from_system "$missing"
    hash -r
fi
have_compiler || die "found no C++ compiler. $by_hand"
have make || die "found no make. $by_hand"
have_pip || say "$python has no pip: 'lacuna fetch' cannot download from PyPI. $by_hand"
if from_wheels || ! have cmake || ! have_libclang; then install_wheels; fi

new_environment=$(environment)
if [ ! -f .tools/env ] || [ "$new_environment" != "$(cat .tools/env)" ]; then
    echo "$new_environment" >.tools/env
fi

if [ "${1:-}" = --test ] && ! have cargo-nextest && [ ! -x "$cargo_bin/cargo-nextest" ]; then
    say "cargo install cargo-nextest (takes some minutes, once)"
    # shellcheck source=/dev/null
    . ./.tools/env
    cargo install --locked cargo-nextest >&2 </dev/null
fi
