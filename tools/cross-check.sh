#!/bin/sh
# Cross-compiles uvcurl for 64-bit ARM as docs/cross.md says, and runs what comes out under emulation. For Debian and
# Ubuntu; needs gcc-aarch64-linux-gnu, qemu-user, cmake. ARM's libraries, and Rust's standard library for ARM if rustc has
# none, are unpacked into build/cross from the distribution's packages, so the machine's own stay as they are.
set -eu
target=aarch64-unknown-linux-gnu
cross=$PWD/build/cross
sysroot=$cross/sysroot

say() { printf 'cross-check: %s\n' "$*"; }
fail() {
  say "FAILED: $*"
  exit 1
}
for tool in aarch64-linux-gnu-gcc qemu-aarch64 cmake cargo perl apt-get dpkg; do
  command -v $tool >/dev/null || fail "$tool is missing; apt-get install gcc-aarch64-linux-gnu qemu-user cmake"
done
mkdir -p "$cross"

# ---- ARM's libraries ----

# An apt of its own: both architectures, nothing installed, the machine's sources.
private_apt() {
  [ -e "$cross/apt/ready" ] && return
  mkdir -p "$cross/apt/lists/partial" "$cross/apt/cache/archives/partial"
  : >"$cross/apt/status"
  cat >"$cross/apt/apt.conf" <<END
APT::Architectures { "$(dpkg --print-architecture)"; "arm64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Dir::State::lists "$cross/apt/lists";
Dir::State::status "$cross/apt/status";
Dir::Cache "$cross/apt/cache";
END
  say "reading the lists of packages"
  APT_CONFIG=$cross/apt/apt.conf apt-get update -qq >"$cross/apt/log" 2>&1 || true
  : >"$cross/apt/ready"
}

# What installing the packages would bring, as far as the names match, unpacked into a directory.
unpack() { # directory, pattern, package ...
  into=$1
  names=$2
  shift 2
  private_apt
  list=$(APT_CONFIG=$cross/apt/apt.conf apt-get install -s "$@" 2>"$cross/apt/log" |
    sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) .*\[\([a-z0-9]*\)\]).*/\1 \2 \3/p' |
    awk -v names="$names" '{ sub(/:.*/, "", $1) } $1 ~ names { print $1 ":" $3 "=" $2 }')
  [ -n "$list" ] || fail "apt knows no $*: $(cat "$cross/apt/log")"
  mkdir -p "$into.part" "$into.debs"
  # shellcheck disable=SC2086 # a list of words
  (cd "$into.debs" && APT_CONFIG=$cross/apt/apt.conf apt-get download -qq $list >/dev/null)
  for deb in "$into.debs"/*.deb; do
    dpkg -x "$deb" "$into.part"
  done
  rm -rf "$into.debs"
  mv "$into.part" "$into"
}

if [ ! -d "$sysroot" ]; then
  say "unpacking ARM's libuv, libcurl and what they need"
  unpack "$sysroot" '^(lib|linux-libc-dev|zlib|gcc-.*-base)' \
    libuv1-dev:arm64 libcurl4-openssl-dev:arm64 libc6-dev:arm64
fi

# ---- Rust for ARM ----

rustc=$(command -v rustc)
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
  # Debian's newest Rust has the standard library in a package for each architecture, and its own compiler to go with it.
  if [ ! -d "$cross/rust" ]; then
    say "rustc has no standard library for $target; unpacking the distribution's"
    unpack "$cross/rust" '^(rustc-web|libstd-rust-web|libllvm|libz3|libedit|libxml2|libicu|libbsd|libmd)' \
      rustc-web libstd-rust-web-dev:arm64 ||
      fail "no standard library for $target; rustup target add $target"
  fi
  rustc=$cross/rustc
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$cross/rust/usr/lib/$(cc -dumpmachine)" \
    "$cross/rust/usr/bin/rustc" >"$rustc"
  chmod +x "$rustc"
fi

# ---- building, and running ----

# A libclang would be found if it were looked for.
say "building"
start=$(date +%s)
rm -rf "$cross/build"
LIBCLANG_PATH=/nonexistent cmake -S . -B "$cross/build" -DCMAKE_BUILD_TYPE=Release -DUVCURL_RUSTC="$rustc" \
  -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/toolchains/aarch64-linux-gnu.cmake" -DCMAKE_SYSROOT="$sysroot" \
  -DUVCURL_BUILD_EXAMPLES=ON >"$cross/log" 2>&1 && cmake --build "$cross/build" >>"$cross/log" 2>&1 || {
  cat "$cross/log"
  fail "it does not build"
}
say "built in $(($(date +%s) - start)) s"

for crate in libuv-sys2 bindgen curl-sys; do
  found=$(find "$cross/build/cargo" -path "*/build/$crate-*" -name 'build-script*' | head -1)
  [ -z "$found" ] || fail "the build script of $crate was compiled: $found"
done
headers=$(aarch64-linux-gnu-readelf -h -d "$cross/build/libuvcurl.so")
for word in AArch64 libuv.so.1 libcurl.so.4 libuvcurl.so.0; do
  case $headers in
  *"$word"*) ;;
  *) fail "libuvcurl.so does not say $word" ;;
  esac
done
aarch64-linux-gnu-gcc --sysroot="$sysroot" -std=gnu11 -Iinclude examples/hello.c "$cross/build/libuvcurl.a" -luv -lcurl \
  -o "$cross/hello-static"

# The last run's port would be taken for this one's.
rm -f "$cross/port"
perl -MIO::Socket::INET -e '
  $| = 1;
  my $l = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1") or die;
  print $l->sockport, "\n";
  alarm 100;
  while (my $c = $l->accept) {
    while (<$c>) { last if /^\r\n/ }
    print $c "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";
    close $c;
  }' >"$cross/port" &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
tries=0
until [ -s "$cross/port" ] || [ $tries -eq 50 ]; do
  tries=$((tries + 1))
  sleep 0.1
done

run() { timeout 100 qemu-aarch64 -L "$sysroot" "$@"; }
for program in build/examples/hello hello-static; do
  body=$(run "$cross/$program" "http://127.0.0.1:$(cat "$cross/port")/" 2>"$cross/log") || fail "$program: $(cat "$cross/log")"
  [ "$body" = hello ] || fail "$program wrote: $body"
  say "$program on ARM: $(cat "$cross/log")"
done
run "$cross/build/examples/get" >"$cross/log" 2>&1 || fail "get: $(cat "$cross/log")"
say "get on ARM: $(grep -m1 . "$cross/log")"
say "passed"
