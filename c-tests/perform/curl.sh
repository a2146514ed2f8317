#!/bin/sh
# The distribution's curl tool, as a table of commands.
set -u
cases="download several_urls head_requests ranges resume put post form stdin slow_stdin expect cookies redirects compressed auth
  conditional globs next_and_config write_out max_time stalled refused_or_unknown broken_bodies http_errors retry rate_limit
  limits write_error proxy tunnel http2 parallel parallel_failures parallel_http2 client_certificate tls_failures tls_versions
  ftp_download ftp_upload ftp_commands ftp_failures
  ftp_answer_at_once imap pop3 smtp mail_failures file_urls unix_socket upload_broken
  early_answers other_protocols trace_output"
. "$(dirname "$0")/common.sh"

curl=$(command -v curl)
# What does not change from run to run.
w='%{http_code} %{http_version} %{exitcode} down %{size_download} up %{size_upload} head %{size_header} asked %{size_request} connects %{num_connects} redirects %{num_redirects} %{content_type} %{url_effective} %{scheme} %{redirect_url} %{ssl_verify_result} %{proxy_ssl_verify_result} %{method} %{filename_effective} %{num_headers}\n'

# curl STATUS TRANSFERS argument ...: what it must end with, how many transfers it is; the output goes to files that are
# compared, with the times in messages made the same, and the two texts of which libcurl has one or the other when a connection
# times out, as it happens to look.
curl() {
  status=$1
  transfers "$2"
  shift 2
  count=$((${count:-0} + 1))
  got=0
  # The shell's trace would be part of what curl has said.
  { set +x; } 2>/dev/null
  preloaded "$curl" -q -sS "$@" >out.$count 2>err.$count || got=$?
  set -x
  sed -i -E 's/after [0-9]+ ms/after N ms/; s/[0-9]+ milliseconds/N milliseconds/; s/with [0-9]+ (out of [0-9]+ )?bytes received/with N bytes received/; s/Failed to connect to .* port [0-9]+ after N ms: Timeout was reached/Connection timeout after N ms/' err.$count
  echo "$got" >status.$count
  [ "$got" -eq "$status" ] || {
    cat err.$count
    echo "curl ended with $got, not $status"
    return 1
  }
}

# What the server has stored, brought here and taken away there, so that each run finds the server the same.
fetch_stored() {
  cp "$1" stored.$count
  rm "$1"
}

same() { cmp "$1" "$2"; }

# ---- HTTP ----

download() {
  curl 0 1 $web/10m -o big -w "$w"
  same big "$www/10m"
  curl 0 1 $web/1k
  same out.2 "$www/1k"
  curl 0 1 $web/empty -o empty -w "$w"
  curl 0 1 $scripted/chunked/300000 -o chunked -w "$w"
  curl 0 1 $scripted/eof/300000 -o eof -w "$w"
  same chunked eof
  curl 0 1 -i $scripted/bytes/100
  curl 0 1 -0 $web/100k -o http10 -w "$w"
}

several_urls() {
  curl 0 6 -w "$w" $web/1k -o a $web/100k -o b $web/10m -o c $web/1k -o d $web/none -o e $web/1k -o f
  same d "$www/1k"
  same f "$www/1k"
  # Kept alive: one connection.
  [ "$(grep -c 'connects 1' out.1)" = 1 ]
  # Two hosts by turns.
  curl 0 4 -w "$w" $web/1k -o g $scripted/bytes/9 -o h $web/1k -o i $scripted/bytes/10 -o j
  [ "$(grep -c 'connects 1' out.2)" = 2 ]
  # The server closes in between. If that is noticed late, the request is sent once more, in curl without uvcurl too.
  curl 0 3 -w '%{response_code} %{size_download} %{num_connects} %{url}\n' $scripted/linger-close/10 -o k $scripted/eof/10 -o l \
    $scripted/bytes/10 -o m
}

head_requests() {
  curl 0 1 -I $scripted/bytes/100 -w "$w"
  curl 0 2 -I $web/10m $web/1k -w '%{http_code} %{size_download} %{num_connects}\n'
  curl 22 1 -f -I $web/none
  # The time of day.
  sed -i '/^Date:/d' out.2 out.3
}

