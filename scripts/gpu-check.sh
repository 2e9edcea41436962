#!/usr/bin/env bash
# Checks and measures lacuna on a machine that has no cargo, no network and no model: correctness first, then speeds, then a table.
#
#   scripts/gpu-check.sh KIT                   all parts, with the files that scripts/gpu-kit.sh has put into the folder KIT
#   scripts/gpu-check.sh KIT facts doctor same speed rival large small      only these parts; the order is kept
#
# facts   the machine, and whether the libraries find theirs     speed   lacuna by slots, layout and format, on a model of 1B
# doctor  what lacuna says about the machine                     rival   llama.cpp's server on the same model, and its decoding alone
# loop    a whole run of lacuna, all stages                      large   all three on a model of 8B in F16
# same    texts and answers on the GPU against the CPU's         chosen  a whole run that measures and chooses its settings itself, on a
# small   a step of the small model, and PyTorch's                       model of 1B in Q4_0
#
# Each part has a time limit, and one that fails leaves the others alone. The results, results.jsonl and table.md among them, go to $OUT if
# it is set, else to results/gpu. On a CPU or a GPU in software the models are tiny and the numbers mean nothing: it shows that all parts
# run.
#
# GPU_CHECK_DEVICE  cuda, vulkan or cpu (default: cuda where nvidia-smi finds a GPU, else vulkan where the kit has its library, else cpu)
# GPU_CHECK_SIZE    full or tiny models (default: full with cuda)
# GPU_CHECK_BRIEF   1: only the settings that compare with llama.cpp's server
# GPU_CHECK_MODELS  where the models are written and kept, 25 GB when full (default: lacuna-gpu-check in the temporary folder)
# LACUNA_PYTHON     a Python with numpy, and for the part small with torch (default: python3)
set -uo pipefail
called=$PWD
cd "$(dirname "$0")/.." || exit

