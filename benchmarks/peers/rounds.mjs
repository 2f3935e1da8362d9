// SPDX-License-Identifier: Apache-2.0
//
// rounds.mjs GGUF_FOLDER SHAPE THREADS ROUNDS PREFILL DECODE JSON [ENGINE]:
// runs llama.cpp and qeff (the binary ENGINE, engine_benchmark) in turn, each
// in a process of its own, ROUNDS times, and prints medians. The ratio is the
// median of the ratios within each round: what disturbs the machine for longer
// than a round disturbs both. Writes all values to the file JSON unless it is
// empty.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const [folder, shape, threads, roundsText, prefill, decode, jsonPath, engine] =
    process.argv.slice(2);
const rounds = Number(roundsText);
const here = path.dirname(fileURLToPath(import.meta.url));

// What is compared: the types of the file, and the schemes that stand against
// it. Q4_0 has a scale per 32 weights, as int4_g32 has; int4_g128 is what qeff
// is usually run with.
const groups = [
  { type: 'q8_0', schemes: ['int8'] },
  { type: 'q4_0', schemes: ['int4_g128', 'int4_g32'] },
];
const phases = ['prefill_tokens_per_second', 'decode_tokens_per_second'];

function runLlamaCpp(type) {
  const output = execFileSync(process.execPath, [
    path.join(here, 'llama_cpp.mjs'), 'bench',
    path.join(folder, `${shape}-${type}.gguf`), threads, prefill, decode, '1',
  ], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  const result = JSON.parse(output);
  return phases.map((phase) => result[phase][0]);
}

function runEngine(scheme) {
  const file = path.join(
      fs.mkdtempSync(path.join(os.tmpdir(), 'qeff-peers-')), 'result.json');
  try {
    execFileSync(engine, [`--shape=${shape}`, `--scheme=${scheme}`,
      `--threads=${threads}`, `--prefill=${prefill}`, `--decode=${decode}`,
      '--rounds=1', `--json=${file}`],
    { stdio: ['ignore', 'ignore', 'inherit'] });
    const result = JSON.parse(fs.readFileSync(file, 'utf8'));
    return phases.map((phase) => result[phase]);
  } finally {
    fs.rmSync(path.dirname(file), { recursive: true });
  }
}

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

// values[name] is a list of [prefill, decode], one a round.
const values = {};
const add = (name, result) => (values[name] ??= []).push(result);
for (let round = 1; round <= rounds; ++round) {
  for (const { type, schemes } of groups) {
    process.stderr.write(`round ${round} of ${rounds}: ${type}\n`);
    add(`llama.cpp ${type}`, runLlamaCpp(type));
    if (!engine) continue;
    for (const scheme of schemes) add(`qeff ${scheme}`, runEngine(scheme));
  }
}

const load = os.loadavg()[0].toFixed(1);
console.log(`${shape}, ${threads} threads, prefill of ${prefill} tokens, decode ` +
    `of ${decode}; tokens per second, median of ${rounds} (least to most)`);
console.log(`${os.cpus()[0].model.trim()}, load average ${load}, 1.0 a thread ` +
    'that runs');
const cell = (name, phase) => {
  const all = values[name].map((result) => result[phase]);
  const range = `(${Math.min(...all).toFixed(1)} to ${Math.max(...all).toFixed(1)})`;
  return `${median(all).toFixed(1).padStart(7)} ${range.padEnd(17)}`;
};
const row = (name, ratios) => console.log(
    `${name.padEnd(16)} ${cell(name, 0)} ${ratios[0].padEnd(7)} ` +
    `${cell(name, 1)} ${ratios[1]}`.trimEnd());
console.log(`${''.padEnd(16)} ${'prefill'.padStart(7)} ${''.padEnd(17)} ` +
    `${''.padEnd(7)} ${'decode'.padStart(7)}`);
for (const { type, schemes } of groups) {
  const peer = `llama.cpp ${type}`;
  row(peer, ['', '']);
  for (const scheme of schemes) {
    const name = `qeff ${scheme}`;
    if (values[name] === undefined) continue;
    row(name, [0, 1].map((phase) => {
      const ratios = values[name].map(
          (result, round) => result[phase] / values[peer][round][phase]);
      return `x${median(ratios).toFixed(2)}`;
    }));
  }
}
if (jsonPath) fs.writeFileSync(jsonPath, `${JSON.stringify(values, null, 1)}\n`);
