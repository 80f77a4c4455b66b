// The explorer of the report: Vega draws, this file counts. Counts and their edges are explained in explorer.py.
const TYPES = ["memorized", "spurious", "generalized"];
const COLOURS = { memorized: "#0072B2", spurious: "#D55E00", generalized: "#009E73", m: "#8A8D0F", s: "#888888" };
const $ = id => document.getElementById(id);
const decode = (text, Type) => new Type(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);

// the text of an element that holds it compressed
function unzip(id) {
  const stream = new Blob([decode($(id).textContent, Uint8Array)]).stream();
  return new Response(stream.pipeThrough(new DecompressionStream("gzip"))).text();
}

const { grid, per_decade, sweeps } = JSON.parse(await unzip("data"));
new Function(await unzip("vega"))();
const SIDE = grid.length + 2;
// steps: grid edges chosen as delta_m and delta_s, or null: as in this run
// pinned: another such choice, to compare with, or null
const state = { sweep: 0, run: 0, steps: { m: null, s: null }, pinned: null };

// ---- counting

// below[i, j]: samples with distances at or below edges i - 1 and j - 1; filled when a sweep is first looked at
function unpack(run) {
  if (run.below) return;
  const cells = decode(run.cells, Uint16Array), counts = decode(run.counts, Uint32Array);
  const width = SIDE + 1, below = new Uint32Array(width * width);
  run.histograms = { m: new Uint32Array(SIDE), s: new Uint32Array(SIDE) };
  cells.forEach((cell, k) => {
    const row = Math.floor(cell / SIDE), column = cell % SIDE;
    below[(row + 1) * width + column + 1] = counts[k];
    run.histograms.m[row] += counts[k];
    run.histograms.s[column] += counts[k];
  });
  for (let i = 1; i < width; i++)
    for (let j = 1; j < width; j++)
      below[i * width + j] += below[(i - 1) * width + j] + below[i * width + j - 1] - below[(i - 1) * width + j - 1];
  run.below = below;
}

const AXES = ["m", "s"];
const automatic = (run, axis) => run.auto[AXES.indexOf(axis)];
const delta = (run, axis, steps = state.steps) => steps[axis] === null ? automatic(run, axis) : grid[steps[axis]];

// the number of a threshold among the edges, which are the grid and the run's own threshold
function edge(run, axis, step) {
  if (step === null) return run.at[AXES.indexOf(axis)];
  return step + (automatic(run, axis) <= grid[step] ? 1 : 0);
}

function typed(run, steps) {
  const width = SIDE + 1, row = edge(run, "m", steps.m) + 1, column = edge(run, "s", steps.s) + 1;
  const memorized = run.below[row * width + SIDE];
  const spurious = run.below[SIDE * width + column] - run.below[row * width + column];
  return { memorized, spurious, generalized: run.count - memorized - spurious };
}

// ---- the landscape by type: Hajek's estimates from the samples measured, as results/joined.py has them

const QUANTITIES = { log_volume: "log-volume of the basin", t_c: "critical time, steps", energy: "energy above training images" };
const RARE = 0.001; // types below this share of S' are left out, as in the tables

function unpackMeasured(run) {
  const { arrays, ...parts } = run.measured;
  if (!arrays) return;
  arrays.forEach((text, k) => arrays[k] = decode(text, Float32Array));
  for (const part of Object.values(parts)) for (const key in part) part[key] = arrays[part[key]];
  run.measured = parts;
}

// {n, mean, error} of one type: sum w y / sum w, and sqrt(n / (n - 1) sum w^2 (y - mean)^2) / sum w
function estimate(values, weights) {
  const n = values.length, total = weights.reduce((sum, w) => sum + w, 0);
  const mean = values.reduce((sum, y, i) => sum + weights[i] * y, 0) / total;
  const squares = values.reduce((sum, y, i) => sum + (weights[i] * (y - mean)) ** 2, 0);
  return { n, mean, error: n > 1 ? Math.sqrt(n / (n - 1) * squares) / total : NaN };
}

