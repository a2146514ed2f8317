'use strict';
// Other work on the loop gets its turns: shown by counts, for times say nothing on a loaded machine.
const assert = require('node:assert/strict');
const { test } = require('node:test');
const { fetch } = require('../fetch.js');
const { httpServer } = require('./support.js');

test('setImmediate, nextTick and timers have their turns during 10,000 transfers', async (t) => {
  const server = await httpServer(t);
  const total = 10000;
  const parallel = 64;
  const counts = { done: 0, ticks: 0, late: 0, immediates: 0, timers: 0, most: 0 };
  let since = 0;
  let running = true;
  const immediate = () => {
    counts.immediates++;
    counts.most = Math.max(counts.most, since);
    since = 0;
    if (running) setImmediate(immediate);
  };
  const timer = () => {
    counts.timers++;
    if (running) setTimeout(timer, 1);
  };
  immediate();
  timer();
  let started = 0;
  await Promise.all(Array.from({ length: parallel }, async () => {
    while (started < total) {
      started++;
      await fetch(`${server.url}/text`);
      counts.done++;
      since++;
      // A tick from the last callback that has not run before this one would have waited for a turn of the loop.
      if (counts.ticks < counts.done - parallel) counts.late++;
      process.nextTick(() => counts.ticks++);
    }
  }));
  running = false;
  await new Promise(setImmediate);
  assert.equal(counts.done, total);
  assert.equal(counts.ticks, total);
  assert.equal(counts.late, 0);
  // Between two turns no more transfers end than were in flight, so there were turns enough.
  assert.ok(counts.most <= parallel, `${counts.most} ended between two immediates`);
  assert.ok(counts.immediates >= total / parallel, `${counts.immediates} immediates`);
  assert.ok(counts.timers >= 50, `${counts.timers} timers`);
});
