'use strict';
// A server that is not Node's: nginx, started by tools/with-servers.sh.
const assert = require('node:assert/strict');
const { test } = require('node:test');
const { fetch } = require('../fetch.js');
const { body, bytes, ca } = require('./support.js');

const { UVCURL_TEST_NGINX_HTTP: http, UVCURL_TEST_NGINX_TLS: tls, UVCURL_TEST_NGINX_H2: h2 } = process.env;
const kinds = [['HTTP/1.1', `http://127.0.0.1:${http}`, '1.1'], ['HTTP/1.1 over TLS', `https://127.0.0.1:${tls}`, '1.1'],
  ['HTTP/2 over TLS', `https://127.0.0.1:${h2}`, '2']];
const equal = (a, b) => assert.ok(a.equals(b), 'another body');

for (const [name, url, version] of kinds) {
  test(`nginx, ${name}: files of three sizes, buffered and streamed`, async () => {
    for (const [file, size] of [['1k', 1 << 10], ['100k', 100 << 10], ['10m', 10 << 20]]) {
      const response = await fetch(`${url}/${file}`, { ca, http: version });
      assert.equal(response.http, version);
      equal(response.body, bytes(size));
      const { body: stream } = await fetch(`${url}/${file}`, { ca, http: version, stream: true });
      equal(await body(stream), bytes(size));
    }
  });

  test(`nginx, ${name}: 1,000 in parallel`, async () => {
    const all = await Promise.all(Array.from({ length: 1000 }, () => fetch(`${url}/1k`, { ca, http: version })));
    for (const response of all) equal(response.body, bytes(1 << 10));
  });

  test(`nginx, ${name}: PUT and GET back`, async () => {
    const where = `${url}/upload/node-${process.pid}-${version}-${url.length}`;
    const sent = bytes(3000000);
    assert.match(String((await fetch(where, { ca, http: version, method: 'PUT', body: sent })).status), /^20[14]$/);
    equal((await fetch(where, { ca, http: version })).body, sent);
    assert.equal((await fetch(where, { ca, http: version, method: 'DELETE' })).status, 204);
  });
}

test('nginx: the end of an aborted transfer harms no other', async () => {
  // HTTP/2 is left out: nghttp2 ends a connection on which too much comes for streams that are gone (README.md, Limits).
  for (const [, url, version] of kinds.slice(0, 2)) {
    const controllers = Array.from({ length: 20 }, () => new AbortController());
    const streams = await Promise.all(controllers.map(({ signal }) => fetch(`${url}/10m`, { ca, http: version, signal, stream: true })));
    const rest = streams.map((one, i) => (i % 2 ? body(one.body).then((all) => all.length) : new Promise((resolve) => {
      one.body.on('error', (error) => resolve(error.name)).resume();
      controllers[i].abort();
    })));
    const results = await Promise.all(rest);
    results.forEach((result, i) => assert.equal(result, i % 2 ? 10 << 20 : 'AbortError'));
  }
});