function landscape(run, counts) {
  const limits = { m: Math.fround(delta(run, "m")), s: Math.fround(delta(run, "s")) }, rows = [];
  for (const [quantity, words] of Object.entries(QUANTITIES)) {
    const part = run.measured[quantity];
    if (!part) continue;
    const members = { memorized: [], spurious: [], generalized: [] };
    part.values.forEach((value, i) => Number.isNaN(value) || members[part.m[i] <= limits.m ? "memorized" : part.s[i] <= limits.s ? "spurious" : "generalized"].push(i));
    for (const type of TYPES)
      if (members[type].length && counts[type] >= RARE * run.count)
        rows.push({ quantity, words, type, total: counts[type],
          ...estimate(members[type].map(i => part.values[i]), members[type].map(i => part.weights[i])) });
  }
  return rows;
}

function showLandscape(run, counts) {
  const rows = landscape(run, counts), number = value => Number.isFinite(value) ? +value.toPrecision(4) : "";
  $("landscape").hidden = !rows.length;
  $("landscape-table").innerHTML = `<thead><tr>${["quantity", "type", "mean", "error of sampling", "measured", "of"].map(t => `<th scope="col">${t}</th>`).join("")}` +
    "</tr></thead><tbody>" + rows.map(row => `<tr data-quantity="${row.quantity}" data-type="${row.type}" data-mean="${row.mean}" data-error="${row.error}">` +
      `<td>${row.words}</td><td>${row.type}</td><td>${number(row.mean)}</td><td>${number(row.error)}</td><td>${row.n}</td><td>${row.total}</td></tr>`).join("") + "</tbody>";
}

// densities per decade of the two distances, on the grid: the run's own edge is merged away
function densities(run) {
  const total = run.count / per_decade, bars = [];
  const of = (axis, bin) => {
    const at = run.at[AXES.indexOf(axis)], h = run.histograms[axis];
    if (bin < at) return h[bin];
    return bin === at ? h[bin] + h[bin + 1] : h[bin + 1];
  };
  for (let bin = 0; bin <= grid.length; bin++) {
    const m = of("m", bin) / total, s = of("s", bin) / total;
    if (m || s) bars.push({ low: bin ? grid[bin - 1] : grid[0] / 1.06, high: bin < grid.length ? grid[bin] : grid[bin - 1] * 1.06, m, s });
  }
  return bars;
}

// ---- charts

const config = {
  axis: { labelColor: "currentColor", titleColor: "currentColor", domainColor: "currentColor", tickColor: "currentColor",
    gridColor: "currentColor", gridOpacity: 0.12, labelFontSize: 12, titleFontSize: 13, titleFontWeight: "normal" },
  title: { color: "currentColor", fontSize: 13, fontWeight: "normal", anchor: "start" },
};

