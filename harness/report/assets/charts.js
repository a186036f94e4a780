// Plots as SVG. Colour (Okabe and Ito's) never stands alone: each method has a shape too, and each point its numbers.

const SHAPES = ["circle", "square", "triangle", "diamond", "cross", "down", "plus", "bar"];

function shape(index, x, y, name) {
  const r = 6;
  const at = (points) => points.map(([a, b]) => (x + a * r).toFixed(1) + "," + (y + b * r).toFixed(1)).join(" ");
  const style = { class: "mark f" + (index % 8) + (name ? " " + name : "") };
  // the shape moves on by one each time that the colours are used up
  switch (SHAPES[(index + Math.floor(index / 8)) % 8]) {
    case "circle": return svg("circle", { cx: x, cy: y, r, ...style });
    case "square": return svg("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, ...style });
    case "triangle": return svg("polygon", { points: at([[0, -1.2], [1.1, 0.9], [-1.1, 0.9]]), ...style });
    case "diamond": return svg("polygon", { points: at([[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]]), ...style });
    case "down": return svg("polygon", { points: at([[0, 1.2], [1.1, -0.9], [-1.1, -0.9]]), ...style });
    case "cross": return svg("polygon", { points: at([[-1, -0.5], [-0.5, -1], [0, -0.5], [0.5, -1], [1, -0.5], [0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5], [-0.5, 1], [-1, 0.5], [-0.5, 0]]), ...style });
    case "plus": return svg("polygon", { points: at([[-0.4, -1.1], [0.4, -1.1], [0.4, -0.4], [1.1, -0.4], [1.1, 0.4], [0.4, 0.4], [0.4, 1.1], [-0.4, 1.1], [-0.4, 0.4], [-1.1, 0.4], [-1.1, -0.4], [-0.4, -0.4]]), ...style });
    default: return svg("rect", { x: x - 0.5 * r, y: y - 1.2 * r, width: r, height: 2.4 * r, ...style });
  }
}

function ticks(low, high) {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw) || raw;
  const out = [];
  for (let x = Math.ceil(low / step - 1e-9) * step; x <= high + 1e-9 * span; x += step) out.push(Number(x.toPrecision(10)));
  return out;
}

function range(values, pad) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || Math.abs(high) || 1) * pad;
  return [low - room, high + room];
}

function compact(value) {
  if (Math.abs(value) >= 2 ** 30) return Number((value / 2 ** 30).toPrecision(3)) + " Gi";
  if (Math.abs(value) >= 2 ** 20) return Number((value / 2 ** 20).toPrecision(3)) + " Mi";
  return String(Number(value.toPrecision(6)));
}

