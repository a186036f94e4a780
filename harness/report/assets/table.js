// The table of all cells: filters, sorting, pages.

const NARROW = window.matchMedia("(max-width: 60rem)");
const PAGE = NARROW.matches ? 25 : 100;

const COLUMNS = [
  { key: "model", title: "model" },
  { key: "task", title: "task" },
  { key: "method", title: "method" },
  { key: "preset", title: "preset" },
  { key: "value", title: "value", number: true },
  { key: "n", title: "n", number: true },
  { key: "diff", title: "vs dense", number: true },
  { key: "alarms", title: "alarms", of: (row) => (row.alarms ? -row.alarms.length : 0) },
  { key: "density", title: "density", number: true, text: "densityText" },
  { key: "kv", title: "KV", number: true, text: "kvText" },
  { key: "ttft", title: "TTFT ms", number: true, text: "ttftText" },
  { key: "speed", title: "tokens/s", number: true, text: "speedText" },
  { key: "memory", title: "memory", number: true, text: "memoryText" },
];

class Board {
  constructor(main, open) {
    this.rows = main.rows.map((row, index) => Object.assign({ index, model: main.blocks[row.b].model, task: main.blocks[row.b].task }, row));
    this.blocks = main.blocks;
    this.open = open;
    this.sort = { key: null, down: false };
    this.page = 0;
    this.filters = {};
    this.search = "";
    for (const row of this.rows) row.words = [row.model, row.task, row.method, row.apart, row.preset, row.run, row.status].join(" ").toLowerCase();
    this.buildFilters(main.alarms);
    this.buildTable();
    this.draw();
  }

  buildFilters(alarms) {
    const box = document.getElementById("filters");
    this.controls = [];
    for (const key of ["model", "method", "task", "preset", "status"]) {
      const values = [...new Set(this.rows.map((row) => row[key]).filter((x) => x !== undefined))].sort();
      this.addFilter(box, key, values.map((v) => [v, v]), "all");
    }
    this.addFilter(box, "alarm", [["any", "any alarm"], ["none", "no alarm"], ...alarms.map((kind) => [kind, kind])], "all");
    const input = el("input", { type: "search", id: "search", input: () => { this.search = input.value.toLowerCase(); this.restart(); } });
    box.append(el("label", {}, "search", input));
    this.controls.push(input);
    box.append(el("button", { type: "button", id: "reset", click: () => this.reset() }, "Show all"));
  }

  addFilter(box, key, options, all) {
    const [label, select] = choice(key, options, (value) => { this.filters[key] = value; this.restart(); }, all);
    select.id = "filter-" + key;
    this.controls.push(select);
    box.append(label);
  }

  reset() {
    this.filters = {};
    this.search = "";
    for (const control of this.controls) control.value = "";
    this.restart();
  }

  restart() {
    this.page = 0;
    this.draw();
  }

