// Widgets that teach: one module for web pages (`mount`) and for anywidget (`default.render`).
// Everything is computed in the page. Nothing is fetched, and no kernel is asked.

const WIDEST = 760; // px of the picture
const NARROW = 560; // below it, panels stand one below the other
const INK = "#222222", PALE = "#999999", GRID = "#dddddd";
const DASHES = { "-": "none", "--": "9 5", ":": "2 4", "-.": "9 4 2 4" };
const BLUES = ["#f7fbff", "#c6dbef", "#6baed6", "#2171b5", "#08306b"];
const REDS = ["#f7fbff", "#f4a582", "#d6604d", "#b2182b", "#67001f"];

const CSS = `
.kd-live { box-sizing: border-box; max-width: 800px; padding: 8px 16px; background: #ffffff; color: ${INK};
  border: 1px solid ${GRID}; border-radius: 6px; font: 16px/1.35 system-ui, sans-serif; text-align: left; }
.kd-live * { box-sizing: border-box; }
.kd-live label { display: block; margin: 4px 0; max-width: ${WIDEST}px; }
.kd-live label b { float: right; }
.kd-live input[type=range] { display: block; width: 100%; height: 24px; margin: 4px 0 0; accent-color: #0072B2; cursor: pointer; }
.kd-live .kd-body { display: flex; flex-wrap: wrap; gap: 16px; }
.kd-live svg { display: block; touch-action: pan-y; user-select: none; }
.kd-live output { display: block; min-height: 2.7em; margin: 4px 0; max-width: ${WIDEST}px; }
.kd-live .kd-picks { display: flex; flex-wrap: wrap; gap: 6px; margin: 4px 0; }
.kd-live button { padding: 3px; border: 2px solid #767676; border-radius: 4px; background: #ffffff; color: ${INK};
  font: inherit; cursor: pointer; }
.kd-live button[aria-pressed=true] { border-color: #D55E00; outline: 2px solid #D55E00; }
.kd-live canvas { display: block; image-rendering: pixelated; }
.kd-live .kd-drawing { width: 224px; height: 224px; border: 2px solid ${INK}; touch-action: none; cursor: crosshair; }
.kd-live .kd-side { position: relative; }
.kd-live .kd-pen { position: absolute; left: 2px; top: 2px; width: 16px; height: 16px; border: 3px solid #D55E00; border-radius: 50%; pointer-events: none; }
.kd-live .kd-pen[hidden] { display: none; }
.kd-live .kd-side button { margin-top: 4px; }
.kd-live .kd-side p { margin: 4px 0 0; width: 224px; min-height: 2.7em; font-size: 14px; }
.kd-live :focus-visible { outline: 3px solid #D55E00; outline-offset: 2px; }`;

const KINDS = { frames, humps, digit };

/** Brings a widget of a page to life. The still picture goes only when everything else has worked. */
export function mount(host) {
  const spec = JSON.parse(host.querySelector("script[type='application/json']").textContent);
  const live = document.createElement("div");
  const still = host.querySelector(".kd-still");
  still.after(live);
  try {
    build(live, spec, () => {});
    still.remove();
  } catch (error) {
    live.remove();
    throw error;
  }
}

export default {
  render({ model, el }) {
    build(el.appendChild(document.createElement("div")), model.get("spec"), (value) => {
      model.set("value", value);
      model.save_changes();
    });
  },
};