// A frame with axes; returns the drawing and the two scales. x.at: the places of its ticks (all numbers if log).
function frame(width, x, y, label) {
  const height = Math.round(Math.min(400, Math.max(260, width * 0.6)));
  const [left, right, top, bottom] = [58, 14, 12, 44];
  const warp = x.log ? Math.log : (v) => v;
  const across = (v) => left + ((warp(v) - warp(x.low)) / (warp(x.high) - warp(x.low) || 1)) * (width - left - right);
  const up = (v) => height - bottom - ((v - y.low) / (y.high - y.low || 1)) * (height - top - bottom);
  const node = svg("svg", { viewBox: "0 0 " + width + " " + height, width, height, role: "group", "aria-label": label });
  for (const v of ticks(y.low, y.high)) {
    node.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: up(v), y2: up(v) }));
    node.append(svg("text", { x: left - 6, y: up(v) + 4, "text-anchor": "end" }, y.percent ? compact(100 * v) : compact(v)));
  }
  let free = -Infinity;
  for (const v of x.at || ticks(x.low, x.high)) {
    node.append(svg("line", { class: "grid", x1: across(v), x2: across(v), y1: top, y2: height - bottom }));
    if (across(v) - free < 40) continue;
    free = across(v);
    node.append(svg("text", { x: across(v), y: height - bottom + 16, "text-anchor": "middle" }, compact(v)));
  }
  node.append(svg("path", { class: "axis", d: "M" + left + " " + top + "V" + (height - bottom) + "H" + (width - right) }));
  node.append(svg("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, x.title));
  node.append(svg("text", { x: 14, y: (top + height - bottom) / 2, "text-anchor": "middle", transform: "rotate(-90 14 " + (top + height - bottom) / 2 + ")" }, y.title));
  return { node, across, up, width, height, right };
}

function whisker(box, index, x, low, high) {
  if (low === null || high === null || low === undefined || high === undefined) return;
  box.append(svg("path", { class: "bar s" + (index % 8), d: "M" + x + " " + low + "V" + high + "M" + (x - 4) + " " + low + "h8M" + (x - 4) + " " + high + "h8" }));
}

// points: {index, name, x, y, low, high, text}; front: their numbers, by cost.
function scatter(width, points, front, axes) {
  const xs = range(points.map((p) => p.x), 0.08);
  const ys = range(points.flatMap((p) => [p.y, p.low, p.high]).filter((v) => v !== null && v !== undefined), 0.05);
  const box = frame(width, { low: xs[0], high: xs[1], title: axes.x }, { low: ys[0], high: ys[1], title: axes.y, percent: axes.percent }, axes.y + " against " + axes.x);
  const ordered = front.map((i) => points.find((p) => p.index === i)).filter(Boolean);
  if (ordered.length > 1) {
    // a staircase: a method stays the best until a dearer one is better
    const steps = ordered.map((p, k) => (k ? "H" + box.across(p.x) + "V" + box.up(p.y) : "M" + box.across(p.x) + " " + box.up(p.y)));
    box.node.append(svg("path", { class: "front", d: steps.join("") }));
  }
  for (const point of points) {
    const group = svg("g", { tabindex: "0", role: "img", "aria-label": point.text }, svg("title", {}, point.text));
    const [x, y] = [box.across(point.x), box.up(point.y)];
    whisker(group, point.index, x, point.low === null ? null : box.up(point.low), point.high === null ? null : box.up(point.high));
    group.append(shape(point.index, x, y, ordered.includes(point) ? "on-front" : ""));
    box.node.append(group);
  }
  return box.node;
}

// lines: {index, name, points: [{x, y, low, high, text}]}
function curves(width, lines, axes) {
  const all = lines.flatMap((one) => one.points);
  const at = [...new Set(all.map((p) => p.x))].sort((a, b) => a - b);
  const log = at[0] > 0 && at[at.length - 1] / at[0] >= 4;
  const pad = log ? [at[0] / 1.1, at[at.length - 1] * 1.1] : range(at, 0.05);
  const ys = axes.percent ? [-0.02, 1.02] : range(all.map((p) => p.y), 0.08);
  const low = axes.percent ? Math.min(ys[0], ...all.map((p) => p.y)) : ys[0];
  const high = axes.percent ? Math.max(ys[1], ...all.map((p) => p.y)) : ys[1];
  const box = frame(width, { low: pad[0], high: pad[1], log, at, title: axes.x }, { low, high, title: axes.y, percent: axes.percent }, axes.y + " by " + axes.x);
  for (const one of lines) {
    box.node.append(svg("path", { class: "path s" + (one.index % 8), d: one.points.map((p, k) => (k ? "L" : "M") + box.across(p.x) + " " + box.up(p.y)).join("") }));
    for (const p of one.points) {
      box.node.append(svg("g", { role: "img", "aria-label": p.text }, svg("title", {}, p.text), shape(one.index, box.across(p.x), box.up(p.y))));
    }
  }
  return box.node;
}

function key(names) {
  return el("ul", { class: "key" }, names.map(([index, name]) => el("li", {}, svg("svg", { width: 18, height: 18, viewBox: "0 0 18 18", "aria-hidden": "true" }, shape(index, 9, 9)), said(name))));
}
