// Behaviour of the HTML report: a table that can be sorted and filtered and shows a page of rows at a time, pictures
// that open at their full size, and buttons that copy text.
"use strict";

const table = document.getElementById("configurations-table"); // null where nothing was trained
const data = table && JSON.parse(document.getElementById("configurations-data").textContent);
const headers = table ? [...table.tHead.rows[0].cells] : [];
const filters = {
  text: document.getElementById("filter-text"),
  tied: document.getElementById("filter-tied"),
  layers: document.getElementById("filter-layers"),
  status: document.getElementById("filter-status"),
};
const view = { column: 0, descending: false, page: 0 };

// Looks in the text as shown and in the text with numbers as people type them: 12491 finds 12,491.
function holds(shown, text) {
  const lower = shown.toLowerCase();
  return lower.includes(text) || lower.replace(/(\d),(?=\d{3})/g, "$1").includes(text);
}

// A row is [cells, is tied, layers, status]; a cell is [text, what it is sorted by].
function isWanted([cells, tied, layers, status]) {
  const text = filters.text.value.trim().toLowerCase();
  return (
    (!text || cells.some(([shown]) => holds(shown, text))) &&
    (!filters.tied.checked || tied) &&
    (!filters.layers.value || String(layers) === filters.layers.value) &&
    (!filters.status.value || status === filters.status.value)
  );
}

// Numbers are sorted by size, words as people sort them.
function compare(a, b) {
  if (a === null || b === null) return 0;
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
}

// Missing values always come last; equal rows stay in the order of the ranking in both directions.
function sorted(rows) {
  const key = ([cells]) => cells[view.column][1];
  const sign = view.descending ? -1 : 1;
  return rows.toSorted((a, b) => (key(a) === null) - (key(b) === null) || sign * compare(key(a), key(b)));
}

function makeRow([cells, tied]) {
  const row = document.createElement("tr");
  row.classList.toggle("tied", tied);
  cells.forEach(([text], column) => {
    const cell = document.createElement(column === data.heading ? "th" : "td");
    if (column === data.heading) cell.scope = "row";
    if (data.numeric[column]) cell.className = "number";
    cell.textContent = text;
    row.append(cell);
  });
  return row;
}

function show() {
  const rows = sorted(data.rows.filter(isWanted));
  const first = view.page * data.shown;
  const last = Math.min(first + data.shown, rows.length);
  table.tBodies[0].replaceChildren(...rows.slice(first, last).map(makeRow));
  headers.forEach((header, column) => {
    const direction = view.descending ? "descending" : "ascending";
    header.setAttribute("aria-sort", column === view.column ? direction : "none");
  });
  const counted = (n) => n.toLocaleString("en");
  const all = rows.length === data.rows.length ? "" : ` (filtered from ${counted(data.rows.length)})`;
  document.getElementById("shown").textContent = rows.length
    ? `Rows ${counted(first + 1)} to ${counted(last)} of ${counted(rows.length)}${all}`
    : `No configuration fits${all}`;
  document.getElementById("previous").disabled = first === 0;
  document.getElementById("next").disabled = last === rows.length;
}

function makeSortable(header, column) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = header.textContent;
  button.addEventListener("click", () => {
    view.descending = view.column === column && !view.descending;
    view.column = column;
    view.page = 0;
    show();
  });
  header.replaceChildren(button);
}

function turn(pages) {
  view.page += pages;
  show();
  document.getElementById("configurations").scrollIntoView();
}

function startTable() {
  headers.forEach(makeSortable);
  for (const filter of Object.values(filters)) {
    filter.addEventListener("input", () => {
      view.page = 0;
      show();
    });
  }
  document.getElementById("previous").addEventListener("click", () => turn(-1));
  document.getElementById("next").addEventListener("click", () => turn(1));
  show();
}

// Fades the table out at the right while there is more of it there.
function hintAtMore() {
  const scroller = table.parentElement;
  const mark = () => {
    scroller.classList.toggle("more", scroller.scrollLeft + scroller.clientWidth < scroller.scrollWidth - 1);
  };
  const sizes = new ResizeObserver(mark);
  for (const element of [scroller, table]) sizes.observe(element);
  scroller.addEventListener("scroll", mark);
}

// A button around the picture opens it in a dialog. Escape closes the dialog too; a picture that is too large scrolls.
function makeEnlargeable(image) {
  const dialog = document.getElementById("enlarged");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "enlarge";
  button.title = "Show at full size";
  button.addEventListener("click", () => {
    dialog.querySelector("div").replaceChildren(image.cloneNode());
    dialog.showModal();
  });
  image.replaceWith(button);
  button.append(image);
}

// Where the clipboard is out of reach, as it may be for a local file, the text is selected instead.
async function copy(button) {
  const source = document.getElementById(button.dataset.copies);
  const told = button.parentElement.querySelector("[role=status]");
  try {
    await navigator.clipboard.writeText(source.innerText);
    told.textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(source);
    told.textContent = document.execCommand("copy") ? "Copied." : "Selected: copy it with Ctrl+C or ⌘C.";
  }
}

for (const image of document.querySelectorAll("figure img")) makeEnlargeable(image);
document.getElementById("enlarged")?.addEventListener("click", (event) => event.currentTarget.close());
for (const button of document.querySelectorAll("button[data-copies]")) {
  button.addEventListener("click", () => copy(button));
}
for (const element of document.querySelectorAll("[data-scripted]")) element.hidden = false;
for (const element of document.querySelectorAll("[data-unscripted]")) element.hidden = true;
if (table) {
  startTable();
  hintAtMore();
}
