'use strict';
// The addon built by node-gyp and by CMake, offline; and builds that are refused.
const assert = require('node:assert/strict');
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { child, httpServer } = require('./support.js');

const prefix = process.env.UVCURL_TEST_PREFIX;
const root = path.join(__dirname, '..', '..', '..');
const node = path.resolve(process.execPath, '..', '..');

// No network, for nothing may be fetched: a proxy that is not there.
function run(command, args, options = {}) {
  const nowhere = 'http://127.0.0.1:9';
  return new Promise((resolve) => execFile(command, args, {
    ...options, encoding: 'utf8', maxBuffer: 1 << 26,
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, http_proxy: nowhere, https_proxy: nowhere, npm_config_nodedir: node, ...options.env },
  }, (error, out, err) => resolve({ code: error ? error.code : 0, text: `${out}${err}`, words: `${out}${err}`.replace(/\s+/g, ' ') })));
}

function copy(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'uvcurl-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  for (const file of ['fetch.c', 'fetch.js', 'binding.gyp', 'package.json', 'CMakeLists.txt']) {
    fs.copyFileSync(path.join(__dirname, '..', file), path.join(folder, file));
  }
  return folder;
}

async function works(t, file) {
  const server = await httpServer(t);
  const end = await child('idle', server.url, { env: { UVCURL_TEST_ADDON: file } }).ended;
  assert.deepEqual(end, { code: 0, signal: null, out: 'done 0\n', err: '' });
}

const nodeGyp = (folder, ...args) => run(process.execPath, [path.join(node, 'lib/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js'), ...args],
  { cwd: folder, env: { PATH: `${path.join(node, 'bin')}:${process.env.PATH}` } });

test('node-gyp builds the addon, and it works', async (t) => {
  const folder = copy(t);
  fs.symlinkSync(prefix, `${folder}/uvcurl`);
  const built = await nodeGyp(folder, 'rebuild');
  assert.equal(built.code, 0, built.text);
  await works(t, path.join(folder, 'build/Release/fetch.node'));
});

test('node-gyp refuses an addon that is not linked as it must be, each time', async (t) => {
  const folder = copy(t);
  const embedded = path.join(root, 'build/embedded/lib/libuvcurl.a');
  fs.symlinkSync(prefix, `${folder}/uvcurl`);
  const gyp = fs.readFileSync(`${folder}/binding.gyp`, 'utf8');
  const without = '"libraries/": [["exclude", "uvcurl_node"]]';
  // Each is linked again where a right one has been built and passed.
  assert.equal((await nodeGyp(folder, 'rebuild')).code, 0);
  for (const [more, sentence] of [
    // Where the linker drops what it does not need, one has to insist.
    ['"libraries": ["-Wl,--no-as-needed", "-lcurl"]', /fetch\.node links libcurl\.so\.4\. An addon must not bring/],
    ['"libraries": ["-Wl,--no-as-needed", "-l:libcurl-gnutls.so.4"]', /fetch\.node links libcurl-gnutls\.so\.4\. An addon must not bring/],
    ['"libraries": ["-Wl,--no-as-needed", "-luv", "-lcurl"]', /fetch\.node links libuv\.so\.1 and libcurl\.so\.4\. /],
    [`${without}, "libraries": ["-lcurl"]`, /fetch\.node links libcurl\.so\.4\. /],
    [without, /fetch\.node leaves u?v?curl_\w+, u?v?curl_\w+, u?v?curl_\w+ and \d+ more open, which Node does not have: link libuvcurl_node\.a/],
    [`${without}, "libraries": ["${embedded}", "-lssl", "-lcrypto"]`, /fetch\.node takes nothing of libuv from Node, so there is a second libuv/],
    ['"ldflags!": ["-Wl,--exclude-libs,ALL"]', /fetch\.node lets others see u?v?curl_\w+, .* link with -Wl,--exclude-libs,ALL/],
  ]) {
    fs.writeFileSync(`${folder}/binding.gyp`, gyp.replace('["fetch.c"]', `["fetch.c"], ${more}`));
    assert.equal((await nodeGyp(folder, 'configure')).code, 0);
    // The second time nothing is linked.
    for (let time = 0; time < 2; time++) {
      const built = await nodeGyp(folder, 'build');
      assert.notEqual(built.code, 0, more);
      assert.match(built.words, sentence);
      assert.equal(fs.existsSync(`${folder}/build/Release/fetch.node`), false);
    }
    // Mended, it is not refused any longer.
    fs.writeFileSync(`${folder}/binding.gyp`, gyp);
    assert.equal((await nodeGyp(folder, 'configure')).code, 0);
    const mended = await nodeGyp(folder, 'build');
    assert.equal(mended.code, 0, mended.text);
    assert.equal(fs.existsSync(`${folder}/build/Release/fetch.node`), true);
  }
  // An addon that nobody has named would not be looked at.
  fs.writeFileSync(`${folder}/binding.gyp`, gyp.replace('"variables": {"uvcurl_addons": ["fetch"]},', ''));
  const unnamed = await nodeGyp(folder, 'rebuild');
  assert.notEqual(unnamed.code, 0);
  assert.match(unnamed.words, /uvcurl_addons/);
});

