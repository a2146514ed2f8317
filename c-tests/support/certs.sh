#!/bin/sh
# Usage: certs.sh DIR
# Makes a private CA (ca.pem) and a certificate for the loopback server (server.pem, server.key) in
# DIR, unless they are there. A leaf apart from the CA, because some TLS libraries refuse a
# certificate that vouches for itself.
set -eu

if [ $# -ne 1 ]; then
  echo "usage: certs.sh DIR" >&2
  exit 2
fi
dir=$1
if [ -s "$dir/server.pem" ] && [ -s "$dir/server.key" ] && [ -s "$dir/ca.pem" ]; then
  exit 0
fi
if ! command -v openssl >/dev/null; then
  echo "certs.sh: the openssl command is missing (Debian, Ubuntu: apt-get install openssl)" >&2
  exit 1
fi

mkdir -p "$dir"
work=$(mktemp -d "$dir/new.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# A configuration of our own: the system's may add extensions.
cat >"$work/conf" <<'CONF'
[req]
prompt = no
distinguished_name = name
[name]
CN = uvcurl test
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, DNS:*.localhost, IP:127.0.0.1, IP:::1
CONF

# openssl reports progress on stderr, so what it said is shown only when it failed.
run() {
  if ! openssl "$@" >"$work/log" 2>&1; then
    echo "certs.sh: openssl $1 failed:" >&2
    cat "$work/log" >&2
    exit 1
  fi
}

for who in ca server; do
  run ecparam -name prime256v1 -genkey -noout -out "$work/$who.key"
done
run req -new -x509 -config "$work/conf" -extensions ca -subj "/CN=uvcurl test CA" -sha256 \
  -days 7300 -key "$work/ca.key" -out "$work/ca.pem"
run req -new -config "$work/conf" -subj "/CN=localhost" -sha256 \
  -key "$work/server.key" -out "$work/server.csr"
run x509 -req -in "$work/server.csr" -extfile "$work/conf" -extensions leaf -sha256 -days 7300 \
  -CA "$work/ca.pem" -CAkey "$work/ca.key" -set_serial "0x$(openssl rand -hex 8)" \
  -out "$work/server.pem"

# server.pem last: it is what a reader takes for the sign that all is there.
for file in ca.pem server.key server.pem; do
  mv -f "$work/$file" "$dir/$file"
done
