"use strict";
// What stands beside the picture when a head or an edge is clicked. Data: see page_details. All text goes through textContent.
window.closeUp = (data, { element, format, signed, changed }) => {
  const known = data.details || { prompts: [], heads: {}, edges: {}, notes: [], command: "" };
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const state = { prompt: 0, query: null, key: null, wide: false };
  const heading = (text) => element("h3", {}, text);
  const soft = (text) => element("p", { class: "soft" }, text);
  const quote = (text) => `“${text}”`;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const pictures = new Map();

  const facts = (pairs) => {
    const list = element("dl", {});
    for (const [name, value] of pairs) if (value !== null && value !== undefined && value !== "") list.append(element("dt", {}, name), element("dd", {}, value));
    return list.children.length ? [list] : [];
  };
  const others = known.others || [];
  const interval = (low, high) => (low === null ? "" : ` (95 % interval ${format(low)} to ${format(high)})`);
  const measured = (head, id) => {
    const between = interval(head.low, head.high);
    const error = head.direct_stderr === null ? "" : ` ± ${format(head.direct_stderr)}`;
    const looks = Object.entries(head.looks).filter(([, share]) => share >= 0.005).slice(0, 4).map(([name, share]) => `${placed(name)} ${share.toFixed(2)}`);
    return facts([
      ["ablated, it loses", head.effect === null ? null : `${signed(head.effect)} ${known.unit}${between}, ${known.ablation}, n ${known.n_pairs}`],
      ...others.filter((o) => o.heads[id] && o.heads[id][0] !== null).map((o) => [`by ${o.ablation} ablation`, `${signed(o.heads[id][0])} ${known.unit}${interval(o.heads[id][1], o.heads[id][2])}, n ${o.n_pairs}`]),
      ["adds directly", head.direct === null ? null : `${signed(head.direct)}${error} ${known.unit}`],
      ["looks from end at", looks.join(", ")],
      ["carries most from", placed(head.carries)],
    ]);
  };
  const tokens = (written, name, label) => (written && written[name].length ? [label, written[name].map(([text, value]) => `${quote(text)} ${signed(value)}`).join(", ")] : [label, null]);

  // Rows are queries, columns keys; the names of tokens stand at both sides.
  const pattern = (id) => {
    const box = element("div", { class: "closeup-pattern" }), held = known.prompts.filter((p) => id in p.patterns);
    if (!held.length) return [];
    state.prompt = Math.min(state.prompt, held.length - 1);
    const which = element("select", { id: "closeup-prompt" });
    held.forEach((p, i) => which.append(element("option", { value: String(i) }, p.title)));
    which.value = String(state.prompt);
    const wider = element("button", { type: "button", id: "closeup-wider", "aria-pressed": String(state.wide) }, state.wide ? "Narrower" : "Wider");
    const canvas = element("canvas", { id: "closeup-canvas", tabindex: "0", role: "img" });
    const under = element("canvas", { id: "closeup-picture", role: "img" });
    const readout = element("p", { id: "closeup-readout", class: "readout soft", role: "status" });
    const writes = element("div", { id: "closeup-writes" });
    let p, shares, n, cell, left, above, side;
    const at = (q, k) => (p.causal ? (k > q ? 0 : shares[(q * (q + 1)) / 2 + k]) : shares[q * n + k]) / 255;
    const name = (i) => `${i} ${quote(p.tokens[i])}`;
    const told = () => {
      const q = state.query === null ? p.read_at : state.query;
      if (state.key !== null) return `from ${name(q)} at ${name(state.key)}: ${at(q, state.key).toFixed(3)}`;
      const best = p.tokens.map((_, k) => k).sort((a, b) => at(q, b) - at(q, a)).slice(0, 3).filter((k) => at(q, k) >= 0.005);
      const where = state.query === null ? `, ${p.reads}` : "";
      return `from ${name(q)}${where}: ${best.map((k) => `${name(k)} ${at(q, k).toFixed(2)}`).join(", ") || "nothing"}${onPicture(q)}`;
    };
    const onPicture = (q) => (p.picture ? `; on the picture ${onPatches(q).reduce((a, b) => a + b, 0).toFixed(2)} in all` : "");
    const draw = () => {
      const ratio = window.devicePixelRatio || 1, context = canvas.getContext("2d"), size = Math.max(7, Math.min(12, cell * 0.85));
      canvas.width = Math.round((left + side) * ratio); canvas.height = Math.round((above + side) * ratio);
      canvas.style.width = `${left + side}px`; canvas.style.height = `${above + side}px`;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      const step = Math.max(1, Math.ceil(8 / cell)); // names that would overlap are left out; the line below has them all
      const chosen = state.query === null ? p.read_at : state.query;
      context.font = `${size}px system-ui, sans-serif`;
      for (let i = 0; i < n; i++) {
        const own = i === chosen || i === state.key;
        if (i % step && !own) continue;
        context.fillStyle = css(own ? "--ink" : "--soft");
        const text = p.tokens[i].trim().slice(0, 9) || "·";
        context.textAlign = "right"; context.textBaseline = "middle";
        if (i % step === 0 || i === chosen) context.fillText(text, left - 4, above + (i + 0.5) * cell);
        context.save();
        context.translate(left + (i + 0.5) * cell, above - 4); context.rotate(-Math.PI / 3); context.textAlign = "left";
        context.fillText(text, 0, 0);
        context.restore();
      }
      for (let q = 0; q < n; q++) for (let k = 0; k < n; k++) {
        context.fillStyle = `rgb(${amountColor(at(q, k)).join()})`;
        context.fillRect(left + k * cell, above + q * cell, cell + 0.5, cell + 0.5);
      }
      context.strokeStyle = css("--focus"); context.lineWidth = 1.5;
      context.strokeRect(left, above + chosen * cell, side, cell);
      if (state.key !== null) context.strokeRect(left + state.key * cell, above + chosen * cell, cell, cell);
      drawPicture(chosen);
      readout.textContent = told();
      canvas.setAttribute("aria-label", `Attention of ${id}, rows look at columns; ${told()}. Arrow keys move over the cells`);
    };
    const place = (i) => p.picture.first + Math.floor(i / p.picture.columns) * (p.picture.columns + p.picture.gap) + (i % p.picture.columns);
    const onPatches = (q) => Array.from({ length: p.picture.rows * p.picture.columns }, (_, i) => at(q, place(i)));
    const drawPicture = (q) => {
      const patches = p.picture;
      under.hidden = !patches;
      if (!patches) return;
      const wide = 288, tall = Math.round((wide * patches.rows) / patches.columns), context = under.getContext("2d");
      under.width = wide; under.height = tall;
      const all = onPatches(q), most = Math.max(...all), top = most || 1;
      const image = pictures.get(p);
      context.imageSmoothingEnabled = false;
      if (image && image.complete) context.drawImage(image, 0, 0, wide, tall);
      all.forEach((share, i) => {
        context.fillStyle = image ? `rgba(0,0,0,${most < 0.005 ? 0.4 : 0.75 * (1 - share / top)})` : `rgb(${amountColor(share / top).join()})`;
        context.fillRect((i % patches.columns) * (wide / patches.columns), Math.floor(i / patches.columns) * (tall / patches.rows), wide / patches.columns, tall / patches.rows);
      });
      const looked = all.findIndex((_, i) => place(i) === state.key);
      if (looked >= 0) {
        context.strokeStyle = css("--focus"); context.lineWidth = 3;
        context.strokeRect((looked % patches.columns) * (wide / patches.columns), Math.floor(looked / patches.columns) * (tall / patches.rows), wide / patches.columns, tall / patches.rows);
      }
      under.setAttribute("aria-label", `The picture under the attention of ${id} from ${name(q)}; brightest patch ${most.toFixed(3)}`);
    };
    const build = () => {
      p = held[state.prompt]; shares = bytes(p.patterns[id]); n = p.tokens.length;
      state.query = state.key = null;
      const room = Math.max(220, (document.querySelector("aside").clientWidth || 340) - 36);
      left = 62; above = 46; side = Math.min(room - left, 34 * n, 560); cell = side / n;
      if (p.picture && p.picture.png && !pictures.has(p)) {
        const image = new Image();
        image.addEventListener("load", draw);
        image.src = `data:image/png;base64,${p.picture.png}`;
        pictures.set(p, image);
      }
      const written = p.writes[id];
      writes.replaceChildren(...facts([tokens(written, "raised", "raises"), tokens(written, "lowered", "lowers")]));
      draw();
    };
    const cellAt = (event) => {
      const rect = canvas.getBoundingClientRect(), limit = (x) => Math.floor(x / cell);
      const q = limit(event.clientY - rect.top - above), k = limit(event.clientX - rect.left - left);
      if (q >= n || k >= n || (q < 0 && k < 0)) return [null, null];
      return [q < 0 ? p.read_at : q, k < 0 ? null : k];
    };
    canvas.addEventListener("mousemove", (event) => { [state.query, state.key] = cellAt(event); draw(); });
    canvas.addEventListener("mouseleave", () => { state.query = state.key = null; draw(); });
    under.addEventListener("mousemove", (event) => {
      const rect = under.getBoundingClientRect(), { rows, columns } = p.picture;
      const row = Math.floor(((event.clientY - rect.top) / rect.height) * rows), column = Math.floor(((event.clientX - rect.left) / rect.width) * columns);
      if (row < 0 || column < 0 || row >= rows || column >= columns) return;
      state.key = place(row * columns + column); draw();
    });
    under.addEventListener("mouseleave", () => { state.key = null; draw(); });
    under.addEventListener("click", () => { if (state.key !== null) { state.query = state.key; draw(); } });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault(); event.stopPropagation();
      const keep = (x) => Math.max(0, Math.min(n - 1, x));
      state.query = keep((state.query === null ? p.read_at : state.query) + step[0]);
      state.key = keep((state.key === null ? 0 : state.key) + step[1]);
      draw();
    });
    which.addEventListener("change", () => { state.prompt = Number(which.value); build(); changed(); });
    wider.addEventListener("click", () => {
      state.wide = !state.wide;
      document.body.classList.toggle("wide-aside", state.wide);
      wider.setAttribute("aria-pressed", String(state.wide)); wider.textContent = state.wide ? "Narrower" : "Wider";
      build();
    });
    box.append(element("div", { class: "row" }, element("label", {}, "Prompt ", which), wider), canvas, under, readout, writes);
    redraw = draw;
    requestAnimationFrame(build);
    return [heading("Attention: rows look at columns"), box];
  };
  let redraw = () => {};
  document.addEventListener("themechange", () => redraw());

  const missing = () => (data.details && data.details.measured ? [] : [soft("Attention, effects and reasons are not measured yet. To measure them, for a page.html beside the circuit:"), element("code", { class: "line" }, known.command)]);

  // A place without a name is told by its distance to the end.
  const placed = (term) => (/^-\d+$/.test(term) ? `end${term.replace("-", "−")}` : term);
  const terms = (sum) => {
    const large = sum.terms.filter((t, i) => i === 0 || t.share === null || Math.abs(t.share) >= 0.005);
    const rows = large.map((t) => element("tr", {}, element("td", { class: "address" }, placed(t.term)), element("td", { class: "num" }, signed(t.mean)), element("td", { class: "num" }, t.share === null ? "–" : `${Math.round(100 * t.share)} %`)));
    const more = sum.of > large.length ? `, the largest ${large.length} of ${sum.of}` : "";
    return [
      element("p", { class: "soft" }, `${sum.title} (sums to ${sum.sums_to}: ${signed(sum.total)} ${sum.unit}${more})`),
      element("table", {}, element("thead", {}, element("tr", {}, element("th", {}, "term"), element("th", { class: "num" }, "mean"), element("th", { class: "num" }, "share"))), element("tbody", {}, ...rows)),
    ];
  };
  const reasonOf = (found) => {
    if (!found.reason) return found.why_not ? [heading("Why"), soft(found.why_not)] : [];
    const { reason } = found;
    const where = reason.places.map((place) => element("li", {}, Object.entries(place).map(([name, value]) => `${name} ${value}`).join(", ")));
    const numbers = Object.entries(reason.facts).map(([name, value]) => [name, typeof value === "number" ? format(value) : value]);
    return [heading("Why, from the weights"), soft(`${reason.n_pairs} pairs; where it acts:`), element("ul", { class: "places" }, ...where), ...reason.rankings.flatMap(terms), ...facts(numbers)];
  };

  return {
    prompt: () => state.prompt,
    setPrompt: (i) => { if (Number.isInteger(i) && i >= 0 && i < Math.max(1, known.prompts.length)) state.prompt = i; },
    node: (node) => {
      if (node.kind !== "head") return [];
      const id = node.id.replace(/@.*/, ""), head = known.heads[id];
      return head ? [...measured(head, id), ...pattern(id)] : [...facts((known.roles || {})[id] || []), ...missing()];
    },
    edgeFacts: (edge) => {
      const found = known.edges[edge.id] || {};
      const share = found.found;
      return [
        ["exact effect", found.exact === null || found.exact === undefined ? null : `${signed(found.exact)} ${known.unit || data.unit}${found.exact_from ? `, ${found.exact_from}` : `, ${known.ablation}, n ${known.n_pairs}`}`],
        ...others.filter((o) => edge.id in o.edges).map((o) => [`by ${o.ablation} ablation`, `${signed(o.edges[edge.id])} ${known.unit || data.unit}, n ${o.n_pairs}`]),
        ["found in", share === null || share === undefined ? null : `${Math.round(100 * share)} % of ${known.draws} bootstrap draws`],
      ];
    },
    edge: (edge) => {
      const found = known.edges[edge.id];
      return found && (found.reason || found.why_not) ? reasonOf(found) : missing();
    },
  };
};
