// One model and task: accuracy against cost, curves, heat maps, splits, all metrics side by side.

const UNDER = "Under a value: its 95 % interval, then the difference to dense with its interval (* p < 0.05).";

const MAPS = 12; // heat maps in sight

function keyText(value) {
  return value === null ? "(none)" : typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;
}

class Closer {
  constructor(main, rows) {
    this.main = main;
    this.rows = rows;
    this.block = 0;
    this.axis = null;
    this.place = "";
    const controls = document.getElementById("closer-controls");
    const options = main.blocks.map((b, i) => [i, [b.model + " / " + b.task, b.preset === "-" ? "" : b.preset, b.note].filter(Boolean).join(", ")]);
    const [label, select] = choice("model and task", options, (value) => { this.block = Number(value); this.axis = null; this.draw(); });
    select.id = "block";
    this.select = select;
    controls.append(label);
    let timer = 0;
    let width = window.innerWidth;
    window.addEventListener("resize", () => {
      clearTimeout(timer);
      timer = setTimeout(() => { if (window.innerWidth !== width) { width = window.innerWidth; this.draw(); } }, 150);
    });
  }

  choose(block) {
    this.block = block;
    this.axis = null;
    this.select.value = String(block);
    this.draw();
  }

  draw() {
    const body = document.getElementById("closer-body");
    if (!this.main.blocks.length) {
      body.replaceChildren(el("p", {}, "There is nothing to draw."));
      return;
    }
    this.head = this.main.blocks[this.block];
    this.data = part("block-" + this.block);
    this.members = this.rows.filter((row) => row.b === this.block);
    this.names = this.members.map((row) => row.method + (row.apart ? " (" + row.apart + ")" : ""));
    this.width = Math.max(280, Math.min(680, body.clientWidth));
    const charts = el("div", { class: "charts" }, this.tradeoff(), this.lengths());
    body.replaceChildren(charts, ...this.breakdowns(), ...this.splits(), this.everything());
  }

  known() {
    return this.members.map((_, i) => i).filter((i) => this.data.values[i] && this.data.values[i][0]);
  }

  // -- accuracy against cost

  tradeoff() {
    const box = el("div", { class: "chart", id: "tradeoff" }, el("h3", {}, "Accuracy and cost"));
    const usable = this.main.axes.filter((axis) => this.known().some((i) => this.data.costs[axis.key][i] !== null));
    if (!usable.length) return fill(box, {}, [el("p", { class: "quiet" }, "No cost was measured here.")]);
    const axis = usable.find((a) => a.key === this.axis) || usable.find((a) => this.varies(a)) || usable[0];
    const places = axis.measured ? [...new Set(this.known().filter((i) => this.data.costs[axis.key][i] !== null).map((i) => this.data.places[i]))] : [""];
    const place = places.includes(this.place) ? this.place : places[0];
    const controls = el("div", { class: "filters" });
    const [label, select] = choice("cost", usable.map((a) => [a.key, a.title]), (value) => { this.axis = value; this.draw(); document.getElementById("axis").focus(); });
    select.id = "axis";
    select.value = axis.key;
    controls.append(label);
    if (places.length > 1) {
      const [where, choose] = choice("measured on", places.map((p) => [p, p]), (value) => { this.place = value; this.draw(); });
      choose.value = place;
      controls.append(where);
    }
    const points = this.points(axis, place);
    const front = ((this.data.fronts[axis.key] || {})[place]) || [];
    box.append(controls, scatter(this.width, points, front, { x: axis.title, y: this.head.metric, percent: this.head.percent }), key(points.map((p) => [p.index, p.name])));
    box.append(el("p", { class: "quiet" }, "On the Pareto front (thick outline, dashed line): ", said(front.map((i) => this.names[i]).join(", ")), ".",
      place ? " Measured on: " : null, place ? said(place) : null, place ? "." : null, this.head.higher ? null : " Lower is better."));
    box.append(...this.absent(axis, points));
    box.append(this.asTable(axis, points, front));
    return box;
  }

