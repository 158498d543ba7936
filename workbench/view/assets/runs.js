"use strict";
(() => {
  const table = document.getElementById("runs"), told = document.getElementById("told");
  const rows = [...table.tBodies[0].rows];
  const text = document.getElementById("text");
  const choices = [...document.querySelectorAll("select[data-column]")];
  for (const choice of choices) {
    const values = [...new Set(rows.map((row) => row.cells[choice.dataset.column].textContent))].sort();
    choice.append(...values.filter(Boolean).map((value) => new Option(value, value)));
  }
  const show = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let seen = 0;
    for (const row of rows) {
      const own = row.textContent.toLowerCase();
      const fits = words.every((word) => own.includes(word)) &&
        choices.every((choice) => !choice.value || row.cells[choice.dataset.column].textContent === choice.value);
      row.hidden = !fits;
      seen += fits;
    }
    told.textContent = `${seen} of ${rows.length} runs`;
    const kept = new URLSearchParams([["text", text.value], ...choices.map((c) => [c.id, c.value])].filter(([, v]) => v));
    history.replaceState(null, "", kept.size ? `#${kept}` : location.pathname);
  };
  const sort = (column, button) => {
    const down = button.getAttribute("aria-sort") === "ascending";
    for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
    button.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (a, b) => (isNaN(value(a)) || isNaN(value(b)) ? value(a).localeCompare(value(b)) : value(a) - value(b));
    table.tBodies[0].append(...[...rows].sort((a, b) => (down ? -1 : 1) * compare(a, b)));
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => sort(column, head));
  });
  const kept = new URLSearchParams(location.hash.slice(1));
  text.value = kept.get("text") ?? "";
  for (const choice of choices) choice.value = kept.get(choice.id) ?? "";
  for (const input of [text, ...choices]) input.addEventListener("input", show);
  show();
})();
