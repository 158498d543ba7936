"use strict";
// On a narrow page the words of a wide picture stand above and under it, where they wrap: inside they would be cut.
(() => {
  const narrow = window.matchMedia("(max-width: 720px)"), PAD = 6, LEAST = 480;
  const joined = (svg, kind) => [...svg.querySelectorAll(`text.${kind}`)].map((line) => line.textContent).filter(Boolean).join(" ");
  const told = (tag, text) => { const made = document.createElement(tag); made.textContent = text; return made; };
  const pictures = [...document.querySelectorAll("svg.wb-wide")].map((svg) => {
    const above = document.createElement("p"), scroll = document.createElement("div"), below = told("p", joined(svg, "note"));
    if (joined(svg, "t")) above.append(told("b", svg.querySelector("title").textContent), " "); // whole, where the picture has an ellipsis
    above.append(joined(svg, "lead"));
    above.className = below.className = "of-picture";
    scroll.className = "wide";
    svg.before(above, scroll, below);
    scroll.append(svg);
    return { svg, whole: ["viewBox", "width", "height"].map((name) => [name, svg.getAttribute(name)]) };
  });
  const fit = () => {
    for (const { svg, whole } of pictures) {
      for (const [name, value] of whole) svg.setAttribute(name, value);
      svg.style.minWidth = "";
      if (!narrow.matches) continue;
      const box = svg.getBBox(); // of what is drawn: the words are not
      if (!box.width) continue; // folded away: some browsers measure it when it is opened
      const wide = Math.ceil(box.width + 2 * PAD), high = Math.ceil(box.height + 2 * PAD);
      svg.setAttribute("viewBox", `${box.x - PAD} ${box.y - PAD} ${wide} ${high}`);
      svg.setAttribute("width", wide); svg.setAttribute("height", high);
      svg.style.minWidth = `${Math.min(wide, LEAST)}px`;
    }
  };
  narrow.addEventListener("change", fit);
  document.addEventListener("toggle", fit, true);
  fit();
})();
