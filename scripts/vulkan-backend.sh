#!/usr/bin/env bash
# Builds libggml-vulkan.so, which lacuna loads at run time, from the llama.cpp that lacuna was built with.
#
#   scripts/vulkan-backend.sh
#
# Four minutes of one core; seconds when it is built already. Needed are cmake, a C++ compiler, Vulkan's loader, glslc, and headers of
# Vulkan 1.3.272 and of SPIR-V; as root on Debian and Ubuntu, what is missing is installed. Debian 12's headers are too old: those of
# Debian 13 are unpacked under target/backends, not installed. Mesa's lavapipe is a GPU in software, for tests:
#
#   GGML_VK_VISIBLE_DEVICES=0 lacuna doctor
#
# LACUNA_BACKENDS   where the library goes (default: what `lacuna doctor` says, $LACUNA_HOME/backends/VERSION)
# LACUNA_PYTHON     the Python to use (default: python3)
# JOBS              compilers at work at once (default: all cores)
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/backend.sh
. scripts/backend.sh

build=target/backends/vulkan
headers=target/backends/vulkan-headers
packages=(glslc libvulkan-dev spirv-headers mesa-vulkan-drivers)

# Installs what Debian and Ubuntu can install, if something is missing and this is root.
install() {
    local missing=()
    command -v dpkg >/dev/null || return 0
    for package in "${packages[@]}"; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    if [ ${#missing[@]} = 0 ] || [ "$(id -u)" != 0 ]; then return 0; fi
    say "apt-get install ${missing[*]}"
    { apt_install "${missing[@]}" || { apt-get update -q && apt_install "${missing[@]}"; }; } >"$build.apt.log" 2>&1 ||
        say "apt-get failed: $build.apt.log"
}

apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"; }

# The folder above vulkan/ of headers that are new enough, or nothing.
recent_headers() {
    local folder number
    for folder in ${VULKAN_SDK:+"$VULKAN_SDK/include"} /usr/local/include /usr/include "$PWD/$headers/usr/include"; do
        number=$(sed -n 's/^#define VK_HEADER_VERSION \([0-9]*\).*/\1/p' "$folder/vulkan/vulkan_core.h" 2>/dev/null || true)
        if [ "${number:-0}" -ge 272 ] && [ -e "$folder/vulkan/vulkan.hpp" ]; then echo "$folder"; return; fi
    done
}

# Debian 13's packages of headers, from where this Debian gets its packages.
unpack_headers() {
    local work
    [ "$(. /etc/os-release && echo "${ID:-} ${VERSION_ID:-}")" = "debian 12" ] || return 0
    say "unpacking Debian 13's headers in $headers"
    work=$(mktemp -d)
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    # The first source, and only its main suite.
    if [ -e /etc/apt/sources.list.d/debian.sources ]; then
        sed '/^$/q; s/^Suites:.*/Suites: trixie/' /etc/apt/sources.list.d/debian.sources >"$work/debian.sources"
    else
        grep -m 1 '^deb .* bookworm ' /etc/apt/sources.list | sed 's/ bookworm / trixie /' >"$work/debian.list"
    fi
    local options=(-q -o "Dir::Etc::sourcelist=$(ls "$work"/debian.*)" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::Lists=$work/lists"
        -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
    if (cd "$work" && apt-get "${options[@]}" update && apt-get "${options[@]}" download libvulkan-dev spirv-headers) >"$build.apt.log" 2>&1
    then
        mkdir -p "$headers"
        for package in "$work"/*.deb; do dpkg -x "$package" "$headers"; done
    else
        say "Debian 13's headers cannot be fetched: $build.apt.log"
    fi
    rm -r "$work"
}

mkdir -p target/backends
install
include=$(recent_headers)
if [ -z "$include" ]; then
    unpack_headers
    include=$(recent_headers)
fi
lacks=()
command -v cmake >/dev/null || lacks+=("cmake")
command -v g++ >/dev/null || lacks+=("g++")
command -v glslc >/dev/null || lacks+=("glslc (package glslc or shaderc)")
[ -n "$include" ] || lacks+=("headers of Vulkan 1.3.272 or newer, vulkan.hpp among them (package libvulkan-dev or vulkan-headers)")
ldconfig -p | grep -q 'libvulkan\.so ' || [ -n "${VULKAN_SDK:-}" ] || lacks+=("libvulkan.so (package libvulkan-dev or vulkan-loader-devel)")
if [ ${#lacks[@]} != 0 ]; then
    printf -v all '%s; ' "${lacks[@]}"
    say "cannot build, missing: ${all%; }"
    exit 1
fi
say "Vulkan headers in $include"
case $include in
    /usr/include | /usr/local/include) flags=() ;;
    *) flags=(-DCMAKE_CXX_FLAGS="-isystem $include") ;;
esac
configure "$build" -DGGML_VULKAN=ON -DVulkan_INCLUDE_DIR="$include" -DCMAKE_PREFIX_PATH="$(dirname "$include")" "${flags[@]}"
compile "$build" ggml-vulkan
link "$build" ggml-vulkan ${VULKAN_SDK:+-L"$VULKAN_SDK/lib"} -lvulkan -lpthread
