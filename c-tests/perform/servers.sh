#!/bin/sh
# servers.sh PROGRAM COMMAND ...: runs a command with real servers on loopback, those that c-tests/perform talks to: nginx with
# git's http-backend behind fcgiwrap, squid, vsftpd, a mail server, and PROGRAM, which is server.c. Their ports are in the
# command's environment, and UVCURL_TEST_PERFORM_DIR names their folder. To be run by tools/with-servers.sh.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
server=$1
shift
dir=$(mktemp -d)
# A run that was killed does not leave them behind for ever.
limit=3600
pids=

fail() {
  echo "servers.sh: $*" >&2
  exit 1
}
stop() {
  for pid in $pids; do
    kill "$pid" 2>/dev/null || :
  done
  wait
  rm -rf "$dir"
}
trap stop EXIT
trap 'exit 1' INT TERM

find_program() {
  for candidate in "$(command -v "$1" || :)" "/usr/sbin/$1" "/usr/local/sbin/$1"; do
    if [ -n "$candidate" ] && [ -x "$candidate" ]; then
      echo "$candidate"
      return
    fi
  done
  fail "$1 is missing (make setup installs it)"
}
nginx=$(find_program nginx)
squid=$(find_program squid)
vsftpd=$(find_program vsftpd)
fcgiwrap=$(find_program fcgiwrap)
backend=$(git --exec-path)/git-http-backend
[ -x "$backend" ] || fail "there is no $backend"

