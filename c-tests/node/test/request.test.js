'use strict';
// Requests against Node's own servers on the same loop: a driver that blocks the loop never gets an answer.
const assert = require('node:assert/strict');
const { AsyncLocalStorage, createHook } = require('node:async_hooks');
const crypto = require('node:crypto');
const { once } = require('node:events');
const { Readable } = require('node:stream');
const { test } = require('node:test');
const { fetch, stats } = require('../fetch.js');
const { body, bytes, ca, freePort, httpServer, httpsServer, http2Server, waiting } = require('./support.js');

const hash = (data) => crypto.createHash('sha256').update(data).digest('hex');

test('a GET gives status, headers and body', async (t) => {
  const server = await httpServer(t);
  const response = await fetch(`${server.url}/text/a`, { headers: { 'x-one': 'two' } });
  assert.equal(response.status, 200);
  assert.equal(response.headers['content-length'], '13');
  assert.equal(String(response.body), 'hello /text/a');
  assert.equal(response.http, '1.1');
  assert.equal(stats().active, 0);
});

test('1,000 in parallel, to each its own body', async (t) => {
  const server = await httpServer(t);
  const all = await Promise.all(Array.from({ length: 1000 }, (_, i) => fetch(`${server.url}/text/${i}`)));
  all.forEach((response, i) => assert.equal(String(response.body), `hello /text/${i}`));
});

test('HEAD, 204 and 304 have no body', async (t) => {
  const server = await httpServer(t);
  for (const [method, where, status] of [['HEAD', 'text', 200], ['GET', 'status/204', 204], ['GET', 'status/304', 304]]) {
    const response = await fetch(`${server.url}/${where}`, { method });
    assert.equal(response.status, status);
    assert.equal(response.body.length, 0);
  }
});

test('an HTTP error is a response', async (t) => {
  const server = await httpServer(t);
  for (const status of [404, 500]) {
    const response = await fetch(`${server.url}/status/${status}`);
    assert.equal(response.status, status);
    assert.equal(String(response.body), 'of its own');
  }
});

test('methods and bodies arrive', async (t) => {
  const server = await httpServer(t);
  const large = crypto.randomBytes(5 << 20);
  for (const [method, sent] of [['POST', 'text'], ['PUT', Buffer.from([0, 1, 255])], ['PATCH', large], ['POST', Buffer.alloc(0)],
    ['DELETE', undefined]]) {
    const response = await fetch(`${server.url}/echo`, { method, body: sent });
    assert.equal(response.headers['x-method'], method);
    assert.equal(hash(response.body), hash(sent ?? ''));
  }
});

test('headers are sent, repeated and empty ones too', async (t) => {
  const server = await httpServer(t);
  const response = await fetch(`${server.url}/echo`, { headers: [['x-a', '1'], ['x-a', '2'], ['x-none', '']] });
  const headers = JSON.parse(response.headers['x-headers']);
  assert.equal(headers['x-a'], '1, 2');
  assert.equal(headers['x-none'], '');
});

test('a line break in a header is refused', async (t) => {
  const server = await httpServer(t);
  await assert.rejects(fetch(server.url, { headers: { 'x-a': 'b\r\nx-c: d' } }), { code: 'ERR_INVALID_CHAR' });
  await assert.rejects(fetch(server.url, { headers: { 'x-a\r\nx-c': 'd' } }), { code: 'ERR_INVALID_HTTP_TOKEN' });
  assert.equal(stats().active, 0);
});

test('repeated response headers are kept, informational responses passed over', async (t) => {
  const server = await httpServer(t);
  const response = await fetch(`${server.url}/cookies`);
  assert.deepEqual(response.headers['set-cookie'], ['a=1', 'b=2']);
  assert.equal(response.headers['x-empty'], '');
  const late = await fetch(`${server.url}/early`, { stream: true });
  assert.equal(late.status, 200);
  assert.equal(String(await body(late.body)), 'late');
});

