# Sourced by the scripts that need programs of the system, which may be in /usr/sbin.
PATH=$PATH:/usr/sbin

# Ends the script unless the programs are there. Installs Debian's packages with those that are missing,
# where that is permitted, or prints which packages they are.
require_programs() {
    local program problem=
    for program in "$@"; do
        has_program "$program" || install_program "$program" || {
            echo "$program is missing: $(how_to_install "$program")" >&2
            problem=1
        }
    done
    [ -z "$problem" ] || exit 1
}

has_program() {
    case $1 in
        docker) docker compose version ;;
        # Debian has it in a package of its own.
        python3-venv) python3 -c 'import ensurepip' ;;
        *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

install_program() {
    local package root=
    package=$(debian_package "$1")
    [ "$(id -u)" -eq 0 ] || root='sudo -n'
    [ -n "$package" ] && command -v apt-get >/dev/null || return 1
    echo "installing $package" >&2
    {
        $root apt-get update -q && $root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qy --no-install-recommends "$package"
    } >/dev/null 2>&1 && has_program "$1"
}

how_to_install() {
    case $1 in
        cargo-deny) echo 'cargo install --locked cargo-deny' ;;
        fail2ban-regex | strace | systemd-analyze) echo "apt install $(debian_package "$1")" ;;
        docker) echo 'install Docker with Compose 2.23.1 or later, https://docs.docker.com/engine/install' ;;
        *) echo "apt install $(debian_package "$1"), or brew install $(homebrew_package "$1")" ;;
    esac
}

# Prints the package of Debian with a program, if there is one.
debian_package() {
    case $1 in
        cargo-deny | docker) ;;
        fail2ban-regex) echo fail2ban ;;
        node) echo nodejs ;;
        pgbench) echo postgresql ;;
        promtool) echo prometheus ;;
        systemd-analyze) echo systemd ;;
        *) echo "$1" ;;
    esac
}

# Prints the package of Homebrew with a program.
homebrew_package() {
    case $1 in
        npm) echo node ;;
        pgbench) echo postgresql ;;
        promtool) echo prometheus ;;
        python3 | python3-venv) echo python ;;
        *) echo "$1" ;;
    esac
}
