"use strict";
const audit = JSON.parse(document.getElementById("data").textContent);
const total = audit.cells.flat().reduce((sum, count) => sum + count, 0);
const slider = { m: document.getElementById("m"), s: document.getElementById("s") };

// The shares of the three types where delta_m and delta_s are these steps: as `shares_over` in page.py.
function shares(row, column) {
  let memorized = 0, spurious = 0;
  audit.cells.forEach((counts, i) => counts.forEach((count, j) => {
    if (i <= row) memorized += count;
    else if (j <= column) spurious += count;
  }));
  return [memorized, spurious, total - memorized - spurious].map((count) => count / total);
}

function percent(share) {
  return `${Number((100 * share).toPrecision(share < 0.0995 ? 2 : 3))}%`;
}

function redraw() {
  const row = Number(slider.m.value), column = Number(slider.s.value), last = audit.delta_m.length - 1;
  const x = (i) => audit.left + i * audit.width / last;
  const curves = audit.delta_m.map((_, i) => shares(i, column));
  ["memorized", "spurious", "generalized"].forEach((kind, code) => {
    const points = curves.map((part, i) => `${x(i).toFixed(1)},${(audit.base - 180 * part[code]).toFixed(1)}`);
    document.getElementById(`curve-${kind}`).setAttribute("points", points.join(" "));
  });
  for (const end of ["x1", "x2"]) document.getElementById("mark").setAttribute(end, x(row));
  document.getElementById("m-value").textContent = Number(audit.delta_m[row].toPrecision(3));
  document.getElementById("s-value").textContent = Number(audit.delta_s[column].toPrecision(3));
  const [memorized, spurious, generalized] = curves[row].map(percent);
  document.getElementById("readout").textContent = `${memorized} memorized, ${spurious} spurious, ` +
    `${generalized} generalized; ${percent(audit.chance[row])} of the real images lie within delta_m`;
}
for (const input of Object.values(slider)) input.addEventListener("input", redraw);
