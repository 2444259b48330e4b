// Sorts the table by the column whose title is clicked.
const table = document.getElementById("results");
for (const button of table ? table.querySelectorAll("th button") : []) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const column = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.children[column].dataset.sort;
    // Empty cells stay last whichever way the others are sorted; the collation knows numbers inside names.
    const order = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      const sign = down ? -1 : 1;
      const difference = Number(a) - Number(b);
      return sign * (Number.isNaN(difference) ? a.localeCompare(b, undefined, { numeric: true }) : difference);
    };
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row), row]);
    rows.sort(([a], [b]) => order(a, b));
    body.append(...rows.map(([, row]) => row));
  });
}
