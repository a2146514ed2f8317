'use strict';
// AbortSignal before, during and after; and every promise settles.
const assert = require('node:assert/strict');
const { getEventListeners, once } = require('node:events');
const { test } = require('node:test');
const { fetch, stats } = require('../fetch.js');
const { body, httpServer, http2Server, waiting } = require('./support.js');

test('before: nothing is started', async (t) => {
  const server = await httpServer(t);
  let connections = 0;
  server.on('connection', () => connections++);
  const reason = new Error('never mind');
  await assert.rejects(fetch(server.url, { signal: AbortSignal.abort(reason) }), reason);
  assert.equal(stats().active, 0);
  // A request that is made afterwards arrives first.
  await fetch(server.url);
  assert.equal(connections, 1);
});

test('in the same turn as the start', async (t) => {
  const server = await httpServer(t);
  const controller = new AbortController();
  const response = fetch(`${server.url}/hang`, { signal: controller.signal });
  controller.abort();
  await assert.rejects(response, { name: 'AbortError' });
  assert.equal(stats().active, 0);
});

test('while the server thinks: the server learns of it', async (t) => {
  const server = await httpServer(t);
  const controller = new AbortController();
  const response = fetch(`${server.url}/hang`, { signal: controller.signal });
  await waiting(server, 1);
  const closed = once(server.waiting[0], 'close');
  controller.abort(new TypeError('mine'));
  await assert.rejects(response, { name: 'TypeError', message: 'mine' });
  await closed;
  assert.equal(getEventListeners(controller.signal, 'abort').length, 0);
});

test('in the middle of a body', async (t) => {
  const server = await httpServer(t);
  const controller = new AbortController();
  const response = fetch(`${server.url}/drip`, { signal: controller.signal });
  await waiting(server, 1);
  controller.abort();
  await assert.rejects(response, { name: 'AbortError' });
});

test('in the middle of a stream: the stream fails with the reason', async (t) => {
  const server = await httpServer(t);
  const controller = new AbortController();
  const response = await fetch(`${server.url}/drip`, { signal: controller.signal, stream: true });
  const [first] = await once(response.body, 'data');
  assert.equal(String(first), 'the first part');
  controller.abort();
  const [error] = await once(response.body, 'error');
  assert.equal(error.name, 'AbortError');
});

test('inside a data event', async (t) => {
  const server = await httpServer(t);
  const controller = new AbortController();
  const response = await fetch(`${server.url}/bytes/20000000`, { signal: controller.signal, stream: true });
  response.body.on('data', () => controller.abort());
  const [error] = await once(response.body, 'error');
  assert.equal(error.name, 'AbortError');
  while (stats().active) await new Promise(setImmediate);
});

test('a stream that is destroyed ends its transfer', async (t) => {
  const server = await httpServer(t);
  const response = await fetch(`${server.url}/drip`, { stream: true });
  const closed = once(server.waiting[0], 'close');
  response.body.destroy();
  await closed;
  while (stats().active) await new Promise(setImmediate);
});

test('a stream that is paused can be aborted', async (t) => {
  const server = await httpServer(t);
  const controller = new AbortController();
  const response = await fetch(`${server.url}/bytes/20000000`, { signal: controller.signal, stream: true });
  for (let i = 0; i < 20; i++) await fetch(`${server.url}/text`);
  controller.abort();
  const [error] = await once(response.body, 'error');
  assert.equal(error.name, 'AbortError');
});

test('after: no effect', async (t) => {
  const server = await httpServer(t);
  const controller = new AbortController();
  const response = await fetch(`${server.url}/text`, { signal: controller.signal });
  assert.equal(getEventListeners(controller.signal, 'abort').length, 0);
  controller.abort();
  assert.equal(String(response.body), 'hello /text');
  const stream = await fetch(`${server.url}/text`, { stream: true });
  assert.equal(String(await body(stream.body)), 'hello /text');
});

test('AbortSignal.timeout', async (t) => {
  const server = await httpServer(t);
  await assert.rejects(fetch(`${server.url}/hang`, { signal: AbortSignal.timeout(20) }), { name: 'TimeoutError' });
});

test('every second one of 200 is aborted, the others do not notice', async (t) => {
  for (const options of [{}, { http: 'h2c' }]) {
    const server = await (options.http ? http2Server(t, false) : httpServer(t));
    const controllers = [];
    const all = Array.from({ length: 200 }, (_, i) => {
      controllers[i] = new AbortController();
      return fetch(`${server.url}/${i % 2 ? 'hang' : `text/${i}`}`, { ...options, signal: controllers[i].signal });
    });
    // Of HTTP/2 no more than 100 streams at a time, so not all of them get as far as the server.
    if (!options.http) await waiting(server, 100);
    controllers.forEach((controller, i) => i % 2 && controller.abort());
    const results = await Promise.allSettled(all);
    results.forEach((result, i) => {
      if (i % 2) assert.equal(result.reason.name, 'AbortError');
      else assert.equal(String(result.value.body), `hello /text/${i}`);
    });
  }
});

test('no promise is left pending when the server gives up', async (t) => {
  const server = await httpServer(t);
  await assert.rejects(fetch(`${server.url}/cut/head`), { code: 'CURLE_GOT_NOTHING' });
  const cut = (error) => /^CURLE_(PARTIAL_FILE|RECV_ERROR)$/.test(error.code);
  await assert.rejects(fetch(`${server.url}/cut/body`), cut);
  const response = await fetch(`${server.url}/cut/body`, { stream: true });
  await assert.rejects(body(response.body), cut);
  const many = await Promise.allSettled(Array.from({ length: 200 }, (_, i) => fetch(`${server.url}/cut/${i % 2 ? 'head' : 'body'}`)));
  assert.ok(many.every((one) => one.status === 'rejected'));
  assert.equal(stats().active, 0);
});
