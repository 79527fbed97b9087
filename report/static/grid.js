// The page of a grid: a heading sorts its table; an arm that is pointed at is lit everywhere.

function valueOf(row, column) {
  const text = row.children[column].dataset.value ?? row.children[column].textContent;
  return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

/** Numbers by size, texts by letters, what is missing last in both directions. */
function order(a, b, sign) {
  if (a === "" || b === "") return (a === "") - (b === "");
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), "en", { numeric: true });
}

function sortBy(table, heading) {
  const column = [...heading.parentNode.children].indexOf(heading);
  const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((a, b) => order(valueOf(a, column), valueOf(b, column), sign));
  body.append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const button of table.tHead.querySelectorAll("button")) {
    button.addEventListener("click", () => sortBy(table, button.closest("th")));
  }
}

let pointed = null;

function point(arm) {
  if (arm === pointed) return;
  pointed = arm;
  document.body.classList.toggle("pointing", arm !== null);
  for (const node of document.querySelectorAll(".pointed")) node.classList.remove("pointed");
  if (arm === null) return;
  for (const node of document.querySelectorAll(`[data-arm="${CSS.escape(arm)}"]`)) node.classList.add("pointed");
}

document.addEventListener("pointerover", (event) => {
  point(event.target.closest("[data-arm]")?.dataset.arm ?? null);
});
