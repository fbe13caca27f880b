"use strict";
// Every section holds one picture of all its maps in gray, and in data-layer what they are. It is
// taken apart when it comes near the screen: one canvas per map, in the color map that is chosen.
const tables = JSON.parse(document.body.dataset.tables);
const diverging = JSON.parse(document.body.dataset.diverging);
const input = JSON.parse(document.body.dataset.input);
const readout = document.getElementById("readout");
const overlay = document.getElementById("field");
const choice = { colors: "viridis", scale: "own" };
const bytes = {};
for (const [name, hex] of Object.entries(tables))
  bytes[name] = Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));

const say = (value) =>
  Number(value.toPrecision(4)).toString().replace("-", "\u2212");

function layerOf(section) {
  if (!section.layer) section.layer = JSON.parse(section.dataset.layer);
  return section.layer;
}

async function open(section) {
  if (section.opened) return;
  section.opened = true;
  const layer = layerOf(section), picture = section.querySelector(".atlas");
  picture.loading = "eager";
  await picture.decode();
  const whole = document.createElement("canvas");
  whole.width = picture.naturalWidth;
  whole.height = picture.naturalHeight;
  const pen = whole.getContext("2d", { willReadFrequently: true });
  pen.drawImage(picture, 0, 0);
  const box = section.querySelector(".maps");
  section.tiles = layer.maps.map((map, index) => {
    const x = (index % layer.columns) * layer.w, y = Math.floor(index / layer.columns) * layer.h;
    const data = pen.getImageData(x, y, layer.w, layer.h).data;
    const gray = Uint8Array.from({ length: layer.w * layer.h }, (_, i) => data[4 * i]);
    return figure(section, map, gray, index, box);
  });
  section.classList.add("drawn");
  paint(section);
}