start() { # log, program, arguments
  log=$1
  shift
  timeout -k 5 $limit "$@" >"$dir/$log" 2>&1 </dev/null &
  pids="$pids $!"
}
wait_for() { # what, command
  what=$1
  shift
  tries=0
  until "$@"; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || {
      tail -n 20 "$dir"/*.log "$dir"/squid/*.log >&2
      fail "$what does not answer"
    }
    sleep 0.05
  done
}
listens() {
  perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(PeerAddr => "127.0.0.1:$ARGV[0]", Timeout => 2)' "$1"
}

# ---- files ----

mkdir -p "$dir/www/upload" "$dir/tmp" "$dir/git" "$dir/ftp/in" "$dir/mail" "$dir/squid"
# Started by root, squid becomes another user.
chmod 755 "$dir"
chmod 777 "$dir/ftp/in" "$dir/squid"
perl -e '
  my $period = join "", map { chr(($_ * 167 + ($_ >> 8) * 13) & 255) } 0 .. 65520;
  my %size = ("1k" => 1 << 10, "100k" => 100 << 10, "10m" => 10 << 20, "empty" => 0);
  for my $name (keys %size) {
    open my $file, ">:raw", "$ARGV[0]/$name" or die "$name: $!\n";
    print $file substr($period x ($size{$name} / 65521 + 1), 0, $size{$name});
  }
  open my $file, ">", "$ARGV[0]/words.txt" or die;
  print $file "line $_ of many\n" for 1 .. 20000;' "$dir/www"
for name in 1k 100k 10m words.txt; do
  cp "$dir/www/$name" "$dir/ftp/$name"
done
echo "user:$(openssl passwd -apr1 secret)" >"$dir/passwords"

# A CA for clients, and a client.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=uvcurl clients' -days 7300 \
  -keyout "$dir/client-ca.key" -out "$dir/client-ca.pem" 2>"$dir/openssl.log"
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=somebody' \
  -keyout "$dir/client.key" -out "$dir/client.csr" 2>>"$dir/openssl.log"
openssl x509 -req -in "$dir/client.csr" -CA "$dir/client-ca.pem" -CAkey "$dir/client-ca.key" -days 7300 \
  -set_serial 1 -out "$dir/client.pem" 2>>"$dir/openssl.log"

# ---- servers ----

ports=$(perl -MIO::Socket::INET -e '
  my @s = map { IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1) } 1 .. 5;
  print join(" ", map { $_->sockport } @s), "\n"')
set_ports() {
  export UVCURL_TEST_WEB="$1" UVCURL_TEST_WEB_H2="$2" UVCURL_TEST_WEB_MTLS="$3" UVCURL_TEST_SQUID="$4" UVCURL_TEST_FTP="$5"
}
# shellcheck disable=SC2086 # five words
set_ports $ports

user=
[ "$(id -u)" -ne 0 ] || user='user root;'
sed -e "s|@USER@|$user|" -e "s|@HTTP@|$UVCURL_TEST_WEB|" -e "s|@H2@|$UVCURL_TEST_WEB_H2|" \
  -e "s|@MTLS@|$UVCURL_TEST_WEB_MTLS|" -e "s|@CERTS@|$UVCURL_TEST_CERTS|" -e "s|@DIR@|$dir|" "$here/nginx.conf.in" >"$dir/nginx.conf"
cat >"$dir/fastcgi.conf" <<END
fastcgi_pass unix:$dir/fcgi.sock;
fastcgi_param QUERY_STRING \$query_string;
fastcgi_param REQUEST_METHOD \$request_method;
fastcgi_param CONTENT_TYPE \$content_type;
fastcgi_param CONTENT_LENGTH \$content_length;
fastcgi_param SERVER_PROTOCOL \$server_protocol;
fastcgi_param REMOTE_ADDR \$remote_addr;
fastcgi_param REMOTE_USER \$remote_user;
fastcgi_param SCRIPT_FILENAME $backend;
fastcgi_param GIT_PROJECT_ROOT $dir;
fastcgi_param GIT_HTTP_EXPORT_ALL 1;
fastcgi_param PATH_INFO \$uri;
fastcgi_read_timeout 60s;
END
ln -s git "$dir/git-private"
start nginx.log "$nginx" -p "$dir/" -c "$dir/nginx.conf" -e "$dir/error.log"

# git refuses what belongs to somebody else, and reads no configuration of this user's.
start fcgiwrap.log env HOME="$dir" "$fcgiwrap" -c 4 -s "unix:$dir/fcgi.sock"

cat >"$dir/squid.conf" <<END
http_port 127.0.0.1:$UVCURL_TEST_SQUID
pid_filename none
access_log none
cache_log $dir/squid/cache.log
cache deny all
pinger_enable off
netdb_filename none
coredump_dir $dir/squid
shutdown_lifetime 1 seconds
max_filedescriptors 1024
visible_hostname proxy.test
acl forbidden url_regex /forbidden
acl tunnel method CONNECT
acl allowed_tunnel port $UVCURL_TEST_WEB_H2
http_access deny forbidden
http_access deny tunnel !allowed_tunnel
http_access allow all
END
# Of its own name, or it would share memory with another squid.
start squid.log "$squid" -N -n "uvcurl$$" -f "$dir/squid.conf"

cat >"$dir/vsftpd.conf" <<END
listen=YES
listen_address=127.0.0.1
listen_port=$UVCURL_TEST_FTP
background=NO
run_as_launching_user=YES
anonymous_enable=YES
local_enable=NO
anon_root=$dir/ftp
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_umask=022
allow_writeable_chroot=YES
ftp_username=$(id -un)
one_process_model=NO
seccomp_sandbox=NO
xferlog_enable=NO
pasv_address=127.0.0.1
connect_from_port_20=NO
deny_email_enable=YES
banned_email_file=$dir/banned
END
echo wrong@password >"$dir/banned"
start vsftpd.log "$vsftpd" "$dir/vsftpd.conf"

start mail.log perl "$here/mail.pl" "$dir/mail"
start server.log "$server" "$UVCURL_TEST_CERTS/server.pem" "$UVCURL_TEST_CERTS/server.key"
wait_for "the mail server" grep -q ready "$dir/mail.log"
wait_for "the scripted server" grep -q ready "$dir/server.log"
wait_for nginx listens "$UVCURL_TEST_WEB"
wait_for squid listens "$UVCURL_TEST_SQUID"
wait_for vsftpd listens "$UVCURL_TEST_FTP"
wait_for fcgiwrap test -S "$dir/fcgi.sock"

set -a
# shellcheck disable=SC1091 # what the servers have said
. "$dir/mail.log" && . "$dir/server.log"
UVCURL_TEST_PERFORM_DIR=$dir
set +a
"$@"