ranges() {
  curl 0 1 -r 100-199 $web/100k
  [ "$(wc -c <out.1)" = 100 ]
  curl 0 1 -r -500 $web/100k -w "$w" -o tail
  curl 0 1 -r 102000- $web/100k
  curl 22 1 -f -r 200000- $web/100k
  curl 33 1 -r 10-19 $scripted/bytes/1000 -C 10
}

resume() {
  head -c 70000 "$www/100k" >part
  curl 0 1 -C - $web/100k -o part -w "$w"
  same part "$www/100k"
  curl 0 1 -C - $web/100k -o part -w "$w"
  same part "$www/100k"
  curl 0 1 -C 102399 $web/100k
  head -c 100 "$www/1k" >old
  curl 33 1 -C - $scripted/bytes/1000 -o old
  # A body that breaks off, and the rest of it.
  curl 18 1 $scripted/short/500/1000 -o broken
  [ "$(wc -c <broken)" = 500 ]
}

put() {
  curl 0 1 -T "$www/10m" $web/upload/put/10m -w "$w"
  same "$www/upload/put/10m" "$www/10m"
  fetch_stored "$www/upload/put/10m"
  curl 0 2 -T "{$www/1k,$www/100k}" $web/upload/put/ -w "$w"
  fetch_stored "$www/upload/put/1k"
  same "$www/upload/put/100k" "$www/100k"
  fetch_stored "$www/upload/put/100k"
  curl 0 1 -T "$www/100k" $scripted/sink -i
  curl 0 1 -T "$www/empty" $scripted/sink
  curl 0 1 -T "$www/100k" $scripted/slow-sink/20000/10
}

post() {
  curl 0 1 -d 'a=1&b=2' $scripted/echo -w "$w"
  curl 0 1 --data-binary "@$www/100k" $scripted/echo -o back -w "$w"
  same back "$www/100k"
  curl 0 1 --data-urlencode 'q=a b&c' -G $scripted/bytes/5 -w "$w"
  curl 0 1 --json '{"a": 1}' $scripted/echo
  curl 0 1 -X POST $scripted/echo -w "$w"
  curl 0 2 -d x $scripted/echo $scripted/echo -w "$w"
}

form() {
  # The boundary is a random one.
  curl 0 1 -F text=value -F "file=@$www/1k;filename=name;type=text/x" -F "more=<$www/words.txt" $scripted/echo -o back
  boundary=$(sed -n '1s/\r$//p' back)
  LC_ALL=C sed -i -e "s/^$boundary/BOUNDARY/" back
  grep -a -c BOUNDARY back | grep -x 4
  curl 0 1 -F "file=@$www/10m" $scripted/sink -w '%{http_code} %{size_upload}\n' -o /dev/null
}

stdin() {
  curl 0 1 -T - $scripted/sink <"$www/10m"
  grep -x 10485760 out.1
  curl 0 1 -T - $web/upload/stdin -w "$w" <"$www/100k"
  fetch_stored "$www/upload/stdin"
  curl 0 1 --data-binary @- $scripted/echo <"$www/1k"
  same out.3 "$www/1k"
}

# A producer with pauses: the tool waits in its read callback.
slow_stdin() {
  { head -c 1000 "$www/1k" && sleep 0.3 && cat "$www/1k" && sleep 0.3 && cat "$www/100k"; } |
    curl 0 1 -T - $scripted/sink
  grep -x 104424 out.1
  # And does not wait there, but pauses the transfer, and resumes it in its progress callback.
  { head -c 1000 "$www/1k" && sleep 0.3 && cat "$www/1k" && sleep 0.3 && cat "$www/100k"; } |
    curl 0 1 -T . $scripted/sink -o dot
  grep -x 104424 dot
  # curl shows its progress then, --silent or not.
  rm err.1
}

