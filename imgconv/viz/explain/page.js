"use strict";
// The page works out what `imgconv explain` does, number for number: sums in double precision, the
// taps of a window row by row. Everything shown follows from `state`; `update` draws it anew.
const data = document.body.dataset;
const state = JSON.parse(data.state), presets = JSON.parse(data.presets);
const layers = JSON.parse(data.layers);
const by = (id) => document.getElementById(id);

// ---- the arithmetic

// Which source place stands at each padded one; -1 is the fill. As numpy.pad has it.
function indexMap(size, near, far, mode) {
  const mod = (a, n) => ((a % n) + n) % n;
  return Array.from({ length: near + size + far }, (_, i) => {
    const at = i - near;
    if (mode === "zeros" || mode === "constant") return at < 0 || at >= size ? -1 : at;
    if (mode === "replicate") return Math.min(size - 1, Math.max(0, at));
    if (mode === "circular") return mod(at, size);
    const period = mode === "symmetric" ? 2 * size : Math.max(2 * size - 2, 1);
    const place = mod(at, period);
    if (mode === "reflect" && size === 1) return 0;
    return Math.min(place, (mode === "symmetric" ? period - 1 : period) - place);
  });
}

function padGrid(grid, [top, bottom, left, right], mode, value) {
  const rows = indexMap(grid.length, top, bottom, mode);
  const columns = indexMap(grid[0].length, left, right, mode);
  const fill = mode === "constant" ? value : 0;
  return rows.map((y) => columns.map((x) => (y < 0 || x < 0 ? fill : grid[y][x])));
}

const span = (taps, dilation) => (taps - 1) * dilation + 1;

// What text says of padding: same, valid, full, one number, a pair, four sides.
function resolvePadding(text, taps, dilation, stride) {
  const spans = [0, 1].map((axis) => span(taps[axis], dilation[axis]) - 1);
  const words = { valid: [0, 0, 0, 0], full: [spans[0], spans[0], spans[1], spans[1]] };
  if (text === "same") {
    if (stride[0] !== 1 || stride[1] !== 1)
      throw new Error("padding same needs stride 1; give the padding as numbers");
    const [y, x] = spans.map((s) => Math.floor(s / 2));
    return [y, spans[0] - y, x, spans[1] - x];
  }
  if (text in words) return words[text];
  const numbers = text.split(",").map((word) => (/^\s*\d+\s*$/.test(word) ? Number(word) : NaN));
  if (numbers.some((n) => !(n <= 20)) || ![1, 2, 4].includes(numbers.length))
    throw new Error("padding: same, valid, full, N, N,N or top,bottom,left,right, each up to 20");
  const [a, b] = [numbers[0], numbers[1] ?? numbers[0]];
  return numbers.length === 4 ? numbers : [a, a, b, b];
}

const turned = (kernel) => kernel.map((row) => [...row].reverse()).reverse();

// Everything about an operation on a grid: the padded grid, the output, and how each output is made.
function work(grid, given) {
  const pool = given.operation !== "conv";
  const weights = pool ? null : given.flip ? turned(given.kernel) : given.kernel;
  const taps = pool ? given.window : [weights.length, weights[0].length];
  const sides = resolvePadding(given.padding, taps, given.dilation, given.stride);
  const padded = padGrid(grid, sides, pool ? "zeros" : given.mode, given.value);
  const size = [0, 1].map((axis) => {
    const length = axis ? padded[0].length : padded.length;
    const free = length - span(taps[axis], given.dilation[axis]);
    if (free < 0)
      throw new Error(`the window is larger than the padded input in ${axis ? "width" : "height"}`);
    return Math.floor(free / given.stride[axis]) + 1;
  });
  // Padding takes part in averages as zeros, as in PyTorch; it never wins and is in no order.
  const counts = (y, x) => !pool || given.operation === "avg" ||
    (y >= sides[0] && x >= sides[2] && y < sides[0] + grid.length && x < sides[2] + grid[0].length);
  function step(row, column) {
    const cells = [];
    for (let m = 0; m < taps[0]; m++)
      for (let n = 0; n < taps[1]; n++) {
        const y = row * given.stride[0] + m * given.dilation[0];
        const x = column * given.stride[1] + n * given.dilation[1];
        if (counts(y, x))
          cells.push({ y, x, m, n, value: padded[y][x], weight: pool ? 1 : weights[m][n] });
      }
    return { row, column, cells, result: result(given, cells) };
  }
  return { weights, taps, sides, padded, size, step };
}

