"use strict";
// What a reader writes on a circuit: names, groups, colours, notes, places, hidden parts. All text goes through textContent or value.
window.notesOf = (data, { element, cy, byNode, frame, shown, choose, say }) => {
  const given = data.annotations || { nodes: {}, edges: {}, groups: {} };
  const state = { nodes: new Map(Object.entries(given.nodes)), edges: new Map(Object.entries(given.edges)), groups: new Map(Object.entries(given.groups)) };
  const byId = (id) => document.getElementById(id);
  const PALETTE = ["#0b6e63", "#a3305f", "#1f5fa8", "#8a5a00", "#4b5563"]; // white on each is 4.5 : 1 or more; purple is what is selected
  const MOST_NAME = 80, MOST_NOTE = 4000;
  let unsaved = false;

  const of = (id) => state.nodes.get(id) || {};
  const tintOf = (id) => of(id).colour || (of(id).group && (state.groups.get(of(id).group) || {}).colour) || "";
  const brief = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);
  const labelOf = (node) => {
    const { narrow } = frame(), own = of(node.id), below = own.name || own.group || (narrow ? "" : node.role);
    return below ? `${brief(node.id, 16)}\n${brief(below, narrow ? 9 : 13)}` : brief(narrow ? node.id.replace(/@.*/, "") : node.id, 13);
  };
  const apply = (id) => {
    const node = byNode.get(id), drawn = cy.getElementById(`n:${id}`), own = of(id);
    if (!node || drawn.empty()) return;
    drawn.data({ label: labelOf(node), tint: tintOf(id), role: labelOf(node).includes("\n") ? 1 : 0 });
    drawn.toggleClass("hid", Boolean(own.hidden));
    if (typeof own.x === "number") drawn.position({ x: own.x * frame().spread, y: -own.y });
  };
  const applyEdge = (id) => cy.getElementById(`e:${id}`).toggleClass("hid", Boolean((state.edges.get(id) || {}).hidden));
  const applyAll = () => cy.batch(() => { for (const id of byNode.keys()) apply(id); for (const id of state.edges.keys()) applyEdge(id); });

  // An empty entry is taken out; what is left is what the file has.
  const put = (map, id, change) => {
    const next = { ...(map.get(id) || {}), ...change };
    for (const [name, value] of Object.entries(next)) if (value === "" || value === false || value === null) delete next[name];
    if (Object.keys(next).length) map.set(id, next); else map.delete(id);
    unsaved = true;
  };
  const write = (id, change) => { put(state.nodes, id, change); for (const other of byNode.keys()) if (other === id || of(other).group) apply(other); panel(); };
  const join = (group, ids, colour) => {
    if (!state.groups.has(group)) state.groups.set(group, { colour });
    for (const id of ids) put(state.nodes, id, { group });
  };
  const members = () => {
    const found = new Map();
    for (const [id, own] of state.nodes) if (own.group) (found.get(own.group) || found.set(own.group, []).get(own.group)).push(id);
    return found;
  };
  const nextColour = () => PALETTE[members().size % PALETTE.length];

  const field = (label, input) => element("label", { class: "field" }, element("span", {}, label), input);
  const text = (id, value, most) => { const input = element("input", { type: "text", id, maxlength: String(most), autocomplete: "off" }); input.value = value || ""; return input; };
  const area = (id, value) => { const input = element("textarea", { id, rows: "2", maxlength: String(MOST_NOTE) }); input.value = value || ""; return input; };

  const forNode = (node) => {
    const own = of(node.id), name = text("note-name", own.name, MOST_NAME), group = text("note-group", own.group, MOST_NAME), note = area("note-text", own.note);
    group.setAttribute("list", "note-groups");
    const known = element("datalist", { id: "note-groups" }, ...[...members().keys()].map((g) => element("option", { value: g })));
    const colour = element("input", { type: "color", id: "note-colour" });
    colour.value = tintOf(node.id) || "#66707c";
    const plain = element("button", { type: "button" }, "No colour"), hide = element("button", { type: "button", id: "note-hide" }, "Hide");
    name.addEventListener("change", () => write(node.id, { name: name.value.trim() }));
    group.addEventListener("change", () => {
      const chosen = group.value.trim();
      if (chosen) join(chosen, [node.id], nextColour());
      write(node.id, { group: chosen });
    });
    note.addEventListener("change", () => write(node.id, { note: note.value }));
    colour.addEventListener("change", () => write(node.id, { colour: colour.value }));
    plain.addEventListener("click", () => write(node.id, { colour: "" }));
    hide.addEventListener("click", () => { write(node.id, { hidden: true }); say(`${node.id} is hidden`); choose(null); });
    return [element("h3", {}, "Your notes"), field("Name", name), field("Group", group), known, field("Note", note), element("div", { class: "row" }, field("Colour", colour), plain, hide)];
  };
  const forEdge = (edge) => {
    const own = state.edges.get(edge.id) || {}, note = area("note-text", own.note), hide = element("button", { type: "button", id: "note-hide" }, "Hide");
    note.addEventListener("change", () => { put(state.edges, edge.id, { note: note.value }); panel(); });
    hide.addEventListener("click", () => { put(state.edges, edge.id, { hidden: true }); applyEdge(edge.id); panel(); say(`${edge.id} is hidden`); choose(null); });
    return [element("h3", {}, "Your notes"), field("Note", note), element("div", { class: "row" }, hide)];
  };

  // Suggestions are from the circuit alone; a node that has a group keeps it.
  const suggest = (keyOf, nameOf) => {
    const alike = new Map();
    for (const node of data.nodes) {
      if (!shown().nodes.has(node.id) || ["input", "logits", "projector", "group"].includes(node.kind) || of(node.id).group) continue;
      const key = keyOf(node);
      if (key !== null) (alike.get(key) || alike.set(key, []).get(key)).push(node);
    }
    let made = 0;
    for (const nodes of alike.values()) {
      if (nodes.length < 2) continue;
      join(nameOf(nodes).slice(0, MOST_NAME), nodes.map((n) => n.id), nextColour());
      made += 1;
    }
    applyAll(); panel();
    say(made ? `${made} groups suggested` : "No two nodes are alike in this way");
    byId("notes-said").textContent = made ? `${made} groups suggested.` : "No two nodes are alike in this way.";
  };
  const byRole = () => suggest((n) => (n.role ? `${n.layer}\n${n.role}` : null), ([n]) => `${n.role}, layer ${n.layer}`);
  const byNeighbours = () => {
    const around = new Map();
    for (const e of data.edges) {
      if (!shown().edges.has(e.id)) continue;
      for (const [id, other] of [[e.source, `>${e.target}<${e.input}>`], [e.target, `<${e.source}<${e.input}>`]]) (around.get(id) || around.set(id, new Set()).get(id)).add(other);
    }
    suggest((n) => (around.has(n.id) ? [...around.get(n.id)].sort().join("\n") : null), (nodes) => `like ${nodes[0].id}`);
  };

  const document_ = () => ({
    format: "circuit-workbench/annotations", version: 1, circuit: data.digest || "",
    nodes: Object.fromEntries(state.nodes), edges: Object.fromEntries(state.edges),
    groups: Object.fromEntries([...state.groups].filter(([name]) => members().has(name))),
  });
  const panel = () => {
    const box = byId("notes");
    if (!box) return;
    const held = box.contains(document.activeElement) ? document.activeElement.id : null;
    const groups = [...members()].map(([name, ids]) => {
      const swatch = element("i", { class: "swatch" });
      swatch.style.background = (state.groups.get(name) || {}).colour || "var(--node)";
      const pick = element("button", { type: "button" }, swatch, name, ` (${ids.length})`), hidden = ids.every((id) => of(id).hidden);
      pick.addEventListener("click", () => { cy.batch(() => { for (const id of byNode.keys()) cy.getElementById(`n:${id}`).toggleClass("match", ids.includes(id)); }); say(`${name}: ${ids.join(", ")}`); });
      const hide = element("button", { type: "button", "aria-label": `${hidden ? "Show" : "Hide"} the group ${name}` }, hidden ? "Show" : "Hide");
      hide.addEventListener("click", () => { for (const id of ids) { put(state.nodes, id, { hidden: !hidden }); apply(id); } panel(); });
      return element("li", {}, pick, hide);
    });
    const hidden = [...state.nodes].filter(([, own]) => own.hidden).length + [...state.edges].filter(([, own]) => own.hidden).length;
    const button = (id, label, act) => { const made = element("button", { type: "button", id }, label); made.addEventListener("click", act); return made; };
    const back = button("notes-back", `Show ${hidden} hidden`, () => { for (const map of [state.nodes, state.edges]) for (const id of [...map.keys()]) put(map, id, { hidden: false }); cy.elements(".hid").removeClass("hid"); panel(); });
    const save = button("notes-save", "Save annotations.json", () => {
      const url = URL.createObjectURL(new Blob([JSON.stringify(document_(), null, 1)], { type: "application/json" }));
      element("a", { href: url, download: "annotations.json" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
      unsaved = false; panel();
    });
    box.replaceChildren(
      ...(groups.length ? [element("ul", { class: "list groups" }, ...groups)] : [element("p", { class: "soft" }, "No groups yet. Name one beside a selected node, or let some be suggested.")]),
      element("div", { class: "row" }, button("notes-role", "Same layer and role", byRole), button("notes-neighbours", "Same neighbours", byNeighbours), ...(hidden ? [back] : []), save),
      element("p", { id: "notes-said", class: "soft", role: "status" }, unsaved ? "Not saved: the page forgets it. Save, then:" : "To keep what was saved beside the circuit:"),
      element("code", { class: "line" }, data.annotateCommand || ""),
    );
    if (held !== null) (byId(held) || box).focus();
  };

  cy.on("dragfree", "node.node", (event) => {
    const at = event.target.position();
    put(state.nodes, event.target.data("key"), { x: Math.round((10 * at.x) / frame().spread) / 10, y: Math.round(-10 * at.y) / 10 });
    panel();
  });
  applyAll(); panel();
  return { forNode, forEdge, applyAll, document: document_ };
};
