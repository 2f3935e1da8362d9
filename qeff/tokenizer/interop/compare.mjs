// SPDX-License-Identifier: Apache-2.0
//
// compare.mjs ENCODE_MAIN SHARED_DATA WORK_FOLDER: encodes a megabyte of mixed
// text with @huggingface/tokenizers and with qeff and compares the ids.
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const [encodeMain, shared, work] = process.argv.slice(2);
const require = createRequire(path.join(work, 'package.json'));
const { Tokenizer } = require('@huggingface/tokenizers');

// A small generator with a fixed seed (xorshift32).
let state = 0x9e3779b9;
function random(n) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % n;
}
const pick = (list) => list[random(list.length)];

const english = ['shakespeare.txt', 'wikitext2_valid.txt',
  'tinystories_valid.txt'].map(
    (name) => fs.readFileSync(path.join(shared, 'text', name), 'utf8'));
const code = fs.readFileSync(fileURLToPath(import.meta.url), 'utf8');

// Blocks of assigned characters in both Unicode 15 libraries. Left out, as
// JavaScript differs from the Rust original there: U+0085 and U+FEFF (JS \s),
// a capital sigma (JS lower-cases it by its place in the word), CJK beyond the
// BMP (JS looks at UTF-16 units).
const blocks = [
  [0x20, 0x7e], [0xa1, 0x17f], [0x300, 0x36f], [0x391, 0x3a1], [0x3a4, 0x3ff],
  [0x400, 0x4ff], [0x531, 0x556], [0x5d0, 0x5ea], [0x600, 0x6ff],
  [0x904, 0x939], [0x93a, 0x94d], [0x985, 0x98c], [0xb85, 0xb8a],
  [0xe01, 0xe3a], [0xe40, 0xe5b], [0xf40, 0xf47], [0x10a0, 0x10c5],
  [0x1100, 0x11ff], [0x1200, 0x1248], [0x1780, 0x17dd], [0x1e00, 0x1eff],
  [0x1f00, 0x1f15], [0x2000, 0x206f], [0x2070, 0x2071], [0x20a0, 0x20bf],
  [0x2150, 0x218b], [0x2190, 0x22ff], [0x2460, 0x24ff], [0x2580, 0x25ff],
  [0x2600, 0x26ff], [0x3000, 0x303f], [0x3041, 0x3096], [0x30a0, 0x30ff],
  [0x3400, 0x3450], [0x4e00, 0x5200], [0xa000, 0xa100], [0xac00, 0xae00],
  [0xf900, 0xf920], [0xfb00, 0xfb06], [0xfe00, 0xfe0f], [0xff01, 0xff5e],
  [0x10330, 0x1034a], [0x1d400, 0x1d454], [0x1f1e6, 0x1f1ff],
  [0x1f300, 0x1f5ff], [0x1f600, 0x1f64f], [0x1f680, 0x1f6c5],
  [0x1f900, 0x1f9ff],
];
const contractions = ["'s", "'T", "'re", "'VE", "'m", "'Ll", "'d", "'x", "''"];
const spaces = [' ', '  ', '   ', '\n', '\n\n', '\r\n', '\t', '\u00a0',
  '\u2003', '\u3000', '  \n  ', ' \t\n\r ', '\u2028'];

function character() {
  const [first, last] = pick(blocks);
  return String.fromCodePoint(first + random(last - first + 1));
}
function script() {
  const [first, last] = pick(blocks);
  let word = '';
  for (let i = 1 + random(9); i > 0; --i) {
    word += String.fromCodePoint(first + random(last - first + 1));
  }
  return word;
}
function slice(text, length) {
  const begin = random(text.length - length);
  // Not between the halves of a surrogate pair.
  return text.slice(begin, begin + length).replace(/^[\udc00-\udfff]/, '')
      .replace(/[\ud800-\udbff]$/, '');
}
const makers = [
  () => slice(pick(english), 50 + random(400)),
  () => slice(pick(english), 20 + random(100)),
  () => slice(code, 40 + random(200)),
  () => script() + pick(spaces) + script(),
  () => character() + character(),
  () => pick(spaces).repeat(1 + random(5)),
  () => String(random(1000000)) + pick(['', '.', ',', '%']) + random(100),
  () => pick(['I', 'we', 'THEY', 'é', '数', '']) + pick(contractions),
  () => pick(['👩‍👩‍👧', '🇩🇪', '👍🏽', '❤️', 'é', 'ﬁ', '한글', 'ẛ̣']),
  () => pick('!?.,;:-_/\\|@#$%^&*()[]{}<>=+~`"'.split('')).repeat(1 + random(6)),
];

const separator = '\n<record>\n';
const records = [''];
let bytes = 0;
while (bytes < 1 << 20) {
  let record = '';
  while (record.length < 2000) record += pick(makers)() + pick(['', '', ' ']);
  record = record.replaceAll('<record>', '').replace(/[\u0085\ufeffΣ]/g, '');
  records.push(record);
  bytes += Buffer.byteLength(record);
}
const input = path.join(work, 'mixed.txt');
fs.writeFileSync(input, records.join(separator));

let failures = 0;
for (const name of ['tokenizers/gpt2', 'tokenizers/llama3', 'tokenizers/qwen3',
  'tokenizers/bert', 'stories260k']) {
  const folder = path.join(shared, name);
  const load = (file) =>
    JSON.parse(fs.readFileSync(path.join(folder, file), 'utf8'));
  const tokenizer =
      new Tokenizer(load('tokenizer.json'), load('tokenizer_config.json'));
  const output = path.join(work, 'ids.txt');
  execFileSync(encodeMain, [folder, input, output], { stdio: 'inherit' });
  const lines = fs.readFileSync(output, 'utf8').split('\n');
  let different = 0;
  let tokens = 0;
  records.forEach((record, i) => {
    const expected = record === '' ? [] : tokenizer.encode(record).ids;
    const found = lines[i] === '' ? [] : lines[i].split(',').map(Number);
    if (record === '') return;
    tokens += expected.length;
    if (expected.join() === found.join()) return;
    if (++different > 3) return;
    const at = expected.findIndex((id, k) => id !== found[k]);
    console.log(`${name}: record ${i}, token ${at}: expected ` +
                `${expected.slice(at, at + 8)}, found ${found.slice(at, at + 8)}` +
                `; before: ${JSON.stringify(tokenizer.decode(
                    expected.slice(Math.max(0, at - 8), at + 3)))}`);
  });
  console.log(`${name}: ${records.length} records, ${bytes} bytes, ${tokens} ` +
              `tokens, ${different} records differ`);
  failures += different;
}
process.exit(failures === 0 ? 0 : 1);
