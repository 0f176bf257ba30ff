#!/bin/sh
# Make this machine ready for netlab, then run COMMAND in netlab's environment:
#
#   sudo vagrant/provision.sh netlab up services
#   sudo vagrant/provision.sh pytest
#
# Needs root, apt and a shell; a bare Debian 12 or Ubuntu 24.04 container has that. It installs the Debian packages that
# are missing, makes a Python environment in /opt/netlab/venv with this checkout in it, and links `netlab`, `knetlab` and,
# where there is none, `kubectl` into /usr/local/bin. A second run finds everything there and takes about a second.
set -eu
umask 022

home=${NETLAB_HOME:-/opt/netlab}
venv=$home/venv
bin=${NETLAB_BIN:-/usr/local/bin}
packages="iproute2 iptables nftables conntrack ipset procps util-linux tcpdump iputils-ping curl bind9-dnsutils
 busybox-static nginx-light ca-certificates python3 python3-venv python3-dev gcc libc6-dev"

say() { echo "provision: $*" >&2; }
die() { echo "provision: $*" >&2; exit 1; }

checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
[ -f "$checkout/pyproject.toml" ] || die "no pyproject.toml in $checkout: run this script from its place in a checkout"
[ "$(id -u)" = 0 ] || die "this needs root: sudo $0${1:+ $*}"

# What COMMAND needs beyond netlab itself.
case "${1:-}" in
  pytest | py.test)
    extras=kubectl,test
    packages="$packages etcd-server etcd-client containernetworking-plugins" ;;
  ruff | mypy | lint-imports) extras=kubectl,test ;;
  *) extras=kubectl ;;
esac

# What apt-get or pip complained of first, in one line.
first_error() {
  if grep -q -i -e 'temporary failure in name' -e 'temporary failure resolving' -e 'network is unreachable' \
    -e 'could not connect' -e 'failed to establish a new connection' "$1"; then
    echo 'no network: the package servers are out of reach'
  elif grep -q -e 'CERTIFICATE_VERIFY_FAILED' -e 'certificate verify failed' "$1"; then
    echo "the package servers' certificate is not trusted here: is there a proxy whose CA /etc/ssl/certs should have?"
  else
    sed -n -e 's/^E: //p' -e 's/^ *ERROR: //p' "$1" | head -n 1
  fi
}

install_packages() {
  missing=
  for package in $packages; do
    case "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || :)" in
      installed) ;;
      *) missing="$missing $package" ;;
    esac
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || die "no apt-get here: install these yourself:$missing"
  say "installing Debian packages:$missing"
  export DEBIAN_FRONTEND=noninteractive
  # nginx and etcd are wanted as files; they must not begin to serve this machine
  policy=/usr/sbin/policy-rc.d
  quiet=
  case "$missing" in
    *nginx* | *etcd*)
      if [ ! -e "$policy" ]; then
        quiet=yes
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
      fi ;;
  esac
  log=$(mktemp)
  # shellcheck disable=SC2086
  if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    die "apt-get can't install them: $(first_error "$log") (all it said is in $log)"
  fi
  rm -f "$log"
  if [ -n "$quiet" ]; then
    rm -f "$policy"
    trap - EXIT
    if command -v systemctl >/dev/null; then
      for service in nginx etcd; do
        case "$missing" in *"$service"*) systemctl disable "$service" >/dev/null 2>&1 || : ;; esac
      done
    fi
  fi
}

# The environment is right when it was made from this checkout, this pyproject.toml and this Python, with these extras.
wanted_stamp() {
  printf '%s\n%s\n%s\n' "$checkout" "$(cksum <"$checkout/pyproject.toml")" "$(/usr/bin/python3 -V 2>&1)"
}