function result(given, cells) {
  const values = cells.map((cell) => cell.value);
  const ordered = [...values].sort((a, b) => a - b);
  switch (given.operation) {
    case "conv":
      return cells.reduce((sum, c) => sum + c.value * c.weight, 0) / given.divisor + given.bias;
    case "max": return Math.max(...values);
    case "min": return Math.min(...values);
    case "avg": return values.reduce((sum, value) => sum + value, 0) / values.length;
    case "range": return values.length ? ordered[ordered.length - 1] - ordered[0] : 0;
    default: return values.length ? ordered[Math.floor((values.length - 1) / 2)] : -Infinity;
  }
}

// Size, distance and first center of what a unit sees on the input, layer by layer.
function fields(list) {
  let [size, jump, start] = [1, 1, 0];
  return list.map(({ kernel, stride, padding, dilation }) => {
    const wide = span(kernel, dilation);
    start += ((wide - 1) / 2 - padding) * jump;
    size += (wide - 1) * jump;
    jump *= stride;
    return { size, jump, start };
  });
}

// ---- numbers and words

// As Python's `.4g`: four digits, ties to even, no zeros at the end.
function number(value) {
  if (!Number.isFinite(value)) return value > 0 ? "inf" : value < 0 ? "\u2212inf" : "nan";
  if (value === 0) return Object.is(value, -0) ? "\u22120" : "0";
  let [digits, power] = Math.abs(value).toExponential(3).split("e");
  const exact = Math.abs(value).toExponential(20).replace(".", "").split("e")[0];
  if (/^5 *0*$/.test(exact.slice(4)) && Number(exact[3]) % 2 === 0)
    digits = `${exact[0]}.${exact.slice(1, 4)}`;  // toExponential rounds ties up
  const e = Number(power), sign = value < 0 ? "\u2212" : "";
  if (e < -4 || e >= 4) {
    const shown = Number(digits).toString();
    return `${sign}${shown}e${e < 0 ? "\u2212" : "+"}${String(Math.abs(e)).padStart(2, "0")}`;
  }
  return sign + Number(`${digits}e${e}`).toString();
}
const factor = (value) => (value < 0 ? `(${number(value)})` : number(value));

function formula(given, step) {
  const values = step.cells.map((cell) => number(cell.value)).join(", ");
  if (given.operation === "conv") {
    let terms = step.cells.map((c) => `${number(c.value)}\u00b7${factor(c.weight)}`).join(" + ");
    if (given.divisor !== 1) terms = `(${terms}) / ${number(given.divisor)}`;
    if (given.bias) terms += ` + ${number(given.bias)}`;
    return `${terms} = ${number(step.result)}`;
  }
  if (given.operation === "avg") {
    const total = number(step.cells.reduce((sum, cell) => sum + cell.value, 0));
    return `mean(${values}) = ${total} / ${step.cells.length} = ${number(step.result)}`;
  }
  return `${given.operation}(${values}) = ${number(step.result)}`;
}

// Numbers, fractions, decimals; anything else is refused.
function parseNumber(text) {
  const parts = text.trim().replace(/\u2212/g, "-").split("/");
  const found = parts.map((part) => (part.trim() === "" ? NaN : Number(part)));
  const value = found.length > 2 ? NaN : found.length === 2 ? found[0] / found[1] : found[0];
  if (!Number.isFinite(value)) throw new Error(`'${text}': expected a number such as -1, 0.5 or 1/9`);
  return value;
}
function parseGrid(text) {
  const rows = text.trim().split(/[;\n]+/).filter((row) => row.trim())
    .map((row) => row.trim().split(/[\s,]+/).map(parseNumber));
  if (!rows.length || rows.some((row) => row.length !== rows[0].length))
    throw new Error("the input needs rows of equally many numbers");
  if (rows.length * rows[0].length > 1024) throw new Error("at most 1024 numbers");
  return rows;
}
const matrixText = (grid) => grid.map((row) => row.join(" ")).join("; ");
const both = (pair) => (pair[0] === pair[1] ? `${pair[0]}` : pair.join(","));

