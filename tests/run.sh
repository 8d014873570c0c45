#!/usr/bin/env bash
# Install what the tests need and run all of them: bash tests/run.sh [arguments for tox]
#
# On Debian and Ubuntu this first installs, through apt-get (as root, or with sudo), what is missing of Python's venv,
# Xvfb and the system libraries that Qt needs to open a real window. Elsewhere, install their like by hand.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    ca-certificates xvfb xauth libgl1 libegl1 libxkbcommon-x11-0 libfontconfig1 libglib2.0-0 libdbus-1-3
    libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0
)
# A Python that was not installed by apt-get brings its own ensurepip.
python3 -c "import ensurepip" 2>/dev/null || packages+=(python3 python3-venv)

if command -v apt-get >/dev/null; then
    missing=()
    for package in "${packages[@]}"; do
        [[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
    done
    if ((${#missing[@]})); then
        echo "Installing from the system's packages: ${missing[*]}"
        as_root=()
        ((EUID == 0)) || as_root=(sudo)
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    fi
fi

[[ -x .venv/bin/python ]] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet "tox>=4.40" "tox-uv>=1.30"
# Two at a time, because tests wait as often as they compute; what an environment printed is shown if it failed.
.venv/bin/python -m tox run-parallel --parallel 2 --parallel-no-spinner "$@"
