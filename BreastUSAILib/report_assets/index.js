// Shows the rows of the run: filtered, sorted, a page at a time. No framework, no network.
const rows = JSON.parse(document.getElementById("rows").textContent);
const keys = JSON.parse(document.getElementById("columns").textContent);
const PAGE = 50;
const table = document.getElementById("results");
const by = (id) => document.getElementById(id);
const state = { page: 0, key: "", down: false };
let shown = rows;

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

const tests = {
  all: () => true,
  lesion: (row) => row.lesions > 0,
  none: (row) => row.lesions === 0,
  failed: (row) => row.failed,
};

function filter() {
  const words = by("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = tests[by("state").value];
  const least = [...document.querySelectorAll("input[data-least]")]
    .filter((input) => input.value !== "")
    .map((input) => [input.dataset.least, Number(input.value)]);
  shown = rows.filter((row) => {
    const text = `${row.path} ${row.found}`.toLowerCase();
    return (
      wanted(row) &&
      words.every((word) => text.includes(word)) &&
      least.every(([key, value]) => row[key] !== undefined && row[key] >= value)
    );
  });
  if (state.key) {
    const sign = state.down ? -1 : 1;
    // Empty cells stay last whichever way the others are sorted; the collation knows numbers inside names.
    const collator = new Intl.Collator(undefined, { numeric: true });
    shown.sort((a, b) => {
      const [x, y] = [a[state.key], b[state.key]];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return sign * (typeof x === "number" ? x - y : collator.compare(x, y));
    });
  }
  state.page = Math.min(state.page, Math.max(0, Math.ceil(shown.length / PAGE) - 1));
  show();
}

function line(row) {
  const made = element("tr");
  if (row.failed) {
    const name = element("td", {}, row.name);
    name.title = row.path;
    made.append(element("td", { class: "thumb" }), name);
    made.append(element("td", { class: "failure", colspan: keys.length + 2 }, row.found));
    return made;
  }
  const report = `${row.at}report.html`;
  const picture = element("img", {
    src: `${row.at}preview.jpg`, width: 120, height: 90, loading: "lazy", alt: `Preview of ${row.name}. ${row.found}`,
  });
  const name = element("td", {}, element("a", { href: report }, row.name));
  name.title = row.path;
  made.append(element("td", { class: "thumb" }, element("a", { href: report }, picture)), name, element("td", {}, row.found));
  for (const { key } of keys) {
    const value = row[key];
    const digits = key === "score" || key === "malignancy" ? 2 : undefined;
    made.append(element("td", { class: "number" }, value === undefined ? "" : digits ? value.toFixed(digits) : String(value)));
  }
  const files = element("td");
  row.files.forEach((file, i) => files.append(...(i ? [element("br")] : []), element("a", { href: row.at + file }, file)));
  made.append(files);
  return made;
}

function show() {
  const start = state.page * PAGE;
  const end = Math.min(start + PAGE, shown.length);
  table.tBodies[0].replaceChildren(...shown.slice(start, end).map(line));
  const all = shown.length === rows.length ? "" : ` (of ${rows.length} in all)`;
  by("where").textContent = shown.length ? `${start + 1} to ${end} of ${shown.length}${all}` : `None of ${rows.length} match.`;
  by("before").disabled = start === 0;
  by("after").disabled = end >= shown.length;
}

function turn(pages) {
  state.page += pages;
  show();
  table.scrollIntoView({ block: "start" });
}

by("before").addEventListener("click", () => turn(-1));
by("after").addEventListener("click", () => turn(1));
for (const input of document.querySelectorAll(".filters input, .filters select")) {
  input.addEventListener("input", () => {
    state.page = 0;
    filter();
  });
}
for (const button of table.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    state.down = head.getAttribute("aria-sort") === "ascending";
    state.key = button.dataset.key;
    for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    state.page = 0;
    filter();
  });
}
by("interactive").hidden = false;
filter();
