'use strict';
// What life.test.js and bindings.test.js run in a process of its own: child.js SCENARIO URL. Prints what happened.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const [, , scenario, url, ...rest] = isMainThread ? process.argv : [0, 0, workerData.scenario, workerData.url];
const { fetch, stats, unref } = require('../fetch.js');

const say = (...words) => process.stdout.write(`${words.join(' ')}\n`);
const many = (count, where) => Promise.all(Array.from({ length: count }, () => fetch(`${url}/${where}`)));
const endless = (where) => fetch(`${url}/${where}`).then(() => say('answered'), (error) => say('rejected', error.code));

// Each in a process, some in a worker too.
const scenarios = {
  // Connections idle in the pool, the server is in the parent and stays: the process ends by itself.
  async idle() {
    await many(20, 'text');
    say('done', stats().active);
  },
  // Nothing but the transfer keeps the process.
  waits() {
    process.on('beforeExit', () => say('beforeExit'));
    endless('hang');
  },
  // A transfer that is paused has neither socket nor timer, and keeps the process all the same.
  async paused() {
    const response = await fetch(`${url}/bytes/20000000`, { stream: true });
    process.on('beforeExit', () => say('beforeExit'));
    process.stdin.once('data', () => response.body.resume().on('end', () => say('ended')));
    process.stdin.unref?.();
    say('paused');
  },
  // The loop ends under transfers in flight: they are cancelled in the cleanup hook, with no JavaScript.
  unref() {
    unref();
    for (let i = 0; i < 50; i++) endless('hang');
    process.on('exit', () => say('exit', stats().active));
  },
  exit() {
    for (let i = 0; i < 50; i++) endless('drip');
    process.stdin.once('data', () => {
      say('exit', stats().active);
      process.exit(7);
    });
  },
  async exitInData() {
    for (let i = 0; i < 20; i++) endless('hang');
    const { body } = await fetch(`${url}/bytes/20000000`, { stream: true });
    body.on('data', () => process.exit(7));
  },
  exitInDone() {
    for (let i = 0; i < 20; i++) endless('hang');
    fetch(`${url}/text`).then(() => process.exit(7));
  },
  killed() {
    for (let i = 0; i < 50; i++) endless('drip');
  },
  // Thrown in a callback that libcurl's callback has called.
  async throws() {
    let caught = 0;
    process.on('uncaughtException', (error) => {
      if (error.message !== 'mine') throw error;
      caught++;
    });
    const all = Array.from({ length: 20 }, async (_, i) => {
      const { body } = await fetch(`${url}/bytes/200000`, { stream: true });
      let first = i % 2;
      let total = 0;
      body.on('data', (data) => {
        total += data.length;
        if (!first) return;
        first = 0;
        throw new Error('mine');
      });
      await new Promise((resolve) => body.on('end', resolve));
      return total;
    });
    say('caught', (await Promise.all(all)).filter((total) => total === 200000).length, caught);
  },
  async throwsUncaught() {
    for (let i = 0; i < 20; i++) endless('hang');
    const { body } = await fetch(`${url}/bytes/200000`, { stream: true });
    body.on('data', () => {
      throw new Error('nobody catches this');
    });
  },
  // The same addon once more in this environment, and a copy of the file: three drivers, two libcurls, one loop.
  async twice() {
    const fs = require('node:fs');
    const os = require('node:os');
    const path = require('node:path');
    const file = require.resolve('../fetch.js');
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'uvcurl-'));
    const copy = path.join(folder, 'copy.node');
    fs.copyFileSync(process.env.UVCURL_TEST_ADDON, copy);
    const again = () => {
      for (const key of Object.keys(require.cache)) delete require.cache[key];
      return require(file);
    };
    const second = again();
    process.env.UVCURL_TEST_ADDON = copy;
    const third = again();
    const all = await Promise.all([fetch, second.fetch, third.fetch].map((one) =>
      Promise.all(Array.from({ length: 50 }, () => one(`${url}/text`)))));
    fs.rmSync(folder, { recursive: true });
    say('twice', all.flat().filter((response) => String(response.body) === 'hello /text').length,
      new Set([fetch, second.fetch, third.fetch]).size);
  },
  // Four workers, each with a driver of its own, and the main thread.
  async workers() {
    const ended = Array.from({ length: 4 }, () => new Promise((resolve) => {
      const worker = new Worker(__filename, { workerData: { scenario: 'fetches', url } });
      let count;
      worker.on('message', (message) => (count = message));
      worker.on('error', (error) => say('worker failed', error.message));
      worker.on('exit', (code) => resolve(`${count}/${code}`));
    }));
    const own = await many(100, 'text');
    say('workers', ...(await Promise.all(ended)), own.length, stats().active);
  },
  async fetches() {
    const all = await many(200, 'text');
    parentPort.postMessage(all.filter((response) => String(response.body) === 'hello /text').length);
  },
  // Workers end in mid-flight, again and again; the main thread's transfers go on.
  async terminate() {
    const long = fetch(`${url}/hang`);
    let ended = 0;
    for (let round = 0; round < Number(rest[0]); round++) {
      const workers = Array.from({ length: 4 }, (_, i) =>
        new Worker(__filename, { workerData: { scenario: rest[1].split(',')[i % rest[1].split(',').length], url } }));
      await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
      await Promise.all(workers.map((worker) => worker.terminate()));
      ended += workers.length;
      await many(10, 'text');
    }
    say('terminated', ended, stats().active);
    const released = await fetch(`${url}/release`);
    say('main', String((await long).body), released.status);
  },
  // 50 that never end; the message comes once the server has seen them.
  async hangs() {
    for (let i = 0; i < 50; i++) fetch(`${url}/drip`, { stream: true }).then(({ body }) => body.on('error', () => {}).resume());
    await many(1, 'text');
    parentPort.postMessage('in flight');
  },
  // Data all the time, so that the end falls into callbacks.
  async streams() {
    for (let i = 0; i < 4; i++) {
      const { body } = await fetch(`${url}/bytes/1000000000`, { stream: true });
      body.on('error', () => {}).on('data', () => {});
    }
    parentPort.postMessage('in flight');
  },
  // One after another, and new ones from each promise.
  async busy() {
    const again = () => fetch(`${url}/text`).then(again, () => {});
    for (let i = 0; i < 20; i++) again();
    await many(1, 'text');
    parentPort.postMessage('in flight');
  },
  // The ways a worker ends by itself while transfers are in flight.
  async workerEnds() {
    const codes = [];
    for (const how of ['workerExit', 'workerThrows', 'workerUnref']) {
      const worker = new Worker(__filename, { workerData: { scenario: how, url } });
      worker.on('error', (error) => codes.push(error.message));
      codes.push(await new Promise((resolve) => worker.on('exit', resolve)));
    }
    say('ends', ...codes);
  },
  async workerExit() {
    for (let i = 0; i < 20; i++) endless('hang');
    const { body } = await fetch(`${url}/bytes/20000000`, { stream: true });
    body.on('data', () => process.exit(3));
  },
  async workerThrows() {
    for (let i = 0; i < 20; i++) endless('hang');
    const { body } = await fetch(`${url}/bytes/20000000`, { stream: true });
    body.on('data', () => {
      throw new Error('thrown');
    });
  },
  workerUnref() {
    unref();
    for (let i = 0; i < 20; i++) endless('hang');
  },
  // bindings.test.js: each protocol once, so that whatever is bound is bound.
  async protocols() {
    const urls = JSON.parse(process.env.UVCURL_TEST_URLS);
    const said = [];
    for (const [http, where] of urls) {
      const response = await fetch(where, { http, cafile: process.env.UVCURL_TEST_CA });
      said.push(`${response.http}/${response.body.length}`);
    }
    say('protocols', ...said);
    say(stats().curl);
  },
};

scenarios[scenario]();
