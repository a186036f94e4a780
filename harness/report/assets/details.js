// The drill-down: one cell, and its single examples with dense's output beside each.

const ORDER = ["worse than dense", "better than dense", "other words, same score", "same as dense", "not compared"];

class Details {
  constructor(main, closer) {
    this.main = main;
    this.closer = closer;
    this.dialog = document.getElementById("details");
    this.dialog.addEventListener("close", () => { if (this.opener && this.opener.isConnected) this.opener.focus(); });
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog) this.dialog.close(); });
  }

  open(row) {
    this.opener = document.activeElement;
    const block = this.main.blocks[row.b];
    const cell = part("cell-" + row.index);
    const close = el("button", { type: "button", class: "close", click: () => this.dialog.close() }, "Close");
    const title = el("h2", { id: "details-title" }, said(row.model), " / ", said(row.task), " / ", said(row.method), row.apart ? [" (", said(row.apart), ")"] : null);
    this.dialog.replaceChildren(el("header", {}, title, close), this.summary(row, block, cell), ...this.warnings(row, cell), this.plots(row), ...this.examples(block, cell), ...this.more(row, cell));
    this.dialog.showModal();
    this.dialog.scrollTop = 0;
    close.focus();
  }

  summary(row, block, cell) {
    const paired = cell.paired !== null && cell.paired !== undefined && cell.paired !== row.n ? " (" + cell.paired + " of " + row.n + " examples are dense's too)" : "";
    return facts([
      [block.metric, row.status === "done" ? [row.valueText || "-", row.intervalText || ""].join(" ") : row.status],
      ["beside it", row.beside],
      ["against dense", row.diffText ? row.diffText + " " + (row.diffInterval || "") + paired : ""],
      ["examples", row.nText], ["preset", row.preset], ["run id", row.run],
    ]);
  }

  warnings(row, cell) {
    const out = (row.alarms || []).map(([kind, text]) => el("p", { class: "notice" }, el("strong", {}, kind), ": ", said(text)));
    if (cell.reason) out.push(el("p", { class: "notice" }, el("strong", {}, row.status), ": ", said(cell.reason)));
    return out;
  }

  plots(row) {
    return el("p", {}, el("button", { type: "button", click: () => {
      this.closer.choose(row.b);
      this.opener = null;
      this.dialog.close();
      document.getElementById("closer").scrollIntoView();
      this.closer.select.focus({ preventScroll: true });
    } }, "Plots and breakdowns of this model and task"));
  }

  // -- examples

  examples(block, cell) {
    const list = cell.examples || [];
    const [seen, more, compared, equal, worse, better] = cell.seen || [0, 0, 0, 0, 0, 0];
    const told = list.length + " of " + seen + (more ? " or more" : "") + " examples" + (compared ? "; against dense: " + worse + " worse, " + better + " better, " + equal + " of " + compared + " outputs equal" : "");
    const box = el("div", { id: "examples" });
    const draw = (kind) => box.replaceChildren(...list.filter((e) => kind === "" || String(e.o) === kind).map((e) => this.example(block, e)));
    const kinds = [...new Set(list.map((e) => e.o))].sort();
    const [label, select] = choice("show", kinds.map((k) => [k, ORDER[k]]), draw, "all");
    select.id = "example-kind";
    draw("");
    return [el("h3", {}, "Examples"), el("p", { class: "quiet" }, told), kinds.length > 1 ? el("div", { class: "filters" }, label) : null, box].filter(Boolean);
  }

  example(block, e) {
    const score = (value) => (value === undefined ? "no score" : show(value, block.percent));
    const dense = e.ds !== undefined || e.dt !== undefined ? ", dense " + score(e.ds) : "";
    const node = el("details", { class: "example" }, el("summary", {}, said(e.id), ": " + score(e.s) + dense, e.o < 4 ? " (" + ORDER[e.o] + ")" : "", (e.flags || []).map((flag) => el("span", { class: "alarm" }, flag))));
    node.addEventListener("toggle", () => { if (node.open && node.childNodes.length === 1) node.append(this.inside(e)); });
    return node;
  }

  inside(e) {
    const output = (title, text, total) => el("div", {}, el("h4", {}, title), el("pre", { dir: "auto", tabindex: "0" }, text),
      text.trim() ? null : el("p", { class: "quiet" }, "Nothing but white space."),
      total ? el("p", { class: "quiet" }, "Cut: the output has " + total.toLocaleString("en") + " characters.") : null);
    const dense = e.o === 3 ? el("div", {}, el("h4", {}, "dense"), el("p", { class: "quiet" }, "The same text.")) : e.dt !== undefined ? output("dense", e.dt, e.dc) : null;
    const numbers = e.np === undefined ? "" : e.np + " prompt, " + (e.nn || 0) + " new" + (e.end ? ", ended by " + e.end : "");
    return el("div", {}, el("div", { class: "pair" }, output("output", e.t, e.c), dense),
      facts([["prompt digest", e.digest], ["references", e.ref], ["parsed", e.parsed], ["tokens", numbers], ["about", e.meta]]));
  }

  // -- everything else that is stored

  more(row, cell) {
    const tables = [["Usage, mean over examples", Object.entries(cell.usage || {})], ["Flags, counted", Object.entries(cell.flags || {})],
      ["Speed and memory", Object.entries(cell.efficiency || {})], ["Method", Object.entries(cell.method || {})], ["Parameters", Object.entries(cell.params || {})]];
    const out = tables.filter(([, pairs]) => pairs.length).map(([title, pairs]) => el("details", {}, el("summary", {}, title), facts(pairs)));
    const sessions = cell.sessions || [];
    if (sessions.length) {
      out.push(el("details", {}, el("summary", {}, "Provenance"), sessions.map(([index, from, to]) => facts([["run id", row.run], ["from", from], ["to", to], ...Object.entries(this.main.environments[index].facts)]))));
    }
    return [el("h3", {}, "Records"), ...out];
  }
}
