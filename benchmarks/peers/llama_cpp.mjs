// SPDX-License-Identifier: Apache-2.0
//
// llama.cpp through node-llama-cpp, which lies in the folder that
// QEFF_NODE_MODULES names:
//   llama_cpp.mjs bench MODEL.gguf THREADS PREFILL DECODE REPEATS
//     prints {"prefill_tokens_per_second": [...], ...}, a value a repetition
//   llama_cpp.mjs generate MODEL.gguf THREADS TOKENS TEXT
//     prints TEXT and its greedy continuation, TOKENS in all with BOS
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

async function makeSequence(contextSize, batchSize) {
  const context = await model.createContext({
    contextSize, batchSize, sequences: 1,
    threads: { ideal: threads, min: threads },
  });
  return context.getSequence();
}

// Appends `tokens` and takes the best next one after the last: the logits of
// one position, as an engine needs them.
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

async function measure(sequence, prefill, decode, seed) {
  await sequence.clearHistory();
  if (sequence.nextTokenIndex !== 0) throw new Error('a prefix was kept');
  const tokens = randomTokens(prefill + decode, seed);
  const start = performance.now();
  await append(sequence, tokens.slice(0, prefill));
  const middle = performance.now();
  if (sequence.nextTokenIndex !== prefill) throw new Error('not all is new');
  for (let i = 0; i < decode; ++i) {
    await append(sequence, [tokens[prefill + i]]);
  }
  const end = performance.now();
  return [1000 * prefill / (middle - start), 1000 * decode / (end - middle)];
}

async function bench(prefill, decode, repeats) {
  const sequence = await makeSequence(prefill + decode, prefill);
  const result = {
    prefill_tokens_per_second: [], decode_tokens_per_second: [],
    load_ms: loadMs, threads: sequence.context.currentThreads,
    batch: sequence.context.batchSize,
    flash_attention: sequence.context.flashAttention,
  };
  await measure(sequence, prefill, 4, 99);  // warms up
  for (let i = 0; i < repeats; ++i) {
    const [p, d] = await measure(sequence, prefill, decode, 1000 + i);
    result.prefill_tokens_per_second.push(p);
    result.decode_tokens_per_second.push(d);
  }
  result.peak_rss_bytes = process.resourceUsage().maxRSS * 1024;
  console.log(JSON.stringify(result));
}

async function generate(count, text) {
  const sequence = await makeSequence(count + 8, count + 8);
  const bos = model.tokens.bos;
  const tokens = [bos, ...model.tokenize(text)];
  let next = await append(sequence, tokens);
  while (tokens.length < count && !model.isEogToken(next)) {
    tokens.push(next);
    if (tokens.length < count) next = await append(sequence, [next]);
  }
  process.stdout.write(model.detokenize(tokens.slice(1)));
}

if (command === 'bench') {
  await bench(...rest.map(Number));
} else if (command === 'generate') {
  await generate(Number(rest[0]), rest[1]);
} else {
  throw new Error(`unknown command: ${command}`);
}
process.exit(0);
