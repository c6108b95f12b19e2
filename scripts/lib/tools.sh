# For sourcing: names a missing tool and what to do about it.
need() { # tool, how to get it
    command -v "$1" >/dev/null 2>&1 || { echo "$(basename "$0"): $1 is missing; to get it: $2" >&2; exit 1; }
}
