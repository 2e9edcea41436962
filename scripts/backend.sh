# Sourced by cuda-backend.sh and vulkan-backend.sh: builds one of ggml's back ends as a library that lacuna can load.

say() { echo "backend: $*" >&2; }

# Where lacuna keeps its things, as src/files/home.rs says.
lacuna_home() { echo "${LACUNA_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/lacuna}"; }

# The llama.cpp inside the crate that lacuna is built with, and that crate's version.
read -r version llama < <(cargo metadata --format-version 1 --locked | "${LACUNA_PYTHON:-python3}" -c '
import json, os, sys
crate = next(package for package in json.load(sys.stdin)["packages"] if package["name"] == "llama-cpp-sys-2")
print(crate["version"], os.path.join(os.path.dirname(crate["manifest_path"]), "llama.cpp"))')

# configure FOLDER OPTION...
configure() {
    local folder=$1
    shift
    mkdir -p "$folder"
    cmake -S "$llama" -B "$folder" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON -DGGML_NATIVE=OFF \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_APP=OFF \
        -DLLAMA_BUILD_COMMON=OFF -DLLAMA_CURL=OFF "$@" >"$folder.log" 2>&1 || { cat "$folder.log" >&2; say "cmake failed"; exit 1; }
}

# compile FOLDER TARGET
compile() {
    say "compiling $2 in $1 (it goes on where it was stopped)"
    cmake --build "$1" --target "$2" -j "${JOBS:-$(nproc)}" >>"$1.log" 2>&1 ||
        { tail -40 "$1.log" >&2; say "the compiler failed: $1.log"; exit 1; }
}

# link FOLDER TARGET LIBRARY...: links the objects without libggml-base. Its functions come from lacuna itself, which exports them: two
# copies of ggml in one process would not know of each other.
link() {
    local folder=$1 target=$2 into objects
    shift 2
    into=${LACUNA_BACKENDS:-$(lacuna_home)/backends/$version}
    mkdir -p "$into"
    mapfile -t objects < <(find "$folder/ggml/src" -path "*/$target.dir/*.o" | sort)
    # Written beside and moved: a lacuna that runs now keeps the library that it has mapped.
    g++ -shared -s -o "$into/.lib$target.so" "${objects[@]}" "$@"
    mv "$into/.lib$target.so" "$into/lib$target.so"
    say "$into/lib$target.so, $(du -m "$into/lib$target.so" | cut -f1) MiB"
}
