# Sourced by the scripts that need programs of the system, which may be in /usr/sbin.
PATH=$PATH:/usr/sbin

# Installs the programs that are missing, from the Debian packages of the same names.
require_programs() {
    local program root=
    [ "$(id -u)" -eq 0 ] || root='sudo -n'
    for program in "$@"; do
        command -v "$program" >/dev/null && continue
        { $root apt-get update -q && $root apt-get install -qy --no-install-recommends "$program"; } \
            >/dev/null || { echo "failed to install $program: install it" >&2; exit 1; }
    done
}
