#!/bin/sh
# git over http, from git's own http-backend: it drives a multi handle of libcurl's by select().
set -u
cases="clone fetch push shallow many_refs plain_files http2 authentication client_certificate through_proxy failures recursive"
. "$(dirname "$0")/common.sh"
# git's libcurl may be another than curl's.
library=${UVCURL_TEST_PERFORM_LIBRARY_GIT:-$root/build/perform/libuvcurl-perform-git.so}
# git prepares any number of requests.
counts=no
# The same commits in each run, and nobody's configuration.
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example
export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0 GIT_ASKPASS=/bin/false

git() { command git -c init.defaultBranch=main -c advice.detachedHead=false -c protocol.file.allow=always "$@"; }

# over STATUS argument ...: git over http.
over() {
  status=$1
  shift
  got=0
  { set +x; } 2>/dev/null
  preloaded "$git" -c init.defaultBranch=main -c advice.detachedHead=false -c gc.auto=0 "$@" >>"$PWD.git" 2>&1 || got=$?
  set -x
  [ "$got" -eq "$status" ] || {
    tail -n 5 "$PWD.git"
    return 1
  }
}
git=$(command -v git)

# A repository on the server, of this run's own.
repository() { # name
  bare=$dir/git/$way.$name.$1.git
  url=git/$way.$name.$1.git
  rm -rf "$bare"
  git init -q --bare "$bare"
  git -C "$bare" config http.receivepack true
}

fill() { # folder, number of the commit
  for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    mkdir -p "$1/d$i"
    seq "$2" $(($2 + i * 100)) >"$1/d$i/file"
    cp "$www/1k" "$1/d$i/binary.$2"
  done
  cp "$www/words.txt" "$1/words.$2"
  git -C "$1" add .
  git -C "$1" commit -q -m "commit $2"
}

original() { # folder: a clone of the repository, with three commits, pushed without http
  git clone -q "$bare" "$1" 2>/dev/null
  for n in 1 2 3; do
    fill "$1" $n
  done
  git -C "$1" push -q origin HEAD
}

# All that can be compared: the commit, the objects, whether they are sound, the files that are checked out.
describe() { # repository, to
  { set +x; } 2>/dev/null
  git -C "$1" fsck --full --strict >"$2.fsck" 2>&1 || return 1
  set -x
  git -C "$1" rev-parse HEAD >"$2.head"
  git -C "$1" for-each-ref --format='%(refname) %(objectname)' >"$2.refs"
  git -C "$1" rev-list --objects --all | sort >"$2.objects"
  [ ! -e "$1/.git" ] ||
    (cd "$1" && find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 sha256sum) >"$2.sums"
}
# Repositories themselves have times and names of this run's in them.
away() { rm -rf "$@"; }

clone() {
  repository a
  original first
  over 0 clone $web/$url copy
  describe copy copy
  [ "$(cat copy.head)" = "$(git -C first rev-parse HEAD)" ]
  [ "$(wc -l <copy.sums)" -gt 60 ]
  over 0 ls-remote $web/$url
  away first copy
}

fetch() {
  repository a
  original first
  over 0 clone -q $web/$url copy
  fill first 4
  git -C first tag -a -m tagged v1
  git -C first branch side HEAD~2
  git -C first push -q origin HEAD side v1
  over 0 -C copy fetch --tags
  describe copy fetched
  grep -q refs/tags/v1 fetched.refs
  over 0 -C copy pull -q --ff-only
  describe copy pulled
  # Nothing new.
  over 0 -C copy fetch
  git -C first push -q origin :side
  over 0 -C copy fetch --prune
  describe copy pruned
  away first copy
}

push() {
  repository a
  over 0 clone $web/$url copy
  fill copy 1
  over 0 -C copy push origin HEAD
  describe "$bare" first
  fill copy 2
  # A pack beyond http.postBuffer goes in chunks, after a probe.
  head -c 9000000 "$www/10m" | openssl enc -aes-128-ctr -K 00000000000000000000000000000001 -iv 00000000000000000000000000000000 >copy/big
  git -C copy add big
  git -C copy commit -q -m big
  over 0 -C copy push origin HEAD HEAD:refs/heads/other
  describe "$bare" second
  [ "$(git -C "$bare" rev-parse other)" = "$(git -C copy rev-parse HEAD)" ]
  over 0 -C copy push origin :other
  # Not a fast-forward: refused, and then forced.
  git -C copy reset -q --hard HEAD~1
  fill copy 3
  over 1 -C copy push origin HEAD
  over 0 -C copy push --force origin HEAD
  describe "$bare" forced
  away copy
}