function panel(axis, title) {
  const symbol = `δ_${axis}`;
  return {
    type: "group", encode: { enter: { height: { value: 120 } }, update: { width: { signal: "width" } } },
    title: { text: title, frame: "group" },
    scales: [{ name: "y", type: "linear", domain: { data: "bars", field: axis }, range: [120, 0], zero: true, nice: true }],
    axes: [{ orient: "bottom", scale: "x", tickCount: 5, format: "~g", ...(axis === "s" ? { title: "distance" } : {}) },
      { orient: "left", scale: "y", tickCount: 3, title: "per decade" }],
    marks: [
      { type: "rect", from: { data: "bars" }, aria: false, encode: { update: { x: { scale: "x", field: "low" },
        x2: { scale: "x", field: "high" }, y: { scale: "y", field: axis }, y2: { scale: "y", value: 0 },
        fill: { value: COLOURS[axis] }, fillOpacity: { value: 0.75 } } } },
      { type: "rule", interactive: false, aria: false, encode: { update: { x: { scale: "x", signal: `delta_${axis}` }, y: { value: -8 },
        y2: { value: 120 }, stroke: { value: COLOURS[axis === "m" ? "memorized" : "spurious"] }, strokeWidth: { value: 2.5 } } } },
      { type: "symbol", interactive: false, aria: false, encode: { update: { x: { scale: "x", signal: `delta_${axis}` }, y: { value: -8 },
        shape: { value: "triangle-down" }, size: { value: 120 }, fill: { value: COLOURS[axis === "m" ? "memorized" : "spurious"] } } } },
      { type: "rule", interactive: false, aria: false, encode: { update: { x: { scale: "x", signal: `pointed_${axis}` }, y: { value: 60 }, y2: { value: 120 },
        stroke: { value: "currentColor" }, strokeWidth: { value: 2 }, strokeDash: { value: [4, 2] }, strokeOpacity: { signal: `pointed_${axis} ? 1 : 0` } } } },
      { type: "text", interactive: false, aria: false, encode: { update: { x: { scale: "x", signal: `delta_${axis}`, offset: 8 }, y: { value: 4 },
        text: { signal: `'${symbol} = ' + format(delta_${axis}, '.4~g')` }, fill: { value: "currentColor" }, fontSize: { value: 13 } } } },
      { type: "rect", name: `handle_${axis}`, description: `drag to move ${symbol}`, encode: { update: {
        x: { scale: "x", signal: `delta_${axis}`, offset: -14 }, width: { value: 28 }, y: { value: -18 }, y2: { value: 120 },
        fill: { value: "transparent" }, cursor: { value: "ew-resize" } } } },
    ],
  };
}

const drag = axis => ({ name: `drag_${axis}`, value: null, on: [{
  events: `[@handle_${axis}:pointerdown, window:pointerup] > window:pointermove`,
  update: "invert('x', clamp(x(), 0, width))" }] });

const histogramSpec = {
  description: "Densities of log-distance: to the nearest training image above, to the nearest other sample below",
  width: 480, padding: 6, background: null, autosize: { type: "pad" }, config,
  signals: [{ name: "delta_m", value: 1 }, { name: "delta_s", value: 1 }, { name: "domain", value: [0.1, 10] }, { name: "pointed_m", value: 0 }, { name: "pointed_s", value: 0 },
    drag("m"), drag("s")],
  data: [{ name: "bars", values: [{ low: 0.1, high: 10, m: 1, s: 1 }] }],
  scales: [{ name: "x", type: "log", domain: { signal: "domain" }, range: "width", clamp: true }],
  layout: { columns: 1, padding: { row: 36 } },
  marks: [panel("m", "to the nearest training image in S"), panel("s", "to the nearest other sample in S'")],
};

