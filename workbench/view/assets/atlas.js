"use strict";
(() => {
  const body = document.querySelector("#heads tbody");
  const value = (row, i) => {
    const cell = row.cells[i];
    if (i === 0) return Number(row.dataset.layer) * 1e6 + Number(row.dataset.head);
    return cell.dataset.value === undefined ? NaN : Number(cell.dataset.value);
  };
  for (const table of document.querySelectorAll("table.heads")) {
    const columns = table.querySelectorAll("thead th[aria-sort]"), body = table.tBodies[0];
    for (const th of columns) {
      th.querySelector("button").addEventListener("click", () => {
        const i = th.cellIndex;
        const first = i === 0 ? "ascending" : "descending";
        const way = th.getAttribute("aria-sort") === first ? (i === 0 ? "descending" : "ascending") : first;
        for (const other of columns) other.setAttribute("aria-sort", "none");
        th.setAttribute("aria-sort", way);
        const sign = way === "ascending" ? 1 : -1;
        const rows = [...body.rows].map((row) => [value(row, i), row]);
        rows.sort(([a], [b]) => (isNaN(a) ? (isNaN(b) ? 0 : 1) : isNaN(b) ? -1 : sign * (a - b)));
        body.append(...rows.map(([, row]) => row));
      });
    }
  }

  const data = JSON.parse(document.getElementById("data").textContent);
  if (!data.length) return;
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  for (const prompt of data) {
    prompt.bytes = bytes(prompt.weights);
    if (prompt.sinks) prompt.taken = bytes(prompt.sinks);
  }
  const byId = (id) => document.getElementById(id);
  const canvas = byId("pattern"), readout = byId("readout"), sheet = byId("sheet"), tokens = byId("tokens");
  const promptSelect = byId("prompt"), headSelect = byId("head");
  const state = { prompt: 0, layer: 0, head: 0, query: null, key: null };
  const at = (p, l, h, q, k) => p.bytes[((l * p.heads + h) * p.tokens.length + q) * p.tokens.length + k];
  const rest = (p, l, h, q) => !p.taken ? "" :
    `; ${(p.taken[(l * p.heads + h) * p.tokens.length + q] / 255).toFixed(3)} goes to no key`;

  const draw = (target, p, l, h) => {
    const n = p.tokens.length;
    const image = new ImageData(n, n);
    const palette = Array.from({ length: 256 }, (_, v) => amountColor(v / 255));
    for (let q = 0; q < n; q++) for (let k = 0; k < n; k++) {
      image.data.set([...palette[at(p, l, h, q, k)], 255], 4 * (q * n + k));
    }
    const small = document.createElement("canvas");
    small.width = small.height = n;
    small.getContext("2d").putImageData(image, 0, 0);
    const context = target.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.clearRect(0, 0, target.width, target.height);
    context.drawImage(small, 0, 0, target.width, target.height);
  };
  const name = (l, h) => `a${data[state.prompt].layers[l]}.h${h}`;

  const show = () => {
    const p = data[state.prompt], n = p.tokens.length, side = canvas.width / n;
    draw(canvas, p, state.layer, state.head);
    headSelect.value = `${state.layer},${state.head}`;
    for (const button of sheet.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.at === headSelect.value));
    }
    const context = canvas.getContext("2d");
    if (state.query !== null) {
      context.strokeStyle = "#c2570f";
      context.lineWidth = 1.5;
      context.strokeRect(0, state.query * side, canvas.width, side);
      if (state.key !== null) context.strokeRect(state.key * side, state.query * side, side, side);
    }
    [...tokens.children].forEach((span, i) => {
      const v = state.query === null ? 0 : at(p, state.layer, state.head, state.query, i);
      const color = amountColor(v / 255);
      span.firstChild.style.background = state.query === null ? "" : `rgb(${color.join()})`;
      span.firstChild.style.color = state.query === null ? "" : inkOn(color);
      span.classList.toggle("at", i === state.query);
      span.setAttribute("aria-pressed", String(i === state.query));
    });
    if (state.query === null) readout.textContent = `${name(state.layer, state.head)}: ${n} tokens`;
    else if (state.key === null) readout.textContent = `${name(state.layer, state.head)}: from ${state.query} “${p.tokens[state.query]}”` +
      rest(p, state.layer, state.head, state.query);
    else {
      const v = at(p, state.layer, state.head, state.query, state.key) / 255;
      readout.textContent = `${name(state.layer, state.head)}: from ${state.query} “${p.tokens[state.query]}” at ` +
        `${state.key} “${p.tokens[state.key]}”: ${v.toFixed(3)}` + rest(p, state.layer, state.head, state.query);
    }
  };

  const choose = (layer, head) => { state.layer = layer; state.head = head; show(); };
  const build = () => {
    const p = data[state.prompt];
    state.query = state.key = null;
    state.layer = Math.min(state.layer, p.layers.length - 1);
    headSelect.replaceChildren();
    sheet.replaceChildren();
    sheet.style.gridTemplateColumns = `auto repeat(${p.heads}, max-content)`;
    p.layers.forEach((layer, l) => {
      const label = document.createElement("span");
      label.className = "soft";
      label.textContent = layer;
      sheet.append(label);
      for (let h = 0; h < p.heads; h++) {
        headSelect.append(new Option(name(l, h), `${l},${h}`));
        const button = document.createElement("button"), thumb = document.createElement("canvas");
        button.type = "button";
        button.title = name(l, h);
        button.setAttribute("aria-label", name(l, h));
        button.dataset.at = `${l},${h}`;
        thumb.width = thumb.height = p.heads > 16 ? 26 : 48;
        draw(thumb, p, l, h);
        button.append(thumb);
        button.addEventListener("click", () => choose(l, h));
        sheet.append(button);
      }
    });
    tokens.replaceChildren(...p.tokens.map((text, i) => {
      const span = document.createElement("button"), word = document.createElement("b"), index = document.createElement("small");
      span.type = "button";
      span.className = "token";
      word.textContent = text || " ";
      index.textContent = i;
      span.append(word, index);
      const pick = () => { state.query = i; state.key = null; show(); };
      span.addEventListener("mouseenter", pick);
      span.addEventListener("focus", pick);
      span.addEventListener("click", pick);
      return span;
    }));
    show();
  };

  document.addEventListener("themechange", () => {
    for (const button of sheet.querySelectorAll("button")) draw(button.firstChild, data[state.prompt], ...button.dataset.at.split(",").map(Number));
    show();
  });
  promptSelect.addEventListener("change", () => { state.prompt = Number(promptSelect.value); build(); });
  headSelect.addEventListener("change", () => choose(...headSelect.value.split(",").map(Number)));
  canvas.addEventListener("mousemove", (event) => {
    const n = data[state.prompt].tokens.length, box = canvas.getBoundingClientRect();
    const cell = (where, size) => Math.max(0, Math.min(n - 1, Math.floor((where / size) * n)));
    state.query = cell(event.clientY - box.top, box.height);
    state.key = cell(event.clientX - box.left, box.width);
    show();
  });
  canvas.addEventListener("mouseleave", () => { state.query = state.key = null; show(); });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const last = data[state.prompt].tokens.length - 1;
    const move = (old, by) => Math.max(0, Math.min(last, (old ?? 0) + by));
    state.query = move(state.query, step[0]);
    state.key = move(state.key, step[1]);
    show();
  });
  body.addEventListener("click", (event) => {
    const button = event.target.closest("button.address");
    if (!button) return;
    const row = button.closest("tr"), layer = data[state.prompt].layers.indexOf(Number(row.dataset.layer));
    if (layer < 0) return;
    choose(layer, Number(row.dataset.head));
    canvas.scrollIntoView({ block: "nearest" });
  });
  build();
})();
