"use strict";
// Pictures under the attention. Data: see looks_section in heads/show/looks.py. All text goes through textContent.
(() => {
  const source = document.getElementById("looks");
  if (!source) return;
  const looks = JSON.parse(source.textContent);
  const byId = (id) => document.getElementById(id);
  const canvas = byId("look-picture"), sheet = byId("look-sheet"), words = byId("look-words");
  const which = byId("look-which"), headSelect = byId("look-head"), readout = byId("look-readout");
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const DARKEST = 0.75;
  for (const look of looks) {
    look.shares = new Uint16Array(bytes(look.weights).buffer);
    look.named = new Map(look.words);
  }
  // `pinned` looks until another position is clicked; `pointed` is where the pointer rests; `patch` what is read out.
  const state = { look: 0, layer: 0, head: 0, pinned: 0, pointed: null, patch: null };
  const now = () => looks[state.look];
  const query = () => (state.pointed === null ? state.pinned : state.pointed);
  const at = (l, h, q, k) => now().shares[((l * now().heads.length + h) * now().size + q) * now().size + k] / 65535;
  const name = (l, h) => `${now().layers[l]}.${now().heads[h]}`;
  const place = (i) => `row ${Math.floor(i / now().grid[1]) + 1}, column ${(i % now().grid[1]) + 1}`;
  const called = (q) => {
    if (!now().named.has(q)) return place(patchOf(q));
    return now().quoted ? `“${now().named.get(q)}”` : now().named.get(q);
  };
  const patches = () => now().grid[0] * now().grid[1];
  // Other positions may stand behind each row of patches.
  const positionOf = (i) => now().first + Math.floor(i / now().grid[1]) * (now().grid[1] + now().gap) + (i % now().grid[1]);
  const patchOf = (q) => {
    const wide = now().grid[1], row = Math.floor((q - now().first) / (wide + now().gap));
    const column = q - now().first - row * (wide + now().gap);
    return column < wide ? row * wide + column : -1;
  };
  const map = (l, h, q) => Array.from({ length: patches() }, (_, i) => at(l, h, q, positionOf(i)));

  const draw = (target, l, h, thumb) => {
    const look = now(), context = target.getContext("2d"), [rows, columns] = look.grid;
    const shares = map(l, h, query()), top = Math.max(...shares) || 1;
    const wide = target.width / columns, tall = target.height / rows;
    context.imageSmoothingEnabled = false;
    context.clearRect(0, 0, target.width, target.height);
    if (look.image) context.drawImage(look.image, 0, 0, target.width, target.height);
    shares.forEach((share, i) => {
      const x = (i % columns) * wide, y = Math.floor(i / columns) * tall;
      context.fillStyle = look.image ? `rgba(0,0,0,${DARKEST * (1 - share / top)})` : `rgb(${amountColor(share / top).join()})`;
      context.fillRect(x, y, wide, tall);
    });
    const line = thumb ? 1 : 2;
    look.outlines.forEach(([t, left, bottom, right], i) => {
      const box = [left * wide + line, t * tall + line, (right - left) * wide - 2 * line, (bottom - t) * tall - 2 * line];
      for (const [style, width, dashes] of [["#111", 2 * line, []], ["#fff", line, i || !look.solid ? [4, 3] : []]]) {
        context.strokeStyle = style;
        context.lineWidth = width;
        context.setLineDash(dashes);
        context.strokeRect(...box);
      }
    });
    context.setLineDash([]);
    for (const [i, style] of thumb ? [] : [[patchOf(query()), "#c79bff"], [state.patch, "#f0954a"]]) {
      if (i === null || i < 0 || i >= patches()) continue;
      context.strokeStyle = style;
      context.lineWidth = 3;
      context.strokeRect((i % columns) * wide + 2, Math.floor(i / columns) * tall + 2, wide - 4, tall - 4);
    }
  };

  const tell = () => {
    const q = query(), { layer, head } = state, all = map(layer, head, q);
    const sum = all.reduce((a, b) => a + b, 0), from = `${name(layer, head)} from ${called(q)}`;
    readout.textContent = state.patch === null
      ? `${from}: ${sum.toFixed(2)} of it to the picture, brightest patch ${Math.max(...all).toFixed(2)}`
      : `${from} to ${place(state.patch)}: ${all[state.patch].toFixed(3)}`;
  };

  const show = () => {
    const { layer, head } = state;
    headSelect.value = `${layer},${head}`;
    draw(canvas, layer, head, false);
    for (const button of sheet.querySelectorAll("button")) {
      const [l, h] = button.dataset.at.split(",").map(Number);
      draw(button.firstChild, l, h, true);
      button.setAttribute("aria-pressed", String(button.dataset.at === headSelect.value));
    }
    for (const button of words.children) {
      const k = Number(button.dataset.position), share = at(layer, head, query(), k), color = amountColor(share);
      button.firstChild.style.background = `rgb(${color.join()})`;
      button.firstChild.style.color = inkOn(color);
      button.lastChild.textContent = share.toFixed(2);
      button.classList.toggle("at", k === query());
      button.setAttribute("aria-pressed", String(k === state.pinned));
    }
    tell();
  };

  const point = (position) => { state.pointed = position; show(); };
  const pin = (position) => { state.pinned = position; state.pointed = null; show(); };
  const choose = (layer, head) => { state.layer = layer; state.head = head; show(); };

  const wordButton = ([position, text]) => {
    const button = document.createElement("button"), word = document.createElement("b"), share = document.createElement("small");
    button.type = "button";
    button.className = "token";
    button.dataset.position = position;
    word.textContent = text;
    button.append(word, share);
    button.addEventListener("mouseenter", () => point(position));
    button.addEventListener("mouseleave", () => point(null));
    button.addEventListener("focus", () => pin(position));
    button.addEventListener("click", () => pin(position));
    return button;
  };
  const thumbButton = (l, h) => {
    const button = document.createElement("button"), thumb = document.createElement("canvas");
    const side = now().heads.length > 12 ? 40 : 72;
    button.type = "button";
    button.title = name(l, h);
    button.setAttribute("aria-label", name(l, h));
    button.dataset.at = `${l},${h}`;
    thumb.width = side;
    thumb.height = Math.round((side * now().grid[0]) / now().grid[1]);
    button.append(thumb);
    button.addEventListener("click", () => choose(l, h));
    return button;
  };

  const build = () => {
    const look = now();
    state.pinned = look.query;
    state.pointed = state.patch = null;
    [state.layer, state.head] = look.start;
    byId("look-about").textContent = look.about;
    canvas.height = Math.round((canvas.width * look.grid[0]) / look.grid[1]);
    words.replaceChildren(...look.words.map(wordButton));
    headSelect.replaceChildren();
    sheet.replaceChildren();
    sheet.style.gridTemplateColumns = `auto repeat(${look.heads.length}, max-content)`;
    look.layers.forEach((layer, l) => {
      const label = document.createElement("span");
      label.className = "soft";
      label.textContent = layer;
      sheet.append(label, ...look.heads.map((_, h) => {
        headSelect.append(new Option(name(l, h), `${l},${h}`));
        return thumbButton(l, h);
      }));
    });
    show();
    if (look.picture && !look.image) {
      const image = new Image();
      image.addEventListener("load", () => { look.image = image; if (now() === look) show(); });
      image.src = `data:image/png;base64,${look.picture}`;
    }
  };

  const patchAt = (event) => {
    const box = canvas.getBoundingClientRect(), [rows, columns] = now().grid;
    const cell = (where, size, n) => Math.max(0, Math.min(n - 1, Math.floor((where / size) * n)));
    return cell(event.clientY - box.top, box.height, rows) * columns + cell(event.clientX - box.left, box.width, columns);
  };
  canvas.addEventListener("mousemove", (event) => { state.patch = patchAt(event); show(); });
  canvas.addEventListener("mouseleave", () => { state.patch = null; show(); });
  canvas.addEventListener("click", (event) => pin(positionOf(patchAt(event))));
  canvas.addEventListener("keydown", (event) => {
    const [rows, columns] = now().grid;
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.key === "Enter" && state.patch !== null) { pin(positionOf(state.patch)); return; }
    if (event.key === "Escape") { state.patch = null; pin(now().query); return; }
    if (!step) return;
    event.preventDefault();
    const [row, column] = state.patch === null ? [0, 0] : [Math.floor(state.patch / columns) + step[0], (state.patch % columns) + step[1]];
    state.patch = Math.max(0, Math.min(rows - 1, row)) * columns + Math.max(0, Math.min(columns - 1, column));
    show();
  });
  document.addEventListener("themechange", () => show());
  which.addEventListener("change", () => { state.look = Number(which.value); build(); });
  headSelect.addEventListener("change", () => choose(...headSelect.value.split(",").map(Number)));
  document.body.addEventListener("click", (event) => {
    const button = event.target.closest("button.address");
    if (!button) return;
    const [layer, head] = button.textContent.split(".");
    const l = now().layers.indexOf(layer), h = now().heads.indexOf(head);
    if (l >= 0 && h >= 0) choose(l, h);
  });
  which.closest("label").hidden = looks.length < 2;
  build();
})();
