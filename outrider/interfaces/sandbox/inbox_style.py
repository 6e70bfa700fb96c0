"""The one style sheet of the inbox: light and dark, wide and narrow, and what is pressed is at least 24 pixels high.

Owns colours and measures: ink on ground has at least 4.5:1, edges of fields at least 3:1. Loads nothing.
"""

from __future__ import annotations

from typing import Final

STYLE: Final = b"""
:root { color-scheme: light dark; --ground: #f6f7f9; --paper: #fff; --ink: #1b1f24; --faint: #5b6470; --line: #dfe3e8;
  --edge: #7d8691; --link: #0b5cad; --good: #17693a; --good-ground: #e0f3e6; --bad: #9d2020; --bad-ground: #fbe5e5;
  --wait: #7a5200; --wait-ground: #fdf0d3; }
@media (prefers-color-scheme: dark) { :root { --ground: #111418; --paper: #1a1f25; --ink: #e6e9ed; --faint: #9aa5b1;
  --line: #2c333c; --edge: #727d89; --link: #7ab8f5; --good: #8fdcab; --good-ground: #16341f; --bad: #f3a3a3;
  --bad-ground: #3d1a1a; --wait: #f0cd84; --wait-ground: #3a2d10; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1232px; padding: 24px 16px 64px; background: var(--ground); color: var(--ink);
  font: .9375rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 28px 0 8px; }
header p { margin: 4px 0; color: var(--faint); }
a { color: var(--link); }
nav a, form a, p > a { display: inline-block; padding: 6px 0; }
details { margin: 12px 0; }
summary { padding: 6px 0; cursor: pointer; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.counters { display: grid; grid-template-columns: repeat(auto-fit, minmax(88px, max-content)); gap: 8px 24px;
  margin: 20px 0; }
.counters dt, .note, .faint { color: var(--faint); font-size: .875rem; }
.counters dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
form { display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center; margin: 0 0 16px; }
input, button { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--edge);
  border-radius: 6px; padding: 6px 12px; min-height: 40px; }
input { flex: 0 1 20rem; min-width: 0; }
button { cursor: pointer; }
::placeholder { color: var(--faint); opacity: 1; }
table { border-collapse: separate; border-spacing: 0; width: 100%; table-layout: fixed; background: var(--paper);
  border: 1px solid var(--line); border-radius: 8px; }
th, td { text-align: left; padding: 6px 12px; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--faint); font-weight: 600; font-size: .875rem; }
td > a { display: block; padding: 2px 0; margin: -2px 0; }
tbody tr:last-child td { border-bottom: 0; }
tbody tr:hover { background: color-mix(in srgb, var(--link) 6%, var(--paper)); }
th.when { width: 12.6rem; }
th.outcome { width: 9.5rem; }
th.size { width: 6.5rem; }
.size { text-align: right; }
time, td.size { font-variant-numeric: tabular-nums; white-space: nowrap; }
.empty { color: var(--faint); text-align: center; padding: 40px 16px; }
.tag { display: inline-block; border-radius: 11px; padding: 0 9px; font-size: .875rem;
  background: var(--wait-ground); color: var(--wait); }
.accepted { background: var(--good-ground); color: var(--good); }
.refused, .dropped_before_dot { background: var(--bad-ground); color: var(--bad); }
.facts { display: grid; gap: 4px; margin: 16px 0; }
.facts div { display: grid; grid-template-columns: 11rem 1fr; gap: 0 12px; }
.facts dt { color: var(--faint); overflow-wrap: anywhere; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 12px; white-space: pre-wrap;
  overflow-wrap: anywhere; margin: 0; unicode-bidi: plaintext; }
iframe { display: block; width: 100%; height: 75vh; border: 1px solid var(--line); border-radius: 8px;
  background: #fff; color-scheme: light; resize: vertical; }
iframe.short { height: 12rem; }
iframe.middling { height: 26rem; }
@media (max-width: 52rem) {
  table, tbody, tr, td { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tr { padding: 10px 12px; border-bottom: 1px solid var(--line); display: grid; gap: 2px 12px;
    grid-template-columns: 1fr max-content; grid-template-areas: "to outcome" "about about" "from size" "when when"; }
  tr.none { display: block; }
  tbody tr:last-child { border-bottom: 0; }
  td { padding: 0; border: 0; min-width: 0; }
  td.when { grid-area: when; } td.outcome { grid-area: outcome; } td.to { grid-area: to; }
  td.from { grid-area: from; } td.about { grid-area: about; } td.size { grid-area: size; }
  td.when, td.from, td.size { color: var(--faint); font-size: .875rem; }
  td.from:not(:empty)::before { content: "from "; }
  td.size::after { content: " bytes"; }
  td.empty { padding: 32px 4px; }
}
@media (max-width: 40rem) { .facts div { grid-template-columns: 1fr; } .facts { gap: 8px; } input { flex: 1 1 12rem; }
  label { flex-basis: 100%; margin-bottom: -4px; } }
"""
