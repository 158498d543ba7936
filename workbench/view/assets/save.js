"use strict";
// What is shown of a circuit, as an SVG picture: drawn anew from the places and colours of the canvas.
window.circuitSvg = (cy, { title, background, ink }) => {
  const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
  const seen = cy.elements().filter((e) => e.visible()), box = seen.boundingBox(), pad = 20;
  const f = (x) => Number(x.toFixed(1));
  const arrow = (e) => {
    const end = e.targetEndpoint(), bends = e.controlPoints() || e.segmentPoints() || [], from = bends[bends.length - 1] || e.sourceEndpoint();
    const angle = Math.atan2(end.y - from.y, end.x - from.x), size = 4 + 2 * parseFloat(e.style("width"));
    const at = (turn) => `${f(end.x - size * Math.cos(angle + turn))} ${f(end.y - size * Math.sin(angle + turn))}`;
    const line = e.style("target-arrow-shape") === "tee", fill = e.style("target-arrow-color");
    if (e.style("target-arrow-shape") === "none") return "";
    const across = (way) => `${f(end.x + way * size * 0.6 * Math.sin(angle))} ${f(end.y - way * size * 0.6 * Math.cos(angle))}`;
    return line ? `<path d="M${across(1)}L${across(-1)}" stroke="${fill}" stroke-width="2"/>` : `<path d="M${f(end.x)} ${f(end.y)}L${at(0.45)}L${at(-0.45)}Z" fill="${fill}"/>`;
  };
  const edges = seen.edges().map((e) => {
    const a = e.sourceEndpoint(), b = e.targetEndpoint(), bends = e.controlPoints() || [];
    const way = bends.length ? `Q${f(bends[0].x)} ${f(bends[0].y)} ${f(b.x)} ${f(b.y)}` : `L${f(b.x)} ${f(b.y)}`;
    const dashes = { dashed: ' stroke-dasharray="6 4"', dotted: ' stroke-dasharray="1.5 3"' }[e.style("line-style")] || "";
    const back = 16 / Math.max(16, Math.hypot(a.x - b.x, a.y - b.y));
    const port = e.data("port"), label = port ? `<text x="${f(b.x + (a.x - b.x) * back)}" y="${f(b.y + (a.y - b.y) * back + 4)}" fill="${e.style("color")}" font-size="10" font-weight="bold" text-anchor="middle">${port}</text>` : "";
    return `<g opacity="${e.style("opacity")}"><title>${escape(e.data("key") || "")}</title><path d="M${f(a.x)} ${f(a.y)}${way}" fill="none" stroke="${e.style("line-color")}" stroke-width="${parseFloat(e.style("width"))}"${dashes}/>${arrow(e)}${label}</g>`;
  });
  const nodes = seen.nodes().map((n) => {
    const { x, y } = n.position(), size = parseFloat(n.style("font-size")), lines = String(n.data("label")).split("\n");
    const row = n.hasClass("row"), anchor = row ? "start" : "middle";
    const words = lines.map((text, i) => `<text x="${f(x)}" y="${f(y + size * (0.35 + 1.15 * (i - (lines.length - 1) / 2)))}" text-anchor="${anchor}" font-size="${size}" fill="${n.style("color")}">${escape(text)}</text>`).join("");
    if (row) return words;
    const wide = n.width(), tall = n.height(), border = `stroke="${n.style("border-color")}" stroke-width="${parseFloat(n.style("border-width"))}"`;
    return `<g opacity="${n.style("opacity")}"><title>${escape(n.data("key"))}</title><rect x="${f(x - wide / 2)}" y="${f(y - tall / 2)}" width="${f(wide)}" height="${f(tall)}" rx="${n.style("shape") === "rectangle" ? 0 : 6}" fill="${n.style("background-color")}" ${border}/>${words}</g>`;
  });
  const view = `${f(box.x1 - pad)} ${f(box.y1 - pad)} ${f(box.w + 2 * pad)} ${f(box.h + 2 * pad)}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${view}" width="${Math.ceil(box.w + 2 * pad)}" height="${Math.ceil(box.h + 2 * pad)}" font-family="system-ui, sans-serif" color="${ink}"><title>${escape(title)}</title><rect x="${f(box.x1 - pad)}" y="${f(box.y1 - pad)}" width="100%" height="100%" fill="${background}"/>${edges.join("")}${nodes.join("")}</svg>`;
};