// The same in the shell.
function command(given) {
  const words = ["imgconv explain", `"${matrixText(given.grid)}"`];
  if (given.operation === "conv") {
    words.push(`-k '${JSON.stringify({ weights: given.kernel, divisor: given.divisor,
      bias: given.bias })}'`);
    if (given.flip) words.push("--flip");
    words.push(`--padding-mode ${given.mode}`);
    if (given.mode === "constant") words.push(`--pad-value ${given.value}`);
    words.push(`--padding ${given.padding}`, `--stride ${both(given.stride)}`,
      `--dilation ${both(given.dilation)}`);
  } else {
    const sides = resolvePadding(given.padding, given.window, given.dilation, given.stride);
    words.push(`--pool ${given.operation}:${given.window.join("x")},stride=${given.stride.join("x")}` +
      `,padding=${sides[0]}x${sides[2]},dilation=${given.dilation.join("x")}`);
  }
  return words.join(" ");
}

// ---- the grids

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Blue below zero, orange above, as strong as the value is large.
function shade(cell, value, most) {
  const share = most > 0 ? Math.min(1, Math.abs(value) / most) : 0;
  cell.style.setProperty("--share", `${Math.round(70 * share)}%`);
  cell.classList.toggle("below", value < 0);
}
const largest = (grid) => Math.max(...grid.flat().map(Math.abs).filter(Number.isFinite), 0);

function table(id, grid, decorate = () => {}) {
  const most = largest(grid), body = element("tbody");
  grid.forEach((row, y) => body.append(element("tr", {}, ...row.map((value, x) => {
    const cell = element("td", {}, element("span", {}, number(value)));
    shade(cell, value, most);
    decorate(cell, y, x, value);
    return cell;
  }))));
  by(id).replaceChildren(body);
}

let done = null, at = 0, playing = 0;
const place = () => [Math.floor(at / done.size[1]), at % done.size[1]];

function kernelCell(y, x) {
  const entry = element("input", { inputmode: "text", autocomplete: "off",
    "aria-label": `weight in row ${y + 1}, column ${x + 1}` });
  entry.addEventListener("change", () => {
    attempt(() => { state.kernel[y][x] = parseNumber(entry.value); });
    if (document.activeElement === entry) entry.select();
  });
  entry.addEventListener("focus", () => entry.select());
  return element("td", {}, entry);
}

function drawKernel() {
  const box = by("kernel"), kernel = state.kernel;
  box.closest("figure").hidden = state.operation !== "conv";
  // Cells stay while their number does, so that whoever types in one keeps it.
  if (box.rows.length !== kernel.length || box.rows[0].cells.length !== kernel[0].length)
    box.replaceChildren(element("tbody", {}, ...kernel.map((row, y) =>
      element("tr", {}, ...row.map((_, x) => kernelCell(y, x))))));
  const most = largest(kernel);
  kernel.forEach((row, y) => row.forEach((value, x) => {
    const cell = box.rows[y].cells[x];
    cell.firstChild.value = number(value).replace("\u2212", "-");
    shade(cell, value, most);
  }));
}

