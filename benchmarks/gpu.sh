#!/usr/bin/env bash
# What a CUDA device is asked, in at most 8 minutes: speed beside diffusers, end to end, memory of
# every plan, streaming, and the tests that need one. Results go to "$OUT", a file for each part.
#
#     OUT=somewhere bash benchmarks/gpu.sh          measure
#     bash benchmarks/gpu.sh --dry                  list the commands and run none
set -u
cd "$(dirname "$0")/.."
OUT="${OUT:-benchmarks/results/gpu}"
PYTHON="${PYTHON:-python}"
DRY="${1:-}"

if [ -n "$DRY" ] && [ "$DRY" != --dry ]; then
    echo "gpu.sh: $DRY given; expected --dry or nothing" >&2
    exit 2
fi
if [ -z "$DRY" ]; then
    if ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
        echo "gpu.sh: there is no CUDA device that torch can use; run it on a machine with one," \
            "or with --dry to see what it would do" >&2
        exit 2
    fi
    mkdir -p "$OUT"
fi

ON_CARD=test_on_a_card_the_pictures_are_those_of_the_plain_way
failed=0
# part NAME SECONDS COMMAND...: run within a limit; its output is NAME.md, what it says NAME.log.
part() {
    local name=$1 limit=$2
    shift 2
    echo "[$limit s] $* > $OUT/$name.md"
    [ -n "$DRY" ] && return
    timeout "$limit" "$@" > "$OUT/$name.md" 2> "$OUT/$name.log" || {
        echo "$name: exit code $?" | tee -a "$OUT/failed.txt"
        failed=1
    }
}

part tests 85 "$PYTHON" -m pytest -q -p no:cacheprovider tests/ldm/kernels/cuda/test_on_cuda.py \
    tests/ldm/offload/test_on_cuda.py "tests/ldm/pipelines/test_overlapping.py::$ON_CARD"
part end-to-end-1 125 "$PYTHON" benchmarks/end_to_end.py --device cuda --batch 1 --rounds 5 \
    --ways ours "ours, graphs without the update" "ours, graphs" "ours, kernels and graphs" \
    "ours, compiled" diffusers "diffusers, compiled"
part end-to-end-32 95 "$PYTHON" benchmarks/end_to_end.py --device cuda --batch 32 --rounds 1 \
    --ways ours "ours, kernels and graphs" diffusers
# Decoding beside the next batch's steps, with and without.
part overlap 40 "$PYTHON" benchmarks/end_to_end.py --device cuda --batch 4 --batches 4 --rounds 2 \
    --steps 20 --ways "ours, kernels and graphs" "ours, kernels, graphs and overlap"
part sampling 50 "$PYTHON" benchmarks/sampling.py --device cuda --dtype float16 --size 512 \
    --steps 10 --rounds 5
# Streaming against transfer and compute: the plans' rows of pictures a minute, beside what is moved.
part memory 85 "$PYTHON" benchmarks/memory.py --device cuda --size 512 --batch 1 --steps 5 \
    --ways resident "resident, tiled" turbo four-part stream diffusers
exit "$failed"