expect() {
  curl 0 1 -H 'Expect: 100-continue' -T "$www/100k" $scripted/sink -i
  # Nobody says 100 Continue; curl goes on after a second.
  curl 0 1 --expect100-timeout 0.2 -H 'Expect: 100-continue' -T "$www/100k" $scripted/quiet-sink -i
  curl 0 1 --data-binary "@$www/10m" $scripted/sink -i
  curl 0 1 -H 'Expect:' -T "$www/10m" $scripted/sink -w "$w"
}

cookies() {
  curl 0 3 -c jar -b none $web/cookies/a $web/cookies/b $web/elsewhere
  curl 0 1 -c jar -b jar $web/cookies/a
  curl 0 1 -b 'visit=9; more=yes' $web/cookies/a
  curl 0 1 -b jar -c - $web/1k -o /dev/null
  grep -q visit jar
}

redirects() {
  curl 0 1 -L $web/moved -o a -w "$w"
  same a "$www/1k"
  curl 0 1 -L $scripted/redirect/5/100 -w "$w"
  curl 47 1 -L --max-redirs 2 $scripted/redirect/5/100 -o b -w "$w"
  curl 0 1 -L -d x=1 $web/see-other -o c -w "$w"
  curl 0 1 -L --cacert "$ca" $web/elsewhere -o d -w "$w"
  same d "$www/100k"
  curl 0 1 $web/moved -w "$w"
  curl 0 1 -L "$scripted/redirect-to?URL=$web/moved" -o e -w "$w"
  same e "$www/1k"
  curl 1 1 -L --proto-redir =https "$scripted/redirect-to?URL=$web/1k" -w "$w"
}

compressed() {
  curl 0 1 --compressed $web/words.txt -o words -w '%{http_code} %{num_connects}\n'
  same words "$www/words.txt"
  curl 0 1 -H 'Accept-Encoding: gzip' $web/words.txt -o words.gz
  gzip -dc <words.gz | cmp - "$www/words.txt"
  curl 0 2 --tr-encoding --compressed $web/words.txt $web/1k -o a -o b
}

auth() {
  curl 0 1 -u user:secret $web/private/1k -o a -w "$w"
  same a "$www/1k"
  curl 22 1 -f -u user:wrong $web/private/1k
  curl 0 2 --anyauth -u user:secret $web/private/1k $web/private/100k -o b -o c -w "$w"
  same c "$www/100k"
  printf 'machine 127.0.0.1 login user password secret\n' >netrc
  curl 0 1 --netrc-file netrc $web/private/1k -w "$w" -o d
  curl 0 1 --anyauth -u a:b -d some=thing $scripted/auth/20 -w "$w"
}

conditional() {
  curl 0 1 --etag-save tag $web/1k -o a
  curl 0 1 --etag-compare tag $web/1k -w "$w"
  curl 0 1 -R $web/1k -o dated
  curl 0 1 -z dated $web/1k -w "$w"
  stat -c %Y dated >time
}

globs() {
  curl 0 3 "$scripted/bytes/[1-3]" -o 'n#1'
  curl 0 4 "$web/{1k,100k}?[a-b]" --create-dirs -o 'd/#1/#2' -w "$w"
  curl 0 2 --remote-name-all --output-dir e --create-dirs $web/1k?more $web/100k
  curl 3 0 "$web/["
}

next_and_config() {
  curl 0 3 $web/1k -o a --next -d post $scripted/echo --next -T "$www/1k" $scripted/sink
  printf 'url = %s/100k\noutput = b\nurl = %s/1k\noutput = c\n' "$web" "$web" >config
  curl 0 2 -K config -w "$w"
  same b "$www/100k"
}

write_out() {
  curl 0 1 $web/1k -o a -D headers -w '%{header_json}'
  # The time of day.
  sed -i '/^Date:/d' headers
  sed -i '/"date"/d' out.1
  curl 0 1 $web/1k -o b -w '%{remote_ip} %{remote_port} %{stderr} %{onerror} %{response_code} %{http_connect} %{urlnum}\n'
  curl 0 2 --remove-on-error --styled-output -i $scripted/bytes/3 $scripted/status/204
  # Times that must be in order.
  curl 0 1 $scripted/delay/50/10 -o c -w '%{time_namelookup} %{time_connect} %{time_pretransfer} %{time_starttransfer} %{time_total}\n'
  awk '{ for (i = 2; i <= NF; i++) if ($i < $(i - 1)) exit 1; if ($5 < 0.05) exit 1 }' out.4
  echo in order >out.4
}