test('redirects are followed if asked for', async (t) => {
  const server = await httpServer(t);
  assert.equal((await fetch(`${server.url}/redirect`)).status, 302);
  const followed = await fetch(`${server.url}/redirect`, { redirects: 3, stream: true });
  assert.equal(followed.status, 200);
  assert.equal(String(await body(followed.body)), 'hello /text/there');
});

test('gzip is unpacked, by the zlib inside', async (t) => {
  const server = await httpServer(t);
  assert.equal(String((await fetch(`${server.url}/gzip`)).body), 'unpacked '.repeat(1000));
});

test('a body as a stream', async (t) => {
  const server = await httpServer(t);
  const response = await fetch(`${server.url}/bytes/3000000`, { stream: true });
  const received = await body(response.body);
  assert.equal(hash(received), hash(bytes(3000000)));
});

test('a stream that nobody reads holds the server back', async (t) => {
  const server = await httpServer(t);
  const size = 128 << 20;
  const response = await fetch(`${server.url}/bytes/${size}`, { stream: true });
  // Turns of the loop in which the rest of it would come, were it not for the pause: each of these is a round trip.
  for (let i = 0; i < 500; i++) await fetch(`${server.url}/text`);
  const held = server.written;
  assert.ok(held < size / 4, `${held} bytes were written`);
  let total = 0;
  for await (const part of response.body) total += part.length;
  assert.equal(total, size);
});

test('an upload from a stream, in the pace of the server', async (t) => {
  const server = await httpServer(t);
  const part = crypto.randomBytes(65536);
  const digest = crypto.createHash('sha256');
  const sent = Readable.from((function* () {
    for (let i = 0; i < 100; i++) {
      digest.update(part);
      yield part;
    }
  })());
  const response = await fetch(`${server.url}/echo`, { method: 'PUT', body: sent });
  assert.equal(response.body.length, 100 * part.length);
  assert.equal(hash(response.body), digest.digest('hex'));
});

test('an upload that the server does not read is not buffered without end', async (t) => {
  const server = await httpServer(t);
  // More than the kernel's buffers hold of what is never read.
  const parts = 1024;
  let produced = 0;
  const sent = new Readable({
    read() {
      this.push(produced++ < parts ? Buffer.alloc(65536) : null);
    },
  });
  const controller = new AbortController();
  const response = fetch(`${server.url}/hang`, { method: 'PUT', body: sent, signal: controller.signal });
  await waiting(server, 1);
  // The kernel takes a little more now and then, as it widens its windows, until it is full.
  for (let before = -1; before !== produced;) {
    before = produced;
    for (let i = 0; i < 500; i++) await fetch(`${server.url}/text`);
  }
  assert.ok(produced < parts, `all ${parts} parts were asked of the stream`);
  controller.abort();
  await assert.rejects(response, { name: 'AbortError' });
});

test('an upload whose stream fails rejects with its error', async (t) => {
  const server = await httpServer(t);
  let count = 0;
  const sent = new Readable({
    read() {
      if (count++ < 3) this.push('part');
      else this.destroy(new Error('out of parts'));
    },
  });
  await assert.rejects(fetch(`${server.url}/echo`, { method: 'PUT', body: sent }), { message: 'out of parts' });
});

test('https with a certificate that is trusted, and none that is not', async (t) => {
  const server = await httpsServer(t);
  const response = await fetch(`${server.url}/text`, { ca });
  assert.equal(String(response.body), 'hello /text');
  await assert.rejects(fetch(`${server.url}/text`), (error) => {
    assert.equal(error.code, 'CURLE_PEER_FAILED_VERIFICATION');
    assert.equal(error.errno, 60);
    return true;
  });
});

test('https, 300 in parallel, large bodies', async (t) => {
  const server = await httpsServer(t);
  const all = await Promise.all(Array.from({ length: 300 }, () => fetch(`${server.url}/bytes/100000`, { ca })));
  for (const response of all) assert.equal(response.body.length, 100000);
});

