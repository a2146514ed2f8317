'use strict';
// Processes and workers that end, with connections idle and with transfers in flight.
const assert = require('node:assert/strict');
const { once } = require('node:events');
const { test } = require('node:test');
const { child, httpServer, waiting } = require('./support.js');

// A child that must end by itself, without a word on stderr: { out }.
async function good(process_, code = 0) {
  const end = await process_.ended;
  assert.deepEqual({ code: end.code, signal: end.signal, err: end.err }, { code, signal: null, err: '' });
  return end.out;
}

test('the process ends by itself while connections idle in the pool', async (t) => {
  const server = await httpServer(t);
  assert.equal(await good(child('idle', server.url)), 'done 0\n');
});

test('a transfer in flight keeps the process alive', async (t) => {
  const server = await httpServer(t);
  const process_ = child('waits', server.url);
  await waiting(server, 1);
  // Had it not been kept, it would have ended before this second one was through.
  assert.equal(await good(child('idle', server.url)), 'done 0\n');
  server.waiting[0].end('at last');
  assert.equal(await good(process_), 'answered\nbeforeExit\n');
});

test('a transfer that is paused keeps the process alive', async (t) => {
  const server = await httpServer(t);
  const process_ = child('paused', server.url);
  await once(process_.stdout, 'data');
  assert.equal(await good(child('idle', server.url)), 'done 0\n');
  assert.equal(process_.exitCode, null);
  process_.stdin.end('go on');
  assert.equal(await good(process_), 'paused\nended\nbeforeExit\n');
});

test('the process ends with 50 transfers in flight that do not keep it', async (t) => {
  const server = await httpServer(t);
  assert.equal(await good(child('unref', server.url)), 'exit 50\n');
});

test('process.exit() with 50 transfers in flight', async (t) => {
  const server = await httpServer(t);
  const process_ = child('exit', server.url);
  await waiting(server, 50);
  process_.stdin.end('now');
  assert.equal(await good(process_, 7), 'exit 50\n');
});

test('process.exit() inside a data event, and when a promise settles', async (t) => {
  const server = await httpServer(t);
  assert.equal(await good(child('exitInData', server.url), 7), '');
  assert.equal(await good(child('exitInDone', server.url), 7), '');
});

test('a signal ends the process with transfers in flight', async (t) => {
  const server = await httpServer(t);
  const process_ = child('killed', server.url);
  await waiting(server, 50);
  process_.kill('SIGTERM');
  const end = await process_.ended;
  assert.equal(end.signal, 'SIGTERM');
});

test('an exception thrown in a callback is an uncaughtException, and nothing else is disturbed', async (t) => {
  const server = await httpServer(t);
  assert.equal(await good(child('throws', server.url)), 'caught 20 10\n');
});

test('an exception that nobody catches ends the process with its stack', async (t) => {
  const server = await httpServer(t);
  const end = await child('throwsUncaught', server.url).ended;
  assert.equal(end.code, 1);
  assert.equal(end.signal, null);
  assert.match(end.err, /Error: nobody catches this\n +at .*child\.js/);
});

test('the addon loaded twice, and a copy of it', async (t) => {
  const server = await httpServer(t);
  assert.equal(await good(child('twice', server.url)), 'twice 150 3\n');
});

test('4 workers with a driver each end by themselves', async (t) => {
  const server = await httpServer(t);
  assert.equal(await good(child('workers', server.url)), 'workers 200/0 200/0 200/0 200/0 100 0\n');
});

function terminating(name, rounds, scenarios) {
  test(name, async (t) => {
    const server = await httpServer(t);
    server.prependListener('request', (request) => {
      if (request.url !== '/release') return;
      for (const response of server.waiting) response.end('released');
    });
    const out = await good(child('terminate', server.url, { args: [String(rounds), scenarios] }));
    assert.equal(out, `terminated ${rounds * 4} 1\nmain released 200\n`);
    // Nothing of theirs stays connected.
    while (server.sockets.size) await new Promise(setImmediate);
  });
}
// Under valgrind a worker takes seconds to start.
const rounds = process.env.UVCURL_TEST_VALGRIND ? 1 : 5;
terminating('worker.terminate() in mid-flight, 4 at a time', rounds, 'hangs');
terminating('worker.terminate() while data arrive', rounds, 'streams');
terminating('worker.terminate() while promises settle', rounds, 'busy,hangs,streams');

test('a worker that exits, throws, or runs out while transfers are in flight', async (t) => {
  const server = await httpServer(t);
  assert.equal(await good(child('workerEnds', server.url)), 'ends 3 thrown 1 0\n');
});