function figure(section, map, gray, index, box) {
  const layer = layerOf(section);
  const frame = document.createElement("figure"), canvas = document.createElement("canvas");
  const caption = document.createElement("figcaption");
  canvas.width = layer.w;
  canvas.height = layer.h;
  canvas.tabIndex = index ? -1 : 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${layer.name}, ${map.label}: from ${say(map.low)} to ` +
    `${say(map.high)}, mean ${say(map.mean)}. Arrow keys read values, Page Up and Page Down change the map.`);
  for (const line of [map.label, `${say(map.low)} \u2026 ${say(map.high)}`]) {
    const part = document.createElement("span");
    part.textContent = part.title = line;
    caption.append(part);
  }
  frame.append(canvas, caption);
  box.append(frame);
  const tile = { section, map, gray, canvas, frame, index, x: layer.width >> 1,
    y: layer.height >> 1 };
  canvas.addEventListener("pointermove", (event) => {
    const place = canvas.getBoundingClientRect();
    tile.x = within((event.clientX - place.left) / place.width * layer.width, layer.width);
    tile.y = within((event.clientY - place.top) / place.height * layer.height, layer.height);
    show(tile);
  });
  canvas.addEventListener("focus", () => show(tile));
  canvas.addEventListener("keydown", (event) => key(event, tile));
  return tile;
}

const within = (value, size) => Math.min(size - 1, Math.max(0, Math.floor(value)));

function key(event, tile) {
  const layer = layerOf(tile.section), step = event.shiftKey ? 8 : 1;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step],
    ArrowDown: [0, step] };
  const turns = { PageUp: -1, PageDown: 1 };
  if (event.key in moves) {
    tile.x = within(tile.x + moves[event.key][0], layer.width);
    tile.y = within(tile.y + moves[event.key][1], layer.height);
    show(tile);
  } else if (event.key in turns) {
    const next = tile.section.tiles[tile.index + turns[event.key]];
    if (next) {
      tile.canvas.tabIndex = -1;
      next.canvas.tabIndex = 0;
      [next.x, next.y] = [tile.x, tile.y];
      next.canvas.focus();
    }
  } else return;
  event.preventDefault();
}

function paint(section) {
  const layer = layerOf(section), table = bytes[choice.colors];
  const shared = choice.scale === "shared";
  let low = Infinity, high = -Infinity;
  for (const map of layer.maps) {
    low = Math.min(low, map.low);
    high = Math.max(high, map.high);
  }
  for (const tile of section.tiles) {
    const map = tile.map;
    let [from, to] = shared ? [low, high] : [map.low, map.high];
    if (diverging.includes(choice.colors)) {
      to = Math.max(Math.abs(from), Math.abs(to));
      from = -to;
    }
    const image = new ImageData(layer.w, layer.h), out = image.data;
    const step = (map.high - map.low) / 255, span = to - from;
    for (let i = 0; i < tile.gray.length; i++) {
      const value = map.low + step * tile.gray[i];
      const part = span > 0 ? Math.round((value - from) / span * 255) : 128;
      const color = 3 * Math.min(255, Math.max(0, part));
      out.set([table[color], table[color + 1], table[color + 2], 255], 4 * i);
    }
    tile.canvas.getContext("2d").putImageData(image, 0, 0);
  }
}

// What a unit sees along one axis: first and last input position, cut off at the edges.
function seen(axis, unit, size) {
  const middle = axis.start + unit * axis.jump, half = (axis.size - 1) / 2;
  const first = Math.max(0, Math.ceil(middle - half)), last = Math.min(size - 1,
    Math.floor(middle + half));
  return [first, last];
}

let spot = null;
function show(tile) {
  const layer = layerOf(tile.section), map = tile.map;
  const px = Math.floor(tile.x / layer.block), py = Math.floor(tile.y / layer.block);
  const value = map.low + (map.high - map.low) / 255 * tile.gray[py * layer.w + px];
  const mean = layer.block > 1 ? ` (mean of ${layer.block}\u00d7${layer.block})` : "";
  let text = `${layer.name}, ${map.label}, row ${tile.y}, column ${tile.x}: ` +
    `about ${say(value)}${mean}.`;
  const pen = overlay.getContext("2d");
  pen.clearRect(0, 0, overlay.width, overlay.height);
  if (layer.field) {
    const [top, bottom] = seen(layer.field.down, tile.y, input.height);
    const [left, right] = seen(layer.field.across, tile.x, input.width);
    text += bottom < top || right < left ? " Sees padding only."
      : ` Sees rows ${top}\u2013${bottom}, columns ${left}\u2013${right} of the input` +
        ` (${bottom - top + 1}\u00d7${right - left + 1}).`;
    if (layer.field.everywhere) text += " A gate adds all of the image.";
    const sx = overlay.width / input.width, sy = overlay.height / input.height;
    pen.lineWidth = 3;
    pen.strokeStyle = "#fff";
    const box = [left * sx, top * sy, (right - left + 1) * sx, (bottom - top + 1) * sy];
    pen.strokeRect(...box);
    pen.lineWidth = 1.5;
    pen.strokeStyle = "#d9480f";
    pen.strokeRect(...box);
  }
  readout.textContent = text;
  if (!spot) {
    spot = document.createElement("div");
    spot.className = "spot";
  }
  tile.frame.append(spot);
  spot.style.left = `${(tile.x + 0.5) / layer.width * tile.canvas.clientWidth}px`;
  spot.style.top = `${(tile.y + 0.5) / layer.height * tile.canvas.clientHeight}px`;
}

const sections = [...document.querySelectorAll("section[data-layer]")];
const watch = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) {
    watch.unobserve(entry.target);
    open(entry.target);
  }
}, { rootMargin: "600px" });
sections.forEach((section) => watch.observe(section));
const parts = [...document.querySelectorAll("details")];
addEventListener("beforeprint", () => {
  parts.forEach((part) => { part.open = true; });
  sections.forEach(open);
});
// A link into a part that is closed opens it.
function reveal() {
  const target = document.getElementById(location.hash.slice(1));
  const part = target && target.closest("details");
  if (part && !part.open) {
    part.open = true;
    target.scrollIntoView();
  }
}
addEventListener("hashchange", reveal);
reveal();
for (const control of document.querySelectorAll(".controls select")) {
  control.disabled = false;
  control.addEventListener("change", () => {
    if (control.name === "size")
      document.documentElement.style.setProperty("--tile", control.value);
    else {
      choice[control.name] = control.value;
      sections.filter((section) => section.tiles).forEach(paint);
    }
  });
}
document.querySelector(".controls").hidden = false;
