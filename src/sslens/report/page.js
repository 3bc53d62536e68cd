"use strict";
const read = id => JSON.parse(document.getElementById(id).textContent);
const {beside, viridis, colours} = read("page_");
const COLOURED = 8, CONTROLS = 4, NARROW = 440, MANY = 24, UNDEFINED = 65535, STEPS = 65534;
const LONGEST = 300;  // pixels of a name that is whole wherever it stands

// --- elements

function html(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
function svg(tag, attributes = {}, text = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  return element;
}
const pen = document.createElement("canvas").getContext("2d");
pen.font = "12px system-ui, sans-serif";
const widthOf = text => pen.measureText(text).width * 1.06;
function shorten(text, room) {  // the beginning, "…" and the end of a text that does not fit
  if (widthOf(text) <= room) return text;
  let keep = text.length - 1;
  const cut = () => `${text.slice(0, Math.ceil(keep / 2))}…${text.slice(text.length - Math.floor(keep / 2))}`;
  while (keep > 2 && widthOf(cut()) > room) keep = Math.floor(keep * 0.92);
  return cut();
}
const classOf = name => `outline ${name.replaceAll(" ", "-")}`;  // of a kind of outlines
const minus = text => text.replace("-", "−");
const fitLabel = (label, room) => widthOf(label) <= room ? label : shorten(label.split(" of ")[0], room);  // a model's name whole or not at all: the title has it
const spell = value => Number.isNaN(value) ? "undefined" : minus(Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));

// --- numbers