const fractionSpec = {
  description: "Fractions of memorized, spurious and generalized samples against the training set size K",
  width: 480, height: 300, padding: 6, background: null, autosize: { type: "pad" }, config,
  signals: [{ name: "selected", value: 2 }, { name: "picked", value: null, on: [{ events: "click", update: "invert('x', clamp(x(), 0, width))" }] }],
  data: ["rows", "stored"].map(name => ({ name, values: [2, 4].map(K => ({ K, type: TYPES[0], share: 0, low: 0, high: 0 })) })),
  scales: [{ name: "x", type: "log", base: 2, domain: { data: "stored", field: "K" }, range: "width" },
    { name: "y", type: "linear", domain: [0, 1], range: "height" },
    { name: "colour", type: "ordinal", domain: TYPES, range: TYPES.map(t => COLOURS[t]) }],
  axes: [{ orient: "bottom", scale: "x", title: "training set size K", format: "~g", tickCount: 8, labelOverlap: true },
    { orient: "left", scale: "y", title: "fraction of S'", grid: true, tickCount: 5 }],
  marks: [
    { type: "rule", aria: false, encode: { update: { x: { scale: "x", signal: "selected" }, y: { value: 0 }, y2: { signal: "height" },
      stroke: { value: "currentColor" }, strokeOpacity: { value: 0.5 }, strokeDash: { value: [2, 3] } } } },
    { type: "group", from: { facet: { name: "dotted", data: "stored", groupby: "type" } }, marks: [
      { type: "line", from: { data: "dotted" }, aria: false, encode: { update: { x: { scale: "x", field: "K" }, y: { scale: "y", field: "share" },
        stroke: { scale: "colour", field: "type" }, strokeDash: { value: [2, 4] }, strokeWidth: { value: 1.5 } } } }] },
    { type: "group", from: { facet: { name: "band", data: "rows", groupby: "type" } }, marks: [
      { type: "area", from: { data: "band" }, aria: false, encode: { update: { x: { scale: "x", field: "K" }, y: { scale: "y", field: "low" },
        y2: { scale: "y", field: "high" }, fill: { scale: "colour", field: "type" }, fillOpacity: { value: 0.2 } } } },
      { type: "line", from: { data: "band" }, aria: false, encode: { update: { x: { scale: "x", field: "K" }, y: { scale: "y", field: "share" },
        stroke: { scale: "colour", field: "type" }, strokeWidth: { value: 2 } } } },
      { type: "symbol", from: { data: "band" }, aria: false, encode: { update: { x: { scale: "x", field: "K" }, y: { scale: "y", field: "share" },
        fill: { scale: "colour", field: "type" }, size: { signal: "datum.K === selected ? 90 : 30" }, cursor: { value: "pointer" },
        tooltip: { signal: "datum.type + ' at K = ' + datum.K + ': ' + format(datum.share, '.4~f')" } } } }] },
  ],
};

const spectraSpec = {
  description: "Singular values by rank around the samples below that were measured",
  width: 480, height: 150, padding: 6, background: null, autosize: { type: "pad", resize: true }, config,
  title: { text: "spectra around the samples below, where measured; heavy: the sample pointed at", frame: "group" },
  signals: [{ name: "pointed", value: -1 }],
  data: [{ name: "spectra", values: [{ sample: 0, type: TYPES[0], rank: 0, value: 0 }] }],
  scales: [{ name: "x", type: "linear", domain: [0, 1], range: "width" },
    { name: "y", type: "linear", domain: { data: "spectra", field: "value" }, range: "height", zero: true, nice: true },
    { name: "colour", type: "ordinal", domain: TYPES, range: TYPES.map(t => COLOURS[t]) }],
  axes: [{ orient: "bottom", scale: "x", title: "rank, as a share of all", tickCount: 5 },
    { orient: "left", scale: "y", title: "singular value", tickCount: 4 }],
  marks: [{ type: "group", from: { facet: { name: "one", data: "spectra", groupby: ["sample", "type"] } }, marks: [
    { type: "line", from: { data: "one" }, aria: false, encode: { update: { x: { scale: "x", field: "rank" }, y: { scale: "y", field: "value" },
      stroke: { scale: "colour", field: "type" }, strokeWidth: { signal: "datum.sample === pointed ? 4 : 1.2" } } } }] }],
};

// Wilson's 95% interval of `count` samples, widened by how much replicates differ (results/replicates.py)
function interval(share, samples, { dispersion, quantile: z }) {
  const count = samples / dispersion;
  const centre = (share + z * z / (2 * count)) / (1 + z * z / count);
  const half = z / (1 + z * z / count) * Math.sqrt(share * (1 - share) / count + z * z / (4 * count * count));
  return [Math.max(centre - half, 0), Math.min(centre + half, 1)];
}

function series(steps) {
  return sweeps[state.sweep].runs.flatMap(run => {
    const counts = typed(run, steps);
    return TYPES.map(type => {
      const share = counts[type] / run.count, [low, high] = interval(share, run.count, run);
      return { K: run.K, type, share, low, high };
    });
  });
}

// ---- samples

