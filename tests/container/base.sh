#!/usr/bin/env bash
# Make a stand-in for debian:bookworm-slim where no registry of images can be reached.
#
#   tests/container/base.sh IMAGE
#
# debootstrap's smallest system, less what Debian's slim images leave out too. Needs root.
# Environment: MIRROR, where Debian's packages come from; PODMAN, the command and its flags.
set -euo pipefail
image=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

debootstrap --variant=minbase bookworm "$work/root" "${MIRROR:-http://deb.debian.org/debian}" \
  >"$work/log" || { tail "$work/log" >&2; exit 1; }
# As in Docker's images of Debian: no documentation, nothing of apt's kept.
cat >"$work/root/etc/dpkg/dpkg.cfg.d/docker" <<'DPKG'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
DPKG
cat >"$work/root/etc/apt/apt.conf.d/docker-clean" <<'APT'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT
find "$work/root/usr/share/doc" -type f ! -name copyright -delete
rm -rf "$work/root"/usr/share/{info,locale,man}/* "$work/root"/var/cache/apt/{archives/*.deb,*.bin} \
  "$work/root"/var/lib/apt/lists/* "$work/root"/var/log/*.log
tar -C "$work/root" -c . | ${PODMAN:-podman} import --quiet - "$image"
