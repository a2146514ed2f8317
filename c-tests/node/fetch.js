'use strict';
// fetch(url, options) on libcurl and Node's own loop: the JavaScript half of fetch.c.
//
//   const { status, headers, body } = await fetch('https://example.org/', { method, headers, body, signal, stream });
//
// `body` is a Buffer, or a Readable with `stream: true`. What is sent is a string, a Buffer or a Readable. A failure is an
// Error whose `code` is uvcurl's name of it; after an abort it is the signal's reason.
const { AsyncLocalStorage } = require('node:async_hooks');
const { validateHeaderName, validateHeaderValue } = require('node:http');
const path = require('node:path');
const { Readable } = require('node:stream');

const addon = require(process.env.UVCURL_TEST_ADDON || path.join(__dirname, 'build', 'Release', 'fetch.node'));

// CURLOPT_HTTP_VERSION
const versions = { 1.1: 2, 2: 4, h2c: 5 };

function lines(headers) {
  const out = [];
  for (const [name, value] of headers instanceof Array ? headers : Object.entries(headers)) {
    validateHeaderName(name);
    for (const one of value instanceof Array ? value : [value]) {
      validateHeaderValue(name, String(one));
      // libcurl's spelling of a header without a value
      out.push(String(one) === '' ? `${name};` : `${name}: ${one}`);
    }
  }
  return out;
}

function parse(head) {
  const headers = {};
  for (const line of head.split('\r\n').slice(1)) {
    const colon = line.indexOf(':');
    if (colon <= 0) continue;
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    if (name === 'set-cookie') (headers[name] ??= []).push(value);
    else headers[name] = name in headers ? `${headers[name]}, ${value}` : value;
  }
  return headers;
}

function fetch(url, options = {}) {
  return new Promise((resolve, reject) => {
    const { signal, stream } = options;
    if (signal?.aborted) throw signal.reason;
    const sent = typeof options.body === 'string' ? Buffer.from(options.body) : options.body;
    const upload = sent instanceof Readable;
    const method = options.method ?? (sent ? 'POST' : 'GET');

    let job;
    let response;
    let chunks = [];
    let reason;
    const abort = () => {
      reason = signal.reason;
      addon.cancel(job);
    };
    // Since Node 24 the asynchronous context of Node-API does not carry the stores of AsyncLocalStorage.
    const inContext = stream && AsyncLocalStorage.snapshot();
    const readable = stream && new Readable({
      read: () => addon.resume(job),
      destroy(error, done) {
        addon.cancel(job);
        done(error);
      },
    });

    job = addon.start({
      url: String(url),
      method: method === 'GET' || method === 'HEAD' ? undefined : method,
      nobody: method === 'HEAD' ? 1 : 0,
      headers: lines(options.headers ?? {}),
      body: upload ? undefined : sent,
      upload: upload ? 1 : 0,
      http: versions[options.http] ?? 4,
      pipewait: options.http === '2' || options.http === 'h2c' ? 1 : 0,
      redirects: options.redirects ?? 0,
      timeout: options.timeout ?? 0,
      cafile: options.cafile,
      ca: typeof options.ca === 'string' ? Buffer.from(options.ca) : options.ca,
    }, {
      onhead(status, head) {
        response = { status, headers: parse(head), http: head.slice(5, head.indexOf(' ')), body: readable };
        if (stream) resolve(response);
      },
      ondata(chunk) {
        if (!stream) chunks.push(chunk);
        else if (!inContext(() => readable.push(chunk))) addon.pause(job);
      },
      ondrain() {
        sent.resume();
      },
      ondone(error) {
        signal?.removeEventListener('abort', abort);
        if (upload) sent.destroy();
        error = error && (reason ?? error);
        if (!stream) {
          if (error) return reject(error);
          response.body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
          chunks = undefined;
          return resolve(response);
        }
        // Whoever reads learns it from the stream; before the head there is no stream to read.
        if (!response) return reject(error);
        inContext(() => (error ? readable.destroy(error) : readable.push(null)));
      },
    });
    signal?.addEventListener('abort', abort, { once: true });
    if (upload) {
      sent.on('data', (chunk) => {
        addon.write(job, typeof chunk === 'string' ? Buffer.from(chunk) : chunk);
        sent.pause();
      });
      sent.on('end', () => addon.write(job));
      sent.on('error', (error) => {
        reason ??= error;
        addon.cancel(job);
      });
    }
  });
}

module.exports = { fetch, stats: addon.stats, unref: addon.unref };