# ---- what goes wrong ----

max_time() {
  curl 28 1 --max-time 1.5 http://127.0.0.1:$UVCURL_TEST_SILENT/ -w "$w"
  curl 28 1 --max-time 1.5 $scripted/stall/100/1000 -o part -w "$w"
  [ "$(wc -c <part)" = 100 ]
  curl 28 1 --max-time 1.5 --cacert "$ca" https://127.0.0.1:$UVCURL_TEST_SILENT/ -w "$w"
  curl 28 1 --connect-timeout 1 http://127.0.0.1:$UVCURL_TEST_BLACKHOLE/ -w "$w"
  curl 28 1 --connect-timeout 1 https://127.0.0.1:$UVCURL_TEST_SILENT/ -w "$w"
  curl 28 1 --max-time 1.5 -T "$www/10m" $scripted/slow-sink/1000/100 -o /dev/null
  # The one after it is not touched.
  curl 0 2 --max-time 1.5 http://127.0.0.1:$UVCURL_TEST_SILENT/ $web/1k -o x -o y
  same y "$www/1k"
}

stalled() {
  curl 28 1 -Y 1000 -y 1 $scripted/stall/100/1000 -o part
  curl 28 1 -Y 1000 -y 1 $scripted/trickle/10000/10/50 -o /dev/null
}

refused_or_unknown() {
  curl 7 1 http://127.0.0.1:$UVCURL_TEST_REFUSED/ -w "$w"
  # A label is no longer than 63.
  long=$(printf '%080d' 1)
  curl 6 1 http://$long.example/ -w "$w"
  curl 3 1 http://127.0.0.1:x/ -w "$w"
  curl 1 1 gibberish://127.0.0.1/ -w "$w"
  curl 0 4 http://127.0.0.1:$UVCURL_TEST_REFUSED/ $web/1k http://127.0.0.1:$UVCURL_TEST_REFUSED/ $web/1k -o a -o b -o c -o d -w "$w"
  curl 7 1 --fail-early http://127.0.0.1:$UVCURL_TEST_REFUSED/ $web/1k -o e
  # By name, the other address of which may be refused.
  curl 0 1 http://localhost:$UVCURL_TEST_WEB/1k -o f -w '%{http_code}\n'
}

broken_bodies() {
  curl 18 1 $scripted/short/500/1000 -o a -w "$w"
  curl 56 1 $scripted/reset/500/1000 -o b -w '%{http_code} %{exitcode}\n'
  curl 56 1 $scripted/reset-headers -w "$w"
  curl 56 1 http://127.0.0.1:$UVCURL_TEST_RESETTING/ -w '%{http_code}\n'
  curl 1 1 $scripted/garbage -w "$w"
  curl 0 1 --http0.9 $scripted/garbage -w "$w"
  curl 27 1 $scripted/huge-header/2000000 -o c
  curl 0 1 $scripted/huge-header/50000 -D d
  # One that breaks, and one that is whole.
  curl 0 2 $scripted/short/10/20 $web/1k -o e -o f -w "$w"
  same f "$www/1k"
}

http_errors() {
  curl 22 1 -f $web/none -w "$w"
  curl 22 1 --fail-with-body $web/none
  curl 0 1 $scripted/status/500/100 -w "$w"
  curl 22 2 -f $web/1k $web/none -o a -o b -w "$w"
  curl 0 1 $scripted/status/204 -w "$w"
  curl 0 1 $scripted/status/304 -w "$w"
}

retry() {
  curl 22 3 -f --retry 2 --retry-delay 1 $scripted/status/503/10 -w '%{http_code} %{num_retries}\n'
  curl 7 2 --retry 1 --retry-delay 1 --retry-connrefused http://127.0.0.1:$UVCURL_TEST_REFUSED/
  curl 18 2 --retry 1 --retry-delay 1 --retry-all-errors $scripted/short/10/20 -o part
}

