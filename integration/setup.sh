#!/usr/bin/env bash
# Install Debian's packages that the tests, the demo and the benchmarks use; nothing if all are there.
set -euo pipefail

# The registry and the tools that check our images; what makes base images; what makes networks
# and full disks; and what a Python environment needs.
packages=(
  docker-registry skopeo umoci podman buildah crun catatonit jq apache2-utils
  mmdebstrap debian-archive-keyring busybox-static
  uidmap iproute2 util-linux libcap2-bin git openssh-client openssh-server gcc libc6-dev ca-certificates
  python3 python3-venv rpm db5.3-util nginx zstd curl isal
)
# The tests fetch azurite, which stands for Azure's storage, by npm. Who has a node that is not
# Debian's has its npm, too, and Debian's would not go with it.
command -v npm >/dev/null || packages+=(nodejs npm)

if ! command -v dpkg-query >/dev/null; then
  echo "setup: this is not Debian or Ubuntu; install the equivalents of: ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "setup: run this as root, or install sudo; missing packages: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "setup: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
  "${as_root[@]}" apt-get update --quiet &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install --quiet --yes --no-install-recommends "${missing[@]}"
}
if ! install >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  echo "setup: apt-get failed; the end of what it said is above" >&2
  exit 1
fi