/** Controls, picture and sentence; `publish` gets the values after every change. */
function build(root, spec, publish) {
  root.className = "kd-live";
  root.addEventListener("keydown", (event) => {
    // In JupyterLab these keys would move from cell to cell.
    if (/^(Arrow|Page|Home|End|Enter| )/.test(event.key) && !event.shiftKey && !event.ctrlKey) event.stopPropagation();
  });
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", spec.title);
  add(root, "style", {}, CSS);
  const positions = spec.controls.map((control) => control.start);
  const sliders = spec.controls.map((control, place) => slider(root, control, (position) => move(place, position)));
  const body = add(root, "div", { class: "kd-body" });
  const kind = KINDS[spec.kind](spec, body, draw);
  const svg = add(body, "svg", { role: "img", "aria-label": spec.picture });
  const say = add(root, "output", { "aria-live": "polite" });

  function move(place, position) {
    positions[place] = position;
    draw();
  }

  function draw() {
    const values = spec.controls.map((control, place) => control.values[positions[place]]);
    sliders.forEach((show, place) => show(positions[place]));
    const beside = kind.side ? kind.side.offsetWidth + 16 : 0;
    const room = Math.min(body.clientWidth || WIDEST, WIDEST);
    const width = room - beside < 300 ? room : room - beside;
    svg.replaceChildren();
    const { height, sentence, value } = kind.draw(svg, width, values, positions);
    for (const [name, size] of Object.entries({ width, height })) svg.setAttribute(name, size);
    if (say.textContent !== sentence) say.textContent = sentence;
    publish(value ?? Object.fromEntries(spec.controls.map((control, place) => [control.name, values[place]])));
  }

  if (kind.point) {
    svg.style.cursor = "pointer";
    const follow = (event) => {
      const { left, top } = svg.getBoundingClientRect();
      const found = kind.point(event.clientX - left, event.clientY - top);
      if (!found) return;
      found.forEach((position, place) => (positions[place] = position));
      draw();
    };
    svg.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      svg.setPointerCapture(event.pointerId);
      follow(event);
    });
    svg.addEventListener("pointermove", (event) => event.buttons && follow(event));
  }
  draw();
  let drawn = body.clientWidth;
  new ResizeObserver(() => {
    if (body.clientWidth === drawn) return;
    drawn = body.clientWidth;
    draw();
  }).observe(body);
}

/** A slider over the positions of a control; returns a function that shows a position. */
function slider(root, control, moved) {
  const label = add(root, "label", {});
  add(label, "span", {}, control.label);
  const shown = add(label, "b", { "aria-hidden": "true" });
  const range = { type: "range", min: 0, max: control.values.length - 1, step: 1, "aria-label": control.label };
  const input = add(label, "input", range);
  input.addEventListener("input", () => moved(Number(input.value)));
  return (position) => {
    input.value = position;
    shown.textContent = control.texts[position];
    input.setAttribute("aria-valuetext", `${control.label} ${control.texts[position]}`);
  };
}

// --- kinds ---------------------------------------------------------------------------------------

/** Precomputed states: a frame for every combination of the controls' positions, the last control fastest. */
function frames(spec) {
  const places = (positions) => positions.reduce((sum, position, i) => sum * spec.controls[i].values.length + position, 0);
  let cells = () => null;
  return {
    point: spec.panels.some((panel) => panel.pick) && ((x, y) => cells(x, y)),
    draw(svg, width, values, positions) {
      const frame = spec.frames[places(positions)];
      const stacked = width < NARROW;
      let left = 0, top = 0;
      spec.panels.forEach((panel, number) => {
        const box = { left, top, width: stacked ? width : width * panel.share, height: spec.height };
        const drawn = { heat, lines }[panel.type](svg, box, panel, frame.panels[number]);
        if (panel.pick) cells = drawn;
        if (stacked) top += spec.height;
        else left += box.width;
      });
      return { height: stacked ? top : spec.height, sentence: frame.sentence };
    },
  };
}