rate_limit() {
  curl 0 1 --limit-rate 8m $web/10m -o a -w '%{size_download} %{num_connects}\n'
  same a "$www/10m"
  curl 0 1 --limit-rate 8m -T "$www/10m" $scripted/sink
  curl 0 2 --rate 2/s $web/1k $web/1k -o b -o c
}

limits() {
  curl 63 1 --max-filesize 1000 $web/10m -w "$w"
  curl 0 1 --max-filesize 2000 $web/1k -o a
}

write_error() {
  [ ! -e /dev/full ] || curl 23 1 $web/10m -o /dev/full -w '%{exitcode}\n'
  curl 23 1 $web/1k -o none/there -w '%{exitcode}\n'
}

upload_broken() {
  curl 55 1 -T "$www/10m" $scripted/sink-reset/100000 -o /dev/null || [ "$got" = 56 ]
  rm -f status.1 err.1
  curl 26 0 -T none $scripted/sink
}

early_answers() {
  curl 0 1 -H 'Expect: 100-continue' -T "$www/10m" $scripted/early/413/20 -w '%{http_code}\n'
  curl 22 1 -f -H 'Expect: 100-continue' -T "$www/10m" $scripted/early/413/20
}

# ---- proxies ----

proxy() {
  curl 0 1 -x $squid $web/100k -o a -w "$w"
  same a "$www/100k"
  curl 0 3 -x $squid $web/1k -o b $web/10m -o c $web/1k -o d -w "$w"
  same c "$www/10m"
  curl 0 1 -x $squid -T "$www/100k" $web/upload/proxy -w "$w"
  fetch_stored "$www/upload/proxy"
  curl 22 1 -f -x $squid $web/forbidden
  curl 22 1 -f -x $squid http://127.0.0.1:$UVCURL_TEST_REFUSED/
  curl 7 1 -x http://127.0.0.1:$UVCURL_TEST_REFUSED $web/1k
  curl 5 1 -x http://$(printf '%080d' 1).example $web/1k
  curl 0 1 -x $squid $ftp/1k -o e -w '%{http_code}\n'
  same e "$www/1k"
}

tunnel() {
  curl 0 1 --cacert "$ca" -x $squid $web_h2/100k -o a -w "$w %{http_connect}"
  same a "$www/100k"
  curl 0 3 --cacert "$ca" -x $squid $web_h2/1k -o b $web_h2/10m -o c $web_h2/1k -o d -w "$w"
  same c "$www/10m"
  curl 0 1 --cacert "$ca" --http1.1 -x $squid $web_h2/1k -o e -w "$w"
  # squid lets nobody through to another port.
  curl 56 1 --cacert "$ca" -x $squid https://localhost:$UVCURL_TEST_WEB_MTLS/who -w "$w %{http_connect}"
  curl 56 1 -p -x $squid $web/1k
  curl 60 1 -x $squid $web_h2/1k
}

# ---- HTTP/2, several at once ----

http2() {
  curl 0 1 --cacert "$ca" $web_h2/10m -o a -w "$w"
  same a "$www/10m"
  grep -q '^200 2 ' out.1
  curl 0 4 --cacert "$ca" $web_h2/1k -o b $web_h2/100k -o c $web_h2/none -o d $web_h2/1k -o e -w "$w"
  [ "$(grep -c 'connects 1' out.2)" = 1 ]
  curl 0 1 --cacert "$ca" -T "$www/10m" $web_h2/upload/h2 -w "$w"
  same "$www/upload/h2" "$www/10m"
  fetch_stored "$www/upload/h2"
  curl 0 1 --cacert "$ca" --http1.1 $web_h2/1k -o f -w "$w"
  curl 0 1 --http2 $web/1k -o g -w "$w"
  curl 0 1 --cacert "$ca" -I $web_h2/1k -w '%{size_header} %{http_version}\n' -o h
  rm h
  curl 22 1 -f --cacert "$ca" $web_h2/none
  curl 0 1 --cacert "$ca" --limit-rate 8m $web_h2/10m -o i
}