  // Who is not in the picture, and why: nobody is left out silently.
  absent(axis, points) {
    const shown = new Set(points.map((p) => p.index));
    const reason = (i) => {
      if (!this.known().includes(i)) return "Left out, because without a result: ";
      if (axis.measured && this.data.simulated.includes(i)) return "Left out, because simulated: ";
      return this.data.costs[axis.key][i] === null ? "Left out, because this cost is not known: " : "Left out, because measured elsewhere: ";
    };
    const found = new Map();
    this.names.forEach((name, i) => { if (!shown.has(i)) found.set(reason(i), [...(found.get(reason(i)) || []), name]); });
    return [...found].map(([text, names]) => el("p", { class: "quiet" }, text, said(names.join(", ")), "."));
  }

  // Methods that read everything have one density: then another cost tells them apart.
  varies(axis) {
    return new Set(this.known().map((i) => this.data.costs[axis.key][i]).filter((x) => x !== null)).size > 1;
  }

  points(axis, place) {
    return this.known().filter((i) => this.data.costs[axis.key][i] !== null && (!axis.measured || this.data.places[i] === place)).map((i) => {
      const [y, low, high] = this.data.values[i][0];
      const x = this.data.costs[axis.key][i];
      const text = this.names[i] + ": " + this.head.metric + " " + show(y, this.head.percent) + " " + interval(low, high, this.head.percent) + ", " + axis.title + " " + compact(x);
      return { index: i, name: this.names[i], x, y, low, high, text };
    });
  }

  asTable(axis, points, front) {
    const rows = points.map((p) => [p.name, show(p.y, this.head.percent) + " " + interval(p.low, p.high, this.head.percent), compact(p.x), front.includes(p.index) ? "yes" : "no"]);
    return el("details", {}, el("summary", {}, "The same numbers as a table"), grid(["method", this.head.metric, axis.title, "on the front"], rows));
  }

  // -- groups

  lengths() {
    const found = this.data.groups.filter((g) => g.by.length === 1 && g.keys.filter(([k]) => typeof k === "number").length > 1);
    const groups = found.filter((g) => /len|tokens|size|position/i.test(g.by[0]));
    const box = el("div", { class: "chart", id: "curves" });
    for (const group of groups.length ? groups : found.slice(0, 1)) {
      const lines = Object.entries(group.rows).map(([i, of]) => ({ index: Number(i), name: this.names[i], points: this.along(group, of, this.names[i]) }));
      box.append(el("h3", {}, said(this.head.metric), " by ", said(group.by[0])));
      box.append(curves(this.width, lines.filter((one) => one.points.length), { x: group.by[0], y: this.head.metric, percent: this.head.percent }), key(lines.map((one) => [one.index, one.name])));
    }
    return box.childNodes.length ? box : null;
  }

  along(group, of, name) {
    const points = group.keys.map(([x], k) => ({ x, y: of.v[k], n: of.n[k], dense: this.dense(of, k), low: of.lo ? of.lo[k] : null, high: of.hi ? of.hi[k] : null }));
    return points.filter((p) => typeof p.x === "number" && p.y !== null).sort((a, b) => a.x - b.x).map((p) => Object.assign(p, {
      text: name + ", " + group.by[0] + " " + p.x + ": " + show(p.y, this.head.percent) + " " + interval(p.low, p.high, this.head.percent) + ", n=" + p.n + p.dense,
    }));
  }

  breakdowns() {
    const out = [];
    for (const group of this.data.groups) {
      if (group.by.length === 2) out.push(this.maps(group));
      else if (group.by.length === 1 && group.keys.length > 1) out.push(this.breakdown(group));
    }
    return out;
  }

  breakdown(group) {
    const shown = Object.keys(group.rows).map(Number);
    const rows = group.keys.map(([k], j) => [keyText(k), ...shown.map((i) => this.groupCell(group.rows[i], j))]);
    return el("div", {}, el("h3", {}, said(this.head.metric), " by ", said(group.by[0])), grid([group.by[0], ...shown.map((i) => this.names[i])], rows));
  }

  groupCell(of, j) {
    const mark = this.dense(of, j) + (of.s && of.s[j] ? " *" : "");
    const range = of.lo && of.v[j] !== null ? el("span", { class: "low" }, interval(of.lo[j], of.hi[j], this.head.percent) + ", n=" + of.n[j]) : null;
    return el("td", { class: "number" }, show(of.v[j], this.head.percent) + mark, range);
  }