/** The teacher's humps and the student's one hump, which the pointer drags by its top. */
function humps(spec) {
  const { places, teacher, styles } = spec;
  const [at, wide] = spec.controls.map((control) => control.values);
  const logTeacher = teacher.map(Math.log);
  const step = places[1] - places[0];
  let axes;
  return {
    point(x, y) {
      const peak = Math.max(axes.y.back(y), 1e-6);
      return [nearest(at, axes.x.back(x)), nearest(wide, step / (peak * Math.sqrt(2 * Math.PI)))];
    },
    draw(svg, width, [place, spread]) {
      const logQ = logSoftmax(places.map((x) => -((x - place) ** 2) / (2 * spread ** 2)));
      const q = logQ.map(Math.exp);
      const forward = sum(teacher.map((p, i) => p * (logTeacher[i] - logQ[i])));
      const reverse = sum(q.map((p, i) => p * (logQ[i] - logTeacher[i])));
      const box = { left: 0, top: 0, width, height: 270 };
      axes = chart(svg, box, spec.x, spec.y);
      const outline = places.map((x, i) => [axes.x(x), axes.y(teacher[i])]);
      const ends = [[axes.x(places.at(-1)), axes.y(0)], [axes.x(places[0]), axes.y(0)]];
      add(svg, "polygon", { points: [...outline, ...ends].join(" "), fill: "#bbbbbb" });
      path(svg, places.map((x, i) => [axes.x(x), axes.y(q[i])]), styles[1]);
      const top = [axes.x(place), axes.y(Math.max(...q))];
      add(svg, "circle", { cx: top[0], cy: top[1], r: 9, fill: "#ffffff", stroke: styles[1].color, "stroke-width": 3 });
      text(svg, axes.x(-2), axes.y(0.002), "teacher", { "text-anchor": "middle" });
      const side = top[0] > width - 150 ? -1 : 1; // of the words
      text(svg, top[0] + 16 * side, Math.max(top[1] - 6, 16), "student: drag me", { "text-anchor": side < 0 ? "end" : "start" });
      const most = 3;
      [["forward KL", forward, styles[0]], ["reverse KL", reverse, styles[2]]].forEach(([name, nats, style], row) => {
        const y = 290 + 30 * row;
        const full = width - 215;
        text(svg, 0, y + 5, name);
        marker(svg, style, 100, y, 6);
        const bar = { x: 120, y: y - 10, width: (full * Math.min(nats, most)) / most, height: 20, fill: style.color };
        add(svg, "rect", bar);
        text(svg, 128 + bar.width, y + 5, `${nats.toFixed(2)} nats${nats > most ? ", bar cut off" : ""}`);
      });
      const hump = `Hump at ${signed(place, 1)}, width ${spread.toFixed(1)}`;
      const sentence = `${hump}: forward KL ${forward.toFixed(2)}, reverse KL ${reverse.toFixed(2)} nats.`;
      return { height: 340, sentence };
    },
  };
}

/** A digit that the reader picks or draws, and a small net's answer at a temperature. */
function digit(spec, body, draw) {
  const net = spec.net.map(({ weights, scale, bias }) => ({ weights: decoded(weights, Int16Array), scale, bias }));
  const picks = spec.picks.map((pick) => ({ ...pick, pixels: decoded(pick.pixels, Uint8Array) }));
  const most = Math.log(spec.net.at(-1).bias.length);
  let pixels = picks[0].pixels;
  let subject = picks[0].name;

  const row = document.createElement("div");
  row.className = "kd-picks";
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", "Test digits to pick");
  body.before(row);
  const buttons = picks.map((pick) => {
    const button = add(row, "button", { type: "button", "aria-label": pick.name });
    paint(add(button, "canvas", { width: 28, height: 28, style: "width: 42px; height: 42px" }), pick.pixels);
    button.addEventListener("click", () => show(pick.pixels, pick.name, button));
    return button;
  });

  const side = add(body, "div", { class: "kd-side" });
  const pad = drawingPad(side, (drawn) => show(drawn, drawn.some(Boolean) ? "Your drawing" : "Nothing drawn", null));

  function show(these, name, pressed) {
    [pixels, subject] = [these, name];
    if (pressed) pad.show(these);
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === pressed));
    draw();
  }

  queueMicrotask(() => show(pixels, subject, buttons[0]));
  return {
    side,
    draw(svg, width, [temperature], [position]) {
      const logits = answer(net, spec.normalise, pixels);
      const logP = logSoftmax(logits.map((z) => z / temperature));
      const p = logP.map(Math.exp);
      const box = { left: 0, top: 0, width, height: 280 };
      const x = { range: [-0.5, p.length - 0.5], ticks: [...p.keys()], label: "class" };
      const axes = chart(svg, box, x, { range: [0, 100], ticks: [0, 20, 40, 60, 80, 100], label: "probability (%)" });
      const bar = 0.7 * (axes.x(1) - axes.x(0));
      p.forEach((share, place) => {
        const top = axes.y(100 * share);
        const shape = { x: axes.x(place) - bar / 2, y: top, width: bar, height: axes.y(0) - top };
        add(svg, "rect", { ...shape, fill: spec.styles[0].color });
        const above = 100 * share >= 0.5 ? (100 * share).toFixed(0) : "";
        text(svg, axes.x(place), top - 5, above, { "text-anchor": "middle", "font-size": 14 });
      });
      const [first, second] = [...p.keys()].sort((one, other) => p[other] - p[one]);
      const percent = (place) => `class ${place} has ${(100 * p[place]).toFixed(1)} %`;
      const entropy = `entropy ${(-sum(p.map((share, i) => share && share * logP[i]))).toFixed(2)} of at most ${most.toFixed(2)} nats`;
      const at = `${subject}, T = ${spec.controls[0].texts[position]}`;
      const sentence = `${at}: ${percent(first)}, ${percent(second)}; ${entropy}.`;
      return { height: 280, sentence, value: { T: temperature, pixels: [...pixels] } };
    },
  };
}