shallow() {
  repository a
  original first
  over 0 clone --depth 1 $web/$url copy
  git -C copy rev-list --count HEAD | grep -x 1
  over 0 -C copy fetch --deepen 1
  git -C copy rev-list --count HEAD | grep -x 2
  over 0 -C copy fetch --unshallow
  describe copy copy
  git -C "$bare" config uploadpack.allowFilter true
  over 0 clone --filter=blob:none --no-checkout $web/$url partial
  # Each checkout of a missing file is a fetch.
  over 0 -C partial checkout main -- d1
  sha256sum partial/d1/file >partial.sum
  away first copy partial
}

many_refs() {
  repository a
  original first
  for n in $(seq 1 400); do
    echo "create refs/heads/branch$n $(git -C first rev-parse HEAD~$((n % 3)))"
  done | git -C "$bare" update-ref --stdin
  over 0 clone --mirror $web/$url copy
  describe copy copy
  [ "$(wc -l <copy.refs)" -gt 400 ]
  over 0 -c protocol.version=0 clone $web/$url old
  describe old old
  away first copy old
}

# The old protocol: one request for each object, several at once.
plain_files() {
  repository a
  original first
  git -C "$bare" update-server-info
  over 0 clone $web/git-files/$way.$name.a.git copy
  describe copy copy
  # The pack is looked for and its objects are fetched one by one.
  git -C "$bare" unpack-objects -q <"$(echo "$bare"/objects/pack/*.pack)" 2>/dev/null || true
  mv "$bare"/objects/pack packs
  mkdir "$bare/objects/pack"
  for pack in packs/*.pack; do
    [ ! -e "$pack" ] || git -C "$bare" unpack-objects -q <"$pack"
  done
  git -C "$bare" update-server-info
  over 0 clone $web/git-files/$way.$name.a.git loose
  describe loose loose
  away first copy loose packs
}

http2() {
  repository a
  original first
  export GIT_SSL_CAINFO="$ca"
  over 0 -c http.version=HTTP/2 clone $web_h2/$url copy
  describe copy copy
  fill copy 4
  over 0 -C copy push origin HEAD
  describe "$bare" pushed
  unset GIT_SSL_CAINFO
  over 128 clone $web_h2/$url untrusted
  away first copy
}

authentication() {
  repository a
  original first
  over 0 clone http://user:secret@127.0.0.1:$UVCURL_TEST_WEB/git-private/$way.$name.a.git copy
  describe copy copy
  over 128 clone http://user:wrong@127.0.0.1:$UVCURL_TEST_WEB/git-private/$way.$name.a.git refused
  over 128 clone $web/git-private/$way.$name.a.git refused
  fill copy 4
  over 0 -C copy push origin HEAD
  describe "$bare" pushed
  away first copy
}

client_certificate() {
  repository a
  original first
  export GIT_SSL_CAINFO="$ca"
  over 128 clone $mtls/$url refused
  export GIT_SSL_CERT="$dir/client.pem" GIT_SSL_KEY="$dir/client.key"
  over 0 clone $mtls/$url copy
  describe copy copy
  away first copy
}

through_proxy() {
  repository a
  original first
  over 0 -c http.proxy=$squid clone $web/$url copy
  describe copy copy
  export GIT_SSL_CAINFO="$ca"
  over 0 -c http.proxy=$squid clone $web_h2/$url tunnelled
  describe tunnelled tunnelled
  over 128 -c http.proxy=http://127.0.0.1:$UVCURL_TEST_REFUSED clone $web/$url refused
  away first copy tunnelled
}

failures() {
  over 128 clone $web/git/none.git copy
  over 128 clone http://127.0.0.1:$UVCURL_TEST_REFUSED/none.git copy
  over 128 -c http.lowSpeedLimit=1000 -c http.lowSpeedTime=1 clone http://127.0.0.1:$UVCURL_TEST_SILENT/none.git copy
  over 128 clone $scripted/short/10/20 copy
  over 128 clone $scripted/reset-headers copy
  [ ! -e copy ]
}

recursive() {
  repository inner
  original inner
  inner_url=$web/$url
  repository outer
  original outer
  git -C outer submodule --quiet add "$bare/../$way.$name.inner.git" sub
  git -C outer config -f .gitmodules submodule.sub.url "$inner_url"
  git -C outer commit -q -a -m submodule
  git -C outer push -q origin HEAD
  over 0 clone --recurse-submodules -j 2 $web/$url copy
  describe copy/sub sub
  (cd copy && find . -name .git -prune -o -type f ! -name .gitmodules -print0 | sort -z | xargs -0 sha256sum) >copy.sums
  away inner outer copy
}

perform_main "$@"
