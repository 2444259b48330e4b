// Sorts the table by the column whose title is clicked; numbers by value, empty cells last.
const table = document.getElementById("results");
for (const button of table ? table.querySelectorAll("th button") : []) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const column = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const numeric = head.classList.contains("number");
    const value = (row) => {
      const cell = row.children[column];
      return numeric ? parseFloat(cell.dataset.sort) : cell.textContent.trim();
    };
    const order = (a, b) => {
      if (!numeric) return a.localeCompare(b, undefined, { numeric: true });
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return a - b;
    };
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row), row]);
    rows.sort(([a], [b]) => (down && !Number.isNaN(a) && !Number.isNaN(b) ? order(b, a) : order(a, b)));
    body.append(...rows.map(([, row]) => row));
  });
}