// --- a digit -------------------------------------------------------------------------------------

/** A canvas to draw on; `drawn` gets 28 × 28 pixels, prepared as those of MNIST are. */
function drawingPad(parent, drawn) {
  const words = "Draw a digit here, with the pointer or with arrow keys; the space bar lowers and lifts the pen.";
  const place = { width: 224, height: 224, class: "kd-drawing", tabindex: 0, role: "application", "aria-label": words };
  const canvas = add(parent, "canvas", place);
  const tip = add(parent, "span", { class: "kd-pen", hidden: "" });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const at = { x: 112, y: 112, down: false };
  let fresh = true; // the next stroke begins a new drawing
  const clear = () => {
    pen.fillStyle = "#ffffff";
    pen.fillRect(0, 0, 224, 224);
    fresh = false;
  };
  const line = (x, y) => {
    if (fresh) clear();
    Object.assign(pen, { lineWidth: 17, lineCap: "round", lineJoin: "round", strokeStyle: "#000000" });
    pen.beginPath();
    pen.moveTo(at.x, at.y);
    pen.lineTo(x, y);
    pen.stroke();
    Object.assign(at, { x, y });
    drawn(asMnist(pen));
  };
  const where = (event) => {
    const { left, top, width } = canvas.getBoundingClientRect();
    return [((event.clientX - left) * 224) / width, ((event.clientY - top) * 224) / width];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    [at.x, at.y] = where(event);
    line(at.x, at.y);
  });
  canvas.addEventListener("pointermove", (event) => event.buttons && line(...where(event)));
  canvas.addEventListener("keydown", (event) => {
    const [right, below] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === " ") at.down = !at.down;
    else if (!right && !below) return;
    event.preventDefault();
    tip.hidden = false;
    const [x, y] = [at.x + 8 * right, at.y + 8 * below].map((value) => Math.min(Math.max(value, 10), 214));
    if (at.down) line(x, y);
    else Object.assign(at, { x, y });
    tip.style.transform = `translate(${at.x - 8}px, ${at.y - 8}px)`;
    note.textContent = at.down ? "The pen is down." : "The pen is up.";
  });
  canvas.addEventListener("blur", () => (tip.hidden = true));
  const button = add(parent, "button", { type: "button" }, "Clear the drawing");
  const note = add(parent, "p", { "aria-live": "polite" }, "Draw a digit, with the pointer or with keys (arrows, space).");
  button.addEventListener("click", () => {
    clear();
    drawn(asMnist(pen));
  });
  return {
    show(pixels) {
      const small = document.createElement("canvas");
      small.width = small.height = 28;
      paint(small, pixels);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(small, 0, 0, 224, 224);
      fresh = true;
    },
  };
}

