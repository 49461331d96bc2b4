#!/usr/bin/env bash
# Lock the container's packages anew, from pyproject.toml: exact versions and their SHA-256.
#
#   container/lock.sh
#
# Needs uv (pip install uv) and a network. torch is chosen by hand: container/torch-*.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Python is the one of the Dockerfile's base. Wheels alone: nothing is built while installing.
lock() { # FILE ARGUMENTS...
  uv pip compile pyproject.toml "${@:2}" \
    --excludes container/left-out.txt --python-version 3.11 \
    --python-platform x86_64-manylinux_2_28 --no-build \
    --default-index https://pypi.org/simple --upgrade --generate-hashes --no-annotate --no-header \
    --output-file "container/$1" >/dev/null
}

extras() { printf -- '--extra %s ' "$@"; }

# shellcheck disable=SC2046  # words are meant to be split
lock requirements-draw.txt container/requirements.in $(extras web japanese line)
# shellcheck disable=SC2046
lock requirements-all.txt container/requirements.in --constraint container/requirements-draw.txt \
  $(extras web japanese line train retrieval diffusers)