install_netlab() {
  stamp=$venv/.netlab
  have=$(cat "$stamp" 2>/dev/null || :)
  want=$(wanted_stamp)
  if [ "${have%%
extras:*}" = "$want" ] && [ -x "$venv/bin/netlab" ]; then
    case "$have" in
      *"extras:$extras" | *"extras:kubectl,test") return 0 ;;
    esac
  fi
  /usr/bin/python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' ||
    die "netlab needs Python 3.11 to 3.13, /usr/bin/python3 is $(/usr/bin/python3 -V 2>&1): use Debian 12 or Ubuntu 24.04"
  case "$have" in *"extras:kubectl,test") extras=kubectl,test ;; esac
  if [ ! -x "$venv/bin/python" ] || [ "$("$venv/bin/python" -V 2>&1 || :)" != "$(/usr/bin/python3 -V 2>&1)" ]; then
    say "making a Python environment in $venv"
    rm -rf "$venv"
    mkdir -p "$home"
    /usr/bin/python3 -m venv "$venv" || die "python3 can't make an environment in $venv"
  fi
  say "installing netlab from $checkout (with: $extras)"
  rm -f "$stamp"
  log=$(mktemp)
  if ! "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --quiet \
    --editable "$checkout[$extras]" >"$log" 2>&1; then
    die "pip can't install netlab: $(first_error "$log") (all it said is in $log)"
  fi
  rm -f "$log"
  # who may not write here, or has PYTHONDONTWRITEBYTECODE, would compile all of it at each start: 3 s for one of 1.5
  "$venv/bin/python" -m compileall -q "$checkout/netlab" || :
  printf '%s\nextras:%s\n' "$want" "$extras" >"$stamp"
}

# Another program called netlab (there is one: ipspace's) stays what `netlab` means; ours is then `knetlab` alone.
foreign_netlab() {
  login=
  if [ -n "${SUDO_USER:-}" ]; then login=$(getent passwd "$SUDO_USER" | cut -d: -f6); fi
  old_ifs=$IFS
  IFS=:
  for folder in $PATH $bin /usr/bin ${login:+"$login/.local/bin"}; do
    IFS=$old_ifs
    [ "$folder" != "$venv/bin" ] || continue
    if [ -x "$folder/netlab" ] && [ "$(readlink -f "$folder/netlab")" != "$(readlink -f "$venv/bin/netlab")" ]; then
      echo "$folder/netlab"
      return
    fi
  done
  IFS=$old_ifs
}

link() {
  mkdir -p "$bin"
  if [ "$(readlink "$bin/$1" 2>/dev/null || :)" = "$venv/bin/$1" ]; then return 0; fi
  [ ! -e "$bin/$1" ] || die "$bin/$1 is not netlab's: move it away"
  say "linking $bin/$1"
  ln -sfn "$venv/bin/$1" "$bin/$1"
}

install_packages
mkdir -p "$home"
exec 9>"$home/.lock"
flock 9
install_netlab
foreign=$(foreign_netlab)
if [ -n "$foreign" ]; then
  say "another netlab is at $foreign and is left alone: call this one knetlab"
else
  link netlab
fi
link knetlab
command -v kubectl >/dev/null || link kubectl
completions=/usr/share/bash-completion/completions
if [ -d "$completions" ] && [ ! -e "$completions/knetlab" ]; then
  "$venv/bin/netlab" completion bash | sed 's/-F \([a-z_]*\) netlab/-F \1 netlab knetlab/' >"$completions/knetlab"
  if [ -z "$foreign" ]; then ln -sfn knetlab "$completions/netlab"; fi
fi
if [ ! -e /proc/sys/net/bridge ] && command -v modprobe >/dev/null; then
  say "loading br_netfilter, as kubeadm wants it"
  modprobe br_netfilter 2>/dev/null || :
fi
exec 9>&-

[ $# -gt 0 ] || exit 0
PATH=$venv/bin:$PATH
export PATH
case "$1" in pytest | py.test) cd "$checkout" ;; esac
command -v "$1" >/dev/null || die "there is no command $1"
exec "$@"
