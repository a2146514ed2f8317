#!/bin/sh
# The .deb files in a Debian of its own. Minutes, most of them for the mirror, so `make test-clean-root` runs this and
# `make test` does not.
set -u
cases="deb_in_a_clean_root"
. "$(dirname "$0")/../../support/consumer.sh"
packages=$root/build/packages

# A Debian of its own with a compiler, and what the packages ask for, from the machine's mirrors; nothing of this project
# but the packages and the programs.
deb_in_a_clean_root() {
  command -v debootstrap || skip "no debootstrap"
  [ "$(id -u)" = 0 ] || skip "only root can make a root directory"
  . /etc/os-release
  mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE)' | awk -v r="$VERSION_CODENAME" '$2 == r { print $1; exit }')
  [ -n "$mirror" ] || skip "apt names no mirror"
  # What is needed comes with the root: dpkg alone installs the packages.
  debootstrap --variant=minbase --include=g++,libc6-dev,make,cmake,pkg-config,ca-certificates,libuv1-dev,libcurl4-openssl-dev \
    "$VERSION_CODENAME" clean "$mirror" || skip "debootstrap could not make a root from the mirror"
  cp "$packages"/libuvcurl0_*.deb "$packages"/libuvcurl-dev_*.deb "$ca" clean/root/
  cp -R src clean/root/src
  chroot clean sh -ec 'export LC_ALL=C; dpkg -i /root/*.deb; ldconfig -p | grep libuvcurl.so.0'
  chroot clean sh -exc "
    export LC_ALL=C
    cd /root
    for linkage in shared static; do
      for language in C CXX; do
        cmake -S src/find_package -B b-\$linkage-\$language -DLINKAGE=\$linkage -DLANGUAGE=\$language
        cmake --build b-\$linkage-\$language
        b-\$linkage-\$language/fetch --ca /root/ca.pem $(echo $urls)
      done
    done
    cc $c_flags src/fetch.c \$(pkg-config --cflags --libs uvcurl) -o fetch
    ./fetch --ca /root/ca.pem $(echo $urls)
    dpkg -r libuvcurl-dev libuvcurl0
    if ldconfig -p | grep libuvcurl; then exit 1; fi"
}

consumer_main "$@"