parallel() {
  curl 0 8 -Z --no-progress-meter "$web/{1k,100k,10m,words.txt}?[1-2]" -o '#1.#2'
  for name in 1k 100k 10m words.txt; do
    same $name.1 "$www/$name"
    same $name.2 "$www/$name"
  done
  curl 0 20 -Z --no-progress-meter --parallel-max 3 "$scripted/delay/[1-20]/1000" -o 'delay.#1'
  curl 0 4 -Z --no-progress-meter -T "{$www/1k,$www/100k}" $web/upload/parallel/ --next -Z --no-progress-meter "$web/{1k,100k}" -o '#1'
  rm -r "$www/upload/parallel"
  curl 0 2 -Z --no-progress-meter --limit-rate 8m "$scripted/bytes/[4000000-4000001]" -o 'limited.#1'
}

parallel_failures() {
  curl 22 4 -Z --no-progress-meter -f $web/1k -o a $web/none -o b $web/100k -o c $scripted/bytes/10 -o d
  same c "$www/100k"
  curl 28 2 -Z --no-progress-meter --max-time 2.5 $web/1k -o e http://127.0.0.1:$UVCURL_TEST_SILENT/ -o f
  same e "$www/1k"
  curl 7 1 -Z --no-progress-meter http://127.0.0.1:$UVCURL_TEST_REFUSED/ -o g
  curl 18 2 -Z --no-progress-meter $scripted/short/10/20 -o h $scripted/bytes/10 -o i
  curl 22 3 -Z --no-progress-meter -f --retry 2 --retry-delay 1 $scripted/status/503/10
  # The others are cancelled.
  curl 7 3 -Z --no-progress-meter --fail-early $scripted/hold/10 -o j $scripted/hold/10 -o k http://127.0.0.1:$UVCURL_TEST_REFUSED/ -o l
}

parallel_http2() {
  curl 0 8 -Z --no-progress-meter --cacert "$ca" "$web_h2/{1k,100k,10m,words.txt}?[1-2]" -o '#1.#2'
  for name in 1k 100k 10m words.txt; do
    same $name.2 "$www/$name"
  done
  curl 0 2 -Z --no-progress-meter --cacert "$ca" -T "{$www/1k,$www/100k}" $web_h2/upload/parallel2/
  rm -r "$www/upload/parallel2"
}

# ---- TLS ----

client_certificate() {
  curl 0 1 --cacert "$ca" --cert "$dir/client.pem" --key "$dir/client.key" $mtls/who -w "$w"
  grep -q 'CN=somebody' out.1
  curl 0 2 --cacert "$ca" --cert "$dir/client.pem" --key "$dir/client.key" $mtls/1k $mtls/100k -o a -o b -w "$w"
  curl 22 1 -f --cacert "$ca" $mtls/who
  curl 58 1 --cacert "$ca" --cert "$dir/client.pem" --key "$dir/client-ca.key" $mtls/who
  curl 58 1 --cacert "$ca" --cert "$dir/none.pem" $mtls/who
}

tls_failures() {
  curl 60 1 $web_h2/1k -w "$w"
  curl 60 1 --cacert "$ca" --resolve other.example:$UVCURL_TEST_WEB_H2:127.0.0.1 https://other.example:$UVCURL_TEST_WEB_H2/1k -w "$w"
  curl 77 1 --cacert none.pem $web_h2/1k
  curl 0 1 -k $web_h2/1k -o a
  curl 35 1 -k https://127.0.0.1:$UVCURL_TEST_WEB/1k -o b
  curl 90 1 -k --pinnedpubkey 'sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=' $web_h2/1k
  curl 0 3 $web_h2/1k $web/1k -o c -o d --next --cacert "$ca" $web_h2/1k -o e
  same e "$www/1k"
}

tls_versions() {
  curl 0 1 --cacert "$ca" --tls-max 1.2 $web_h2/100k -o a -w "$w"
  curl 0 1 --cacert "$ca" --tlsv1.3 $web_h2/100k -o b -w "$w"
  curl 0 1 --cacert "$ca" $scripted_tls/bytes/100000 -o c -w "$w"
  curl 0 2 --cacert "$ca" $scripted_tls/eof/100000 $scripted_tls/bytes/10 -o d -o e
  curl 0 1 --cacert "$ca" -T "$www/10m" $scripted_tls/sink
}

