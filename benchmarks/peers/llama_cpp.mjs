// SPDX-License-Identifier: Apache-2.0
//
// llama.cpp through node-llama-cpp, which lies in the folder that
// QEFF_NODE_MODULES names:
//   llama_cpp.mjs bench MODEL.gguf THREADS PREFILL DECODE REPEATS
//     prints {"prefill_tokens_per_second": [...], ...}, a value a repetition
//   llama_cpp.mjs generate MODEL.gguf THREADS TOKENS TEXT
//     prints TEXT and its greedy continuation, TOKENS in all with BOS
//   llama_cpp.mjs compare MODEL.gguf THREADS QEFF FOLDER MAX_ERROR TEXT
//     QEFF continues TEXT with FOLDER, greedily; both then compute the logits of
//     all its tokens. Prints the largest error of a position's logits,
//     ||llama.cpp - qeff|| / ||qeff||, and how many new tokens are llama.cpp's
//     best ones as well. Fails when the error exceeds MAX_ERROR, when the text
//     has other tokens in llama.cpp, when less than 9 new tokens of 10 are the
//     same, or when one that is not is no near tie: more than 5 % of the root
//     mean square of the logits below the best.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [command, modelPath, threadsText, ...rest] = process.argv.slice(2);
const threads = Number(threadsText);
const entry = path.join(
    process.env.QEFF_NODE_MODULES, 'node-llama-cpp', 'dist', 'index.js');
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry).href);

const llama = await getLlama({
  gpu: false, build: 'never', skipDownload: true, progressLogs: false,
  logLevel: LlamaLogLevel.error, maxThreads: threads,
});
const loadStart = performance.now();
const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
const loadMs = performance.now() - loadStart;

function makeContext(contextSize, batchSize) {
  return model.createContext({
    contextSize, batchSize, sequences: 1,
    threads: { ideal: threads, min: threads },
  });
}

// Appends `tokens` and returns the best next one after the last.
async function append(sequence, tokens) {
  const last = tokens.length - 1;
  const greedy = { generateNext: { token: true, options: { temperature: 0 } } };
  const input = tokens.map((token, i) => (i === last ? [token, greedy] : token));
  const output = await sequence.controlledEvaluate(input);
  return output[last].next.token;
}

// Tokens by a small generator with a fixed seed (xorshift32): no prefix that
// could be known already.
function randomTokens(count, seed) {
  let state = seed;
  return Array.from({ length: count }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return 3 + (state >>> 0) % 256;
  });
}

// Milliseconds of one llama_decode of `tokens` at `position`, with the logits
// of the last, which is what an engine computes for a token. The public calls
// of node-llama-cpp add 2 ms of sampling and locks to it, 5 % of a token.
async function timeDecode(binding, tokens, position) {
  binding.initBatch(tokens.length);
  binding.addToBatch(0, position, Uint32Array.from(tokens),
                     Uint32Array.of(tokens.length - 1));
  const start = performance.now();
  await binding.decodeBatch();
  return performance.now() - start;
}

// Tokens per second of the prefill and of the decode.
async function measure(binding, prefill, decode, seed) {
  binding.disposeSequence(0);
  if (binding.getSequenceKvCacheMaxPosition(0) !== -1) {
    throw new Error('a prefix was kept');
  }
  const tokens = randomTokens(prefill + decode, seed);
  const prefillMs = await timeDecode(binding, tokens.slice(0, prefill), 0);
  let decodeMs = 0;
  for (let i = prefill; i < prefill + decode; ++i) {
    decodeMs += await timeDecode(binding, [tokens[i]], i);
  }
  if (binding.getSequenceKvCacheMaxPosition(0) !== prefill + decode - 1) {
    throw new Error('not every token was computed');
  }
  return [1000 * prefill / prefillMs, 1000 * decode / decodeMs];
}

async function bench(prefill, decode, repeats) {
  const context = await makeContext(prefill + decode, prefill);
  const binding = context._ctx;
  binding.setThreads(threads);
  const result = {
    prefill_tokens_per_second: [], decode_tokens_per_second: [],
    load_ms: loadMs, threads: binding.getThreads(), batch: context.batchSize,
  };
  await measure(binding, prefill, 4, 99);  // warms up
  for (let i = 0; i < repeats; ++i) {
    const [p, d] = await measure(binding, prefill, decode, 1000 + i);
    result.prefill_tokens_per_second.push(p);
    result.decode_tokens_per_second.push(d);
  }
  result.peak_rss_bytes = process.resourceUsage().maxRSS * 1024;
  console.log(JSON.stringify(result));
}