/** Ink of a drawing as MNIST prepared it: scaled into 20 × 20 pixels, its centre of mass in the middle of 28 × 28. */
function asMnist(pen) {
  const { data, width } = pen.getImageData(0, 0, pen.canvas.width, pen.canvas.height);
  let [left, right, top, bottom] = [width, -1, width, -1];
  for (let place = 0; place < width * width; place++) {
    if (data[4 * place] > 127) continue;
    const [x, y] = [place % width, Math.floor(place / width)];
    [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
  }
  if (right < 0) return new Uint8Array(784);
  const [wide, high] = [right - left + 1, bottom - top + 1];
  const zoom = 20 / Math.max(wide, high);
  const fitted = (dx, dy) => {
    const small = document.createElement("canvas");
    small.width = small.height = 28;
    const brush = small.getContext("2d", { willReadFrequently: true });
    Object.assign(brush, { fillStyle: "#ffffff", imageSmoothingQuality: "high" });
    brush.fillRect(0, 0, 28, 28);
    const [x, y] = [14 - (zoom * wide) / 2 + dx, 14 - (zoom * high) / 2 + dy];
    brush.drawImage(pen.canvas, left, top, wide, high, x, y, zoom * wide, zoom * high);
    const rgba = brush.getImageData(0, 0, 28, 28).data;
    return Uint8Array.from({ length: 784 }, (_, place) => 255 - rgba[4 * place]);
  };
  const pixels = fitted(0, 0);
  const ink = sum(pixels);
  const mean = (part) => sum([...pixels].map((value, place) => value * part(place))) / ink;
  return fitted(Math.round(13.5 - mean((place) => place % 28)), Math.round(13.5 - mean((place) => Math.floor(place / 28))));
}

function paint(canvas, pixels) {
  const image = new ImageData(28, 28);
  pixels.forEach((value, place) => image.data.set([255 - value, 255 - value, 255 - value, 255], 4 * place));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Logits of a net of linear layers with ReLU between them. Weights are whole numbers times a scale. */
function answer(net, { mean, std }, pixels) {
  let values = Float64Array.from(pixels, (value) => (value / 255 - mean) / std);
  net.forEach(({ weights, scale, bias }, number) => {
    const inputs = values;
    values = Float64Array.from(bias, (start, unit) => {
      let total = 0;
      for (let i = 0; i < inputs.length; i++) total += weights[unit * inputs.length + i] * inputs[i];
      return start + scale * total;
    });
    if (number < net.length - 1) values = values.map((value) => Math.max(value, 0));
  });
  return [...values];
}

function decoded(base64, Kind) {
  return new Kind(Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer);
}

// --- pictures ------------------------------------------------------------------------------------

/** Axes in a box; returns scales from values to px, each with its way `back`. */
function chart(svg, box, x, y) {
  const inner = inside(box, 16);
  const scales = { x: scale(x, inner.left, inner.right), y: scale(y, inner.bottom, inner.top) };
  x.ticks.forEach((tick, i) => {
    const at = scales.x(tick);
    add(svg, "line", { x1: at, x2: at, y1: inner.bottom, y2: inner.bottom + 5, stroke: INK });
    text(svg, at, inner.bottom + 21, x.texts?.[i] ?? shown(tick), { "text-anchor": "middle", "font-size": 14 });
  });
  y.ticks.forEach((tick, i) => {
    const at = scales.y(tick);
    add(svg, "line", { x1: inner.left, x2: inner.right, y1: at, y2: at, stroke: GRID });
    text(svg, inner.left - 8, at + 5, y.texts?.[i] ?? shown(tick), { "text-anchor": "end", "font-size": 14 });
  });
  add(svg, "polyline", { points: `${inner.left},${inner.top} ${inner.left},${inner.bottom} ${inner.right},${inner.bottom}`, fill: "none", stroke: INK });
  labels(svg, box, inner, x.label, y.label);
  return { ...scales, inner };
}

/** What a box has left between its labels; its upper margin is for a legend or the number above a bar. */
function inside({ left, top, width, height }, margin) {
  return { left: left + 66, right: left + width - margin, top: top + 24, bottom: top + height - 56 };
}

function scale({ range, log }, from, to) {
  const [way, home] = log ? [Math.log, Math.exp] : [(v) => v, (v) => v];
  const [low, high] = range.map(way);
  const there = (v) => from + ((way(Math.min(Math.max(v, range[0]), range[1])) - low) / (high - low)) * (to - from);
  there.back = (px) => home(low + ((px - from) / (to - from)) * (high - low));
  return there;
}

function labels(svg, box, inner, below, beside) {
  text(svg, (inner.left + inner.right) / 2, box.top + box.height - 10, below, { "text-anchor": "middle" });
  const [x, y] = [box.left + 14, (inner.top + inner.bottom) / 2];
  text(svg, x, y, beside, { "text-anchor": "middle", transform: `rotate(-90 ${x} ${y})` });
}

/** Lines with a marker at each point, and a bar from low to high where a point brings them: [x, y, radius, low, high]. */
function lines(svg, box, panel, frame) {
  const axes = chart(svg, box, panel.x, panel.y);
  const { inner } = axes;
  if (panel.diagonal) path(svg, panel.x.range.map((v) => [axes.x(v), axes.y(v)]), { color: PALE, linestyle: "-" }, 1.5);
  if (panel.zero) path(svg, panel.x.range.map((v) => [axes.x(v), axes.y(0)]), { color: PALE, linestyle: "-" }, 1.5);
  for (const { at, anchor, words } of panel.notes ?? []) {
    text(svg, axes.x(at[0]), axes.y(at[1]), words, { "text-anchor": anchor, fill: "#666666", "font-style": "italic" });
  }
  if (frame.rule !== undefined) path(svg, [[axes.x(frame.rule), inner.top], [axes.x(frame.rule), inner.bottom]], { color: INK, linestyle: ":" }, 2);
  (frame.lines ?? panel.lines).forEach((points, number) => {
    const { style, joined } = panel.series[number];
    for (const [x, , , low, high] of points) {
      if (low === undefined) continue;
      const bar = { x1: axes.x(x), x2: axes.x(x), y1: axes.y(low), y2: axes.y(high), stroke: style.color, "stroke-width": 2 };
      add(svg, "line", bar);
    }
    if (joined) path(svg, points.map(([x, y]) => [axes.x(x), axes.y(y)]), style, 2);
    for (const [x, y, radius] of points) marker(svg, style, axes.x(x), axes.y(y), radius ?? 4.5, joined ? 0.75 : 1);
  });
  let legend = inner.left + 8;
  for (const { name, style } of panel.series) {
    if (!name) continue;
    marker(svg, style, legend, box.top + 10, 5);
    text(svg, legend + 12, box.top + 15, name);
    legend += 36 + 8 * name.length;
  }
}

/** A map of numbers, each written into its cell; returns a function from px to a cell's row and column. */
function heat(svg, box, panel, frame) {
  const inner = inside(box, 8);
  const values = frame.values ?? panel.values;
  const [wide, high] = [(inner.right - inner.left) / panel.columns.length, (inner.bottom - inner.top) / panel.rows.length];
  values.forEach((row, i) =>
    row.forEach((value, j) => {
      const at = { x: inner.left + j * wide, y: inner.top + i * high, width: wide, height: high };
      if (value === null) return add(svg, "rect", { ...at, fill: "#eeeeee" });
      const depth = Math.min(Math.abs(value) / panel.darkest, 1);
      const [fill, ink] = colour(value < 0 ? REDS : BLUES, depth);
      add(svg, "rect", { ...at, fill, stroke: "#ffffff" });
      const shown = panel.signed ? signed(value, 1, true) : value.toFixed(0);
      const style = { "text-anchor": "middle", "font-size": Math.min(15, (panel.signed ? 0.36 : 0.45) * wide), fill: ink };
      text(svg, at.x + wide / 2, at.y + high / 2 + 5, shown, style);
    }),
  );
  panel.rows.forEach((name, i) => text(svg, inner.left - 8, inner.top + (i + 0.5) * high + 5, name, { "text-anchor": "end", "font-size": 14 }));
  panel.columns.forEach((name, j) => text(svg, inner.left + (j + 0.5) * wide, inner.bottom + 21, name, { "text-anchor": "middle", "font-size": 14 }));
  if (frame.here) {
    const [i, j] = frame.here;
    const at = { x: inner.left + j * wide + 2, y: inner.top + i * high + 2, width: wide - 4, height: high - 4 };
    add(svg, "rect", { ...at, fill: "none", stroke: "#000000", "stroke-width": 4 });
  }
  labels(svg, box, inner, panel.x, panel.y);
  return (x, y) => {
    const cell = [Math.floor((y - inner.top) / high), Math.floor((x - inner.left) / wide)];
    return cell[0] in panel.rows && cell[1] in panel.columns ? cell : null;
  };
}

/** A colour between stops, and black or white, whichever can be read on it. */
function colour(stops, depth) {
  const at = depth * (stops.length - 1);
  const [low, high] = [Math.floor(at), Math.ceil(at)].map((i) => stops[i].match(/\w\w/g).map((pair) => parseInt(pair, 16)));
  const rgb = low.map((start, i) => Math.round(start + (at % 1) * (high[i] - start)));
  const light = sum(rgb.map((value, i) => [0.2126, 0.7152, 0.0722][i] * (value / 255) ** 2.2));
  return [`rgb(${rgb.join(",")})`, light > 0.18 ? "#000000" : "#ffffff"];
}

function marker(svg, { color, marker: shape }, x, y, r, opacity = 1) {
  const corners = { s: [[-1, -1], [1, -1], [1, 1], [-1, 1]], "^": [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]], D: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]] }[shape];
  const paint = { fill: color, "fill-opacity": opacity };
  if (!corners) return add(svg, "circle", { cx: x, cy: y, r, ...paint });
  return add(svg, "polygon", { points: corners.map(([dx, dy]) => [x + r * dx, y + r * dy]).join(" "), ...paint });
}