# ---- FTP ----

ftp_download() {
  curl 0 1 $ftp/10m -o a -w '%{response_code} %{size_download} %{num_connects} %{ftp_entry_path}\n'
  same a "$www/10m"
  curl 0 3 $ftp/1k $ftp/100k $ftp/1k -o b -o c -o d -w '%{num_connects}\n'
  same c "$www/100k"
  curl 0 1 -r 100-199 $ftp/100k
  [ "$(wc -c <out.3)" = 100 ]
  head -c 5000 "$www/100k" >part
  curl 0 1 -C - $ftp/100k -o part
  same part "$www/100k"
  # Names alone, for the listing has times.
  curl 0 1 -l $ftp/
  curl 0 1 -I $ftp/1k
  sed -i /Last-Modified/d out.6
  curl 0 1 --ftp-port 127.0.0.1 $ftp/100k -o active
  same active "$www/100k"
  curl 0 1 --disable-epsv $ftp/1k -o e
  curl 0 1 -B $ftp/words.txt -o f
  curl 0 1 --limit-rate 8m $ftp/10m -o g
}

ftp_upload() {
  curl 0 1 -T "$www/10m" $ftp/in/10m -w '%{size_upload} %{num_connects}\n'
  same "$dir/ftp/in/10m" "$www/10m"
  fetch_stored "$dir/ftp/in/10m"
  curl 0 2 -T "{$www/1k,$www/100k}" $ftp/in/ -w '%{size_upload} %{num_connects}\n'
  fetch_stored "$dir/ftp/in/1k"
  fetch_stored "$dir/ftp/in/100k"
  curl 0 1 -T - $ftp/in/stdin <"$www/100k"
  fetch_stored "$dir/ftp/in/stdin"
  head -c 40000 "$www/100k" >"$dir/ftp/in/part"
  curl 0 1 -C - -T "$www/100k" $ftp/in/part
  same "$dir/ftp/in/part" "$www/100k"
  fetch_stored "$dir/ftp/in/part"
  curl 0 1 -a -T "$www/1k" $ftp/in/appended
  curl 0 1 -a -T "$www/1k" $ftp/in/appended
  [ "$(wc -c <"$dir/ftp/in/appended")" = 2048 ]
  fetch_stored "$dir/ftp/in/appended"
  curl 0 1 --ftp-create-dirs -T "$www/1k" $ftp/in/new/dir/1k
  fetch_stored "$dir/ftp/in/new/dir/1k"
  rmdir "$dir/ftp/in/new/dir" "$dir/ftp/in/new"
}

ftp_commands() {
  curl 0 1 $ftp/1k -o a -Q 'NOOP' -Q '-PWD'
  curl 21 1 $ftp/1k -o b -Q 'NONSENSE'
  curl 0 1 -T "$www/1k" $ftp/in/old -Q '-RNFR old' -Q '-RNTO renamed'
  fetch_stored "$dir/ftp/in/renamed"
}

ftp_failures() {
  curl 78 1 $ftp/none
  curl 9 1 $ftp/no/dir/1k
  curl 67 1 -u anonymous:wrong@password $ftp/1k
  curl 9 1 -T "$www/1k" $ftp/no/dir/1k
  curl 28 1 --max-time 0.5 ftp://127.0.0.1:$UVCURL_TEST_SILENT/x
  curl 7 1 ftp://127.0.0.1:$UVCURL_TEST_REFUSED/x
  curl 0 2 $ftp/none $ftp/1k -o a -o b
  same b "$www/1k"
}

# The answer to EPSV is there as soon as it has been asked for: libcurl 7.88 then waits for neither a socket nor its deadline.
ftp_answer_at_once() {
  eager=ftp://127.0.0.1:$UVCURL_TEST_EAGER_FTP
  curl 0 2 $eager/none $eager/1k -o a -o b -w '%{num_connects} %{size_download}\n'
  [ "$(wc -c <b)" = 1000 ]
}

# ---- mail ----

