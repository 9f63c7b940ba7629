#!/usr/bin/env bash
# Brings tools that tests use into build/tools. Debian's promtool, which reads alert rules, is taken out of its package:
# installed, that would start a daemon. Built from Go are versitygw (S3), toxiproxy (a network that fails), and helm and
# compose, which read what is in deploy/. tests/tools/go.mod and go.sum pin those. Without a new enough Go none of them is
# built.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

unpack_promtool() {
  local folder=$root/build/tools/prometheus
  rm -rf "$folder"
  mkdir -p "$folder"
  (cd "$folder" && apt-get download prometheus && dpkg-deb -x prometheus_*.deb .) &&
    mv "$folder/usr/bin/promtool" "$root/build/tools/promtool" && rm -rf "$folder"
}
if [ ! -x "$root/build/tools/promtool" ] && command -v apt-get >/dev/null; then
  (step promtool 'Downloading promtool' unpack_promtool) || echo 'Tests that use promtool are skipped.'
fi

cd "$root/tests/tools"
need=$(sed -n 's/^go //p' go.mod)
have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || have=
have=${have#go}
if [ -z "$have" ] || [ "$(printf '%s\n' "$need" "$have" | sort -V | head -n 1)" != "$need" ]; then
  echo "versitygw, toxiproxy, helm and compose are not built: they need Go $need or newer, here is ${have:-none}. Tests that use them are skipped."
  exit
fi
export GOTOOLCHAIN=local GOFLAGS='-mod=readonly -trimpath -buildvcs=false'

# build NAME PACKAGE builds that tool unless it is there in the version that is pinned.
build() {
  local name=$1 package=$2 wanted
  wanted=$(sha256sum go.sum)
  [ "$(cat "$root/build/tools/$name.pinned" 2>/dev/null)" != "$wanted" ] || return 0
  mkdir -p "$root/build/tools"
  step "$name" "Building $name" go build -ldflags '-s -w' -o "$root/build/tools/$name" "$package"
  echo "$wanted" >"$root/build/tools/$name.pinned"
}

build versitygw github.com/versity/versitygw/cmd/versitygw
build toxiproxy github.com/Shopify/toxiproxy/v2/cmd/server
build helm helm.sh/helm/v3/cmd/helm
build compose github.com/compose-spec/compose-go/v2/cmd
