#!/bin/sh
# Installs what is missing for `make demo` (setup.sh demo), for a CMake build (setup.sh cmake-embedded, cmake-host, cmake-node,
# cmake-packages), for `make bench` (setup.sh bench), or for everything but that (setup.sh).
# On Debian and Ubuntu by apt; elsewhere it names what to install and stops.
set -eu
what=${1:-all}

say() { printf 'setup: %s\n' "$*"; }

missing_tools=
for tool in cargo cc make perl pkg-config; do
  command -v "$tool" >/dev/null 2>&1 || missing_tools="$missing_tools $tool"
done
case "$missing_tools" in
*cargo*)
  say "cargo is missing; install Rust from https://rustup.rs or your distribution and run this again"
  exit 1
  ;;
esac

if ! command -v apt-get >/dev/null 2>&1; then
  need=$missing_tools
  has_module() { pkg-config --exists "$1" 2>/dev/null || need="$need $1-development-files"; }
  case $what in
  cmake-host | cmake-node) ;;
  *) has_module openssl ;;
  esac
  case $what in
  cmake-host | cmake-packages | bench | all) has_module libuv && has_module libcurl ;;
  esac
  case $what in
  cmake-* | bench | all) command -v cmake >/dev/null 2>&1 || need="$need cmake" ;;
  esac
  case $what in
  cmake-node | all) command -v npm >/dev/null 2>&1 || need="$need node-and-npm" ;;
  esac
  [ "$what" = cmake-node ] ||
    ls /usr/lib*/libclang*.so* /usr/lib/llvm*/lib/libclang*.so* /usr/lib/*/libclang*.so* \
      >/dev/null 2>&1 || need="$need libclang"
  if [ "$what" = bench ]; then
    has_module libevent && has_module libnghttp2
    for tool in openssl valgrind strace gnuplot; do
      command -v "$tool" >/dev/null 2>&1 || need="$need $tool"
    done
    [ -e /usr/include/ev.h ] || need="$need libev-development-files"
  fi
  if [ "$what" = all ]; then
    for tool in c++ openssl valgrind nm readelf objcopy ninja luajit python3 curl git fcgiwrap; do
      command -v "$tool" >/dev/null 2>&1 || need="$need $tool"
    done
    luajit -e 'require "luv"' >/dev/null 2>&1 || need="$need luv-for-luajit"
    for tool in nginx squid vsftpd; do
      command -v $tool >/dev/null 2>&1 || [ -x /usr/sbin/$tool ] || need="$need $tool"
    done
  fi
  [ -z "$need" ] && exit 0
  say "please install:$need"
  exit 1
fi

known() { apt-cache show "$1" >/dev/null 2>&1; }
has() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# libcurl's and libuv's sources come with the crates; these are what they are built with. ca-certificates is the bundle
# that the embedded libcurl looks for.
packages="gcc libc6-dev make perl pkg-config libssl-dev ca-certificates"
case $what in
cmake-embedded) packages="$packages cmake binutils" ;;
cmake-host) packages="gcc libc6-dev make perl pkg-config cmake binutils libuv1-dev libcurl4-openssl-dev" ;;
cmake-packages) packages="$packages cmake binutils libuv1-dev libcurl4-openssl-dev file dpkg-dev" ;;
cmake-node) packages="gcc libc6-dev make perl cmake binutils" ;;
bench) packages="$packages cmake binutils libuv1-dev libcurl4-openssl-dev openssl valgrind strace libc6-dbg libevent-dev \
libev-dev libnghttp2-dev gnuplot-nox" ;;
all)
  packages="$packages cmake binutils libuv1-dev libcurl4-openssl-dev g++ openssl nginx valgrind libc6-dbg"
  # Hosts of the tests' own: another build tool, a scripting language with a libuv loop.
  packages="$packages ninja-build luajit lua-luv"
  # node-gyp is written in python3; file and dpkg-dev are what cpack finds a package's dependencies with.
  packages="$packages python3 file dpkg-dev"
  # Other people's programs and servers, for test-perform.
  packages="$packages curl git squid vsftpd fcgiwrap"
  ;;
esac

need=
for package in $packages; do
  has "$package" || need="$need $package"
done
# Debian's own nodejs takes libuv and OpenSSL from the system; tools/node.sh then fetches another with its npm.
case $what in
cmake-node | all) command -v npm >/dev/null 2>&1 || need="$need nodejs npm" ;;
esac
# The declarations of libuv are made by bindgen, which loads libclang and its own <stddef.h>. The full libclang-dev has
# both, and 250 MB of other things.
if ! has libclang-dev && ! has libclang1-14; then
  libclang=yes
elif has libclang1-14 && ! has libclang-common-14-dev && ! has libclang-dev; then
  libclang=yes
else
  libclang=
fi
# The libcurl that is not to be mixed with the other has two names.
gnutls=
if [ "$what" = all ] && ! has libcurl3-gnutls && ! has libcurl3t64-gnutls; then
  gnutls=yes
fi
[ "$what" != cmake-node ] || libclang=
[ -z "$need$libclang$gnutls" ] && exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null 2>&1 || {
    say "run as root, or install:$need libclang-dev${gnutls:+ libcurl3-gnutls}"
    exit 1
  }
  sudo=sudo
fi

say "updating the list of packages"
$sudo apt-get update -qq
if [ -n "$libclang" ]; then
  if known libclang1-14; then
    need="$need libclang1-14 libclang-common-14-dev"
  else
    need="$need libclang-dev"
  fi
fi
if [ -n "$gnutls" ]; then
  if known libcurl3t64-gnutls; then
    need="$need libcurl3t64-gnutls"
  else
    need="$need libcurl3-gnutls"
  fi
fi

# The packages of nginx, squid and vsftpd start servers, which nobody has asked for.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
  $sudo chmod +x $policy
  trap '$sudo rm -f $policy' EXIT
fi
say "installing$need"
log=$(mktemp)
# shellcheck disable=SC2086 # a list of words
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $need >"$log" 2>&1 || {
  cat "$log"
  say "apt-get could not install:$need"
  exit 1
}
rm -f "$log"
