#!/bin/sh
# Usage: nginx.sh start DIR [CERTS]
#        nginx.sh stop DIR
# Runs an nginx of our own on free loopback ports: HTTP/1.1, HTTP/1.1 over TLS, HTTP/2 over TLS. It
# keeps everything in DIR, and uses the certificate that certs.sh made in CERTS (DIR/../certs).
# DIR/env then names the ports. The files 1k, 100k and 10m hold what server_byte() of server.c
# says, 100m nothing but zeros; PUT works under /upload/.
set -eu

# A run that was killed does not leave it behind for ever.
max_seconds=14400

fail() {
  echo "nginx.sh: $*" >&2
  exit 1
}

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
  echo "usage: nginx.sh start DIR [CERTS] | nginx.sh stop DIR" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
if [ "$1" = stop ] && [ ! -d "$2" ]; then
  exit 0
fi
mkdir -p "$2" || fail "cannot make the directory $2"
dir=$(cd "$2" && pwd)

# Whether the process of nginx.pid is really ours: the number may have been given to another.
is_running() {
  pid=$(cat "$dir/nginx.pid" 2>/dev/null) && [ -n "$pid" ] &&
    { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -qF -- "-p $dir/ "
}

stop() {
  rm -f "$dir/env"
  if is_running; then
    kill -TERM "$pid" 2>/dev/null || :
    tries=0
    while is_running; do
      tries=$((tries + 1))
      [ $tries -lt 100 ] || fail "nginx (process $pid) does not end"
      sleep 0.1
    done
  fi
  rm -f "$dir/nginx.pid"
}

find_nginx() {
  for candidate in "$(command -v nginx || :)" /usr/sbin/nginx /usr/local/sbin/nginx; do
    if [ -n "$candidate" ] && [ -x "$candidate" ]; then
      nginx=$candidate
      return
    fi
  done
  fail "nginx is missing (Debian, Ubuntu: apt-get install nginx-light)"
}

# The version as one number: 1.22.1 is 1022001.
find_version() {
  version=$("$nginx" -v 2>&1 | sed -n 's,.*nginx/\([0-9.]*\).*,\1,p')
  version=$(echo "$version" | awk -F. '{ print $1 * 1000000 + $2 * 1000 + $3 }')
  [ "$version" -gt 0 ] || fail "$nginx does not tell its version"
}

make_files() {
  mkdir -p "$dir/www/upload" "$dir/tmp" "$dir/tls"
  [ -s "$certs/server.pem" ] && [ -s "$certs/server.key" ] ||
    fail "there is no certificate in $certs (run certs.sh first)"
  cp "$certs/server.pem" "$certs/server.key" "$dir/tls/"
  perl -e '
    my $period = join "", map { chr(($_ * 167 + ($_ >> 8) * 13) & 255) } 0 .. 65520;
    my %size = ("1k" => 1 << 10, "100k" => 100 << 10, "10m" => 10 << 20);
    for my $name (keys %size) {
      open my $file, ">:raw", "$ARGV[0]/$name" or die "$name: $!\n";
      print $file substr($period x ($size{$name} / 65521 + 1), 0, $size{$name});
      close $file or die "$name: $!\n";
    }
    open my $hole, ">", "$ARGV[0]/100m" or die "100m: $!\n";
    truncate $hole, 100 << 20 or die "100m: $!\n";' "$dir/www" || fail "cannot write the files to serve"
}

free_ports() {
  perl -MIO::Socket::INET -e '
    my @s = map { IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1) } 1 .. 3;
    exit 1 if grep { !$_ } @s;
    print join(" ", map { $_->sockport } @s), "\n"' || fail "there is no free port"
}

answers() {
  perl -MIO::Socket::INET -e '
    my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$ARGV[0]", Timeout => 2) or exit 1;
    alarm 5;
    print $s "HEAD /1k HTTP/1.0\r\n\r\n";
    exit((<$s> // "") =~ m{^HTTP/1.1 200} ? 0 : 1)' "$1"
}

write_config() {
  user= listen=http2 on= requests=
  if [ "$(id -u)" -eq 0 ]; then
    user='user root;'
  fi
  if [ "$version" -ge 1025001 ]; then
    listen= on='http2 on;'
  elif [ "$version" -lt 1019007 ]; then
    requests='http2_max_requests 100000;'
  fi
  sed -e "s/@USER@/$user/" -e "s/@HTTP@/$1/" -e "s/@TLS@/$2/" -e "s/@H2@/$3/" \
    -e "s/@HTTP2_LISTEN@/$listen/" -e "s/@HTTP2_ON@/$on/" -e "s/@HTTP2_REQUESTS@/$requests/" \
    "$here/nginx.conf.in" >"$dir/nginx.conf"
}

# Returns 1 if nginx ended, most likely because somebody else was faster to take a port.
launch() {
  write_config "$@"
  set -- "$1" "$nginx" -p "$dir/" -c "$dir/nginx.conf"
  port=$1
  shift
  if [ "$version" -ge 1019005 ]; then
    set -- "$@" -e "$dir/error.log"
  fi
  timeout -k 5 $max_seconds "$@" </dev/null >"$dir/start.log" 2>&1 &
  launched=$!
  tries=0
  while ! { is_running && answers "$port"; }; do
    kill -0 $launched 2>/dev/null || return 1
    tries=$((tries + 1))
    if [ $tries -ge 200 ]; then
      kill $launched
      return 1
    fi
    sleep 0.05
  done
}

start() {
  certs=${1:-$dir/../certs}
  find_nginx
  find_version
  command -v perl >/dev/null || fail "perl is missing"
  stop
  make_files
  : >"$dir/error.log"
  # A connection is a descriptor, and two thousand are wanted.
  ulimit -n "$(ulimit -H -n)" 2>/dev/null || :

  for attempt in 1 2 3; do
    ports=$(free_ports)
    # shellcheck disable=SC2086 # three words
    if launch $ports; then
      # shellcheck disable=SC2086
      set -- $ports
      printf 'UVCURL_TEST_NGINX_HTTP=%s\nUVCURL_TEST_NGINX_TLS=%s\nUVCURL_TEST_NGINX_H2=%s\n' \
        "$1" "$2" "$3" >"$dir/env.new"
      mv "$dir/env.new" "$dir/env"
      return
    fi
    grep -q 'Address already in use' "$dir/start.log" "$dir/error.log" || break
  done
  tail -n 5 "$dir/start.log" "$dir/error.log" >&2
  fail "nginx does not start (attempt $attempt); what it said is above"
}

case $1 in
start) start "${3:-}" ;;
stop) stop ;;
*) fail "start or stop, not $1" ;;
esac