function tile(sprite, number, label, size, type) {
  const span = document.createElement("span");
  const height = Math.round(size * sprite.height / sprite.width);
  span.className = `tile ${type || ""}`;
  span.setAttribute("role", "img");
  span.setAttribute("aria-label", label);
  Object.assign(span.style, { width: `${size}px`, height: `${height}px`, backgroundImage: "var(--sprite)",
    backgroundSize: `${size * sprite.columns}px ${height * sprite.rows}px`,
    backgroundPosition: `${-size * (number % sprite.columns)}px ${-height * Math.floor(number / sprite.columns)}px` });
  return span;
}

// a short address for a picture: megabytes of data: URI in a style would be copied for every tile
function pictureAddress(uri) {
  const [head, body] = uri.split(",");
  return URL.createObjectURL(new Blob([decode(body, Uint8Array)], { type: head.match(/data:([^;]+)/)[1] }));
}

const nearest = (entry, source) => entry[source].length ? entry[source][0][2] : Infinity;

// Eqs. 9-11, in single precision as the distances are
function type(entry, run, limits = AXES.map(axis => delta(run, axis))) {
  if (nearest(entry, "training") <= Math.fround(limits[0])) return "memorized";
  return nearest(entry, "synthetic") <= Math.fround(limits[1]) ? "spurious" : "generalized";
}

// what is known of a sample, as words
function facts(entry) {
  const words = [];
  if (entry.t_c !== undefined) words.push(`critical time ${entry.t_c.toPrecision(3)}`);
  if (entry.log_volume !== undefined) words.push(`log-volume ${entry.log_volume.toPrecision(3)}`);
  if (entry.energy !== undefined) words.push(`energy above S ${entry.energy.toPrecision(2)}`);
  if (entry.ratio !== undefined) words.push(`d1/d2 ${entry.ratio.toPrecision(2)}`);
  if (entry.adaptive !== undefined) words.push(`adaptive distance ${entry.adaptive.toPrecision(2)}`);
  if (entry.flipd !== undefined) words.push(`dimension ${entry.flipd.toPrecision(2)}`);
  if (entry.spectrum) words.push(`singular values ${Math.max(...entry.spectrum).toPrecision(3)} to ${Math.min(...entry.spectrum).toPrecision(3)}`);
  return words;
}

// mark a sample, or none, in the histograms and among the spectra
function point(entry, item, run) {
  document.querySelectorAll(".sample.shown").forEach(other => other.classList.remove("shown"));
  if (item) item.classList.add("shown");
  for (const [axis, source] of [["m", "training"], ["s", "synthetic"]])
    histogramView.signal(`pointed_${axis}`, entry && entry[source].length ? nearest(entry, source) : 0);
  spectraView.signal("pointed", entry ? entry.sample : -1);
  histogramView.run();
  spectraView.run();
  $("pointed").textContent = entry ? [`Sample ${entry.sample}, ${type(entry, run)}: nearest training image at ${nearest(entry, "training").toPrecision(3)}`,
    `nearest other sample at ${nearest(entry, "synthetic").toPrecision(3)}`, ...(facts(entry).length ? facts(entry) : ["nothing else was measured of it"])].join(", ")
    : "Point at a sample below, or move to it with the Tab key: where it lies in the histograms, and all that was measured of it.";
}

// name: of the element; one of a list can be pointed at
function card(entry, run, sprite, kind = type(entry, run), name = "li") {
  const item = document.createElement(name);
  item.className = "sample";
  if (name === "li") {
    item.tabIndex = 0;
    for (const event of ["pointerenter", "focus"]) item.addEventListener(event, () => point(entry, item, run));
  }
  item.append(tile(sprite, entry.tile, `sample ${entry.sample}, ${kind}`, 64, kind));
  const neighbours = document.createElement("span");
  neighbours.className = "neighbours";
  for (const [source, words, set] of [["training", "training image", "S"], ["synthetic", "sample", "S'"]]) {
    const title = document.createElement("span");
    title.textContent = `in ${set}`;
    neighbours.append(title);
    for (let k = 0; k < 4; k++) {
      const cell = document.createElement("span");
      if (entry[source][k]) {
        const [number, picture, distance] = entry[source][k];
        cell.append(tile(sprite, picture, `${words} ${number} at distance ${distance.toPrecision(3)}`, 32), distance.toPrecision(3));
      }
      neighbours.append(cell);
    }
  }
  const text = document.createElement("span");
  text.innerHTML = [`<b>${kind}</b>`, `sample ${entry.sample}`, ...facts(entry)].join("<br>");
  item.append(neighbours, text);
  return item;
}

