#!/usr/bin/env bash
# Make a base for the Dockerfile where no image registry can be reached: Debian 12 with Python 3.11, from a package mirror.
#   deploy/image/base.sh debian-python:bookworm [MIRROR] && make image BASE=debian-python:bookworm
# As root, with debootstrap and an engine that answers. This machine's certificates go with it: pip needs them.
set -euo pipefail
name=$1 mirror=${2:-http://deb.debian.org/debian}

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates bookworm "$root" "$mirror"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
tar -C "$root" -c . | docker import - "$name"
