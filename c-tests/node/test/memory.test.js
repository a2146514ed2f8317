'use strict';
// Memory over many requests: nginx serves, so that this process is the client's alone. Run with --expose-gc, and
// --max-semi-space-size=1, lest the heap of new objects go on growing for a while.
const assert = require('node:assert/strict');
const { test } = require('node:test');
const { fetch, stats } = require('../fetch.js');

const total = Number(process.env.UVCURL_TEST_REQUESTS || 100000);
const allowed = 10 << 20;
const { UVCURL_TEST_NGINX_HTTP: http } = process.env;

async function run(count) {
  let left = count;
  await Promise.all(Array.from({ length: 50 }, async () => {
    while (left-- > 0) {
      const controller = new AbortController();
      // Every tenth is aborted, every tenth streamed: what ends in other ways is freed in other ways.
      const kind = left % 10;
      const options = { signal: controller.signal, headers: { 'x-a': 'b' }, stream: kind === 1 };
      const response = fetch(`http://127.0.0.1:${http}/1k`, options);
      if (kind === 0) controller.abort();
      try {
        const { body } = await response;
        if (kind === 1) for await (const part of body) void part;
      } catch (error) {
        assert.equal(error.name, 'AbortError');
      }
    }
  }));
}

async function settled() {
  for (let i = 0; i < 5; i++) {
    global.gc();
    await new Promise(setImmediate);
  }
  return process.memoryUsage();
}

test(`memory is flat over ${total} requests: RSS grows by less than ${allowed >> 20} MB`, async (t) => {
  // The first ones fill pools and caches, and what Node compiles comes in a step or two: go on until no more comes.
  let before;
  for (let stretch = 0, last; stretch < 3 || (stretch < 8 && before.rss - last.rss > 1 << 20); stretch++) {
    last = before;
    await run(20000);
    before = await settled();
  }
  await run(total);
  const after = await settled();
  t.diagnostic(`RSS ${before.rss >> 10} -> ${after.rss >> 10} KB, heap ${before.heapUsed >> 10} -> ${after.heapUsed >> 10} KB`);
  assert.ok(after.rss - before.rss < allowed, `RSS grew by ${(after.rss - before.rss) >> 10} KB`);
  assert.ok(after.heapUsed - before.heapUsed < 2 << 20, `the heap grew by ${(after.heapUsed - before.heapUsed) >> 10} KB`);
  // Every job's memory has been given back, not only JavaScript's side of it.
  assert.deepEqual({ ...stats(), curl: '' }, { active: 0, jobs: 0, curl: '' });
});
