"""The style of a report's page, for light and dark, wide and narrow."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f6f3; --card: #ffffff; --ink: #14161a; --soft: #5c626b; --line: #e3e4e0; --track: #f0f0ec;
  --s0: #2a78d6; --s1: #1baf7a; --s2: #eda100; --s3: #4a3aa7; --s4: #e34948; --s5: #008300; --s6: #e87ba4;
  --rest: #a3a7ad; --k0: #2a78d6; --k1: #9cc4f0; --k2: #eda100; --k3: #1baf7a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121315; --card: #1b1d20; --ink: #eceef0; --soft: #a0a6ae; --line: #31343a; --track: #26292d;
    --s0: #3987e5; --s1: #199e70; --s2: #c98500; --s3: #9085e9; --s4: #e66767; --s5: #4fa84f; --s6: #d55181;
    --rest: #70767e; --k0: #3987e5; --k1: #a3c9f5; --k2: #c98500; --k3: #199e70;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1060px; margin: 0 auto; padding: 32px 24px 48px; display: grid; gap: 16px; }
main > *, .pair > * { min-width: 0; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 15px; margin: 0 0 12px; font-weight: 600; overflow-wrap: anywhere; }
p { margin: 0; }
.about, .more, footer { color: var(--soft); }
p.more { margin-top: 8px; font-size: 13px; }
.chip {
  display: inline-block; border: 1px solid var(--line); border-radius: 99px; padding: 0 10px; margin: 2px 0 2px 4px;
  font-size: 13px; background: var(--card); overflow-wrap: anywhere;
}
.figures { display: grid; grid-template-columns: repeat(4, 1fr); gap: 16px; margin: 0; }
.figures > div, section {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px 18px;
}
dt { color: var(--soft); font-size: 13px; }
dd { margin: 0; font-size: 24px; font-weight: 600; letter-spacing: -0.01em; line-height: 1.3; }
dd.more { font-size: 13px; font-weight: 400; letter-spacing: 0; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font-size: 12px; fill: var(--ink); font-family: inherit; }
svg text.axis { fill: var(--soft); font-size: 11.5px; }
svg text.name { font-size: 13px; }
svg text.value { font-size: 13px; font-variant-numeric: tabular-nums; font-weight: 600; }
.grid { stroke: var(--line); stroke-width: 1; }
rect { stroke: var(--card); stroke-width: 0.75; }
rect.track { fill: var(--track); stroke: none; }
rect:hover { filter: brightness(1.12); }
.s0 { fill: var(--s0); background: var(--s0); } .s1 { fill: var(--s1); background: var(--s1); }
.s2 { fill: var(--s2); background: var(--s2); } .s3 { fill: var(--s3); background: var(--s3); }
.s4 { fill: var(--s4); background: var(--s4); } .s5 { fill: var(--s5); background: var(--s5); }
.s6 { fill: var(--s6); background: var(--s6); } .s-rest { fill: var(--rest); background: var(--rest); }
.k0 { fill: var(--k0); background: var(--k0); } .k1 { fill: var(--k1); background: var(--k1); }
.k2 { fill: var(--k2); background: var(--k2); } .k3 { fill: var(--k3); background: var(--k3); }
.narrow { display: none; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 0 0 12px; padding: 0; }
svg + .legend { margin: 8px 0 0; }
.legend li {
  display: flex; align-items: center; gap: 6px; min-width: 0;
  font-size: 13px; color: var(--soft); overflow-wrap: anywhere;
}
.legend i { flex: none; width: 10px; height: 10px; border-radius: 3px; }
details { margin-top: 8px; }
summary { cursor: pointer; color: var(--soft); font-size: 13px; }
.scrolled { overflow-x: auto; }
:focus-visible { outline: 2px solid var(--s0); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 6px 10px; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { color: var(--soft); font-weight: 500; font-size: 13px; white-space: nowrap; }
tbody th { font-weight: 400; min-width: 8em; max-width: 22em; overflow-wrap: anywhere; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.missing { color: var(--soft); }
tr.total > * { font-weight: 600; border-top: 2px solid var(--ink); border-bottom: 0; }
footer { font-size: 13px; display: grid; gap: 2px; padding: 4px 2px; }
@media (max-width: 720px) {
  main { padding: 20px 14px 32px; gap: 12px; }
  .figures { grid-template-columns: 1fr 1fr; gap: 12px; }
  .figures > div, section { padding: 14px; }
  .pair { grid-template-columns: 1fr; gap: 12px; }
  .wide { display: none; } .narrow { display: block; }
  dd { font-size: 20px; }
}
@media print {
  body { background: #ffffff; }
  section { break-inside: avoid; }
}
"""