// one sample of each type with its neighbours, from the K that has most of that type, by the thresholds of this run
function showThree() {
  const { runs, sprite } = sweeps[0], steps = { m: null, s: null };
  runs.forEach(unpack);
  const examples = TYPES.flatMap(kind => {
    const share = run => typed(run, steps)[kind] / run.count;
    const run = runs.reduce((best, other) => share(other) > share(best) ? other : best);
    const pool = [...run.m, ...run.s].filter(entry => type(entry, run, run.auto) === kind);
    if (!pool.length) return [];
    const item = card(pool[pool.length >> 1], run, sprite, kind, "div");
    item.lastChild.append(`, K = ${run.K}`);
    return [item];
  });
  $("three").replaceChildren(...examples);
}

function showSamples(run, sprite) {
  const drawn = new Map();
  for (const [axis, source, words] of [["m", "training", "training image"], ["s", "synthetic", "other sample"]]) {
    const box = $(`samples-${axis}`), limit = Math.fround(delta(run, axis));
    const pool = run[axis].filter(entry => entry[source].length).sort((a, b) => nearest(a, source) - nearest(b, source));
    const split = pool.filter(entry => nearest(entry, source) <= limit).length;
    box.replaceChildren();
    for (const [title, part] of [[`Nearest ${words} just within δ_${axis}`, pool.slice(Math.max(split - 3, 0), split).reverse()],
      [`Nearest ${words} just beyond δ_${axis}`, pool.slice(split, split + 3)]]) {
      const heading = document.createElement("h3"), list = document.createElement("ol");
      heading.textContent = title;
      list.append(...part.map(entry => card(entry, run, sprite)));
      part.forEach(entry => drawn.set(entry.sample, entry));
      box.append(heading, part.length ? list : "none among the samples kept");
    }
  }
  const measured = [...drawn.values()].filter(entry => entry.spectrum);
  $("spectra").hidden = !measured.length;
  if (measured.length) replace(spectraView, "spectra", measured.flatMap(entry => entry.spectrum.map((value, i) =>
    ({ sample: entry.sample, type: type(entry, run), rank: i / (entry.spectrum.length - 1), value }))));
  point(null, null, run);
}

// ---- the page

const options = { mode: "vega", renderer: "svg", actions: false };
const [histogramView, fractionView, spectraView] = (await Promise.all([["#histograms", histogramSpec], ["#fractions", fractionSpec],
  ["#spectra", spectraSpec]].map(([where, spec]) => vegaEmbed(where, spec, options)))).map(made => made.view);
const replace = (view, name, rows) => view.data(name, rows);

const written = value => String(+value.toPrecision(6));
const step = value => {
  const wanted = Math.round(Math.log10(Math.max(value, grid[0])) * per_decade) - Math.round(Math.log10(grid[0]) * per_decade);
  return Math.min(Math.max(wanted, 0), grid.length - 1);
};

