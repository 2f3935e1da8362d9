// SPDX-License-Identifier: Apache-2.0
//
// Runs exported models with ONNX Runtime:
//   node run_onnx.cjs NODE_MODULES CASES.json RESULTS.json
// A case of kind "causal" is a prompt in chunks, behind which tokens are chosen
// greedily from what the graph says; one of kind "hidden" is one batch. The
// results are the graphs' outputs; nothing is judged here.
'use strict';

const fs = require('fs');
const [nodeModules, casesPath, resultsPath] = process.argv.slice(2);
const ort = require(nodeModules + '/onnxruntime-node');

function int64(values, dims) {
  return new ort.Tensor('int64', BigInt64Array.from(values, BigInt), dims);
}

function argmax(row) {
  let best = 0;
  for (let i = 1; i < row.length; ++i) if (row[i] > row[best]) best = i;
  return best;
}

// Sequences side by side, each with its own prompt. Slots of the cache are
// theirs in reverse order under continuous batching.
async function runCausal(session, test) {
  const batch = test.prompts.length;
  const slots = test.full_batch_size || batch;
  const slotOf = (b) => (test.full_batch_size ? slots - 1 - b : b);
  const cacheDims = [slots, test.kv_heads, test.ctx_len, test.head_dim];
  const cacheSize = cacheDims.reduce((a, b) => a * b, 1);
  const caches = {};
  for (const name of session.inputNames) {
    if (!name.startsWith('past_')) continue;
    // What was never written must not matter.
    caches[name] = new ort.Tensor(
        'float32', new Float32Array(cacheSize).fill(1e4), cacheDims);
  }
  async function step(ids, positions, length, keep) {
    const feeds = {
      input_ids: int64(ids, [batch, length]),
      position_ids: int64(positions, [batch, length]),
      ...caches,
    };
    if (test.full_batch_size) {
      feeds.batch_index =
          int64([...Array(batch).keys()].map(slotOf), [batch, 1]);
    }
    if (test.comp_ctx_length) {
      feeds.comp_ctx_lengths = int64(
          new Array(test.comp_ctx_length).fill(0), [test.comp_ctx_length]);
    }
    if (keep) feeds.num_logits_to_keep = int64(new Array(keep).fill(0), [keep, 1]);
    const outputs = await session.run(feeds);
    for (const name of Object.keys(caches)) {
      caches[name] = outputs[name + '_RetainedState'];
    }
    const data = outputs.logits.data;
    const size = data.length / batch;
    return [...Array(batch).keys()].map(
        (b) => Array.from(data.subarray(b * size, (b + 1) * size)));
  }

  const chunk = test.chunk;
  const longest = Math.max(...test.prompts.map((p) => p.length));
  const position = test.prompts.map(() => 0);
  let rows = test.prompts.map(() => null);
  for (let begin = 0; begin < longest; begin += chunk) {
    const ids = [];
    const positions = [];
    for (const prompt of test.prompts) {
      for (let i = begin; i < begin + chunk; ++i) {
        ids.push(i < prompt.length ? prompt[i] : 0);
        positions.push(i < prompt.length ? i : -1);
      }
    }
    const logits = await step(ids, positions, chunk, test.keep);
    test.prompts.forEach((prompt, b) => {
      // Of a chunk that is all padding nothing counts.
      if (begin < prompt.length) rows[b] = logits[b];
      position[b] = prompt.length;
    });
  }
  const tokens = test.prompts.map(() => []);
  const logits = test.prompts.map(() => []);
  for (let i = 0; ; ++i) {
    rows.forEach((row, b) => logits[b].push(row));
    if (i === test.steps) break;
    const next = rows.map((row) => argmax(row.slice(row.length - test.vocab)));
    next.forEach((token, b) => tokens[b].push(token));
    rows = await step(next, position, 1, test.keep);
    position.forEach((_, b) => position[b]++);
  }
  return {tokens, logits};
}

async function runHidden(session, test) {
  const length = Math.max(...test.prompts.map((p) => p.length));
  const ids = [];
  const mask = [];
  for (const prompt of test.prompts) {
    for (let i = 0; i < length; ++i) {
      ids.push(i < prompt.length ? prompt[i] : 0);
      mask.push(i < prompt.length ? 1 : 0);
    }
  }
  const dims = [test.prompts.length, length];
  const {output} = await session.run(
      {input_ids: int64(ids, dims), attention_mask: int64(mask, dims)});
  return {dims: output.dims, output: Array.from(output.data)};
}

(async () => {
  const results = [];
  for (const test of JSON.parse(fs.readFileSync(casesPath, 'utf8'))) {
    const session = await ort.InferenceSession.create(
        test.model, {intraOpNumThreads: 2, logSeverityLevel: 3});
    results.push(await (test.kind === 'causal' ? runCausal : runHidden)(
        session, test));
    await session.release();
  }
  fs.writeFileSync(resultsPath, JSON.stringify(results));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
