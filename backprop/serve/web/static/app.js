// What every page has: the choice of colours, and buttons that copy.
import { all, announce, one } from "./dom.js";

const root = document.documentElement;

one("[data-theme-toggle]").addEventListener("click", () => {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const next = (root.dataset.theme || system) === "dark" ? "light" : "dark";
  root.dataset.theme = next;
  try {
    localStorage.setItem("backprop-theme", next);
  } catch {
    // Then it holds for this page only.
  }
  announce(`Colours: ${next}`);
});

for (const button of all("[data-copy]")) {
  button.addEventListener("click", async () => {
    const code = one("code", button.closest(".snippet"));
    const done = await copy(code.textContent);
    if (!done) getSelection().selectAllChildren(code);
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    announce(button.textContent);
    setTimeout(() => (button.textContent = "Copy"), 1600);
  });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // not over plain http from another machine
  }
}
