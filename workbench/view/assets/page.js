"use strict";
// The circuit page. Data: see circuit_page in html.py. All text goes through textContent, never through markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const byNode = new Map(data.nodes.map((node) => [node.id, node]));
  const edgeLevel = data.level === "edge";
  const top = Math.max(...data.edges.map((edge) => Math.abs(edge.score)), 1e-300);
  const topNode = Math.max(...data.nodes.map((node) => Math.abs(node.score || 0)), 1e-300);
  const reduced = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

  const format = (value) => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    const text = size !== 0 && (size < 1e-4 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(3)));
    return text.replace("-", "−");
  };
  const signed = (value) => (value > 0 ? "+" : "") + format(value);
  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };

  // Pruning, by the rule of Circuit.top: the n edges of largest |score|, then only what lies on a path from
  // input to logits. `rank` comes from the library, so ties fall the same way.
  const isInput = (id) => id === "input" || id.startsWith("input@") || id.endsWith(":embed");
  // A node's row: its tower, if it is in one, and its layer.
  const rowOf = (n) => `${(/^[a-z][a-z0-9_-]*(?=:)/.exec(n.id) || [""])[0]}:${n.layer}`;
  const isLogits = (id) => id === "logits" || id.startsWith("logits@");
  const ends = new Set(data.edges.flatMap((edge) => [edge.source, edge.target]));
  const helpers = data.nodes.filter((node) => !ends.has(node.id)).map((node) => node.id);
  const reach = (pairs, starts) => {
    const next = new Map();
    for (const [from, to] of pairs) (next.get(from) || next.set(from, []).get(from)).push(to);
    const found = new Set(starts);
    for (let queue = [...starts]; queue.length; ) {
      for (const to of next.get(queue.pop()) || []) if (!found.has(to)) { found.add(to); queue.push(to); }
    }
    return found;
  };
  const prune = (n) => {
    if (!edgeLevel) {
      const nodes = data.nodes.filter((node) => node.rank < n).map((node) => node.id);
      return { nodes: new Set(nodes), edges: new Set(), links: new Set() };
    }
    const kept = data.edges.filter((edge) => edge.rank < n);
    const present = new Set([...kept.flatMap((edge) => [edge.source, edge.target]), ...(kept.length ? helpers : [])]);
    const links = data.links.filter((link) => present.has(link.source) && present.has(link.target));
    const pairs = [...kept, ...links].map((edge) => [edge.source, edge.target]);
    const forward = reach(pairs, [...present].filter(isInput));
    const backward = reach(pairs.map(([a, b]) => [b, a]), [...present].filter(isLogits));
    const alive = (edge) => [edge.source, edge.target].every((id) => forward.has(id) && backward.has(id));
    const edges = kept.filter(alive), live = links.filter(alive);
    const nodes = new Set([...edges, ...live].flatMap((edge) => [edge.source, edge.target]));
    return { nodes, edges: new Set(edges.map((e) => e.id)), links: new Set(live.map((e) => e.id)) };
  };

  // Of two circuits: which of them has a part, and both scores.
  const sides = data.sides || null;
  const sideOf = (kind, id) => (sides ? ` of-${sides[kind][id] || "both"}` : "");
  const said = { here: "only in A", there: "only in B", both: "in both" };
  const shapes = { head: "round-rectangle", mlp: "rectangle", group: "diamond", attn: "hexagon", input: "round-rectangle", logits: "round-rectangle", projector: "ellipse" };
  const brief = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);
  // Circuits are taller than screens: spread the rows until the picture has the shape of its frame.
  // A narrow frame has no room for names of layers and roles: letters are larger instead. Both follow the window.
  const stage = byId("graph"), rows = data.rows, ys = data.nodes.map((n) => n.y), plain = data.left;
  const crowded = data.nodes.some((n) => n.kind === "group" || n.kind === "attn");
  for (const n of [...data.nodes, ...rows]) n.plain = n.x;
  let narrow, spread, size, letters;
  const measureFrame = () => {
    narrow = stage.clientWidth < 520 && !sides;
    const room = (stage.clientWidth / Math.max(stage.clientHeight, 1)) * (Math.max(...ys) - Math.min(...ys) + 60);
    spread = Math.max(1, Math.min(2.2, room / (Math.max(...data.nodes.map((n) => n.plain)) - plain + 60 || 1)));
    if (!Number.isFinite(spread)) spread = 1;
    for (const n of [...data.nodes, ...rows]) n.x = n.plain * spread;
    data.left = plain * spread;
    size = Math.min(crowded ? 0.96 : 1.6, 0.96 * spread); // never wider than a column
    letters = narrow ? 15 : 11;
  };
  measureFrame();
  const unnamed = (row) => narrow && row.layer !== null;
  const elements = [
    ...rows.map((row, i) => ({ data: { id: `row-${i}`, label: row.label, kind: "row" }, position: { x: row.x, y: -row.y }, classes: `row${row.layer === null ? " column" : ""}${unnamed(row) ? " unnamed" : ""}`, selectable: false, grabbable: false, events: "no" })),
    ...data.nodes.map((node) => ({ data: { id: `n:${node.id}`, key: node.id, label: node.role && !narrow ? `${brief(node.id, 16)}\n${brief(node.role, 13)}` : brief(narrow ? node.id.replace(/@.*/, "") : node.id, 13), kind: node.kind, role: node.role && !narrow ? 1 : 0, shape: shapes[node.kind], score: node.score }, position: { x: node.x, y: -node.y }, classes: `node${sideOf("nodes", node.id)}`, grabbable: !sides })),
    ...data.edges.map((edge) => ({ data: { id: `e:${edge.id}`, key: edge.id, source: `n:${edge.source}`, target: `n:${edge.target}`, share: Math.abs(edge.score) / top, score: edge.score, port: ["q", "k", "v"].includes(edge.input) ? edge.input : "" }, classes: `${edge.score < 0 ? "edge minus" : "edge plus"}${sideOf("edges", edge.id)}` })),
    ...data.links.map((link) => ({ data: { id: `e:${link.id}`, key: link.id, source: `n:${link.source}`, target: `n:${link.target}` }, classes: "link", selectable: false })),
  ];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const mix = (from, to, share) => {
    const part = (hex, i) => parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16);
    const parts = [0, 1, 2].map((i) => Math.round(part(from, i) + (part(to, i) - part(from, i)) * share));
    return `#${parts.map((x) => x.toString(16).padStart(2, "0")).join("")}`;
  };
  const nodeFill = (node) => {
    if (node.data("tint")) return node.data("tint");
    const score = node.data("score");
    if (score === null || score === undefined) return color("--node");
    return mix(color("--node"), color(score < 0 ? "--negative" : "--positive"), 0.75 * Math.min(1, Math.abs(score) / topNode));
  };
  const nodeInk = (node) => (node.data("tint") ? inkOn([1, 3, 5].map((i) => parseInt(node.data("tint").slice(i, i + 2), 16))) : color("--ink"));
  const style = () => [
    { selector: "node.node", style: { shape: "data(shape)", label: "data(label)", width: (n) => (n.data("role") ? 92 : n.data("key").includes(":") ? 84 : 66) * size, height: (n) => (n.data("role") ? 36 : 26) * size, "background-color": nodeFill, "border-width": 1.2, "border-color": color("--edge-node"), color: nodeInk, "font-size": letters * size, "font-family": "system-ui, sans-serif", "text-valign": "center", "text-halign": "center", "text-wrap": "wrap", "text-max-width": 160 * size, "line-height": 1.15 } },
    { selector: "node[kind = 'group']", style: { width: 74, height: 34, "font-size": 9 } },
    { selector: "node.row", style: { label: "data(label)", width: 1, height: 1, "background-opacity": 0, color: color("--soft"), "font-size": 11 * size, "text-valign": "center", "text-halign": "right", events: "no" } },
    { selector: "edge.edge", style: { width: (e) => (0.8 + 6 * e.data("share")) * size, "line-color": color("--positive"), "target-arrow-color": color("--positive"), "target-arrow-shape": "triangle", "arrow-scale": 0.7, "curve-style": "bezier", "control-point-step-size": 26, opacity: (e) => 0.35 + 0.55 * e.data("share") } },
    ...["q", "k", "v"].map((port) => ({ selector: `edge[port = '${port}']`, style: { "target-label": port, "target-text-offset": 16, "font-size": 9 * size, "font-weight": "bold", color: color(`--port-${port}`), "target-arrow-color": color(`--port-${port}`), "text-background-color": color("--panel"), "text-background-opacity": 0.85, "text-background-padding": 1 } })),
    { selector: "edge.minus", style: { "line-style": "dashed", "line-color": color("--negative"), "target-arrow-color": color("--negative"), "target-arrow-shape": "tee" } },
    { selector: "edge.link", style: { width: 1, "line-style": "dotted", "line-color": color("--soft"), "curve-style": "straight", events: "no" } },
    { selector: "node.column", style: { "font-size": 13 * size, "font-weight": "bold", color: color("--ink") } },
    { selector: "edge.of-here", style: { "line-style": "solid", "line-color": color("--positive"), "target-arrow-color": color("--positive") } },
    { selector: "edge.of-there", style: { "line-style": "dashed", "line-color": color("--negative"), "target-arrow-color": color("--negative") } },
    { selector: "edge.of-both", style: { "line-style": "solid", "line-color": color("--edge-node"), "target-arrow-color": color("--edge-node") } },
    { selector: "node.of-here", style: { "border-color": color("--positive"), "border-width": 2.4 } },
    { selector: "node.of-there", style: { "border-color": color("--negative"), "border-width": 2.4, "border-style": "dashed" } },
    { selector: ".gone, .hid, .unnamed", style: { display: "none" } },
    { selector: ".faint", style: { opacity: 0.1 } },
    { selector: "edge.onpath", style: { opacity: (e) => 0.6 + 0.35 * e.data("share"), "z-index": 9 } },
    { selector: "node.match", style: { "border-width": 3.5, "border-color": color("--focus"), "border-style": "double" } },
    { selector: "node.current", style: { "border-width": 3.5, "border-color": color("--focus"), "border-style": "solid", "z-index": 10 } },
    { selector: "edge.current", style: { opacity: 1, "overlay-color": color("--focus"), "overlay-opacity": 0.25, "overlay-padding": 3 } },
    { selector: "core", style: { "active-bg-opacity": 0, "selection-box-opacity": 0 } },
  ];
  // With more edges a drag moves a picture of the picture, which is drawn anew when the hand rests: 50 ms a frame, not seconds.
  const MANY = 600;
  const cy = cytoscape({ container: byId("graph"), elements, style: style(), layout: { name: "preset" }, minZoom: 0.05, maxZoom: 4, boxSelectionEnabled: false, autounselectify: true, textureOnViewport: data.edges.length > MANY });
  document.addEventListener("themechange", () => cy.style(style()));

  let shown = prune(data.most), current = null, notes = null;
  const node = (id) => cy.getElementById(`n:${id}`);
  const edge = (id) => cy.getElementById(`e:${id}`);

  const signedOr = (value) => (value === null ? "–" : signed(value));
  const describeNode = (id) => {
    const found = byNode.get(id);
    const into = data.edges.filter((e) => e.target === id && shown.edges.has(e.id)).length;
    const out = data.edges.filter((e) => e.source === id && shown.edges.has(e.id)).length;
    const lines = sides ? [`${id}, ${said[sides.nodes[id]] || "in both"}`] : [found.role ? `${id}, ${found.role}` : id];
    if (found.score !== null) lines.push(`score ${signed(found.score)} ${data.unit}`);
    if (edgeLevel) lines.push(`${into} edges in, ${out} out`);
    return lines;
  };
  const edgeById = new Map(data.edges.map((e) => [e.id, e]));
  const describeEdge = (id) => {
    const score = edgeById.get(id).score;
    if (sides) return [id, said[sides.edges[id]], `A ${signedOr(sides.scores[id][0])}, B ${signedOr(sides.scores[id][1])} ${data.unit}`];
    return [id, `score ${signed(score)} ${data.unit}`, score < 0 ? "opposes the behavior" : "supports the behavior"];
  };

  const edgeButton = (e, label) => {
    const value = element("span", { class: e.score < 0 ? "minus" : "plus" }, signed(e.score));
    const button = element("button", { type: "button" }, element("span", { class: "address" }, label || e.id), value);
    button.addEventListener("click", () => choose({ edge: e.id }));
    return element("li", {}, button);
  };
  const strongest = (edges, n) => [...edges].sort((a, b) => a.rank - b.rank).slice(0, n);
  const fillList = (list, edges, label) => list.replaceChildren(...strongest(edges, 40).map((e) => edgeButton(e, label && label(e))));
  const heading = (text) => element("h2", {}, text);
  const closeUp = window.closeUp(data, { element, format, signed, changed: () => remember() });
  // What a reader must know to read the picture, told while nothing is selected.
  const guide = () => {
    if (sides || (edgeLevel && !data.edges.length)) return [];
    const first = (kind) => data.nodes.find((n) => n.kind === kind), head = first("head"), mlp = first("mlp");
    const plain = (n) => n.id.replace(/@.*/, "");
    const named = [
      head ? `${plain(head)} is attention head ${head.head} of layer ${head.layer}` : "", mlp ? `${plain(mlp)} the MLP of layer ${mlp.layer}` : "",
      "input the tokens, logits the answer. Layers go up; both counts begin at 0.",
    ];
    const ports = data.edges.some((e) => ["q", "k", "v"].includes(e.input)) ? " Its letter says as what: query, key or value." : "";
    const what = `an estimate of what ${data.metric || "the metric"} loses, in ${data.unit || "its unit"}, when it alone is cut; a clicked part shows what was measured`;
    const rows = [
      ["Names", `${named.filter(Boolean).join(", ")}`],
      ...(edgeLevel ? [["An arrow", `a part above reads what a part below has written.${ports}`], ["Thickness", `its score: ${what}.`]] : [["Colour", `its score: ${what}.`]]),
      ["Blue", `supports the behavior; orange${edgeLevel ? ", dashed" : ""}, opposes it.`],
    ];
    return [heading("How to read the picture"), element("dl", { id: "guide" }, ...rows.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]))];
  };
  const details = () => {
    const box = byId("details");
    if (current === null) {
      box.replaceChildren(element("p", { class: "soft" }, "Nothing is selected. Click a node, or move to the picture with Tab and use the arrow keys."), ...guide());
      return;
    }
    if (current.edge) {
      const e = edgeById.get(current.edge);
      const to = (id) => { const b = element("button", { type: "button", class: "address" }, id); b.addEventListener("click", () => choose({ node: id })); return b; };
      const two = sides ? [element("dt", {}, "it is"), element("dd", {}, said[sides.edges[e.id]]), element("dt", {}, "A"), element("dd", {}, signedOr(sides.scores[e.id][0])), element("dt", {}, "B"), element("dd", {}, signedOr(sides.scores[e.id][1]))] : [];
      const port = ["q", "k", "v"].includes(e.input) ? [element("dt", {}, "it is read as"), element("dd", { class: `port-${e.input}` }, { q: "query (q)", k: "key (k)", v: "value (v)" }[e.input])] : [];
      const measured = closeUp.edgeFacts(e).filter(([, value]) => value !== null).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
      const beside = data.edges.filter((other) => other.id !== e.id && other.source === e.source && other.target === e.target && shown.edges.has(other.id));
      const parallel = element("ul", { class: "list" });
      fillList(parallel, beside);
      box.replaceChildren(element("p", { class: "address" }, e.id), element("dl", {}, ...two, element("dt", {}, "score"), element("dd", {}, `${signed(e.score)} ${data.unit}`), ...measured, ...port, element("dt", {}, "rank"), element("dd", {}, `${e.rank + 1} of ${data.edges.length}`), element("dt", {}, "from"), element("dd", {}, to(e.source)), element("dt", {}, "to"), element("dd", {}, to(e.target))));
      if (beside.length) box.append(heading("Beside it, between the same two"), parallel);
      if (!sides) box.append(...closeUp.edge(e), ...notes.forEdge(e));
      return;
    }
    const n = byNode.get(current.node), visible = data.edges.filter((e) => shown.edges.has(e.id));
    const rows = element("dl", {});
    const row = (name, value) => { if (value !== null && value !== "" && value !== undefined) rows.append(element("dt", {}, name), element("dd", {}, String(value))); };
    row("role", n.role); row("kind", data.kinds[n.kind]); row("layer", n.layer); row("head", n.head); row("position", n.position);
    if (n.score !== null) row("score", `${signed(n.score)} ${data.unit}`);
    const into = element("ul", { class: "list" }), out = element("ul", { class: "list" });
    fillList(into, visible.filter((e) => e.target === n.id), (e) => `${e.source}${e.input === "in" ? "" : ` <${e.input}>`}`);
    fillList(out, visible.filter((e) => e.source === n.id), (e) => e.id.slice(e.id.indexOf("->") + 2));
    box.replaceChildren(element("p", { class: "address" }, n.id), rows);
    if (!sides) box.append(...closeUp.node(n));
    const written = sides ? [] : notes.forNode(n);
    if (edgeLevel) box.append(heading("Reads from"), into, heading("Is read by"), out);
    box.append(...written);
  };

  // Following a path: everything the node is reached from, and everything it reaches.
  const highlight = () => {
    cy.batch(() => {
      cy.elements().removeClass("faint onpath current");
      if (current === null) return;
      if (current.edge) {
        edge(current.edge).addClass("current onpath");
        cy.elements(".node, .edge, .link").not(edge(current.edge)).not(edge(current.edge).connectedNodes()).addClass("faint");
        return;
      }
      const pairs = [...data.edges.filter((e) => shown.edges.has(e.id)), ...data.links.filter((l) => shown.links.has(l.id))];
      const down = reach(pairs.map((e) => [e.source, e.target]), [current.node]);
      const up = reach(pairs.map((e) => [e.target, e.source]), [current.node]);
      if (edgeLevel) {
        cy.elements(".node, .edge, .link").addClass("faint");
        for (const id of [...down, ...up]) node(id).removeClass("faint");
        for (const e of pairs) {
          if ((down.has(e.source) && down.has(e.target)) || (up.has(e.source) && up.has(e.target))) edge(e.id).removeClass("faint").addClass("onpath");
        }
      }
      node(current.node).addClass("current");
    });
  };
  const tokens = () => {
    const at = current && current.node ? byNode.get(current.node).position : null;
    document.querySelectorAll(".token").forEach((token) => token.classList.toggle("at", at !== null && ((typeof at === "number" && at >= Number(token.dataset.index) && at <= Number(token.dataset.last)) || token.dataset.name === String(at))));
  };
  // What is seen stands in the address, and as a line to type.
  const quoted = (text) => (/^[\w:./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const command = () => {
    const where = quoted(data.path), on = `-m ${quoted(data.model)} -t ${quoted(data.task)}`;
    if (sides) return `workbench circuit diff ${sides.paths.map(quoted).join(" ")} -o two.html`;
    if (current && current.edge) {
      const e = edgeById.get(current.edge), port = ["q", "k", "v"].includes(e.input);
      return port || isLogits(e.target) || byNode.get(e.target).kind === "mlp" ? `workbench circuit why ${quoted(e.id)} ${where}` : `workbench circuit show ${where}`;
    }
    if (current && ["head", "mlp"].includes(byNode.get(current.node).kind)) return `workbench ablate ${on} --node ${quoted(current.node.replace(/@.*/, ""))}`;
    return edgeLevel && data.start !== null ? `workbench circuit keep ${where} --keep ${Number(byId("keep").value)} -o kept` : `workbench circuit show ${where}`;
  };
  let restoring = false;
  const remember = () => {
    byId("command").textContent = command();
    if (restoring) return;
    const parts = [`keep=${byId("keep").value}`];
    if (current) parts.push(current.node ? `node=${encodeURIComponent(current.node)}` : `edge=${encodeURIComponent(current.edge)}`);
    if (byId("search").value) parts.push(`search=${encodeURIComponent(byId("search").value)}`);
    if (closeUp.prompt()) parts.push(`prompt=${closeUp.prompt()}`);
    history.replaceState(null, "", `#${parts.join("&")}`);
  };
  const asked = () => {
    const found = {};
    for (const part of location.hash.slice(1).split("&")) {
      const at = part.indexOf("=");
      try { if (at > 0) found[part.slice(0, at)] = decodeURIComponent(part.slice(at + 1)); } catch { /* no address of ours */ }
    }
    return found;
  };
  const restore = () => {
    const found = asked();
    restoring = true;
    if (found.prompt !== undefined) closeUp.setPrompt(Number(found.prompt));
    if (found.search !== undefined) byId("search").value = found.search;
    if (found.keep !== undefined) update(wanted(found.keep));
    if (found.node !== undefined && shown.nodes.has(found.node)) choose({ node: found.node });
    else if (found.edge !== undefined && shown.edges.has(found.edge)) choose({ edge: found.edge });
    restoring = false;
    remember();
  };
  const choose = (what, move = true) => {
    current = what;
    const inside = byId("details").contains(document.activeElement);
    details(); highlight(); tokens(); remember();
    if (inside) byId("details").focus(); // what had the focus is gone: the next Tab goes on from here
    const words = what === null ? ["Selection cleared"] : what.node ? describeNode(what.node) : describeEdge(what.edge);
    byId("say").textContent = words.join(". ");
    if (what && move) {
      const at = what.node ? node(what.node) : edge(what.edge);
      const box = at.renderedBoundingBox();
      if (box.x1 < 0 || box.y1 < 0 || box.x2 > stage.clientWidth || box.y2 > stage.clientHeight) {
        reduced ? cy.center(at) : cy.animate({ center: { eles: at }, duration: 160 });
      }
    }
  };

  // Faithfulness where it was measured; between two sizes a straight line, said to be one.
  const curve = data.curve;
  const along = (n) => {
    const points = curve.points, after = points.findIndex((p) => p.n >= n);
    if (after === -1 || (after === 0 && points[0].n !== n)) return null;
    if (points[after].n === n) return { ...points[after], between: null };
    const [a, b] = [points[after - 1], points[after]], share = (n - a.n) / (b.n - a.n), found = { between: [a.n, b.n], random_draws: b.random_draws };
    for (const name of ["faithfulness", "low", "high", "random_mean", "random_std"]) found[name] = a[name] === null || b[name] === null ? null : a[name] + (b[name] - a[name]) * share;
    return found;
  };
  const drawCurve = () => {
    const made = (tag, attributes, text) => { const e = document.createElementNS("http://www.w3.org/2000/svg", tag); for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v); if (text) e.textContent = text; return e; };
    const points = curve.points.filter((p) => p.n <= data.most), wide = 300, high = 120, left = 30, below = 18;
    const values = points.flatMap((p) => [p.faithfulness, p.low, p.high, p.random_mean - p.random_std, p.random_mean + p.random_std]).filter(Number.isFinite);
    const low = Math.min(0, ...values), up = Math.max(1, ...values);
    const x = (n) => left + (n / Math.max(data.most, 1)) * (wide - left - 6), y = (v) => 6 + (1 - (v - low) / (up - low)) * (high - below - 6);
    const line = (name) => points.map((p, i) => `${i ? "L" : "M"}${x(p.n).toFixed(1)} ${y(p[name]).toFixed(1)}`).join("");
    const band = (a, b) => { const full = points.filter((p) => Number.isFinite(a(p)) && Number.isFinite(b(p))); return full.length < 2 ? "" : `M${full.map((p) => `${x(p.n).toFixed(1)} ${y(a(p)).toFixed(1)}`).join("L")}L${full.reverse().map((p) => `${x(p.n).toFixed(1)} ${y(b(p)).toFixed(1)}`).join("L")}Z`; };
    const svg = made("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": "Faithfulness over the number of edges kept, with its interval, above random circuits" });
    for (const v of [0, 1]) svg.append(made("path", { d: `M${left} ${y(v)}H${wide - 6}`, class: "axis" }), made("text", { x: left - 5, y: y(v) + 4, "text-anchor": "end" }, String(v)));
    svg.append(made("path", { d: band((p) => p.random_mean - p.random_std, (p) => p.random_mean + p.random_std), class: "random-band" }), made("path", { d: band((p) => p.low, (p) => p.high), class: "faith-band" }));
    svg.append(made("path", { d: line("random_mean"), class: "random" }), made("path", { d: line("faithfulness"), class: "faith" }));
    for (const p of points) svg.append(made("circle", { cx: x(p.n), cy: y(p.faithfulness), r: 2.5 }));
    svg.append(made("text", { x: wide - 6, y: high - 3, "text-anchor": "end" }, `${data.most} edges`), made("path", { id: "faith-now", class: "now", d: "" }));
    byId("faith-picture").replaceChildren(svg);
    byId("faith").hidden = false;
    return (n) => byId("faith-now").setAttribute("d", `M${x(n).toFixed(1)} 4V${high - below}`);
  };
  const mark = curve && edgeLevel ? drawCurve() : null;
  const faith = (n) => {
    if (mark === null) return;
    mark(n);
    const at = along(n);
    byId("faith-said").textContent = at === null ? "Not measured at this size." : [
      `${at.between ? "About " : ""}${format(at.faithfulness)}`,
      Number.isFinite(at.low) ? ` (95 % interval ${format(at.low)} to ${format(at.high)})` : "",
      at.between ? `, a straight line between what was measured at ${at.between[0]} and ${at.between[1]} edges. ` : ", measured at this size. ",
      at.random_draws ? `Random circuits of this size: ${format(at.random_mean)} ± ${format(at.random_std)} (${at.random_draws} draws). ` : "No random circuits were drawn. ",
      `${curve.metric}, ${curve.ablation} ablation, ${curve.n_pairs === null ? "" : `n ${curve.n_pairs}`}. 1 is the whole model, 0 a model with every edge ablated. Blue: this circuit; grey: random circuits as large.`,
    ].join("");
  };

  let fitting = false, whole = true;
  const fit = () => {
    const seen = cy.elements().not(".gone, .unnamed");
    fitting = true;
    cy.resize();
    cy.fit(seen, 26);
    if (cy.zoom() > 1.4) { cy.zoom(1.4); cy.center(seen); }
    fitting = false;
    whole = true;
  };
  const update = (n) => {
    shown = prune(n);
    cy.batch(() => {
      for (const { id } of data.nodes) node(id).toggleClass("gone", !shown.nodes.has(id));
      const levels = new Set(data.nodes.filter((n) => shown.nodes.has(n.id)).map(rowOf));
      rows.forEach((row, i) => cy.getElementById(`row-${i}`).toggleClass("gone", row.layer !== null && !levels.has(`${row.stack}:${row.layer}`)));
      for (const { id } of data.edges) edge(id).toggleClass("gone", !shown.edges.has(id));
      for (const { id } of data.links) edge(id).toggleClass("gone", !shown.links.has(id));
    });
    if (current && !(current.node ? shown.nodes.has(current.node) : shown.edges.has(current.edge))) current = null;
    byId("keep").value = n;
    byId("keep").setAttribute("aria-valuetext", `${n} kept, ${edgeLevel ? `${shown.edges.size} edges` : `${shown.nodes.size} nodes`} shown`);
    byId("keep-number").value = n;
    const counted = [...shown.nodes].filter((id) => byNode.get(id).kind !== "group").length;
    byId("count").textContent = edgeLevel ? `${shown.edges.size} of them connected, ${counted} nodes` : `${counted} nodes`;
    byId("empty").hidden = shown.nodes.size > 0;
    if (edgeLevel) fillList(byId("strongest"), data.edges.filter((e) => shown.edges.has(e.id)));
    details(); highlight(); tokens(); search(); faith(n); remember();
  };
  const wanted = (text) => Math.max(0, Math.min(data.most, Math.round(Number(text)) || 0));
  byId("keep").addEventListener("input", (event) => update(wanted(event.target.value)));
  byId("keep-number").addEventListener("change", (event) => update(wanted(event.target.value)));

  let matches = [];
  const search = () => {
    const text = byId("search").value.trim().toLowerCase();
    matches = text ? data.nodes.filter((n) => shown.nodes.has(n.id) && `${n.id} ${n.role} ${data.kinds[n.kind]}`.toLowerCase().includes(text)).map((n) => n.id) : [];
    cy.batch(() => { for (const { id } of data.nodes) node(id).toggleClass("match", matches.includes(id)); });
    byId("found").textContent = text ? `${matches.length} found` : "";
  };
  byId("search").addEventListener("input", () => { search(); remember(); });
  byId("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && matches.length) {
      const at = current && current.node ? matches.indexOf(current.node) : -1;
      choose({ node: matches[(at + 1) % matches.length] });
      event.preventDefault();
    }
    if (event.key === "Escape") { byId("search").value = ""; search(); choose(null); remember(); }
  });

  // Keys in the picture: arrows go to the nearest node that way, Enter follows the strongest edge on, Escape clears.
  const beside = (from, dx, dy) => {
    const here = byNode.get(from);
    let best = null, least = Infinity;
    for (const other of data.nodes) {
      if (other.id === from || !shown.nodes.has(other.id)) continue;
      const x = other.x - here.x, y = other.y - here.y;
      const along = x * dx + y * dy, across = Math.abs(x * dy) + Math.abs(y * dx);
      if (along <= 1 || (dx && across > 60)) continue; // left and right stay in the row
      const cost = along + 1.6 * across;
      if (cost < least) { least = cost; best = other.id; }
    }
    return best;
  };
  const moves = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
  byId("graph").addEventListener("keydown", (event) => {
    if (event.key === "Escape") { choose(null); event.preventDefault(); return; }
    if (event.key === "+" || event.key === "-") { cy.zoom({ level: cy.zoom() * (event.key === "+" ? 1.2 : 1 / 1.2), renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } }); return; }
    if (event.key === "0") { fit(); return; }
    const first = data.nodes.find((n) => shown.nodes.has(n.id));
    if (!first || !(event.key in moves || event.key === "Enter")) return;
    event.preventDefault();
    const at = current === null ? null : current.node || edgeById.get(current.edge).source;
    if (at === null) { choose({ node: first.id }); return; }
    if (event.key === "Enter") {
      const on = strongest(data.edges.filter((e) => e.source === at && shown.edges.has(e.id)), 1)[0];
      if (on) choose({ node: on.target });
      return;
    }
    const next = beside(at, ...moves[event.key]);
    if (next !== null) choose({ node: next });
  });
  byId("graph").addEventListener("focus", () => { if (current === null) byId("say").textContent = "Picture of the circuit. Arrow keys move between nodes, Enter follows the strongest edge, Escape clears."; });

  const tip = byId("tip");
  const showTip = (lines, at) => {
    tip.textContent = lines.join("\n");
    tip.hidden = false;
    tip.style.left = `${Math.max(4, Math.min(at.x + 14, stage.clientWidth - tip.offsetWidth - 6))}px`;
    tip.style.top = `${Math.max(4, Math.min(at.y + 14, stage.clientHeight - tip.offsetHeight - 6))}px`;
  };
  cy.on("mouseover mousemove", "node.node", (event) => showTip(describeNode(event.target.data("key")), event.renderedPosition));
  cy.on("mouseover mousemove", "edge.edge", (event) => showTip(describeEdge(event.target.data("key")), event.renderedPosition));
  cy.on("mouseout", () => { tip.hidden = true; });
  cy.on("tap", "node.node", (event) => choose({ node: event.target.data("key") }, false));
  cy.on("tap", "edge.edge", (event) => choose({ edge: event.target.data("key") }, false));
  cy.on("tap", (event) => { if (event.target === cy) choose(null); });

  byId("fit").addEventListener("click", fit);
  const download = (name, url) => element("a", { href: url, download: name }).click();
  byId("save-png").addEventListener("click", () => download("circuit.png", cy.png({ full: true, scale: 2, bg: color("--bg"), maxWidth: 8000, maxHeight: 8000 })));
  const saved = (name, text, type) => {
    const url = URL.createObjectURL(new Blob([text], { type }));
    download(name, url);
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
  byId("save-svg").addEventListener("click", () => saved("circuit.svg", circuitSvg(cy, { title: document.title, background: color("--bg"), ink: color("--ink") }), "image/svg+xml"));
  byId("save-json").addEventListener("click", () => {
    const kept = { unit: data.unit, model: data.model, task: data.task, keep: Number(byId("keep").value), nodes: [...shown.nodes], edges: data.edges.filter((e) => shown.edges.has(e.id)).map(({ id, source, target, input, score }) => ({ id, source, target, input, score })) };
    saved("circuit-shown.json", JSON.stringify(kept, null, 1), "application/json");
  });
  // Another size of the window: what was seen whole is seen whole again; what was enlarged keeps its middle.
  cy.on("pan zoom", () => { if (!fitting) whole = false; });
  // Letters below 8 pixels are read by nobody: a narrow page begins enlarged; Fit shows all.
  const settle = () => {
    fit();
    const readable = 8 / (letters * size);
    if (narrow && cy.zoom() < readable) { cy.zoom(readable); cy.center(cy.elements("node.node").not(".gone")); whole = false; }
  };
  const refit = () => {
    const before = { narrow, spread }, turned = (stage.clientWidth < 520 && !sides) !== narrow;
    if (!turned && !whole) { cy.resize(); return; }
    measureFrame();
    if (!turned && spread === before.spread) { fit(); return; }
    cy.batch(() => {
      rows.forEach((row, i) => cy.getElementById(`row-${i}`).position({ x: row.x, y: -row.y }).toggleClass("unnamed", unnamed(row)));
      for (const n of data.nodes) node(n.id).position({ x: n.x, y: -n.y });
    });
    if (notes) notes.applyAll();
    cy.style(style());
    if (turned) settle(); else fit();
  };
  new ResizeObserver(refit).observe(stage);
  // A picture of a thousand edges tells nothing: begin with the strongest 200, or as many as connect.
  let first = data.start !== null ? Math.min(data.start, data.most) : data.most <= 400 ? data.most : 200;
  while (first < data.most && prune(first).nodes.size === 0) first = Math.min(2 * first, data.most);
  notes = sides ? null : notesOf(data, { element, cy, byNode, frame: () => ({ spread, narrow }), shown: () => shown, choose, say: (text) => { byId("say").textContent = text; } });
  const opened = asked();
  update(first);
  settle();
  if (Object.keys(opened).length) { history.replaceState(null, "", `#${Object.entries(opened).map(([k, v]) => `${k}=${encodeURIComponent(v)}`).join("&")}`); restore(); }
  window.addEventListener("hashchange", restore);
  window.circuitPage = { cy, shown: () => shown, selected: () => current, update, notes };
})();