function drawGrids() {
  const [top, bottom, left, right] = done.sides;
  table("input", done.padded, (cell, y, x) => {
    const pad = y < top || x < left || y >= done.padded.length - bottom ||
      x >= done.padded[0].length - right;
    cell.classList.toggle("pad", pad);
    cell.append(element("small"));
  });
  const output = Array.from({ length: done.size[0] }, (_, row) =>
    Array.from({ length: done.size[1] }, (_, column) => done.step(row, column).result));
  table("output", output, (cell, y, x) => {
    cell.addEventListener("pointerenter", () => { if (!playing) show(y * done.size[1] + x); });
    cell.addEventListener("click", () => { stop(); show(y * done.size[1] + x); });
  });
  by("position").max = done.size[0] * done.size[1] - 1;
  by("sizes").textContent = `${done.padded.length - top - bottom}\u00d7` +
    `${done.padded[0].length - left - right} input, ${done.size[0]}\u00d7${done.size[1]} output`;
  for (const flip of [false, true]) {
    const other = { ...state, flip }, name = flip ? "convolution" : "correlation";
    if (state.operation !== "conv") continue;
    const made = work(state.grid, other);
    table(`${name}-kernel`, made.weights);
    table(`${name}-output`, Array.from({ length: made.size[0] }, (_, row) =>
      Array.from({ length: made.size[1] }, (_, column) => made.step(row, column).result)));
  }
  by("pair").hidden = state.operation !== "conv";
}

function mark(id, columns, index) {
  const cells = by(id).querySelectorAll("td");
  cells.forEach((cell, i) => cell.classList.toggle("now", i === index));
}

function show(index) {
  at = Math.max(0, Math.min(index, done.size[0] * done.size[1] - 1));
  const [row, column] = place(), step = done.step(row, column);
  const width = done.padded[0].length, cells = by("input").querySelectorAll("td");
  cells.forEach((cell) => {
    cell.classList.remove("in", "won");
    if (cell.querySelector("small")) cell.querySelector("small").textContent = "";
  });
  for (const c of step.cells) {
    const cell = cells[c.y * width + c.x];
    cell.classList.add("in");
    if (state.operation === "conv") cell.querySelector("small").textContent = `\u00d7${number(c.weight)}`;
    else if (c.value === step.result && ["max", "min", "median"].includes(state.operation))
      cell.classList.add("won");
  }
  mark("output", done.size[1], at);
  by("formula").textContent = `output (${row}, ${column}): ${formula(state, step)}`;
  by("position").value = at;
  by("position").setAttribute("aria-valuetext", `row ${row}, column ${column}`);
  if (state.operation === "conv") for (const flip of [false, true]) {
    const name = flip ? "convolution" : "correlation", other = { ...state, flip };
    mark(`${name}-output`, done.size[1], at);
    by(`${name}-formula`).textContent = formula(other, work(state.grid, other).step(row, column));
  }
}

// ---- the photograph

const photo = { grid: null, width: 0, height: 0, made: null, y: 0, x: 0 };

