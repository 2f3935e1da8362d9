// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/page_assets.h"

namespace qeff::internal_report {
namespace {

constexpr char kStyle[] = R"css(
:root {
  color-scheme: light dark;
  --page: #fcfcfb; --panel: #f4f4f2; --line: #e3e3df; --axis: #a9aba8;
  --text: #1d2023; --soft: #5d6368; --accent: #2f5bd0; --tint: #dbe4fb;
  --before: #8d9399; --before-fill: #e2e4e5;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #15171a; --panel: #1d2024; --line: #2d3136; --axis: #6d737a;
    --text: #e8eaec; --soft: #a2a9b0; --accent: #8fb0ff; --tint: #273557;
    --before: #8b9198; --before-fill: #33383e;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 1080px; padding: 40px 24px 80px;
  background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
    "Helvetica Neue", "Noto Sans", "DejaVu Sans", sans-serif;
}
p { margin: 0; }
h1 { margin: 2px 0; font-size: 26px; line-height: 1.25; font-weight: 600;
  letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 64px 0 16px; padding-top: 16px; border-top: 1px solid var(--line);
  font-size: 20px; font-weight: 600; letter-spacing: -.005em; }
h3 { margin: 32px 0 4px; font-size: 16px; font-weight: 600; }
h4 { margin: 0 0 4px; font-size: 13px; font-weight: 500; color: var(--soft); }
small, .lead, figcaption span, .x-title, .y-title {
  color: var(--soft); font-size: 13px; line-height: 1.45; }
.lead { max-width: 68ch; overflow-wrap: anywhere; }
.brand { color: var(--accent); font-size: 14px; font-weight: 600; }

nav { margin-top: 24px; font-size: 14px; }
nav a { display: inline-block; margin-right: 18px; padding: 2px 0;
  color: var(--soft); text-decoration: none; }
nav a:hover { color: var(--accent); text-decoration: underline; }
.cards { display: grid; gap: 12px; margin-top: 28px;
  grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.card { padding: 14px 16px; border-radius: 10px; background: var(--panel); }
.card h3 { margin: 0; font-size: 13px; font-weight: 500; color: var(--soft); }
.card p { font-size: 24px; line-height: 1.35; font-weight: 600;
  letter-spacing: -.01em; font-variant-numeric: tabular-nums; }
.card small { display: block; min-height: 19px; }

.grid { display: grid; gap: 36px 32px; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); }
.grid.small { gap: 28px 24px; margin-top: 20px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 290px), 1fr)); }
.grid > * { min-width: 0; }

figure { margin: 0; break-inside: avoid; }
figcaption { margin-bottom: 10px; }
figcaption b { display: block; font-size: 15px; font-weight: 600;
  overflow-wrap: anywhere; }
.small figcaption b { font-size: 14px; }
figcaption > span { display: block; }
.legend { display: block; margin-top: 4px; }
.legend > span { display: inline-block; margin-right: 16px; }
.legend i { display: inline-block; width: 14px; height: 3px; margin-right: 6px;
  vertical-align: middle; border-radius: 2px; background: var(--accent); }
.legend i.before, .legend i.loss { background: var(--before); }
.legend i.point { width: 10px; height: 10px; border-radius: 50%;
  border: 2px solid var(--accent); }
.legend i.searched { border-color: var(--before); background: none; }
.legend i.chosen { border-color: var(--accent); background: var(--page); }
.y-title { margin-bottom: 4px; }
.x-title { padding-right: 24px; text-align: right; }
.plot { padding: 6px 24px 26px 48px; }
.rows .plot { padding-left: 6px; }
svg { display: block; overflow: visible; }
svg text { fill: var(--soft); font-size: 12px;
  font-variant-numeric: tabular-nums; pointer-events: none; }
svg text.label { fill: var(--text); paint-order: stroke;
  stroke: var(--page); stroke-width: 4px; stroke-linejoin: round; }
line.grid { stroke: var(--line); stroke-width: 1; }
line.axis { stroke: var(--axis); stroke-width: 1; }
polyline { fill: none; stroke: var(--accent); stroke-width: 2;
  stroke-linejoin: round; vector-effect: non-scaling-stroke;
  pointer-events: none; }
polyline.front { stroke-width: 1.5; stroke-dasharray: 5 4; }
polyline.before { fill: var(--before-fill); stroke: var(--before);
  stroke-width: 1; stroke-linejoin: miter; }
polyline.after { stroke-width: 1.5; stroke-linejoin: miter; }
polyline.loss { stroke: var(--before); stroke-width: 1.5; }
rect.bar { fill: var(--accent); }
rect.bar.cached { fill: var(--tint); stroke: var(--accent); stroke-width: 1; }
rect.bin { fill: var(--accent); fill-opacity: 0; }
rect.bin:hover { fill-opacity: .16; }
rect.bar:hover, circle.point:hover { fill: var(--text); stroke: var(--text); }
circle.point { fill: var(--accent); stroke: var(--page); stroke-width: 2; }
circle.searched { fill: var(--page); stroke: var(--before); }
circle.searched.best { stroke: var(--accent); }
circle.searched.chosen { fill: var(--page); stroke: var(--accent);
  stroke-width: 3; }