function unpack(codes, low, high) {
  const bytes = atob(codes), values = new Float64Array(bytes.length / 2);
  for (let i = 0; i < values.length; i++) {
    const code = bytes.charCodeAt(2 * i) | bytes.charCodeAt(2 * i + 1) << 8;
    values[i] = code === UNDEFINED ? NaN : low + (high - low) * code / STEPS;
  }
  return values;
}
function ends(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) if (!Number.isNaN(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  if (low > high) return [0, 1];
  return high > low ? [low, high] : [low - 0.5, high + 0.5];
}
function ticks(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(one => one * power).find(one => one >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({length: last - first + 1}, (_, i) => Number(((first + i) * step).toPrecision(9)));
}
function colourOf(share) {
  const place = Math.min(Math.max(share, 0), 1) * (viridis.length - 1), below = Math.min(Math.floor(place), viridis.length - 2);
  const part = (hex, at) => parseInt(hex.slice(at, at + 2), 16);
  return [0, 2, 4].map(at => Math.round(part(viridis[below], at) + (place - below) * (part(viridis[below + 1], at) - part(viridis[below], at))));
}

// --- a drawing: one picture of the panel that is picked

class Drawing {
  constructor(section, data) {
    this.section = section;
    this.data = data;
    this.host = section.drawings.appendChild(html("div", {class: `drawing ${data.kind}`}));
    this.selected = null;
  }
  // The panels that agree with most of what is picked; of equals the first.
  find() {
    const {picked, state} = this.section;
    const agree = panel => this.data.keys.filter((key, i) => picked[key][panel.at[i]] === state[key]).length;
    let best = this.data.panels[0];
    for (const panel of this.data.panels) if (agree(panel) > agree(best)) best = panel;
    return this.data.panels.filter(panel => String(panel.at) === String(best.at));
  }
  held(place) { return this.section.held[place]; }
  // A title says what the pickers do not: the pair, the panel's own title, or all choices where the panel is not the one that was picked.
  titleOf(panel) {
    const {picked, state} = this.section, chosen = this.data.keys.map((key, i) => picked[key][panel.at[i]]);
    if (this.data.kind !== "sheet" && this.data.keys.some((key, i) => state[key] !== chosen[i])) return chosen.filter((_, i) => picked[this.data.keys[i]].length > 1).join(", ");
    const pair = this.data.keys.indexOf("pair"), own = this.held(panel.title);
    if (this.data.kind === "sheet") return chosen.includes(own) ? "" : own;
    if (panel.picks) return "";
    return !chosen.length ? this.held(panel.title) : pair >= 0 ? chosen[pair] : "";
  }
  draw(width) {
    const panels = this.find(), [panel] = panels;
    const focused = this.host.contains(document.activeElement);
    this.host.replaceChildren();
    const title = this.titleOf(panel);
    if (title) this.host.append(html("h3", {}, html("bdi", {}, title)));
    if (this.data.kind === "picture") {
      this.host.append(html("div", {class: "gallery"}, ...panels.map(one => this.drawPicture(one, Math.min(width, 210)))), this.keyOf(panels));
      return;
    }
    this.canvas = this.host.appendChild(html("div", {class: "canvas", tabindex: "0", role: "group"}));
    this.tip = html("div", {class: "tip", role: "status"});
    ({map: drawMap, lines: drawLines, sheet: drawSheet})[this.data.kind](this, panel, width);
    this.canvas.append(this.tip);
    if (this.host.firstChild !== this.canvas) this.host.firstChild.style.maxWidth = `${Math.max(this.canvas.offsetWidth, 250)}px`;
    if (focused) this.canvas.focus({preventScroll: true});
  }
  // the kinds of outlines, each in its own stroke
  keyOf(panels) {
    const names = new Set(panels.flatMap(panel => panel.outlines.map(([name]) => this.held(name))));
    const line = name => {
      const picture = svg("svg", {viewBox: "0 0 30 10", width: 30, height: 10, "aria-hidden": "true"});
      picture.append(svg("path", {class: classOf(name), d: "M3 5h24"}));
      return picture;
    };
    return html("p", {class: "key"}, ...[...names].flatMap(name => [line(name), html("span", {}, name)]));
  }
  drawPicture(panel, width) {
    const [high, wide] = panel.size, picture = svg("svg", {viewBox: `0 0 ${wide} ${high}`, width, role: "img", "aria-label": this.held(panel.title) || this.titleOf(panel) || "picture"});
    picture.append(svg("image", {href: this.held(panel.source), width: wide, height: high}));
    for (const [name, label, left, top, right, bottom] of panel.outlines) {
      const box = svg("rect", {class: classOf(this.held(name)), x: left, y: top, width: right - left, height: bottom - top});
      box.append(svg("title", {}, `${this.held(name)}: ${this.held(label)}`));
      picture.append(box);
    }
    const caption = this.held(panel.title);
    return html("figure", {}, picture, ...(caption ? [html("figcaption", {}, html("bdi", {}, caption))] : []));
  }
  say(text, x = 0, y = 0) {
    this.tip.textContent = text;
    if (!text) return;
    const room = this.canvas.getBoundingClientRect(), own = this.tip.getBoundingClientRect();
    const most = document.documentElement.clientWidth - room.left - own.width - 6;
    this.tip.style.left = `${Math.max(6 - room.left, Math.min(x + 12, most))}px`;
    this.tip.style.top = `${y > own.height + 14 ? y - own.height - 10 : y + 18}px`;
  }
  // Pointing, a click, and the arrow keys: `point(x, y)` finds a place, `move(key)` the next one; both return what is there.
  listen({point, move, leave, pick}) {
    const at = event => { const box = this.canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
    this.canvas.onpointermove = event => point(...at(event));
    this.canvas.onpointerleave = leave;
    this.canvas.onblur = leave;
    this.canvas.onclick = event => { point(...at(event)); pick(); };
    this.canvas.onkeydown = event => {
      if (event.target !== this.canvas) return;
      if (event.key === "Escape") leave();
      else if (event.key === "Enter" || event.key === " ") pick();
      else if (event.key.startsWith("Arrow")) move(event.key);
      else return;
      event.preventDefault();
    };
  }
}

// --- a map: values of rows against columns, the first row at the bottom

function drawMap(drawing, panel, width) {
  const rows = drawing.held(panel.rows), columns = drawing.held(panel.columns), unit = drawing.held(panel.unit);
  const rowNotes = drawing.held(panel.rowNotes), columnNotes = drawing.held(panel.columnNotes);
  const values = unpack(panel.values.codes, panel.values.low, panel.values.high);
  const own = (i, j) => panel.picks && rows[i] === columns[j];
  const [low, high] = ends(values.map((value, k) => own(Math.floor(k / columns.length), k % columns.length) ? NaN : value));
  const axes = [drawing.held(panel.y), drawing.held(panel.x)];
  const widest = Math.max(...rows.map(widthOf)) + 10, longest = widest <= LONGEST ? widest : Math.min(widest, Math.max(width * 0.36, LONGEST)), left = longest + (axes[0] ? 18 : 0);  // the picture grows with the names
  const most = width < NARROW ? 60 : 46, cell = Math.max(Math.min((width - Math.min(longest, width * 0.36) - (axes[0] ? 22 : 4)) / columns.length, most, Math.max(rows.length > MANY ? 9 : 14, 400 / rows.length)), 2);
  const long = Math.max(...columns.map(widthOf)), turned = long + 4 > cell, top = 40;
  const upright = Math.min(long <= LONGEST ? long : 144, rows.length > MANY ? 96 : long), below = (turned ? upright + 8 : 18) + (axes[1] ? 18 : 0);
  const across = cell * columns.length, down = cell * rows.length, W = Math.max(left + across + 2, Math.min(width, 250)), H = top + down + below;
  const picture = svg("svg", {width: W, height: H, viewBox: `0 0 ${W} ${H}`, "aria-hidden": "true"});
  drawBar(picture, panel.picks && drawing.held(panel.title) || unit, low, high, values.some(Number.isNaN));
  const y = i => top + down - cell * (i + 1), x = j => left + cell * j;
  const written = cell >= 27;
  values.forEach((value, k) => {
    const i = Math.floor(k / columns.length), j = k % columns.length;
    const box = {x: x(j), y: y(i), width: cell + 0.4, height: cell + 0.4};
    if (Number.isNaN(value)) { picture.append(svg("rect", {...box, class: "undefined"})); return; }
    const itself = own(i, j), [r, g, b] = colourOf((value - low) / (high - low));
    picture.append(svg("rect", itself ? {...box, class: "itself"} : {...box, fill: `rgb(${r},${g},${b})`}));  // the scale leaves it out
    if (!written) return;
    const text = svg("text", {x: x(j) + cell / 2, y: y(i) + cell / 2 + 4, class: itself ? "middle soft" : "middle"}, minus(Math.abs(value) < 10 ? value.toFixed(2).replace(/^(-?)0\./, "$1.") : value.toFixed(0)));
    if (!itself) text.style.fill = 0.3 * r + 0.59 * g + 0.11 * b > 140 ? "#111" : "#fff";
    text.style.fontSize = "10px";
    picture.append(text);
  });
  const every = (size, room) => Math.ceil(room / size);
  rows.forEach((name, i) => { if (i % every(cell, 13) === 0) picture.append(svg("text", {x: left - 5, y: y(i) + cell / 2 + 4, class: "end"}, shorten(name, longest))); });
  columns.forEach((name, j) => {
    if (j % every(cell, turned ? 13 : long) !== 0) return;
    const at = [x(j) + cell / 2 + (turned ? 4 : 0), top + down + (turned ? 6 : 15)];
    const turn = turned ? {transform: `rotate(-90 ${at[0]} ${at[1]})`, class: "turned"} : {class: "middle"};
    picture.append(svg("text", {x: at[0], y: at[1], ...turn}, shorten(name, Math.max(upright, cell))));
  });
  if (axes[0]) picture.append(svg("text", {x: 12, y: top + down / 2, class: "middle soft", transform: `rotate(-90 12 ${top + down / 2})`}, fitLabel(axes[0], H)));
  if (axes[1]) picture.append(svg("text", {x: left + across / 2, y: H - 4, class: "middle soft"}, fitLabel(axes[1], 2 * Math.min(left + across / 2, W - left - across / 2))));
  const chosen = panel.picks ? drawing.section.state[panel.picks] : null;
  const optionOf = (i, j) => { const all = drawing.section.picked[panel.picks] ?? []; return [`${rows[i]} · ${columns[j]}`, `${columns[j]} · ${rows[i]}`].find(one => all.includes(one)); };
  if (chosen) rows.forEach((_, i) => columns.forEach((_, j) => { if (optionOf(i, j) === chosen) for (const [kind, inset] of [["chosen", 1.5], ["cursor", 0]]) picture.append(svg("rect", {class: kind, x: x(j) + inset, y: y(i) + inset, width: cell - 2 * inset, height: cell - 2 * inset})); }));
  const cursor = picture.appendChild(svg("rect", {class: "cursor", width: cell, height: cell, visibility: "hidden"}));
  drawing.canvas.append(picture);
  const help = panel.picks ? " Enter picks the pair." : "";
  drawing.canvas.setAttribute("aria-label", `Map of ${unit}, ${rows.length} rows by ${columns.length} columns, from ${spell(low)} to ${spell(high)}. Arrow keys read the cells.${help}`);
  let here = drawing.place ?? null;
  const notes = name => beside[name] ? `${name}: ${beside[name]}` : name;
  const show = (i, j) => {
    here = drawing.place = [i, j];
    for (const [name, value] of Object.entries({x: x(j), y: y(i), visibility: "visible"})) cursor.setAttribute(name, value);
    drawing.say(`${unit} ${spell(values[i * columns.length + j])}\n${notes(rowNotes[i])}\n${notes(columnNotes[j])}`, x(j) + cell / 2, y(i));
  };
  const leave = () => { cursor.setAttribute("visibility", "hidden"); drawing.say(""); };
  drawing.listen({
    point: (px, py) => {
      const i = Math.floor((top + down - py) / cell), j = Math.floor((px - left) / cell);
      if (i >= 0 && j >= 0 && i < rows.length && j < columns.length) show(i, j); else { leave(); here = null; }
    },
    move: key => {
      const [i, j] = here ?? [rows.length, -1];
      const [up, along] = {ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[key];
      show(Math.min(Math.max(i + up, 0), rows.length - 1), Math.min(Math.max(j + along, 0), columns.length - 1));
    },
    leave,
    pick: () => { const option = panel.picks && here && optionOf(...here); if (option) drawing.section.pick(panel.picks, option); },
  });
}
function drawBar(picture, unit, low, high, hasUndefined) {
  const wide = 110;
  picture.append(svg("text", {x: 0, y: 11, class: "soft"}, `${unit}${hasUndefined ? " (empty: undefined)" : ""}`));
  picture.append(svg("text", {x: 0, y: 29}, spell(low)));
  const start = widthOf(spell(low)) + 6;
  for (let i = 0; i < 44; i++) picture.append(svg("rect", {x: start + i * wide / 44, y: 19, width: wide / 44 + 0.5, height: 11, fill: `rgb(${colourOf(i / 43)})`}));
  picture.append(svg("text", {x: start + wide + 6, y: 29}, spell(high)));
}

// --- curves: at most eight have a colour, controls are dashed, the others are grey

// the first curve of a family has the family's colour, and the others have what is left (colours.py)
function numberCurves(names) {
  const taken = new Map();
  for (const name of names) if (Object.hasOwn(colours, name) && ![...taken.values()].includes(colours[name])) taken.set(name, colours[name]);
  const kept = taken.size ? Object.values(colours) : [], all = Array.from({length: COLOURED}, (_, i) => i + 1).filter(n => ![...taken.values()].includes(n));
  const free = [...all.filter(n => !kept.includes(n)), ...all.filter(n => kept.includes(n))];
  return names.map(name => taken.get(name) ?? free.shift());
}

function drawLines(drawing, panel, width) {
  const [low, high] = panel.ends;
  const curves = panel.lines.map(([name, control, positions, codes], index) => {
    const x = drawing.held(positions), all = unpack(codes, low, high), n = x.length;
    return {name: drawing.held(name), control: Boolean(control), index, x: panel.log ? x.map(Math.log10) : x, y: all.subarray(0, n), low: all.subarray(n, 2 * n), high: all.subarray(2 * n)};
  });
  const picked = drawing.section.state.pair, same = curve => picked && (curve.name === picked || curve.name === picked.split(" · ").reverse().join(" · "));
  const models = curves.filter(curve => !curve.control), controls = curves.filter(curve => curve.control);
  const start = models.slice(0, COLOURED).map(curve => curve.name);
  const wanted = (drawing.selected ?? start).filter(name => models.some(curve => curve.name === name));
  const loud = curves.find(same);
  if (loud && !loud.control && !wanted.includes(loud.name)) wanted.splice(0, Math.max(wanted.length - COLOURED + 1, 0)), wanted.push(loud.name);
  const numbers = numberCurves(wanted);
  for (const curve of curves) {
    const place = wanted.indexOf(curve.name);
    curve.style = curve.control ? (controls.indexOf(curve) < CONTROLS || curve === loud ? "control" : "grey") : place >= 0 ? `c${numbers[place]}` : "grey";
  }
  const labelled = curves.filter(curve => curve.style !== "grey" && curve.y.some(value => !Number.isNaN(value)));
  const narrow = width < NARROW, W = Math.min(width, 1000);
  const names = narrow ? 0 : Math.min(Math.max(...labelled.map(curve => widthOf(curve.name) + 8), 40), W * 0.36);
  const tall = labelled.reduce((sum, curve) => sum + 15 * Math.min(Math.ceil(widthOf(curve.name) / Math.max(names, 40)), 3), 0);
  const left = 48, top = 22, H = narrow ? 260 : Math.max(300, Math.min(W * 0.5, 380), Math.min(tall, 480)), right = W - names - (narrow ? 8 : 26), bottom = H - 36;
  const drawn = curves.flatMap(curve => [...curve.y, ...(curve.style === "grey" ? [] : [...curve.low, ...curve.high])]);
  const fitted = ends(drawn), span = panel.zero ? [0, fitted[1]] : fitted, rise = 0.04 * (span[1] - span[0]), [y0, y1] = [span[0] - rise, span[1] + rise];
  const reach = ends(curves.flatMap(curve => [...curve.x])), [x0, x1] = curves.length ? reach : [0, 1];
  const X = value => left + (value - x0) / (x1 - x0) * (right - left), Y = value => bottom - (value - y0) / (y1 - y0) * (bottom - top);
  const picture = svg("svg", {width: W, height: H, viewBox: `0 0 ${W} ${H}`, "aria-hidden": "true"});
  picture.append(svg("text", {x: 0, y: 12, class: "soft"}, shorten(`${drawing.held(panel.y)}, ${spell(span[0])} to ${spell(span[1])}`, W)));
  for (const value of ticks(y0, y1, 5)) picture.append(svg("path", {class: "grid", d: `M${left} ${Y(value)}H${right}`}), svg("text", {x: left - 6, y: Y(value) + 4, class: "end"}, minus(String(value))));
  const marks = panel.log ? [...new Set(curves.flatMap(curve => curve.x))].sort((a, b) => a - b) : ticks(x0, x1, Math.max(2, Math.floor((right - left) / 70)));
  let last = -Infinity;
  for (const value of marks) if (X(value) - last > 46) picture.append(svg("text", {x: last = X(value), y: bottom + 16, class: "middle"}, panel.log ? (10 ** value).toLocaleString("en", {maximumSignificantDigits: 4}) : minus(String(value))));
  picture.append(svg("text", {x: (left + right) / 2, y: H - 3, class: "middle soft"}, shorten(drawing.held(panel.x), right - left)));
  const trace = (x, y) => { let path = "", draw = "M"; x.forEach((at, i) => { if (Number.isNaN(y[i])) draw = "M"; else { path += `${draw}${X(at).toFixed(1)} ${Y(y[i]).toFixed(1)}`; draw = "L"; } }); return path; };
  const order = ["grey", "control"], rank = curve => curve === loud ? 9 : order.indexOf(curve.style) >= 0 ? order.indexOf(curve.style) : 5;
  for (const curve of [...curves].sort((a, b) => rank(a) - rank(b))) {
    if (curve.style.startsWith("c") && curve.style !== "control" && curve.low.length) {
      const at = [...curve.x.keys()].filter(i => !Number.isNaN(curve.low[i]) && !Number.isNaN(curve.high[i]));
      const edge = (side, i) => `${X(curve.x[i]).toFixed(1)} ${Y(curve[side][i]).toFixed(1)}`;
      if (at.length > 1) picture.append(svg("path", {class: `band ${curve.style}`, d: `M${at.map(i => edge("high", i)).join("L")}L${at.reverse().map(i => edge("low", i)).join("L")}Z`}));
    }
    picture.append(svg("path", {class: `curve ${curve.style}${curve === loud ? " loud" : ""}`, d: trace(curve.x, curve.y)}));
  }
  const cursor = picture.appendChild(svg("circle", {class: "cursor", r: 4.5, visibility: "hidden"}));
  drawing.canvas.append(picture);
  drawing.canvas.style.width = `${W}px`;
  const toggle = curve => {
    if (curve.control) return;
    const now = [...wanted], place = now.indexOf(curve.name);
    if (place >= 0) now.splice(place, 1); else now.splice(0, Math.max(now.length - COLOURED + 1, 0)), now.push(curve.name);
    drawing.selected = now;
    drawing.draw(width);
  };
  const end = curve => { let i = curve.y.length - 1; while (Number.isNaN(curve.y[i])) i--; return [X(curve.x[i]), Y(curve.y[i])]; };
  labelled.sort((a, b) => end(a)[1] - end(b)[1]);
  const list = drawing.canvas.appendChild(html("div", {class: `names ${narrow ? "below" : "beside"}`}));
  const buttons = labelled.map(curve => {
    const button = html("button", {type: "button", class: `${curve.style}${curve === loud ? " loud" : ""}`, title: curve.name, tabindex: "-1"}, html("bdi", {}, `${narrow ? "— " : ""}${curve.name}`));
    button.onclick = event => { event.stopPropagation(); toggle(curve); };
    return button;
  });
  list.append(...buttons);
  if (!narrow) {
    list.style.left = `${right + 22}px`;
    list.style.width = `${W - right - 22}px`;
    const tops = [];
    buttons.forEach((button, i) => tops.push(Math.max(end(labelled[i])[1] - button.offsetHeight / 2, i ? tops[i - 1] + buttons[i - 1].offsetHeight + 1 : 0)));
    let edge = H;
    for (let i = tops.length - 1; i >= 0; i--) edge = tops[i] = Math.min(tops[i], edge - buttons[i].offsetHeight);
    buttons.forEach((button, i) => {
      const at = Math.max(tops[i], 0), [ex, ey] = end(labelled[i]);
      button.style.top = `${at}px`;
      picture.append(svg("path", {class: "lead", d: `M${ex + 2} ${ey}L${right + 20} ${at + button.offsetHeight / 2}`}));
    });
  }
  const points = curves.flatMap(curve => [...curve.x.keys()].filter(i => !Number.isNaN(curve.y[i])).map(i => ({curve, i, x: X(curve.x[i]), y: Y(curve.y[i])})));
  let here = null;
  const show = point => {
    here = point;
    for (const [name, value] of Object.entries({cx: point.x, cy: point.y, visibility: "visible"})) cursor.setAttribute(name, value);
    const {curve, i} = point, interval = curve.low.length && !Number.isNaN(curve.low[i]) ? ` [${spell(curve.low[i])}, ${spell(curve.high[i])}]` : "";
    const at = panel.log ? 10 ** curve.x[i] : curve.x[i];
    drawing.say(`${curve.name}\n${spell(curve.y[i])}${interval}\n${drawing.held(panel.x)} ${spell(at)}`, point.x, point.y);
  };
  const leave = () => { cursor.setAttribute("visibility", "hidden"); drawing.say(""); };
  drawing.canvas.setAttribute("aria-label", `Curves of ${drawing.held(panel.y)} against ${drawing.held(panel.x)}: ${labelled.map(curve => curve.name).join("; ")}. Arrow keys read the points, Enter colours a curve.`);
  drawing.listen({
    point: (px, py) => {
      let best = null, near = 28 ** 2;
      for (const point of points) { const apart = (point.x - px) ** 2 + (point.y - py) ** 2 + (point.curve.style === "grey" ? 30 : 0); if (apart < near) [best, near] = [point, apart]; }
      if (best) show(best); else { leave(); here = null; }
    },
    move: key => {
      if (!points.length) return;
      if (!here) { show(points[0]); return; }
      const along = key === "ArrowLeft" || key === "ArrowRight";
      const others = along ? points.filter(one => one.curve === here.curve) : points.filter(one => Math.abs(one.x - here.x) < 1).sort((a, b) => b.y - a.y);
      const next = others.indexOf(here) + (key === "ArrowRight" || key === "ArrowUp" ? 1 : -1);
      show(others[Math.min(Math.max(next, 0), others.length - 1)]);
    },
    leave,
    pick: () => { if (here) toggle(here.curve); },
  });
}

// --- a sheet of pictures

function drawSheet(drawing, panel, width) {
  const [high, wide] = panel.size, [tall, broad] = panel.side, rows = drawing.held(panel.rows), columns = drawing.held(panel.columns);
  const widest = Math.max(...rows.map(widthOf)) + 8, above = widest > width * 0.3;  // labels beside the rows, or above each where they are long
  const left = above ? 0 : widest, line = above ? 18 : 0, top = 20, scale = Math.min((width - left) / wide, 2, 300 / high);
  const W = Math.max(left + wide * scale, above ? Math.min(widest, width) : 0), H = top + high * scale + line * rows.length;
  const yOf = i => top + line * (i + 1) + (panel.middles.y[i] - tall / 2) * scale;
  const picture = svg("svg", {width: W, height: H, viewBox: `0 0 ${W} ${H}`, "aria-hidden": "true"});
  panel.cells.forEach((cell, k) => {
    const i = Math.floor(k / columns.length), j = k % columns.length;
    if (cell !== null) picture.append(svg("image", {href: drawing.held(cell), x: left + (panel.middles.x[j] - broad / 2) * scale, y: yOf(i), width: broad * scale, height: tall * scale, preserveAspectRatio: "none"}));
  });
  rows.forEach((name, i) => picture.append(above ? svg("text", {x: 0, y: yOf(i) - 4}, shorten(name, W)) : svg("text", {x: left - 6, y: yOf(i) + tall * scale / 2 + 4, class: "end"}, name)));
  const room = wide * scale / columns.length;
  columns.forEach((name, j) => picture.append(svg("text", {x: left + panel.middles.x[j] * scale, y: 13, class: "middle soft"}, shorten(name, room))));
  drawing.canvas.append(picture);
  drawing.canvas.setAttribute("aria-label", `Pictures in ${rows.length} rows: ${rows.join("; ")}. Columns: ${columns.join("; ")}.`);
}

// --- a section: its pickers and its drawings

class Section {
  constructor(stage) {
    const data = read(stage.dataset.figure);
    Object.assign(this, {stage, picked: data.picked, held: data.held, state: {}, width: 0});
    for (const [name, options] of Object.entries(data.picked)) this.state[name] = options[0];
    this.pickers = {};
    const row = html("div", {class: "pickers"});
    for (const [name, options] of Object.entries(data.picked)) {
      if (options.length < 2) continue;
      const select = this.pickers[name] = html("select", {name, "aria-label": name}, ...options.map(option => html("option", {}, option)));
      select.onchange = () => this.pick(name, options[select.selectedIndex]);
      row.append(html("label", {}, name, select));
    }
    if (row.children.length) stage.append(row);
    this.drawings = stage.appendChild(html("div", {class: "drawings"}));
    this.all = data.drawings.map(one => new Drawing(this, one));
  }
  pick(name, option) {
    this.state[name] = option;
    if (this.pickers[name]) this.pickers[name].selectedIndex = this.picked[name].indexOf(option);
    this.draw(this.width);
  }
  // Curves get the room that the maps beside them leave, or a row of their own.
  draw(width) {
    this.width = width;
    let used = 0;
    for (const drawing of this.all) {
      const {kind, panels} = drawing.data, left = width - used, gap = 26;
      if (kind === "lines") {
        const room = left >= 400 || used === 0 ? left : width;
        drawing.draw(Math.min(room, 860));
        used = 0;
        continue;
      }
      const most = kind === "map" ? Math.max(400, 150 + 14 * Math.max(...panels.map(panel => this.held[panel.columns].length))) : 640;
      drawing.draw(Math.min(width, most));
      used += drawing.host.offsetWidth + gap;
    }
  }
}
const sections = Array.from(document.querySelectorAll(".stage"), stage => new Section(stage));
const drawAll = most => { for (const section of sections) section.draw(Math.min(section.stage.clientWidth, most)); };
drawAll(Infinity);
let drawnAt = innerWidth;
addEventListener("resize", () => requestAnimationFrame(() => { if (innerWidth !== drawnAt) { drawnAt = innerWidth; drawAll(Infinity); } }));
addEventListener("beforeprint", () => drawAll(690));
addEventListener("afterprint", () => drawAll(Infinity));

// --- copying: a page opened from a file may have no clipboard interface; then a selected text area is copied, or left for the reader to copy

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    return "Copied";
  } catch {
    const area = html("textarea", {class: "fallback", "aria-label": "Text to copy", readonly: ""});
    area.value = text;
    button.after(area);
    area.select();
    if (!document.execCommand("copy")) return "Press Ctrl+C or ⌘C to copy";
    area.remove();
    button.focus();
    return "Copied";
  }
}
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.onclick = async () => {
    const status = button.parentElement.querySelector("[role=status]");
    status.textContent = await copy(document.getElementById(button.dataset.copy).textContent, button);
  };
}
