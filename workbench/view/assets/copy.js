"use strict";
// The button beside the line that repeats a view: it copies what the line says now.
(() => {
  const button = document.getElementById("copy"), line = document.getElementById("command");
  button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(line.textContent); } catch {
      const range = document.createRange();
      range.selectNodeContents(line);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
})();