function draw() {
  const sweep = sweeps[state.sweep], run = sweep.runs[state.run], counts = typed(run, state.steps);
  for (const axis of AXES) {
    const value = delta(run, axis), own = state.steps[axis] === null;
    histogramView.signal(`delta_${axis}`, value);
    $(`range-${axis}`).value = own ? step(value) : state.steps[axis];
    $(`range-${axis}`).setAttribute("aria-valuetext", written(value));
    if (document.activeElement !== $(`value-${axis}`)) $(`value-${axis}`).value = written(value);
    $(`run-${axis}`).checked = own;
  }
  replace(fractionView, "rows", series(state.steps));
  fractionView.signal("selected", run.K);
  fractionView.run();
  const said = steps => {
    const c = typed(run, steps);
    return `K = ${run.K}: ` + TYPES.map(t => `${t} ${(100 * c[t] / run.count).toFixed(1)}%`).join(", ") +
      ` of ${run.count.toLocaleString("en")} samples, at δ_m = ${written(delta(run, "m", steps))} and δ_s = ${written(delta(run, "s", steps))}`;
  };
  $("readout").textContent = said(state.steps);
  $("pinned").textContent = state.pinned ? `Pinned, dotted: ${said(state.pinned)}` : "";
  $("dotted").textContent = state.pinned ? "dotted: pinned" : "dotted: as in this run";
  $("pin").setAttribute("aria-pressed", !!state.pinned);
  $("pin").textContent = state.pinned ? "Unpin" : "Pin this choice";
  $("command").value = "dvc exp run --allow-missing " + AXES.map(axis => {
    const value = state.steps[axis] === null ? sweep.given[axis] : written(grid[state.steps[axis]]);
    return value.startsWith("{") ? `-S 'delta_${axis}=${value}'` : `-S delta_${axis}=${value}`;
  }).join(" ");
  $("table").innerHTML = `<thead><tr><th scope="col">K</th>${TYPES.map(t => `<th scope="col">${t}</th><th scope="col">of S'</th>${state.pinned ? '<th scope="col">pinned</th>' : ""}`).join("")}` +
    "</tr></thead><tbody>" + sweep.runs.map(r => {
      const c = typed(r, state.steps), other = state.pinned && typed(r, state.pinned);
      return `<tr><th scope="row">${r.K}</th>${TYPES.map(t => `<td data-type="${t}">${c[t]}</td><td>${(c[t] / r.count).toFixed(4)}</td>${other ? `<td>${(other[t] / r.count).toFixed(4)}</td>` : ""}`).join("")}</tr>`;
    }).join("") + "</tbody>";
  showLandscape(run, counts);
  showSamples(run, sweep.sprite);
}

// ---- the address: #sweep=digits&K=32&dm=0.5&ds=0.4&pm=run&ps=0.3, where d is on screen and p pinned,
// and a threshold that is left out is as in this run

function address() {
  const { name, runs } = sweeps[state.sweep], parts = new URLSearchParams({ sweep: name, K: runs[state.run].K });
  for (const [letter, steps] of [["d", state.steps], ["p", state.pinned]])
    for (const axis of AXES) if (steps && (letter === "p" || steps[axis] !== null)) parts.set(letter + axis, steps[axis] === null ? "run" : written(grid[steps[axis]]));
  return `#${parts}`;
}

// take the state from the address; false where it has none
function restore() {
  const parts = new URLSearchParams(location.hash.slice(1));
  if (!parts.has("sweep") && !parts.has("K")) return false;
  state.sweep = Math.max(sweeps.findIndex(sweep => sweep.name === parts.get("sweep")), 0);
  const { runs, start } = sweeps[state.sweep], at = runs.findIndex(run => run.K === +parts.get("K"));
  state.run = at < 0 ? start : at;
  const chosen = letter => Object.fromEntries(AXES.map(axis => [axis, +parts.get(letter + axis) > 0 ? step(+parts.get(letter + axis)) : null]));
  state.steps = chosen("d");
  state.pinned = AXES.some(axis => parts.has(`p${axis}`)) ? chosen("p") : null;
  $("sweep").value = state.sweep;
  return true;
}

let timer = null;
function remember() {
  clearTimeout(timer);
  timer = setTimeout(() => history.replaceState(null, "", address()), 250);
}

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}

function setStep(axis, value) {
  if (value === state.steps[axis]) return;
  state.steps[axis] = value;
  remember();
  redraw();
}

// the first and last grid step of an axis that holds all distances of these runs and the thresholds
function span(runs) {
  const bins = runs.flatMap(densities), chosen = runs.flatMap(run => AXES.map(axis => delta(run, axis))).filter(value => value > 0);
  return [step(Math.min(...bins.map(bin => bin.low), ...chosen) / 1.3), step(Math.max(...bins.map(bin => bin.high), ...chosen) * 1.3)];
}