imap() {
  imap=imap://127.0.0.1:$UVCURL_TEST_IMAP
  curl 0 1 -u user:secret "$imap/"
  curl 0 1 -u user:secret "$imap/INBOX;MAILINDEX=1"
  grep -q 'the first' out.2
  curl 0 2 -u user:secret "$imap/INBOX;MAILINDEX=2" "$imap/INBOX;MAILINDEX=1" -w '%{size_download} %{num_connects}\n'
  curl 0 1 -u user:secret "$imap/" -X 'CAPABILITY'
  curl 0 1 -u user:secret -T "$www/words.txt" "$imap/INBOX"
  same "$dir/mail/mail.append" "$www/words.txt"
  rm "$dir/mail/mail.append"
}

pop3() {
  pop3=pop3://127.0.0.1:$UVCURL_TEST_POP3
  curl 0 1 -u user:secret "$pop3/"
  curl 0 2 -u user:secret "$pop3/2" "$pop3/1" -w '%{num_connects}\n'
}

smtp() {
  smtp=smtp://127.0.0.1:$UVCURL_TEST_SMTP/here
  printf 'Subject: hello\r\n\r\n.with a dot\r\nand more\r\n' >letter
  curl 0 1 --mail-from a@example --mail-rcpt $way.one@example --mail-rcpt b@example -T letter $smtp
  cp "$dir/mail/mail.$way.one" got
  same got letter
  curl 0 1 --mail-from a@example --mail-rcpt $way.two@example -T "$www/words.txt" $smtp
  curl 0 1 --mail-from a@example --mail-rcpt $way.three@example -F '=hello;type=text/plain' -F "=@$www/1k;encoder=base64" -H 'Subject: form' $smtp
  grep -c . "$dir/mail/mail.$way.three" >lines
}

mail_failures() {
  curl 67 1 -u user:wrong imap://127.0.0.1:$UVCURL_TEST_IMAP/INBOX
  curl 78 1 -u user:secret "imap://127.0.0.1:$UVCURL_TEST_IMAP/INBOX;MAILINDEX=9"
  curl 67 1 -u user:wrong pop3://127.0.0.1:$UVCURL_TEST_POP3/1
  curl 55 1 --mail-from a@example --mail-rcpt nobody@example -T "$www/words.txt" smtp://127.0.0.1:$UVCURL_TEST_SMTP/here
  curl 28 1 --max-time 0.7 -u user:secret imap://127.0.0.1:$UVCURL_TEST_IMAP/ -X SILENCE
  curl 28 1 --max-time 0.5 -u user:secret imap://127.0.0.1:$UVCURL_TEST_SILENT/
}

# ---- the rest ----

file_urls() {
  curl 0 1 "file://$www/10m" -o a
  same a "$www/10m"
  curl 0 1 -r 10-19 "file://$www/1k"
  curl 37 1 "file://$www/none"
  curl 0 1 -T "$www/100k" "file://$PWD/stored"
  same stored "$www/100k"
  curl 0 3 "file://$www/1k" "$web/1k" "file://$www/1k" -o b -o c -o d
}

unix_socket() {
  curl 0 2 --unix-socket "$dir/nginx.sock" http://here/1k http://here/100k -o a -o b -w '%{http_code} %{num_connects}\n'
  same b "$www/100k"
  curl 7 1 --unix-socket "$dir/none.sock" http://here/1k
}

other_protocols() {
  # What this libcurl has not been built with is refused in both.
  curl 1 1 ws://127.0.0.1:$UVCURL_TEST_HTTP/ws
  curl 0 1 dict://127.0.0.1:$UVCURL_TEST_SMTP/QUIT
  curl 0 1 gopher://127.0.0.1:$UVCURL_TEST_POP3/1QUIT
}

trace_output() {
  curl 0 2 -v $scripted/bytes/1000 $scripted/bytes/10 -o a -o b
  # Ports of the client's own, and notes on the multi handle.
  sed -i -E '/^[*] (Trying|Connected|Connection|Re-using|Closing|  Trying|Found bundle)/d' err.1
  curl 0 1 --trace-ascii trace -T "$www/1k" $scripted/sink
  sed -i '/^==/d' trace
}

perform_main "$@"