async function loadPhoto() {
  const image = by("photo-source");
  await image.decode();
  const canvas = by("photo"), pen = canvas.getContext("2d", { willReadFrequently: true });
  [photo.width, photo.height] = [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  pen.drawImage(image, 0, 0);
  const bytes = pen.getImageData(0, 0, photo.width, photo.height).data;
  photo.grid = Array.from({ length: photo.height }, (_, y) =>
    Array.from({ length: photo.width }, (_, x) => bytes[4 * (y * photo.width + x)]));
  [photo.y, photo.x] = [photo.height >> 1, photo.width >> 1];
  filterPhoto();
}

function filterPhoto() {
  if (!photo.grid) return;
  const made = photo.made = work(photo.grid, state), [rows, columns] = made.size;
  photo.output = new Float64Array(rows * columns);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      photo.output[row * columns + column] = made.step(row, column).result;
  const most = photo.output.reduce((m, v) => Math.max(m, Math.abs(v)), 0) || 1;
  const scale = by("scale").value, canvas = by("filtered");
  [canvas.width, canvas.height] = [columns, rows];
  const picture = new ImageData(columns, rows);
  photo.output.forEach((value, i) => {
    const shown = scale === "abs" ? 255 * Math.abs(value) / most
      : scale === "middle" ? 128 + 127 * value / most : value;
    picture.data.set([shown, shown, shown, 255].map((v) => Math.max(0, Math.min(255, Math.round(v)))), 4 * i);
  });
  canvas.getContext("2d").putImageData(picture, 0, 0);
  pointPhoto(photo.y, photo.x);
}

function pointPhoto(y, x) {
  const made = photo.made;
  [photo.y, photo.x] = [Math.max(0, Math.min(y, made.size[0] - 1)), Math.max(0, Math.min(x, made.size[1] - 1))];
  const step = made.step(photo.y, photo.x), [top, , left] = made.sides;
  const frame = by("photo-frame"), canvas = by("photo");
  const first = [photo.y * state.stride[0] - top, photo.x * state.stride[1] - left];
  const size = [0, 1].map((axis) => span(made.taps[axis], state.dilation[axis]));
  const set = (name, value) => frame.style.setProperty(name, `${100 * value}%`);
  set("top", first[0] / photo.height);
  set("left", first[1] / photo.width);
  set("height", size[0] / photo.height);
  set("width", size[1] / photo.width);
  const dot = by("photo-dot");
  dot.style.setProperty("top", `${100 * (photo.y + 0.5) / made.size[0]}%`);
  dot.style.setProperty("left", `${100 * (photo.x + 0.5) / made.size[1]}%`);
  const body = element("tbody");
  for (let m = 0; m < made.taps[0]; m++) body.append(element("tr", {}, ...Array.from(
    { length: made.taps[1] }, (_, n) => {
      const c = step.cells.find((cell) => cell.m === m && cell.n === n);
      const cell = element("td", {}, element("span", {}, c ? number(c.value) : "\u00b7"));
      if (c) {
        cell.style.setProperty("--gray", `${Math.round(c.value)}`);
        cell.classList.toggle("light", c.value > 140);
        if (state.operation === "conv") cell.append(element("small", {}, `\u00d7${number(c.weight)}`));
      }
      return cell;
    })));
  by("magnifier").replaceChildren(body);
  const text = made.taps[0] * made.taps[1] > 25 ? `\u2026 = ${number(step.result)}` : formula(state, step);
  by("photo-formula").textContent = `row ${photo.y}, column ${photo.x}: ${text}`;
  canvas.setAttribute("aria-valuetext", by("photo-formula").textContent);
}

// ---- through layers

const SVG = "http://www.w3.org/2000/svg";
function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// The positions that one unit of the last layer sees, from it down to the input, along one axis.
function seenBy(list) {
  const levels = [[0]], edges = [];
  for (const { kernel, stride, padding, dilation } of [...list].reverse()) {
    const above = levels[levels.length - 1], below = new Set(), lines = [];
    for (const unit of above) for (let tap = 0; tap < kernel; tap++) {
      const to = unit * stride - padding + tap * dilation;
      below.add(to);
      lines.push([unit, to]);
    }
    levels.push([...below].sort((a, b) => a - b));
    edges.push(lines);
  }
  return { levels, edges };
}

function drawLayers() {
  const found = fields(layers), rows = by("layers-rows");
  found.forEach(({ size, jump, start }, i) => {
    rows.rows[i].querySelector("output").textContent =
      `${number(size)}\u00d7${number(size)}, ${number(jump)} apart, first at ${number(start)}`;
  });
  const svg = by("fan"), { levels, edges } = seenBy(layers);
  svg.replaceChildren();
  const tall = 54, height = tall * levels.length, wide = Math.min(720, svg.clientWidth || 720);
  const input = levels[levels.length - 1], total = input[input.length - 1] - input[0] + 1;
  const unit = Math.min(34, (wide - 110) / Math.max(total, 1));
  svg.setAttribute("viewBox", `0 0 ${wide} ${height}`);
  // Every level is centered under the one before: positions of a level lie `jump` of the input apart.
  const jumps = [1, ...found.map((field) => field.jump)].reverse();
  const x = (level, position) => {
    const of = levels[level], middle = (of[0] + of[of.length - 1]) / 2;
    return wide / 2 + 32 + (position - middle) * jumps[level] * unit;
  };
  edges.forEach((lines, level) => {
    if (lines.length > 1500) return;
    for (const [from, to] of lines) svg.append(shape("line", { x1: x(level, from), x2: x(level + 1, to),
      y1: tall * (level + 0.5), y2: tall * (level + 1.5) }));
  });
  levels.forEach((places, level) => {
    const y = tall * (level + 0.5), label = shape("text", { x: 4, y: y + 4 });
    label.textContent = level === levels.length - 1 ? "input" : `layer ${levels.length - 1 - level}`;
    svg.append(label);
    const radius = Math.max(1.5, Math.min(7, 0.36 * unit * jumps[level]));
    for (const position of places) svg.append(shape("circle", { cx: x(level, position), cy: y, r: radius,
      class: level === levels.length - 1 ? "seen" : "" }));
  });
  const last = found[found.length - 1] || { size: 1, jump: 1 };
  const text = `One unit after ${layers.length} layer${layers.length === 1 ? "" : "s"} sees ` +
    `${number(last.size)}\u00d7${number(last.size)} of the input; its neighbor sees the same, ` +
    `${number(last.jump)} further.`;
  by("layers-text").textContent = text;
  svg.setAttribute("aria-label", text);
  by("layer-add").disabled = layers.length >= 5;
  by("layer-remove").disabled = layers.length <= 1;
}

function drawLayerRows() {
  const names = { kernel: [1, 11], stride: [1, 4], padding: [0, 10], dilation: [1, 4] };
  by("layers-rows").replaceChildren(...layers.map((layer, i) => {
    const row = element("tr", {}, element("th", { scope: "row" }, `${i + 1}`));
    for (const [name, [least, most]] of Object.entries(names)) {
      const entry = element("input", { type: "number", min: least, max: most, value: layer[name],
        "aria-label": `${name} of layer ${i + 1}` });
      entry.addEventListener("input", () => {
        const value = Number(entry.value);
        if (Number.isInteger(value) && value >= least && value <= most) {
          layer[name] = value;
          drawLayers();
        }
      });
      row.append(element("td", {}, entry));
    }
    row.append(element("td", {}, element("output")));
    return row;
  }));
  drawLayers();
}

// ---- controls

function fill() {
  for (const name of ["operation", "padding", "mode"]) by(name).value = state[name];
  by("value").value = state.value;
  by("flip").checked = state.flip;
  by("divisor").value = number(state.divisor).replace("\u2212", "-");
  by("stride").value = both(state.stride);
  by("dilation").value = both(state.dilation);
  by("rows").value = state.operation === "conv" ? state.kernel.length : state.window[0];
  by("columns").value = state.operation === "conv" ? state.kernel[0].length : state.window[1];
  by("grid-text").value = state.grid.map((row) => row.join(" ")).join("\n");
  const pool = state.operation !== "conv";
  for (const part of document.querySelectorAll(".of-conv")) part.hidden = pool;
  by("value").closest("label").hidden = pool || state.mode !== "constant";
}

function update() {
  done = work(state.grid, state);
  fill();
  drawKernel();
  drawGrids();
  show(at);
  filterPhoto();
  by("command").textContent = command(state);
  by("problem").textContent = "";
}

// Make a change; what cannot be is said, and taken back.
function attempt(change) {
  const before = JSON.stringify(state);
  try {
    change();
    update();
  } catch (error) {
    Object.assign(state, JSON.parse(before));
    update();
    by("problem").textContent = error.message;
  }
}

function pairOf(text, least, most, name) {
  const found = text.split(",").map((word) => (/^\s*\d+\s*$/.test(word) ? Number(word) : NaN));
  if (found.length > 2 || found.some((n) => !(n >= least && n <= most)))
    throw new Error(`${name}: one number or vertical,horizontal, each ${least} to ${most}`);
  return [found[0], found[1] ?? found[0]];
}

// Kernels whose weights add up to 1, and pools, keep an image's brightness.
function showing() {
  const sum = state.kernel.flat().reduce((total, weight) => total + weight, 0) / state.divisor;
  return state.operation !== "conv" || Math.abs(sum - 1) < 0.01 ? "clip" : "abs";
}

function resize(rows, columns) {
  if (state.operation !== "conv") state.window = [rows, columns];
  else state.kernel = Array.from({ length: rows }, (_, y) =>
    Array.from({ length: columns }, (_, x) => state.kernel[y]?.[x] ?? 0));
}

function stop() {
  clearInterval(playing);
  playing = 0;
  by("play").textContent = "Play";
  by("play").setAttribute("aria-pressed", "false");
}
function play() {
  if (playing) return stop();
  playing = setInterval(() => {
    const last = done.size[0] * done.size[1] - 1;
    show(at >= last ? 0 : at + 1);
  }, 900);
  by("play").textContent = "Pause";
  by("play").setAttribute("aria-pressed", "true");
}

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
function moved(event, [row, column], [rows, columns]) {
  if (!(event.key in MOVES)) return null;
  event.preventDefault();
  const step = event.shiftKey ? 8 : 1, [y, x] = MOVES[event.key];
  return [Math.max(0, Math.min(rows - 1, row + step * y)),
    Math.max(0, Math.min(columns - 1, column + step * x))];
}

function connect() {
  const change = (id, action) => by(id).addEventListener("change", () => attempt(() => action(by(id))));
  change("operation", (e) => {
    state.operation = e.value;
    if (state.operation !== "conv" && state.padding === "same") state.padding = "valid";
    if (state.operation !== "conv") state.stride = [...state.window];
    else state.stride = [1, 1];
    by("scale").value = showing();
    at = 0;
  });
  change("preset", (e) => {
    const found = presets[Number(e.value)];
    if (!found) return;
    state.kernel = found.weights.map((row) => [...row]);
    state.divisor = found.divisor;
    by("scale").value = showing();
  });
  change("padding", (e) => { state.padding = e.value.trim(); });
  change("mode", (e) => { state.mode = e.value; });
  change("value", (e) => { state.value = parseNumber(e.value); });
  change("flip", (e) => { state.flip = e.checked; });
  change("divisor", (e) => {
    state.divisor = parseNumber(e.value);
    if (!state.divisor) throw new Error("divisor: any number but 0");
  });
  change("stride", (e) => { state.stride = pairOf(e.value, 1, 8, "stride"); });
  change("dilation", (e) => { state.dilation = pairOf(e.value, 1, 8, "dilation"); });
  for (const id of ["rows", "columns"]) change(id, () =>
    resize(...["rows", "columns"].map((name) => pairOf(by(name).value, 1, 9, "size")[0])));
  change("grid-text", (e) => { state.grid = parseGrid(e.value); at = 0; });
  by("scale").addEventListener("change", filterPhoto);
  by("position").addEventListener("input", () => { stop(); show(Number(by("position").value)); });
  by("play").addEventListener("click", play);
  by("before").addEventListener("click", () => { stop(); show(at - 1); });
  by("after").addEventListener("click", () => { stop(); show(at + 1); });
  by("output").addEventListener("keydown", (event) => {
    const to = moved(event, place(), done.size);
    if (to) { stop(); show(to[0] * done.size[1] + to[1]); }
  });
  for (const id of ["photo", "filtered"]) by(id).addEventListener("pointermove", (event) => {
    const box = by(id).getBoundingClientRect();
    const share = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
    const [rows, columns] = photo.made.size, { stride } = state, [top, , left] = photo.made.sides;
    if (id === "filtered") pointPhoto(Math.floor(share[0] * rows), Math.floor(share[1] * columns));
    else {
      const middle = [0, 1].map((axis) => (span(photo.made.taps[axis], state.dilation[axis]) - 1) / 2);
      pointPhoto(Math.round((share[0] * photo.height - 0.5 + top - middle[0]) / stride[0]),
        Math.round((share[1] * photo.width - 0.5 + left - middle[1]) / stride[1]));
    }
  });
  by("filtered").addEventListener("keydown", (event) => {
    const to = moved(event, [photo.y, photo.x], photo.made.size);
    if (to) pointPhoto(...to);
  });
  by("layer-add").addEventListener("click", () => {
    layers.push({ kernel: 3, stride: 1, padding: 1, dilation: 1 });
    drawLayerRows();
  });
  by("layer-remove").addEventListener("click", () => { layers.pop(); drawLayerRows(); });
  addEventListener("resize", drawLayers);
  for (const part of document.querySelectorAll("[data-scripted]")) part.hidden = false;
}

connect();
by("scale").value = showing();
update();
drawLayerRows();
loadPhoto();