test('HTTP/2 over TLS, 100 streams on one connection', async (t) => {
  const server = await http2Server(t);
  const first = await fetch(`${server.url}/text`, { ca, http: '2' });
  assert.equal(first.http, '2');
  const all = await Promise.all(Array.from({ length: 100 }, (_, i) => fetch(`${server.url}/text/${i}`, { ca, http: '2' })));
  all.forEach((response, i) => assert.equal(String(response.body), `hello /text/${i}`));
  assert.equal(server.sessionCount, 1);
});

test('HTTP/2 without TLS, bodies both ways', async (t) => {
  const server = await http2Server(t, false);
  const sent = crypto.randomBytes(1 << 20);
  const response = await fetch(`${server.url}/echo`, { method: 'PUT', body: sent, http: 'h2c' });
  assert.equal(response.http, '2');
  assert.equal(hash(response.body), hash(sent));
});

test('a refused connection is an Error with a code', async () => {
  const port = await freePort();
  await assert.rejects(fetch(`http://127.0.0.1:${port}/`), (error) => {
    assert.ok(error instanceof Error);
    assert.equal(error.code, 'CURLE_COULDNT_CONNECT');
    assert.equal(error.errno, 7);
    assert.match(error.message, /127\.0\.0\.1/);
    return true;
  });
});

test('a URL that is none, and one of another scheme', async () => {
  await assert.rejects(fetch('http://'), { code: 'CURLE_URL_MALFORMAT' });
  await assert.rejects(fetch('file:///etc/passwd'), { code: 'CURLE_UNSUPPORTED_PROTOCOL' });
});

test('a timeout is an Error with a code', async (t) => {
  const server = await httpServer(t);
  await assert.rejects(fetch(`${server.url}/hang`, { timeout: 50 }), { code: 'CURLE_OPERATION_TIMEDOUT' });
});

test('AsyncLocalStorage keeps its store in the events of a stream', async (t) => {
  const server = await httpServer(t);
  const storage = new AsyncLocalStorage();
  const one = async (i) => storage.run(i, async () => {
    const response = await fetch(`${server.url}/bytes/200000`, { stream: true });
    const seen = new Set();
    response.body.on('data', () => seen.add(storage.getStore()));
    await new Promise((resolve, reject) => response.body.on('end', resolve).on('error', reject));
    assert.deepEqual([...seen], [i]);
  });
  await Promise.all(Array.from({ length: 20 }, (_, i) => one(i)));
});

test('nextTick and promises run when a callback returns, not some time later', async (t) => {
  const server = await httpServer(t);
  const { body: stream } = await fetch(`${server.url}/drip`, { stream: true });
  await once(stream, 'data');
  stream.resume();
  // The first came out of the stream's buffer; from here on each comes straight from libcurl's write callback, and many of
  // them from one call of libcurl.
  const size = 4 << 20;
  let total = 0;
  let events = 0;
  let ticks = 0;
  let promises = 0;
  let late = 0;
  await new Promise((resolve) => {
    stream.on('data', (part) => {
      if (ticks !== events || promises !== events) late++;
      events++;
      process.nextTick(() => ticks++);
      Promise.resolve().then(() => promises++);
      total += part.length;
      if (total === size) resolve();
    });
    server.waiting[0].write(Buffer.alloc(size));
  });
  assert.ok(events > 10);
  assert.equal(late, 0, `late in ${late} of ${events} events`);
  stream.on('error', () => {}).destroy();
});

test('a transfer is an asynchronous resource, and is destroyed once', async (t) => {
  const server = await httpServer(t);
  const made = new Set();
  let destroyed = 0;
  const hook = createHook({
    init: (id, type) => type === 'uvcurl' && made.add(id),
    destroy: (id) => made.delete(id) && destroyed++,
  }).enable();
  await Promise.all(Array.from({ length: 100 }, (_, i) => fetch(i % 2 ? `${server.url}/text` : 'http://').catch(() => {})));
  while (destroyed < 100) await new Promise(setImmediate);
  hook.disable();
  assert.equal(made.size, 0);
});
