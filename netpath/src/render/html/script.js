"use strict";
// Tables: sorted by a click on a heading, filtered by words, shown a part at a time.
const STEP = 300;
// What paper has at most: a browser lays out no more in reasonable time.
const PAPER = 3000;
const text = new Intl.Collator("en", { numeric: true });
// IPv6: each group as a number, without "::".
const address = /[0-9a-f]{0,4}:[0-9a-f]{0,4}:[0-9a-f:]*/gi;
const ordered = (words) => words.replace(/\[(.*?)\]/g, "$1 ").replace(address, (found) => {
  const [head, tail] = found.split("::").map((part) => part.split(":").filter(Boolean));
  const groups = tail ? [...head, ...Array(Math.max(0, 8 - head.length - tail.length)).fill("0"), ...tail] : head;
  return groups.map((group) => parseInt(group, 16)).join(":");
});
const make = (name, properties, ...inside) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...inside);
  return element;
};

// A row as data: its texts, their numbers, what stands below it, and its elements once it has been shown.
function ofElements(row) {
  const below = row.nextElementSibling && row.nextElementSibling.className === "d" ? row.nextElementSibling : null;
  return {
    texts: [...row.cells].map((cell) => cell.textContent),
    numbers: [...row.cells].map((cell) => ("k" in cell.dataset ? Number(cell.dataset.k) : null)),
    below: below ? below.textContent : "",
    also: row.dataset.also || "",
    elements: below ? [row, below] : [row],
  };
}

function ofData([cells, details, also]) {
  const parts = cells.map((cell) => (Array.isArray(cell) ? cell : [cell, null]));
  return {
    texts: parts.map((part) => part[0]),
    numbers: parts.map((part) => part[1]),
    classes: parts.map((part) => part[2] || ""),
    details,
    below: details.join(" "),
    also,
    elements: null,
  };
}

function elements(row, heads) {
  if (!row.elements) {
    const cells = row.texts.map((words, at) => {
      const cell = make(at ? "td" : "th", { className: row.classes[at] || heads[at].className, textContent: words });
      if (!at) cell.scope = "row";
      return cell;
    });
    row.elements = [make("tr", {}, ...cells)];
    if (row.details.length) {
      const lines = row.details.map((line) => make("div", { textContent: line }));
      row.elements.push(make("tr", { className: "d" }, make("td", { colSpan: heads.length }, ...lines)));
    }
  }
  return row.elements;
}

function upgrade(box) {
  const table = box.querySelector("table");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const all = [...body.rows].filter((row) => row.className !== "d").map(ofElements);
  const data = box.querySelector("script");
  let rest = data ? JSON.parse(data.textContent) : null;
  const count = all.length + (rest ? rest.length : 0);
  if (count < 2) return;
  const first = Math.max(STEP, all.length);
  let shown = all;
  let limit = first;
  // The others are made rows when they are first needed.
  const rows = () => {
    if (rest) {
      for (const row of rest) all.push(ofData(row));
      rest = null;
    }
    return all;
  };
  const old = box.querySelector(".count");
  if (old) old.remove();
  const status = make("span", { className: "note" });
  status.setAttribute("role", "status");
  const input = make("input", { type: "search", autocomplete: "off", spellcheck: false });
  const more = make("button", { type: "button", className: "more", textContent: "Show more" });
  // A few rows need no filter.
  if (count > 8) box.prepend(make("div", { className: "tools" }, make("label", {}, "Filter ", input), status));
  const paper = make("p", { className: "note paper" });
  box.append(more, paper);

  const say = (there) => {
    const now = Math.min(limit, there);
    status.textContent = now === count ? `${count} rows` : `${now} of ${there} rows` + (there < count ? ` that match, of ${count}` : "");
    more.hidden = limit >= there;
    const words = input.value.trim();
    const those = words ? `: those with \u201c${words}\u201d` + (now < there ? `, of which there are ${there}` : "") : "";
    paper.textContent = now === count ? "" : `${now} of ${count} rows` + those + (now < there ? "; the page itself has the others" : "");
  };
  const show = () => {
    body.replaceChildren(...shown.slice(0, limit).flatMap((row) => elements(row, heads)));
    say(shown.length);
  };
  let column = -1;
  let falling = false;
  const choose = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const has = (row) => {
      row.search ??= [...row.texts, row.below, row.also].join(" ").toLowerCase();
      return words.every((word) => row.search.includes(word));
    };
    shown = words.length ? rows().filter(has) : [...rows()];
    if (column >= 0) {
      const way = falling ? -1 : 1;
      const isNumber = heads[column].className === "n";
      if (!isNumber) for (const row of shown) row.order = ordered(row.texts[column]);
      shown.sort((one, other) => {
        const [a, b] = isNumber ? [one.numbers[column], other.numbers[column]] : [one.order, other.order];
        if (!isNumber) return way * text.compare(a, b);
        // What is not known comes last.
        if (a === null || b === null) return (a === null) - (b === null);
        return way * (a - b);
      });
    }
    show();
  };

  heads.forEach((head, at) => {
    const button = make("button", { type: "button", title: "Sort" }, ...head.childNodes);
    button.addEventListener("click", () => {
      falling = column === at ? !falling : head.className === "n";
      column = at;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      choose();
    });
    head.replaceChildren(button);
  });
  let waiting;
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      limit = first;
      choose();
    }, 120);
  });
  more.addEventListener("click", () => {
    limit += STEP;
    if (rest) shown = [...rows()];
    show();
    if (more.hidden) box.querySelector(".scroll").focus();
  });
  say(count);

  // Paper has no button for more.
  let before = 0;
  addEventListener("beforeprint", () => {
    before = limit;
    limit = Math.max(limit, PAPER);
    if (rest) shown = [...rows()];
    show();
  });
  addEventListener("afterprint", () => {
    limit = before;
    show();
  });
}

document.querySelectorAll(".rows[data-sorts]").forEach(upgrade);

// The report as a file.
const save = document.getElementById("save");
save.hidden = false;
save.addEventListener("click", async () => {
  const packed = Uint8Array.from(atob(document.getElementById("report").textContent.trim()), (c) => c.charCodeAt(0));
  const json = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const url = URL.createObjectURL(await new Response(json).blob());
  make("a", { href: url, download: "netpath-report.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
});

// Paper shows what is folded.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of folded) one.open = false;
});
