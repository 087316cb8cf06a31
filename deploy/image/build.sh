#!/usr/bin/env bash
# Build one image of this commit and tag it so: build.sh IMAGE TARGET BASE [OPTION OF docker build]...
# A tree with changes is refused; DIRTY=1 builds it all the same, and tag and label say so.
set -euo pipefail
cd "$(dirname "$0")/../.."
image=$1 target=$2 base=$3
shift 3

commit=$(git rev-parse HEAD)
lock_hash=$(sha256sum requirements.lock | cut -d ' ' -f 1)
tag=$commit is_dirty=false
if [ -n "$(git status --porcelain)" ]; then
  if [ "${DIRTY:-}" != 1 ]; then
    echo "Error: the tree differs from commit ${commit:0:12} (commit it, or set DIRTY=1: the tag will end in -dirty)" >&2
    exit 1
  fi
  tag=$commit-dirty is_dirty=true
fi
if [ "$target" != train ]; then
  image=$image-$target
fi

docker build "$@" --target "$target" --tag "$image:$tag" --build-arg "BASE=$base" \
  --build-arg "GIT_COMMIT=$commit" --build-arg "GIT_DIRTY=$is_dirty" --build-arg "LOCK_HASH=$lock_hash" .
echo "$image:$tag"
