'use strict';
// Whose functions the addon calls, as the loader says it (LD_DEBUG=bindings).
const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { certs, child, httpServer, httpsServer, http2Server } = require('./support.js');

const addon = process.env.UVCURL_TEST_ADDON;
const folder = path.dirname(addon);

// Every name that `file` took from another file, as { name: the file's base name }, after one transfer of each protocol.
async function bindings(t, file) {
  const one = await httpServer(t);
  const two = await httpsServer(t);
  const three = await http2Server(t);
  const log = fs.mkdtempSync(path.join(os.tmpdir(), 'uvcurl-'));
  t.after(() => fs.rmSync(log, { recursive: true }));
  const process_ = child('protocols', '', {
    env: {
      UVCURL_TEST_ADDON: file,
      UVCURL_TEST_CA: path.join(certs, 'ca.pem'),
      UVCURL_TEST_URLS: JSON.stringify([['1.1', `${one.url}/gzip`], ['1.1', `${two.url}/text`], ['2', `${three.url}/text`]]),
      LD_DEBUG: 'bindings',
      LD_DEBUG_OUTPUT: path.join(log, 'ld'),
      // All of them when it is loaded, not when they are called.
      LD_BIND_NOW: '1',
    },
  });
  const end = await process_.ended;
  assert.equal(end.code, 0, end.err);
  const text = fs.readFileSync(path.join(log, `ld.${process_.pid}`), 'latin1');
  const bound = new Map();
  for (const [, from, to, name] of text.matchAll(/binding file (\S+) \[\d+\] to (\S+) \[\d+\]: normal symbol `([^']+)'/g)) {
    if (path.resolve(from) === file && path.resolve(to) !== file) bound.set(name, path.basename(to));
  }
  return { bound, out: end.out };
}

// OpenSSL's prefixes.
const openssl = /^(OPENSSL|OpenSSL|SSL|TLS|DTLS|CRYPTO|ERR|EVP|X509|X509V3|ASN1|BIO|BN|DH|DSA|EC|ECDSA|ENGINE|GENERAL|MD5|OBJ|OCSP|PEM|PKCS7|PKCS8|PKCS12|RAND|RSA|SHA256|UI|OSSL|PROVIDER|COMP|HMAC|d2i|i2d|i2a|i2t|a2i|sk|NCONF|CONF|MD4|DES)_/;
const others = /^_?(nghttp|ng_|inflate|deflate|crc32|adler32|zlib|compress|uncompress|gz|Brotli|ZSTD|ares_|simdutf|u_|ucnv|curl_|uvcurl_)/i;
const names = (bound, file) => [...bound].filter(([, to]) => to === file).map(([name]) => name);

function ofTheCLibrary() {
  const [, file] = fs.readFileSync('/proc/self/maps', 'utf8').match(/(\/\S+\/libc\.so\.6)$/m);
  const list = execFileSync('nm', ['-D', '--defined-only', '--format=just-symbols', file], { encoding: 'utf8' });
  return new Set(list.split('\n').map((name) => name.replace(/@.*/, '')));
}

test('the addon takes uv_*, napi_* and OpenSSL from Node, and nothing of the libraries in both', async (t) => {
  const { bound, out } = await bindings(t, addon);
  const node = names(bound, path.basename(process.execPath));
  if (process.env.UVCURL_TEST_TLS === 'rustls') assert.match(out, /rustls/);
  assert.match(out, /^protocols 1\.1\/9000 1\.1\/11 2\/11$/m);
  assert.ok(node.includes('uv_poll_start') && node.includes('napi_create_reference'));
  for (const name of bound.keys()) assert.doesNotMatch(name, others);
  const strange = node.filter((name) => !/^(uv|napi)_/.test(name) && !openssl.test(name));
  // A function of the C library whose address Node's executable takes has that address in the executable.
  assert.deepEqual(strange.filter((name) => !ofTheCLibrary().has(name)), []);
  // Each name is Node's or the C library's.
  const files = new Set([...bound.values()]);
  for (const file of files) {
    assert.match(file, new RegExp(`^(${path.basename(process.execPath)}|(lib(c|m|dl|pthread|rt|gcc_s)|ld-linux[-\\w]*)\\.so\\.\\d+)$`));
  }
  const tls = node.filter((name) => openssl.test(name));
  if (process.env.UVCURL_TEST_TLS) {
    assert.deepEqual(tls, [], 'OpenSSL is inside, or not used');
  } else {
    assert.ok(tls.includes('SSL_read') || tls.includes('SSL_read_ex'));
    assert.match(out, new RegExp(`OpenSSL/${process.versions.openssl.replace(/\+.*/, '').replaceAll('.', '\\.')} `));
  }
});

test('nghttp2 and zlib are those inside, not those of Node', async (t) => {
  const { out } = await bindings(t, addon);
  const [, zlib, nghttp2] = out.match(/zlib\/(\S+) nghttp2\/(\S+)/);
  assert.notEqual(nghttp2, process.versions.nghttp2);
  assert.notEqual(zlib, process.versions.zlib);
});

test('the addon exports what Node looks up, and no more', () => {
  const exported = execFileSync('nm', ['-D', '--defined-only', '--format=just-symbols', addon], { encoding: 'utf8' });
  assert.deepEqual(exported.trim().split('\n').sort(), ['napi_register_module_v1', 'node_api_module_get_api_version_v1']);
});

test('the addon needs no library but the C library', () => {
  const needed = execFileSync('readelf', ['-d', addon], { encoding: 'utf8' });
  for (const [, name] of needed.matchAll(/NEEDED.*\[(\S+)\]/g)) assert.match(name, /^(lib(c|m|dl|rt|pthread|gcc_s)|ld-linux.*)\.so/);
});

const other = process.env.UVCURL_TEST_TLS ? { skip: 'looked at with the TLS of Node' } : {};
test('left visible, nghttp2 would be half Node\'s: what the flag is for', other, async (t) => {
  const { bound } = await bindings(t, path.join(folder, 'visible.node'));
  const taken = names(bound, path.basename(process.execPath)).filter((name) => others.test(name));
  assert.ok(taken.some((name) => /^nghttp2_/.test(name)), 'this counter-example binds as it should');
});

test('an addon with a second libuv inside is refused when it is loaded', other, async () => {
  const end = await child('idle', 'http://127.0.0.1:1', { env: { UVCURL_TEST_ADDON: path.join(folder, 'second-libuv.node') } }).ended;
  assert.equal(end.code, 1);
  assert.match(end.err, /Error: .*libuv/);
  assert.match(end.err, /code: 'UVCURL_E_LIBUV_MISMATCH'/);
});
