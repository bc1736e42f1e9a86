"use strict";
// Sorting, filtering and the dialogs. Text from outside only ever becomes textContent.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("summary");
  const dialog = document.getElementById("dialog");
  const bodies = [...table.querySelectorAll("tbody.runs")];
  const rowsOf = (body) => [...body.rows].filter((row) => row.dataset.run !== undefined);
  const rows = bodies.flatMap(rowsOf);

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  // Sorting, within training runs and within each sweep: empty cells last, and letters (protocols)
  // never mixed, in either direction.
  function sortBy(header) {
    const column = header.cellIndex;
    const rising = header.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const number = header.classList.contains("number");
    const sign = rising ? 1 : -1;
    const order = (left, right) => {
      const [a, b] = [left.cells[column].dataset, right.cells[column].dataset];
      if (a.value === undefined || b.value === undefined) {
        return (a.value === undefined) - (b.value === undefined);
      }
      const letters = (a.letter || "").localeCompare(b.letter || "");
      if (letters) return letters;
      return sign * (number ? a.value - b.value : a.value.localeCompare(b.value, "en", { numeric: true }));
    };
    for (const body of bodies) body.append(...rowsOf(body).sort(order));
  }
  for (const header of table.tHead.rows[0].cells) {
    header.querySelector("button").addEventListener("click", () => sortBy(header));
  }

  function setFolded(body, folded) {
    body.classList.toggle("folded", folded);
    body.querySelector(".unfold").setAttribute("aria-expanded", String(!folded));
  }

  // Filtering: every word must occur; what belongs to a hidden run is hidden in all sections. A
  // sweep unfolds while the filter finds some of its trials, and is hidden when it finds none.
  const filter = document.getElementById("filter");
  function applyFilter() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = new Set();
    for (const row of rows) {
      const fits = words.every((word) => row.dataset.words.includes(word));
      if (fits) shown.add(row.dataset.run);
    }
    for (const part of document.querySelectorAll("[data-run]")) {
      part.hidden = !shown.has(part.dataset.run);
    }
    for (const body of bodies.filter((each) => each.querySelector(".unfold"))) {
      const found = rowsOf(body).some((row) => !row.hidden);
      body.querySelector(".fold").hidden = !found;
      setFolded(body, !(words.length && found));
    }
    document.getElementById("count").value = `${shown.size} of ${rows.length} runs`;
  }
  filter.addEventListener("input", applyFilter);
  applyFilter();

  function open(title, ...content) {
    document.getElementById("dialog-title").textContent = title;
    document.getElementById("dialog-body").replaceChildren(...content.filter(Boolean));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }
  function facts(pairs) {
    const list = element("dl");
    for (const [name, value] of pairs) {
      if (value !== "" && value !== undefined) {
        list.append(element("dt", {}, name), element("dd", {}, String(value)));
      }
    }
    return list;
  }
  // A table whose columns named in NUMBERS are right-aligned, head and cells alike.
  const NUMBERS = ["images", "value", "paper"];
  function tableOf(heads, lines) {
    const made = element("table");
    const head = element("tr");
    for (const name of heads) head.append(element("th", { scope: "col" }, name));
    for (const row of [head, ...lines]) {
      heads.forEach((name, at) => row.cells[at].classList.toggle("number", NUMBERS.includes(name)));
    }
    made.append(element("thead", {}, head), element("tbody", {}, ...lines));
    return element("div", { class: "scroll", tabindex: "0" }, made);
  }
  function line(...cells) {
    return element("tr", {}, ...cells.map((cell) => element("td", {}, cell)));
  }
  function numberButton(id) {
    const text = data.cards[id].text;
    return element("button", { type: "button", class: "num", "data-cards": String(id) }, text);
  }

  // In which fields two cards differ; empty when they may be compared.
  function differences(card, other) {
    if (card.letter === other.letter) return [];
    const protocols = data.protocols[`${card.suite}/${card.metric}`];
    const [mine, theirs] = [protocols[card.letter], protocols[other.letter]];
    const names = new Set([...Object.keys(mine), ...Object.keys(theirs)]);
    const short = (value) => (value === undefined ? "none" : value.length > 40 ? `${value.slice(0, 40)}...` : value);
    return [...names]
      .filter((name) => mine[name] !== theirs[name])
      .map((name) => `${name} ${short(mine[name])} / ${short(theirs[name])}`);
  }
  function difference(card, other) {
    const value = card.value - other.value;
    return `${value > 0 ? "+" : ""}${Number(value.toPrecision(3))}`;
  }
  function others(id) {
    const card = data.cards[id];
    const lines = data.cards.flatMap((other, index) => {
      if (index === id || other.metric !== card.metric || other.suite !== card.suite) return [];
      const fields = differences(card, other);
      const words = fields.length
        ? element("span", { class: "refused" }, `not comparable: ${fields.join("; ")}`)
        : difference(card, other);
      return [line(data.runs[other.run].name, other.outcomes.step || "", numberButton(index), words)];
    });
    if (!lines.length) return [];
    const heads = ["run", "images", "value", "this minus that"];
    return [element("h3", {}, "The same metric elsewhere (this card / the other)"), tableOf(heads, lines)];
  }
  function showCard(id) {
    const card = data.cards[id];
    const protocol = data.protocols[`${card.suite}/${card.metric}`][card.letter];
    const head = [
      ["run", data.runs[card.run].name],
      ["note", card.note],
      ["which way", card.better],
      ["paper", card.paper ? `${card.paper.text}: ${card.paper.source}` : ""],
      ["evaluation", card.newest ? "the newest of this run" : "another checkpoint or protocol of this run"],
      ["protocol", Object.keys(data.protocols[`${card.suite}/${card.metric}`]).length > 1 ? card.letter : ""],
    ];
    open(
      `${card.title} = ${card.text}`,
      facts(head),
      element("h3", {}, "Metric card"),
      facts([...Object.entries(card.outcomes), ...Object.entries(protocol)]),
      ...others(id),
    );
  }
  function showCards(ids) {
    if (ids.length === 1) return showCard(ids[0]);
    const lines = ids.map((id) => {
      const card = data.cards[id];
      return line(data.runs[card.run].name, card.outcomes.step || "", numberButton(id));
    });
    return open(`${data.cards[ids[0]].title}: ${ids.length} trials`, tableOf(["run", "images", "value"], lines));
  }
  function showRun(index) {
    const run = data.runs[index];
    const lines = run.cards
      .filter((id) => data.cards[id].newest)
      .map((id) => {
        const card = data.cards[id];
        const paper = card.paper ? `${card.paper.text} (${card.paper.source.split(",")[0]})` : "";
        return line(card.suite, card.title, numberButton(id), paper, card.note);
      });
    const list = element("ul", {}, ...run.problems.map((problem) => element("li", {}, problem)));
    const heads = ["suite", "metric", "value", "paper", "note"];
    open(
      run.name,
      facts([
        ["folder", run.folder + (run.folder && !run.reachable ? " (out of reach: numbers are MLflow's)" : "")],
        ["MLflow run", run.id],
        ["recipe", run.recipe],
        ["status", run.status],
        ...Object.entries(run.facts),
        ["trial of sweeps", run.trials.join("; ")],
      ]),
      ...(run.problems.length ? [element("h3", {}, "Not whole"), list] : []),
      lines.length
        ? tableOf(heads, lines)
        : element("p", { class: "empty" }, "Not evaluated yet: python jobs/evaluate.py --run RUN"),
    );
  }
  function showLogged(name, index) {
    const words = "Logged by the training itself at its last step: it has no metric card.";
    open(`${name}: ${data.runs[index].name}`, element("p", {}, `${data.logged[name]}. ${words}`));
  }

  document.addEventListener("click", (event) => {
    if (event.target === dialog) return dialog.close();
    const button = event.target.closest("button");
    if (!button) return undefined;
    if (button.dataset.cards) return showCards(button.dataset.cards.split(" ").map(Number));
    if (button.dataset.open) return showRun(Number(button.dataset.open));
    if (button.dataset.logged) return showLogged(button.dataset.logged, Number(button.dataset.of));
    if (button.classList.contains("unfold")) {
      const body = button.closest("tbody");
      return setFolded(body, !body.classList.contains("folded"));
    }
    if (button.classList.contains("zoom")) {
      const shown = button.firstElementChild.cloneNode(true);
      if (shown.tagName === "IMG") return open(shown.alt, shown);
      const [panel, panels] = [button.closest(".panel"), button.closest(".panels")];
      const around = [panel.nextElementSibling, panels && panels.previousElementSibling];
      const legend = around.find((each) => each && each.classList.contains("legend"));
      const title = panel.querySelector("figcaption").textContent;
      return open(title, legend ? legend.cloneNode(true) : null, shown);
    }
    return undefined;
  });
  // A table that is wider than its box says so.
  function hint() {
    for (const box of document.querySelectorAll("main .scroll")) {
      const wide = box.scrollWidth > box.clientWidth + 1;
      box.classList.toggle("wide", wide);
      box.classList.toggle("more", wide && box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
    }
  }
  for (const box of document.querySelectorAll("main .scroll")) box.addEventListener("scroll", hint);
  window.addEventListener("resize", hint);
  hint();

  document.getElementById("close").addEventListener("click", () => dialog.close());
})();
