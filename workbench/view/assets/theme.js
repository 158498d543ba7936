"use strict";
(() => {
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const button = document.getElementById("theme");
  const apply = () => {
    const dark = chosen === null ? system.matches : chosen === "dark";
    root.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", `Use the ${dark ? "light" : "dark"} theme`);
    document.dispatchEvent(new CustomEvent("themechange"));
  };
  button.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    apply();
  });
  system.addEventListener("change", apply);
  apply();
  // Colours of amounts, as in view/color.py: nothing is the colour of the page, much is dark on light pages and bright on dark.
  const amounts = {
    light: [[247, 247, 245], [190, 222, 200], [104, 178, 141], [33, 122, 88], [5, 68, 49]],
    dark: [[39, 42, 46], [28, 79, 60], [42, 124, 92], [101, 179, 142], [184, 228, 202]],
  };
  window.amountColor = (share) => {
    const stops = amounts[root.dataset.theme];
    const where = Math.max(0, Math.min(1, share)) * 4, low = Math.min(Math.floor(where), 3), part = where - low;
    return stops[low].map((a, i) => Math.round(a + (stops[low + 1][i] - a) * part));
  };
  window.inkOn = ([r, g, b]) => (0.299 * r + 0.587 * g + 0.114 * b > 128 ? "#16191d" : "#fff");
})();