[ $# -ge 1 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
kit=$(cd "$called" && realpath "$1")
shift
[ -x "$kit/lacuna" ] || { echo "gpu-check: $kit is no kit: unpack the one that scripts/gpu-kit.sh has made" >&2; exit 2; }
"${LACUNA_PYTHON:-python3}" -c 'import numpy' || { echo "gpu-check: Python needs numpy" >&2; exit 2; }
python=${LACUNA_PYTHON:-python3}
export OUT=${OUT:-$PWD/results/gpu}
models=${GPU_CHECK_MODELS:-${TMPDIR:-/tmp}/lacuna-gpu-check}
results=$OUT/results.jsonl
prompts=$models/prompts.txt
mkdir -p "$OUT" "$models"

if [ -n "${GPU_CHECK_DEVICE:-}" ]; then device=$GPU_CHECK_DEVICE
elif nvidia-smi -L >/dev/null 2>&1; then device=cuda
elif compgen -G "$kit/backends/*/libggml-vulkan.so" >/dev/null; then device=vulkan
else device=cpu; fi
if [ -n "${GPU_CHECK_SIZE:-}" ]; then size=$GPU_CHECK_SIZE
elif [ "$device" = cuda ]; then size=full
else size=tiny; fi
layers=99
[ "$device" != cpu ] || layers=0
backend=$(compgen -G "$kit/backends/*/libggml-$device.so" | head -1)
# ggml leaves out a Vulkan device that is a CPU unless it is named.
[ "$device" != vulkan ] || export GGML_VK_VISIBLE_DEVICES=${GGML_VK_VISIBLE_DEVICES:-0}
# Back ends are found beside the executables; nothing of this user's is read or written.
export LACUNA_HOME=$models/home
# What Python has printed before a time limit is kept.
export PYTHONUNBUFFERED=1

say() { echo "gpu-check: $*" >&2; }

# model SHAPE FORMAT: the path of the model, which is written if it is not there.
model() {
    local path=$models/$1-$2.gguf
    # The large ones are written ahead, by another process.
    (
        flock 9
        [ -e "$path" ] || { "$python" scripts/synthetic_gguf.py "$1" "$2" "$path.part" && mv "$path.part" "$path"; }
    ) 9>"$path.lock" && echo "$path"
}

# record PART SECONDS COMMAND...: appends what the command prints, lines of JSON, with the part's name; it may fail.
record() {
    local part=$1 limit=$2
    shift 2
    # A GPU in software takes minutes to compile a model's shaders, once.
    [ "$size" = full ] || limit=900
    say "$part: ${*##*/}"
    timeout -k 5 "$limit" "$@" 2>>"$OUT/log.txt" | sed -u "s/^{/{\"part\": \"$part\", /" | grep --line-buffered '^{' >>"$results"
    local code=${PIPESTATUS[0]}
    [ "$code" = 0 ] || echo "{\"part\": \"$part\", \"error\": \"ended with $code: ${*##*/}\"}" >>"$results"
    return "$code"
}

part_facts() {
    {
        date -u +%FT%TZ
        uname -srm
        ldd --version | head -1
        echo "$(nproc) cores, $(grep -m 1 'model name' /proc/cpuinfo | cut -d: -f2)"
        free -g | sed -n 2p
        df -h "$models" | tail -1
        "$python" --version
        [ "$device" != cuda ] || nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,clocks.max.sm,power.limit --format=csv
        for file in ${backend:+"$backend"} "$kit"/lacuna "$kit"/speed; do
            [ ! -e "$file" ] || { echo "$file:"; ldd "$file" 2>&1; }
        done
    } | tee -a "$OUT/facts.txt"
    ! grep -q "not found" "$OUT/facts.txt"
}

part_doctor() {
    local code=0
    "$kit/lacuna" doctor >"$OUT/doctor.txt" 2>&1 || code=$?
    tee -a "$OUT/facts.txt" <"$OUT/doctor.txt"
    [ "$device" = cpu ] || return $code
    # On a CPU the kit's back ends cannot be loaded; any other fault counts.
    ! sed -n '/^lacuna: /,$p' "$OUT/doctor.txt" | grep -qv libggml-
}

part_same() {
    local shape format code=0
    for shape in tiny tiny-qwen2; do
        for format in F16 Q8_0 Q4_0; do
            same 60 "$(model $shape $format)" --texts 8 --tokens 16 --questions 16 --slots 4 --layout unified || code=1
        done
        same 60 "$(model $shape F16)" --texts 8 --tokens 16 --questions 16 --slots 4 --layout streams || code=1
    done
    [ "$size" = full ] || return $code
    same 60 "$(model llama-3.2-1b F16)" --texts 16 --tokens 16 --questions 32 --slots 16 || code=1
    return $code
}

same() { record same "$1" "$kit/speed" "${@:2}" --prompts "$prompts" --gpu-layers "$layers" --against-cpu; }

part_speed() {
    local format contexts slots=128,208 some=128 shape=llama-3.2-1b amount=(--texts 1536 --questions 2048)
    [ "$size" = full ] || { slots=4; some=4; shape=tiny; amount=(--texts 8 --tokens 8 --questions 8); }
    if [ -n "${GPU_CHECK_BRIEF:-}" ]; then
        [ "$size" = tiny ] || amount=(--texts 4096 --questions 2048)
        for contexts in 2 4; do
            speed 60 "$(model $shape F16)" "${amount[@]}" --slots "$some" --layout streams --contexts $contexts
        done
        [ "$size" = tiny ] || speed 60 "$(model $shape Q4_0)" "${amount[@]}" --slots "$some" --layout streams --contexts 4
        return
    fi
    speed 100 "$(model $shape F16)" "${amount[@]}" --slots "$slots" --layout streams,unified
    for contexts in 1 4; do
        speed 60 "$(model $shape F16)" "${amount[@]}" --slots "$some" --layout streams --contexts $contexts
    done
    speed 40 "$(model $shape F16)" "${amount[@]}" --slots "$some" --layout streams --copy-logits
    for format in Q8_0 Q4_0; do
        speed 60 "$(model $shape $format)" "${amount[@]}" --slots "$some" --layout streams
    done
    # Further settings belong here: another line of speed each, with what differs.
    speed 40 "$(model $shape F16)" "${amount[@]}" --slots "$some" --layout streams --top-k 0
    [ "$size" = tiny ] || speed 60 "$(model qwen2.5-1.5b F16)" "${amount[@]}" --slots 128 --layout streams
}

speed() { record speed "$1" "$kit/speed" "${@:2}" --prompts "$prompts" --gpu-layers "$layers"; }

part_rival() {
    local slots all="128 32" shape=llama-3.2-1b amount=(--texts 768 --questions 512)
    [ -z "${GPU_CHECK_BRIEF:-}" ] || { all=128; amount=(--texts 384); }
    [ "$size" = full ] || { all=4; shape=tiny; amount=(--texts 8 --tokens 8 --questions 8); }
    for slots in $all; do
        rivals rival 80 "$(model $shape F16)" "$slots" "${amount[@]}"
    done
}

# rivals PART SECONDS MODEL SLOTS OPTION...: llama.cpp's decoding without sampling, and its server in three ways.
rivals() {
    local options
    record "$1" 60 "$kit/decode" "$3" --gpu-layers "$layers" --slots "$4"
    for options in "" --unified --backend-sampling; do rival "$1" "$2" "$3" --slots "$4" "${@:5}" $options; done
}

# rival PART SECONDS MODEL OPTION...
rival() {
    local options=(--gpu-layers "$layers")
    [ "$device" = cpu ] || options+=(--backend "$backend")
    PYTHONPATH=$kit/site record "$1" "$2" "$python" scripts/gpu_rival.py "${@:3}" --prompts "$prompts" "${options[@]}"
}

part_large() {
    local path contexts
    [ "$size" = full ] || { say "large: only with full models"; return 0; }
    path=$(model llama-3.1-8b F16) || return
    if [ -n "${GPU_CHECK_BRIEF:-}" ]; then
        for contexts in 2 4; do
            record large 60 "$kit/speed" "$path" --prompts "$prompts" --gpu-layers "$layers" --texts 1536 --questions 1024 --slots 128 \
                --layout streams --contexts $contexts
        done
    else
        record large 120 "$kit/speed" "$path" --prompts "$prompts" --gpu-layers "$layers" --texts 1536 --questions 1024 --slots 128,208 \
            --layout streams,unified
    fi
    rivals large 80 "$path" 128 --texts 384
}

# A whole run on random models: seconds by stage.
part_loop() {
    local slots=128
    [ "$size" = full ] || slots=8
    loop loop F16 4000 --slots $slots --kv f16 --kv-unified false --n-batch 512 --weights as-is
}

# The same, with measurements of this machine in place of settings.
part_chosen() { loop chosen Q4_0 1000; }

# loop PART FORMAT ROWS OPTION...
loop() {
    local part=$1 shape=llama-3.2-1b rows=$3 small=() options=(--device gpu "${@:4}")
    [ "$size" = full ] || { shape=tiny; small=(--small-layers 2 --small-width 64); rows=60; }
    [ "$device" = cuda ] || options=(--gpu-layers "$layers" --small-device cpu "${@:4}")
    rm -rf "$models/$part"
    "$python" scripts/gpu_loop.py "$models/$part" "$(model $shape "$2")" --rows "$rows" "${small[@]}" || return
    date -u +%T >>"$OUT/$part.txt"
    (cd "$models/$part" && timeout -k 5 150 "$kit/lacuna" run task.toml --run run "${options[@]}") >>"$OUT/$part.txt" 2>&1 ||
        { tail -3 "$OUT/$part.txt"; return 1; }
    cp "$models/$part/run/seconds.jsonl" "$OUT/$part-seconds.jsonl"
    record "$part" 10 "$python" scripts/gpu_loop.py "$models/$part" --report
}

# The small model: models/benches/step_cuda.rs and the same shapes with PyTorch. small.txt has the comparison of gradients with the CPU's.
part_small() {
    [ -x "$kit/step_cuda" ] || { say "small: the kit has no step_cuda"; return 0; }
    [ "$device" = cuda ] || { record small 120 "$kit/step_cuda" --device cpu --model minilm-l6 --steps 2; return; }
    local code=0
    for precision in f32 bf16; do
        timeout -k 5 60 "$kit/step_cuda" --check --model minilm-l6 --precision $precision >>"$OUT/small.txt" 2>&1 || code=1
    done
    timeout -k 5 60 "$kit/step_cuda" --profile --model minilm-l6 --steps 20 >>"$OUT/small.txt" 2>&1 || code=1
    record small 90 "$kit/step_cuda" || code=1
    # Brief: what compiles slowest alone.
    record small 200 "$python" scripts/step_torch_cuda.py ${GPU_CHECK_BRIEF:+--model bert-base} || code=1
    return $code
}

# With its name in the environment, a part runs here; without, each runs in a process of its own with a time limit.
if [ -n "${GPU_CHECK_PART:-}" ]; then
    "part_$GPU_CHECK_PART"
    exit
fi
declare -A limits=([facts]=30 [doctor]=60 [same]=180 [speed]=220 [rival]=300 [large]=400 [small]=280 [loop]=200 [chosen]=200)
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(facts doctor same speed rival large small loop chosen)
: >"$results"
: >"$OUT/facts.txt"
: >"$OUT/log.txt"
say "$device, $size models in $models, results in $OUT"
if [ "$device" = cuda ]; then
    nvidia-smi --query-gpu=timestamp,utilization.gpu,memory.used,power.draw,clocks.sm --format=csv -lms 500 >"$OUT/gpu.csv" 2>/dev/null &
    watcher=$!
fi
"$python" scripts/synthetic_gguf.py --prompts 2048 "$prompts"
if [ "$size" = full ]; then
    case " ${parts[*]} " in *" same "* | *" speed "* | *" rival "* | *" loop "*) wanted=(llama-3.2-1b:F16) ;; esac
    case " ${parts[*]} " in *" speed "* | *" chosen "*) wanted+=(llama-3.2-1b:Q4_0) ;; esac
    [ -n "${GPU_CHECK_BRIEF:-}" ] || case " ${parts[*]} " in *" speed "*) wanted+=(llama-3.2-1b:Q8_0 qwen2.5-1.5b:F16) ;; esac
    case " ${parts[*]} " in *" large "*) wanted+=(llama-3.1-8b:F16) ;; esac
    for one in ${wanted[@]+"${wanted[@]}"}; do model "${one%:*}" "${one#*:}"; done >/dev/null &
    writer=$!
fi
for part in "${parts[@]}"; do
    declare -F "part_$part" >/dev/null || { say "$part is no part"; exit 2; }
done
failed=()
for part in "${parts[@]}"; do
    begun=$SECONDS
    limit=${limits[$part]:-60}
    [ "$size" = full ] || limit=3600
    GPU_CHECK_PART=$part GPU_CHECK_DEVICE=$device GPU_CHECK_SIZE=$size timeout -k 5 "$limit" bash scripts/gpu-check.sh "$kit" || failed+=("$part")
    say "$part took $((SECONDS - begun)) s"
done
[ -z "${writer:-}" ] || wait "$writer"
[ -z "${watcher:-}" ] || kill "$watcher"
"$python" scripts/gpu_table.py "$results" | tee "$OUT/table.md"
if [ ${#failed[@]} -gt 0 ]; then
    say "failed: ${failed[*]}"
    exit 1
fi