async function generate(count, text) {
  const context = await makeContext(count + 8, count + 8);
  const sequence = context.getSequence();
  const bos = model.tokens.bos;
  const tokens = [bos, ...model.tokenize(text)];
  let next = await append(sequence, tokens);
  while (tokens.length < count && !model.isEogToken(next)) {
    tokens.push(next);
    if (tokens.length < count) next = await append(sequence, [next]);
  }
  process.stdout.write(model.detokenize(tokens.slice(1)));
}

// The float32 tensor `logits` of a safetensors file, as rows.
function readLogits(file) {
  const bytes = fs.readFileSync(file);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const { logits } = JSON.parse(bytes.toString('utf8', 8, 8 + headerBytes));
  const begin = 8 + headerBytes + logits.data_offsets[0];
  const [rows, cols] = logits.shape;
  return Array.from({ length: rows }, (_, r) =>
    Float32Array.from({ length: cols }, (_, c) =>
      bytes.readFloatLE(begin + 4 * (r * cols + c))));
}

function norm(values) {
  return Math.sqrt(values.reduce((sum, v) => sum + v * v, 0));
}

// What QEFF prints as JSON.
function runQeff(qeff, args) {
  return JSON.parse(execFileSync(
      qeff, [...args, '--json=-'], { stdio: ['ignore', 'pipe', 'ignore'] }));
}

function qeffLogits(qeff, folder, tokens) {
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'qeff-'));
  const file = path.join(work, 'logits.safetensors');
  runQeff(qeff, [
    'logits', `--model=${folder}`, `--tokens=${tokens}`, `--output=${file}`,
  ]);
  const logits = readLogits(file);
  fs.rmSync(work, { recursive: true });
  return logits;
}

async function compare(qeff, folder, maxError, text) {
  const { ids } =
      runQeff(qeff, ['tokenize', `--model=${folder}`, `--text=${text}`]);
  const theirIds = model.tokenize(text);
  if (model.tokens.shouldPrependBosToken) theirIds.unshift(model.tokens.bos);
  const sameIds = `${ids}` === `${theirIds}`;
  const { tokens: made } = runQeff(qeff, [
    'generate', `--model=${folder}`, `--prompt=${text}`, '--max_new_tokens=48',
    '--lm_head=keep',
  ]);
  const tokens = [...ids, ...made];
  const ours = qeffLogits(qeff, folder, tokens);
  const context = await makeContext(tokens.length + 8, tokens.length + 8);
  const theirs = await context.getSequence().controlledEvaluate(
      tokens.map((token) => [token, { generateNext: { logits: true } }]));
  let error = 0;
  let same = 0;
  let gap = 0;
  theirs.forEach(({ next }, i) => {
    const found = Float32Array.from(ours[i], (_, id) => next.logits.get(id));
    error = Math.max(
        error, norm(found.map((v, id) => v - ours[i][id])) / norm(ours[i]));
    const chosen = tokens[i + 1];
    if (i + 1 < ids.length || chosen === undefined) return;
    // qeff never chooses a row of the embedding that no token has.
    const best = found.reduce(
        (a, b, id) => (model.getTokenAttributes(id).unused ? a : Math.max(a, b)),
        -Infinity);
    if (best === found[chosen]) ++same;
    gap = Math.max(
        gap, (best - found[chosen]) * Math.sqrt(found.length) / norm(found));
  });
  console.log(`logits within ${error.toExponential(1)}, ${same} of ` +
              `${made.length} tokens are the same` +
              (gap > 0 ? `, others nearly tie (${gap.toExponential(1)})` : '') +
              (sameIds ? '' : `; the text is ${theirIds}, not ${ids}`));
  const good = sameIds && error <= maxError && gap <= 0.05 &&
      same >= 0.9 * made.length;
  process.exit(good ? 0 : 1);
}

if (command === 'bench') {
  await bench(...rest.map(Number));
} else if (command === 'generate') {
  await generate(Number(rest[0]), rest[1]);
} else if (command === 'compare') {
  await compare(rest[0], rest[1], Number(rest[2]), rest[3]);
} else {
  throw new Error(`unknown command: ${command}`);
}
process.exit(0);