test('CMake builds the addon, and it works; the prefix has been moved', async (t) => {
  const folder = copy(t);
  const moved = path.join(folder, 'moved');
  fs.cpSync(prefix, moved, { recursive: true });
  const configured = await run('cmake', ['-S', folder, '-B', `${folder}/b`, `-DCMAKE_PREFIX_PATH=${moved}`, `-DUVCURL_NODE_INCLUDE_DIR=${node}/include/node`]);
  assert.equal(configured.code, 0, configured.text);
  const built = await run('cmake', ['--build', `${folder}/b`]);
  assert.equal(built.code, 0, built.text);
  await works(t, path.join(folder, 'b/fetch.node'));
});

test('CMake refuses an addon that links another libcurl, libuv or uvcurl', async (t) => {
  const folder = copy(t);
  const cmake = fs.readFileSync(`${folder}/CMakeLists.txt`, 'utf8');
  for (const library of ['CURL::libcurl', 'curl', '-lcurl', '/usr/lib/libcurl.so.4', 'uv', '/usr/lib/libuv.so.1', '/usr/lib/libuvcurl.so']) {
    fs.writeFileSync(`${folder}/CMakeLists.txt`, cmake.replace('uvcurl::node)', `between)\nadd_library(between INTERFACE)\ntarget_link_libraries(between INTERFACE uvcurl::node ${library})`));
    fs.rmSync(`${folder}/b`, { recursive: true, force: true });
    const configured = await run('cmake', ['-S', folder, '-B', `${folder}/b`, `-DCMAKE_PREFIX_PATH=${prefix}`]);
    assert.notEqual(configured.code, 0, library);
    assert.ok(configured.words.includes(`fetch links uvcurl::node and also ${library}. An addon must not bring`), configured.text);
  }
});

test('CMake names what is missing', async (t) => {
  const folder = copy(t);
  const configured = await run('cmake', ['-S', folder, '-B', `${folder}/b`, `-DCMAKE_PREFIX_PATH=${prefix}`, '-DUVCURL_NODE_INCLUDE_DIR=/none']);
  assert.notEqual(configured.code, 0);
  assert.ok(configured.words.includes('/none has no node_api.h and uv.h of Node: install'), configured.text);
  fs.writeFileSync(`${folder}/CMakeLists.txt`, 'cmake_minimum_required(VERSION 3.18)\nproject(a C)\nfind_package(uvcurl REQUIRED)\n');
  const plain = await run('cmake', ['-S', folder, '-B', `${folder}/c`, `-DCMAKE_PREFIX_PATH=${prefix}`]);
  assert.notEqual(plain.code, 0);
  assert.ok(plain.words.includes('is for addons of Node: ask for COMPONENTS node'), plain.text);
});

// What of Node's headers a build for Node looks at, and one of them otherwise.
function headers(folder, file, from, to) {
  const include = path.join(folder, 'include');
  for (const name of ['node_api.h', 'uv.h', 'uv', 'openssl']) {
    fs.cpSync(`${node}/include/node/${name}`, `${include}/${name}`, { recursive: true });
  }
  if (!from) fs.rmSync(path.join(include, file));
  else {
    const text = fs.readFileSync(path.join(include, file), 'utf8');
    assert.match(text, from);
    fs.writeFileSync(path.join(include, file), text.replace(from, to));
  }
  return [`-DUVCURL_NODE_INCLUDE_DIR=${include}`];
}