function choose() {
  const sweep = sweeps[state.sweep];
  sweep.runs.forEach(unpack);
  sweep.runs.forEach(unpackMeasured);
  const [low, high] = span(sweep.runs), shown = span([sweep.runs[state.run]]);
  for (const axis of AXES) Object.assign($(`range-${axis}`), { min: low, max: high });
  histogramView.signal("domain", shown.map(edge => grid[edge]));
  replace(histogramView, "bars", densities(sweep.runs[state.run]));
  replace(fractionView, "stored", series(state.pinned ?? { m: null, s: null }));
  sweep.sprite.url ??= pictureAddress(sweep.sprite.uri);
  $("app").style.setProperty("--sprite", `url(${sweep.sprite.url})`);
  Object.assign($("slide"), { max: sweep.runs.length - 1, value: state.run });
  $("slide").setAttribute("aria-valuetext", `K = ${sweep.runs[state.run].K}`);
  $("size").replaceChildren(...sweep.runs.map((run, k) => new Option(run.K, k, false, k === state.run)));
  redraw();
}

function fit() {
  for (const [view, id] of [[histogramView, "histograms"], [fractionView, "fractions"], [spectraView, "spectra"]])
    view.width(Math.max($(id).clientWidth - 90, 180)).run();
}

$("app").hidden = false;
$("sweep").replaceChildren(...sweeps.map((sweep, k) => new Option(sweep.name, k)));
state.run = sweeps[0].start;
const move = run => { state.run = run; choose(); remember(); };
$("sweep").addEventListener("change", () => { state.sweep = +$("sweep").value; move(sweeps[state.sweep].start); });
$("size").addEventListener("change", () => move(+$("size").value));
$("slide").addEventListener("input", () => move(+$("slide").value));
for (const axis of AXES) {
  $(`range-${axis}`).addEventListener("input", event => setStep(axis, +event.target.value));
  $(`value-${axis}`).addEventListener("change", event => {
    const wanted = +event.target.value;
    if (wanted > 0) state.steps[axis] = step(wanted);
    event.target.value = written(delta(sweeps[state.sweep].runs[state.run], axis));
    $("rounded").textContent = wanted > 0 && wanted !== +event.target.value
      ? `δ_${axis} = ${event.target.value} is the nearest step to ${wanted}.` : "";
    remember();
    redraw();
  });
  $(`run-${axis}`).addEventListener("change", event =>
    setStep(axis, event.target.checked ? null : step(delta(sweeps[state.sweep].runs[state.run], axis))));
  histogramView.addSignalListener(`drag_${axis}`, (_, value) => { if (value !== null) setStep(axis, step(value)); });
}
fractionView.addSignalListener("picked", (_, size) => {
  const distances = sweeps[state.sweep].runs.map(run => Math.abs(Math.log(run.K / size)));
  move(distances.indexOf(Math.min(...distances)));
});
$("pin").addEventListener("click", () => {
  state.pinned = state.pinned ? null : { ...state.steps };
  choose();
  remember();
});
$("copy").addEventListener("click", () => {
  $("command").select();
  if (navigator.clipboard) navigator.clipboard.writeText($("command").value).catch(() => document.execCommand("copy"));
  else document.execCommand("copy");
});
$("link").addEventListener("click", () => {
  clearTimeout(timer);
  history.replaceState(null, "", address());
  if (navigator.clipboard) navigator.clipboard.writeText(location.href).catch(() => {});
  $("link").textContent = "The address of this page has the choice";
});
addEventListener("resize", fit);
addEventListener("hashchange", () => { if (restore()) choose(); });
sweeps[0].sprite.url = pictureAddress(sweeps[0].sprite.uri);
$("three").style.setProperty("--sprite", `url(${sweeps[0].sprite.url})`);
showThree();
const linked = restore();
choose();
fit();
if (linked) $("explorer").scrollIntoView();
