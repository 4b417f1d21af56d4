// Search as you type: the same address as without it, its list put into this page.
import { announce, one } from "./dom.js";

const finder = one("[data-finder]");
const WAIT_MS = 140;
let timer = 0;
let running = null;

finder.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(look, WAIT_MS);
});
finder.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(timer);
  look();
});

async function look() {
  running?.abort();
  running = new AbortController();
  const wanted = [...new FormData(finder)].filter(([, value]) => value.trim());
  const query = new URLSearchParams(wanted).toString();
  const address = query ? `/?${query}` : "/";
  try {
    const answer = await fetch(address, { signal: running.signal, headers: { accept: "text/html" } });
    if (!answer.ok || answer.redirected) return location.assign(address);
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    one("#results").replaceWith(document.adoptNode(one("#results", found)));
    history.replaceState(null, "", address);
    announce(one("[data-found]").textContent);
  } catch (error) {
    if (error.name !== "AbortError") location.assign(address);
  }
}