// A `node` that says where its headers are, and that it has no OpenSSL.
function withoutOpenssl(folder) {
  fs.writeFileSync(`${folder}/node`, `#!/bin/sh\ncase $2 in *include*) echo ${node}/include/node ;; *) echo '3.0.0 none' ;; esac\n`, { mode: 0o755 });
  return [`-DUVCURL_NODE_EXECUTABLE=${folder}/node`];
}

// Each is refused when it is configured, so nothing is compiled.
for (const [name, options, sentence] of [
  ['a host-mode build on the libuv of Node and the libcurl of the system',
    () => ['-DUVCURL_NODE=OFF', `-DUVCURL_UV_INCLUDE_DIR=${node}/include/node`, '-DUVCURL_UV_LIBRARY=/usr/lib/libuv.so'], "uv.h is Node's, and the libcurl is the system's"],
  ['node mode with a libuv inside', () => ['-DUVCURL_EMBEDDED=ON'], 'exclude each other'],
  ['node mode as a shared library', () => ['-DBUILD_SHARED_LIBS=ON'], 'static library only'],
  ['a TLS library that there is not', () => ['-DUVCURL_TLS=openssl'], 'is openssl-node, openssl-static or rustls, not openssl'],
  ['a static OpenSSL that there is not', () => ['-DUVCURL_TLS=openssl-static', '-DCMAKE_DISABLE_FIND_PACKAGE_OpenSSL=ON'], 'libssl.a and libcrypto.a are missing: install'],
  ['node mode without Node', () => ['-DUVCURL_NODE_EXECUTABLE=/none/node'], 'Node is missing: install it with its headers'],
  ['node mode without the headers of Node', () => ['-DUVCURL_NODE_INCLUDE_DIR=/none'], '/none has no node_api.h'],
  ['node mode without perl', () => ['-DCMAKE_DISABLE_FIND_PACKAGE_Perl=ON'], 'perl is missing, which lays out the library: install it'],
  ['a Node with too old a libuv', (folder) => headers(folder, 'uv/version.h', /^#define UV_VERSION_MINOR .*/m, '#define UV_VERSION_MINOR 40'), 'or later, and'],
  ['a libuv whose handles are of another size', (folder) => headers(folder, 'uv/unix.h', /  uv__io_t io_watcher;/g, '  uv__io_t io_watcher; char more[64];'), 'do not fit'],
  ['a processor without bindings', () => ['-DUVCURL_RUST_TARGET=riscv64gc-unknown-linux-gnu'], 'there are no ready bindings for riscv64gc-unknown-linux-gnu, which a build for Node needs'],
  ['the headers of a Node without OpenSSL', (folder) => headers(folder, 'openssl/ssl.h'), 'has no openssl/ssl.h, so this Node has no OpenSSL of its own for addons'],
  ['a Node without OpenSSL', withoutOpenssl, 'was built without OpenSSL: use -DUVCURL_TLS=rustls'],
]) {
  test(`uvcurl's own CMake build refuses ${name}`, async (t) => {
    const folder = copy(t);
    const configured = await run('cmake', ['-S', root, '-B', `${folder}/b`, '-DUVCURL_NODE=ON', ...options(folder)]);
    assert.notEqual(configured.code, 0);
    assert.ok(configured.words.includes(sentence), configured.text);
  });
}

test('uvcurl_node.h in C11 and C++17, pedantic, included twice', async (t) => {
  const folder = copy(t);
  const lines = '#define NAPI_VERSION 8\n#include <uvcurl_node.h>\n#include <uvcurl_node.h>\nint unused;\n';
  const flags = ['-Wall', '-Wextra', '-pedantic', '-Werror', '-fPIC', '-c', '-o', `${folder}/a.o`, '-isystem', `${node}/include/node`, '-isystem',
    `${prefix}/include/uvcurl-node`, `-I${prefix}/include`];
  for (const [compiler, standard, suffix] of [['cc', '-std=gnu11', 'c'], ['c++', '-std=c++17', 'cc']]) {
    fs.writeFileSync(`${folder}/a.${suffix}`, lines);
    const compiled = await run(compiler, [standard, ...flags, `${folder}/a.${suffix}`]);
    assert.equal(compiled.code, 0, compiled.text);
  }
  fs.writeFileSync(`${folder}/a.c`, lines.replace('8', '7'));
  assert.match((await run('cc', ['-std=gnu11', ...flags, `${folder}/a.c`])).text, /define NAPI_VERSION as 8 or later/);
});
