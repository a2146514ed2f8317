'use strict';
// Follows docs/node.md in an empty folder, as somebody would who has never seen uvcurl.
const assert = require('node:assert/strict');
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { certs, httpsServer } = require('./support.js');

const root = path.join(__dirname, '..', '..', '..');
const page = fs.readFileSync(path.join(root, 'docs/node.md'), 'utf8');
const blocks = [...page.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language, text]) => ({ language, text }));
const node = path.resolve(process.execPath, '..', '..');

test('docs/node.md, literally, from an empty folder to an https fetch', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'uvcurl-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const server = await httpsServer(t);
  const sh = (script) => new Promise((resolve) => execFile('sh', ['-e', '-c', script], {
    cwd: folder,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    // What has been compiled is not compiled again: cargo keeps it elsewhere than the reader's. npx brings npm's own node-gyp.
    env: {
      ...process.env, NODE_TEST_CONTEXT: undefined, UVCURL: root, npm_config_nodedir: node, CARGO_TARGET_DIR: undefined,
      PATH: `${folder}/bin:${path.join(node, 'bin')}:${process.env.PATH}`,
    },
  }, (error, out, err) => resolve({ code: error ? error.code : 0, out, err })));

  // node-gyp comes with npm; a reader's npx would fetch the same from the registry.
  fs.mkdirSync(`${folder}/bin`);
  const gyp = path.join(node, 'lib/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js');
  fs.writeFileSync(`${folder}/bin/npx`, `#!/bin/sh\nshift\nexec "${process.execPath}" "${gyp}" "$@"\n`, { mode: 0o755 });

  const [build, source, gypFile, main, use, cmake] = blocks;
  assert.deepEqual(blocks.map(({ language }) => language), ['sh', 'c', 'python', 'js', 'sh', 'cmake']);
  const target = path.join(root, 'build/node-target');
  const first = await sh(build.text.replace('-DUVCURL_NODE=ON', `-DUVCURL_NODE=ON "-DUVCURL_CARGO_TARGET_DIR=${target}"`));
  assert.equal(first.code, 0, first.out + first.err);
  fs.writeFileSync(`${folder}/get.c`, source.text);
  fs.writeFileSync(`${folder}/binding.gyp`, gypFile.text);
  fs.writeFileSync(`${folder}/main.js`, main.text);
  const url = `${server.url}/text/docs`;
  const fetched = (text) => text.replace('https://example.org/', `${url} ${path.join(certs, 'ca.pem')}`);
  const second = await sh(fetched(use.text));
  assert.equal(second.code, 0, second.out + second.err);
  assert.match(second.out, /^16 characters$/m);
  // Without the certificate it is refused, so it was looked at.
  const untrusted = await sh(`node main.js ${url}`);
  assert.match(untrusted.err, /^CURLE_PEER_FAILED_VERIFICATION /m);
  // The other way to build it.
  fs.writeFileSync(`${folder}/CMakeLists.txt`, cmake.text);
  const third = await sh('cmake -S . -B b -DCMAKE_PREFIX_PATH=$PWD/uvcurl && cmake --build b && cp b/get.node build/Release/get.node');
  assert.equal(third.code, 0, third.out + third.err);
  assert.match((await sh(fetched('node main.js https://example.org/\n'))).out, /^16 characters$/m);
});
