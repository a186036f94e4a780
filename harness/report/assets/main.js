// Start.

function problems(found) {
  document.getElementById("problems").hidden = document.getElementById("to-problems").hidden = !found.length;
  const list = document.getElementById("problems-body");
  list.append(...found.map((p) => el("li", {}, el("strong", { class: "status" }, p.status), " ", said(p.name), " (", said(p.run), "): ", said(p.reason))));
}

function published(found) {
  if (!found || !found.length) return;
  document.getElementById("published").hidden = document.getElementById("to-published").hidden = false;
  const box = document.getElementById("published-body");
  box.append(el("p", { class: "quiet" }, "As papers print them, under their own protocol; not measured here. A measured number stands beside one where a cell of the same method, task and metric exists: its model and setting usually differ."));
  const head = ["task", "metric", "published", "measured here", "model of the paper", "protocol", "source"];
  for (const method of [...new Set(found.map((p) => p.method))]) {
    const own = found.filter((p) => p.method === method);
    const beside = own.filter((p) => p.measured !== "-").length;
    const rows = own.map((p) => [p.task, ...["metric", "value", "measured", "model", "protocol", "source"].map((k) => el("td", {}, said(p[k])))]);
    box.append(el("details", {}, el("summary", {}, said(method), ": " + own.length + " figures, " + beside + " with a measured number beside"), grid(head, rows, "papers")));
  }
}

function probes(found) {
  if (!found.length) return;
  document.getElementById("probes").hidden = document.getElementById("to-probes").hidden = false;
  const box = document.getElementById("probes-body");
  for (const one of found) {
    box.append(el("h3", {}, said(one.name)), el("p", { class: "quiet" }, one.examples + ", run ", said(one.run)));
    for (const table of one.tables) {
      box.append(el("h4", {}, said(table.name), table.which ? ": " + table.which : ""));
      const told = facts(table.head.map((name, i) => [name, table.meanings[i]]));
      const picture = table.picture ? el("img", { src: table.picture, alt: "picture of the table " + table.name + " of " + one.name }) : null;
      box.append(el("div", { class: "probe" }, picture, el("details", { open: !picture }, el("summary", {}, "numbers"), grid(table.head, table.rows, "probed"), told)));
    }
  }
}

function provenance(environments) {
  const box = document.getElementById("provenance-body");
  if (!environments.length) box.append(el("p", { class: "quiet" }, "No cell has stored where it comes from."));
  environments.forEach((found, i) => {
    const { commit, heed, hardware } = found.facts;
    const name = [found.cells + " sessions", heed ? "heed " + heed : "", commit ? "commit " + commit.slice(0, 12) : "", hardware || ""].filter(Boolean).join(", ");
    box.append(el("details", { open: i === 0 }, el("summary", {}, said(name)), facts([["first", found.first], ["last", found.last], ...Object.entries(found.facts)])));
  });
}

function start() {
  const main = part("main");
  let details = null;
  const board = new Board(main, (row) => details.open(row));
  const closer = new Closer(main, board.rows);
  details = new Details(main, closer);
  document.getElementById("left-out").append(...main.left_out.map((text) => el("li", {}, text)));
  problems(main.problems);
  probes(part("probe-tables"));
  published(main.published);
  provenance(main.environments);
  closer.draw();
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}

start();