  buildTable() {
    this.heads = COLUMNS.map((column) => {
      const mark = el("span", { class: "mark", "aria-hidden": "true" });
      const button = el("button", { type: "button", "data-key": column.key, click: () => this.sortBy(column.key) }, column.title, mark);
      return el("th", { scope: "col", role: "columnheader", class: column.number ? "number" : null, "aria-sort": "none" }, button);
    });
    this.body = el("tbody", { role: "rowgroup", keydown: (event) => this.move(event) });
    const head = el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, this.heads));
    document.getElementById("table").append(el("table", { role: "table", "aria-label": "All cells" }, head, this.body));
    this.back = el("button", { type: "button", click: () => this.turn(-1) }, "Previous");
    this.next = el("button", { type: "button", click: () => this.turn(1) }, "Next");
    this.where = el("span");
    document.getElementById("pager").append(this.back, this.where, this.next);
  }

  sortBy(key) {
    this.sort = this.sort.key !== key ? { key, down: false } : this.sort.down ? { key: null, down: false } : { key, down: true };
    COLUMNS.forEach((column, i) => {
      const active = column.key === this.sort.key;
      this.heads[i].setAttribute("aria-sort", active ? (this.sort.down ? "descending" : "ascending") : "none");
      this.heads[i].querySelector(".mark").textContent = active ? (this.sort.down ? "\u25bc" : "\u25b2") : "";
    });
    this.restart();
  }

  turn(by) {
    this.page += by;
    this.draw();
    document.getElementById("board").scrollIntoView();
  }

  kept() {
    const { alarm, ...exact } = this.filters;
    const wanted = Object.entries(exact).filter(([, value]) => value);
    const kinds = (row) => (row.alarms || []).map((found) => found[0]);
    const alarmed = (row) => !alarm || (alarm === "any" ? kinds(row).length > 0 : alarm === "none" ? !kinds(row).length : kinds(row).includes(alarm));
    return this.rows.filter((row) => wanted.every(([key, value]) => row[key] === value) && alarmed(row) && (!this.search || row.words.includes(this.search)));
  }

  sorted(rows) {
    const column = COLUMNS.find((c) => c.key === this.sort.key);
    if (!column) return rows;
    const of = column.of || ((row) => row[column.key]);
    const sign = this.sort.down ? -1 : 1;
    return rows.slice().sort((a, b) => {
      const [x, y] = [of(a), of(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined) || a.index - b.index; // unknown comes last
      const order = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
      return sign * order || a.index - b.index;
    });
  }

  draw() {
    const rows = this.sorted(this.kept());
    const pages = Math.max(1, Math.ceil(rows.length / PAGE));
    this.page = Math.min(Math.max(0, this.page), pages - 1);
    const shown = rows.slice(this.page * PAGE, (this.page + 1) * PAGE);
    this.body.replaceChildren(...shown.map((row) => this.line(row)));
    document.getElementById("count").textContent = rows.length + " of " + this.rows.length + " cells";
    document.getElementById("pager").hidden = pages < 2;
    this.where.textContent = "page " + (this.page + 1) + " of " + pages;
    this.back.disabled = this.page === 0;
    this.next.disabled = this.page === pages - 1;
  }

  line(row) {
    return el("tr", { role: "row", "data-run": row.run }, COLUMNS.map((column) => {
      const content = this.content(row, column);
      const name = [column.key, column.number ? "number" : "", content.length ? "" : "empty"].filter(Boolean).join(" ");
      return el("td", { role: "cell", class: name, "data-label": column.title }, content);
    }));
  }

  content(row, column) {
    const block = this.blocks[row.b];
    if (column.key === "method") {
      return [el("button", { type: "button", class: "open", "aria-haspopup": "dialog", click: () => this.open(row) }, said(row.method)),
        row.apart ? el("span", { class: "low words" }, said(row.apart)) : null];
    }
    if (column.key === "value") {
      if (row.status !== "done") return [el("span", { class: "status" }, row.status)];
      const better = block.higher ? "" : ", lower is better";
      return [row.valueText || "-", el("span", { class: "low" }, row.intervalText || ""), el("span", { class: "low words" }, said(block.metric), better),
        row.beside ? el("span", { class: "low words" }, said(row.beside)) : null];
    }
    if (column.key === "diff") return row.diffText ? [row.diffText, el("span", { class: "low" }, row.diffInterval || "")] : [];
    if (column.key === "n") return this.measured(row.nText);
    if (column.key === "alarms") return (row.alarms || []).map(([kind, text]) => el("span", { class: "alarm", title: text }, kind));
    if (column.key === "task") return [said(row.task), block.note ? el("span", { class: "low name" }, said(block.note)) : null];
    if (column.text) return this.measured(row[column.text]);
    return row[column.key] ? [said(row[column.key])] : [];
  }

  // A number, and under it what stands in brackets: the device, what was skipped.
  measured(text) {
    const [, number, where] = /^(.*?)(?: \((.*)\))?$/.exec(text || "");
    return number ? [number, where ? el("span", { class: "low" }, where) : null] : [];
  }

  // Arrow keys go from row to row; Tab goes on as everywhere.
  move(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || !event.target.classList.contains("open")) return;
    const buttons = [...this.body.querySelectorAll(".open")];
    const at = buttons.indexOf(event.target) + steps[event.key];
    buttons[Math.min(Math.max(0, at), buttons.length - 1)].focus();
    event.preventDefault();
  }
}