function path(svg, points, { color, linestyle }, width = 2.5) {
  add(svg, "polyline", { points: points.join(" "), fill: "none", stroke: color, "stroke-width": width, "stroke-dasharray": DASHES[linestyle] });
}

function text(svg, x, y, words, attributes = {}) {
  add(svg, "text", { x, y, fill: INK, "font-size": 15, ...attributes }, words);
}

function add(parent, tag, attributes, words) {
  const inSvg = tag === "svg" || parent.namespaceURI.endsWith("svg");
  const made = inSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (words !== undefined) made.textContent = words;
  return parent.appendChild(made);
}

// --- numbers -------------------------------------------------------------------------------------

function sum(values) {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function logSoftmax(logits) {
  const most = Math.max(...logits);
  const rest = Math.log(sum(logits.map((z) => Math.exp(z - most))));
  return logits.map((z) => z - most - rest);
}

function nearest(values, value) {
  const away = values.map((each) => Math.abs(each - value));
  return away.indexOf(Math.min(...away));
}

function shown(tick) {
  return String(tick).replace("-", "−");
}

/** A number with a true minus sign; with `plus`, positive ones have a sign too. */
function signed(value, digits, plus = false) {
  const size = Math.abs(value).toFixed(digits);
  if (Number(size) === 0) return size;
  return `${value < 0 ? "−" : plus ? "+" : ""}${size}`;
}