circle.loss { fill: var(--before); stroke: none; fill-opacity: 0; }
circle.loss:hover { fill-opacity: 1; }
circle.layer { stroke-width: 1; }

table { border-collapse: collapse; font-size: 14px; line-height: 1.45;
  font-variant-numeric: tabular-nums; }
.wide { margin-top: 24px; overflow-x: auto; }
.wide table { width: 100%; }
th, td { padding: 8px 0 8px 20px; border-bottom: 1px solid var(--line);
  text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child, .facts td { text-align: left; }
th:first-child { padding-left: 0; }
thead th { color: var(--soft); font-size: 13px; font-weight: 500; }
tbody th { font-weight: 500; }
td small { display: block; }
tr.chosen th { color: var(--accent); }
.facts td { white-space: normal; overflow-wrap: anywhere; }
.facts th { color: var(--soft); font-weight: 400; }

details { margin-top: 16px; font-size: 14px; }
summary { color: var(--soft); cursor: pointer; }
summary:hover { color: var(--text); }
.steps { margin: 36px 0 0; padding: 0; list-style: none; counter-reset: step; }
.steps li { padding: 14px 0 14px 36px; border-bottom: 1px solid var(--line);
  break-inside: avoid; position: relative; counter-increment: step; }
.steps li::before { content: counter(step); position: absolute; left: 0;
  color: var(--soft); font-variant-numeric: tabular-nums; }
.steps b { font-weight: 600; }
.steps details { margin-top: 6px; }
.tag { display: inline-block; margin-left: 4px; padding: 0 8px;
  border-radius: 9px; background: var(--panel); color: var(--soft);
  font-size: 12px; line-height: 18px; }
code, pre { font: 13px/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas,
    "DejaVu Sans Mono", monospace; }
code { display: inline-block; margin-right: 8px; max-width: 100%;
  overflow-wrap: anywhere; }
pre { margin: 8px 0 0; padding: 16px; overflow-x: auto; border-radius: 10px;
  background: var(--panel); tab-size: 2; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px;
  margin: 8px 0 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }

.sample { margin-top: 20px; padding: 18px 20px; border-radius: 10px;
  background: var(--panel); break-inside: avoid; }
.sample .grid { gap: 16px 32px; }
.prompt { margin-bottom: 14px; font-weight: 600; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.text { font-size: 15px; white-space: pre-wrap; overflow-wrap: anywhere; }
mark { padding: 1px 2px; border-radius: 3px; background: var(--tint);
  color: inherit; box-decoration-break: clone;
  -webkit-box-decoration-break: clone; }

#tip { position: fixed; z-index: 1; max-width: 260px; padding: 5px 10px;
  border-radius: 6px; background: var(--text); color: var(--page);
  font-size: 13px; line-height: 1.4; pointer-events: none;
  overflow-wrap: anywhere; }

@media (max-width: 520px) {
  body { padding: 24px 16px 56px; }
  h1 { font-size: 22px; }
  h2 { margin-top: 44px; }
  .cards { grid-template-columns: 1fr 1fr; margin-top: 20px; }
  .card { padding: 12px 14px; }
  .card p { font-size: 21px; }
  th, td { padding-left: 16px; }
  .sample { padding: 16px; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 6px; }
}
@media print {
  :root { --page: #fff; }
  nav { display: none; }
  body { max-width: none; padding: 0; font-size: 11pt; }
  h2 { margin-top: 32px; break-after: avoid; }
  h3, .lead { break-after: avoid; }
  tr { break-inside: avoid; }
  .cards { grid-template-columns: repeat(5, 1fr); }
  .grid { grid-template-columns: 1fr 1fr; }
  .grid.small { grid-template-columns: 1fr 1fr 1fr; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
)css";

constexpr char kScript[] = R"js(
'use strict';
const tip = document.createElement('div');
tip.id = 'tip';
tip.hidden = true;
document.body.append(tip);
for (const mark of document.querySelectorAll('.mark')) {
  const title = mark.querySelector('title');
  mark.setAttribute('aria-label', title.textContent);
  title.remove();
}
function show(event) {
  const mark = event.target.closest ? event.target.closest('.mark') : null;
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.getAttribute('aria-label');
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = Math.max(8, Math.min(event.clientX + 14, room)) + 'px';
  const above = event.clientY - tip.offsetHeight - 14;
  tip.style.top = (above < 8 ? event.clientY + 18 : above) + 'px';
}
for (const type of ['pointerdown', 'pointermove', 'pointerover']) {
  document.addEventListener(type, show);
}
document.addEventListener('scroll', () => { tip.hidden = true; });
)js";

}  // namespace

absl::string_view PageStyle() { return kStyle; }
absl::string_view PageScript() { return kScript; }

}  // namespace qeff::internal_report