  // Samples that the method could not act on: all of a group, or some.
  dense(of, j) {
    return of.e && of.e[j] ? (of.e[j] === 2 ? " = dense" : " (some = dense)") : "";
  }

  maps(group) {
    const [down, across] = [0, 1].map((d) => [...new Set(group.keys.map((k) => k[d]))].sort((a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : 1)));
    const all = Object.values(group.rows).flatMap((of) => of.v).filter((v) => v !== null);
    const [low, high] = this.head.percent ? [0, 1] : [Math.min(...all), Math.max(...all)];
    const step = (v) => Math.max(0, Math.min(9, Math.floor(10 * (this.head.higher ? v - low : high - v) / (high - low || 1))));
    const where = new Map(group.keys.map((k, j) => [JSON.stringify(k), j]));
    const figures = Object.entries(group.rows).map(([i, of]) => {
      const rows = down.map((d) => [keyText(d), ...across.map((a) => this.mapCell(of, where.get(JSON.stringify([d, a])), step))]);
      return el("figure", {}, el("figcaption", {}, said(this.names[i])), grid([group.by[0] + " \\ " + group.by[1], ...across.map(keyText)], rows, "map"));
    });
    return el("div", { class: "heat" }, el("h3", {}, said(this.head.metric), " by ", said(group.by[0]), " and ", said(group.by[1])),
      el("p", { class: "quiet" }, "Bright is good. * differs significantly from dense."), el("div", { class: "maps" }, figures.slice(0, MAPS)),
      figures.length > MAPS ? el("details", {}, el("summary", {}, figures.length - MAPS + " more"), el("div", { class: "maps" }, figures.slice(MAPS))) : null);
  }

  mapCell(of, j, step) {
    if (j === undefined || of.v[j] === null) return el("td", {}, "-");
    const text = this.head.percent ? String(Number((100 * of.v[j]).toFixed(1))) : show(of.v[j], false);
    return el("td", { class: "h" + step(of.v[j]), title: show(of.v[j], this.head.percent) + this.dense(of, j) + ", n=" + of.n[j] }, text + (of.s && of.s[j] ? " *" : ""));
  }

  // -- metrics

  splits() {
    const parts = this.data.metrics.map((m, k) => [m, k]).filter(([m]) => m.part);
    if (!parts.length) return [];
    const suffixes = [...new Set(parts.map(([m]) => m.part[1]))];
    const bases = [...new Set(parts.map(([m]) => m.part[0]))];
    const at = (base, suffix) => parts.find(([m]) => m.part[0] === base && m.part[1] === suffix);
    const rows = this.known().flatMap((i) => suffixes.map((suffix) => [this.names[i] + ", " + suffix, ...bases.map((base) => (at(base, suffix) ? this.metricCell(i, at(base, suffix)[1]) : "-"))]));
    return [el("div", { id: "splits" }, el("h3", {}, "By question set"), el("p", { class: "quiet" }, UNDER), grid(["method, set", ...bases.map((base) => base + (parts.find(([m]) => m.part[0] === base)[0].percent ? " %" : ""))], rows))];
  }

  everything() {
    const shown = this.data.metrics.map((m, k) => [m, k]).filter(([m]) => !m.part);
    const titles = shown.map(([m]) => m.name + (m.percent ? " %" : "") + (m.higher ? "" : " (lower is better)"));
    const rows = this.known().map((i) => [this.names[i], ...shown.map(([, k]) => this.metricCell(i, k))]);
    return el("div", { id: "metrics" }, el("h3", {}, shown.length > 1 ? "All metrics, side by side" : "The metric"), el("p", { class: "quiet" }, UNDER), grid(["method", ...titles], rows));
  }

  metricCell(i, k) {
    const { percent } = this.data.metrics[k];
    const value = this.data.values[i] && this.data.values[i][k];
    if (!value) return el("td", { class: "number" }, "-");
    const change = this.data.diffs[i] && this.data.diffs[i][k];
    return el("td", { class: "number" }, show(value[0], percent), el("span", { class: "low" }, interval(value[1], value[2], percent)),
      change ? el("span", { class: "low" }, show(change[0], percent, true) + change[3] + " " + interval(change[1], change[2], percent, true)) : null);
  }
}
