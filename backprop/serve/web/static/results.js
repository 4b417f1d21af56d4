// Answers as people read them: words, bars, a heat map of vectors.
import { el, svg } from "./dom.js";

/** Return a label's share as a bar, for each, the highest first. */
export function bars(probabilities) {
  const rows = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  return el(
    "ul",
    { class: "bars" },
    ...rows.map(([label, share]) =>
      el(
        "li",
        {},
        el("span", { class: "label-name" }, label),
        el("span", { class: "share" }, percent(share)),
        bar(share),
      ),
    ),
  );
}

function bar(share) {
  const width = Math.max(0, Math.min(1, share)) * 100;
  return svg(
    "svg",
    { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", width: 100, height: 8 }),
    svg("rect", { width: width.toFixed(2), height: 8 }),
  );
}

export function percent(share) {
  const points = share * 100;
  return `${points >= 10 || points === 0 ? points.toFixed(0) : points.toFixed(1)} %`;
}

/** Return the text, or several. */
export function texts(answer, isShort) {
  const found = Array.isArray(answer) ? answer : [answer];
  const kind = isShort ? "answer-word" : "answer-text";
  return el("div", {}, ...found.map((text) => el("p", { class: kind }, text || "(nothing)")));
}

/** Return how alike vectors are, as a table of cosines; `heads` makes the name of each. */
export function heatMap(vectors, heads) {
  const top = heads.map((head) => el("th", { scope: "col" }, head()));
  const rows = vectors.map((vector, i) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, heads[i]()),
      ...vectors.map((other) => cell(cosine(vector, other))),
    ),
  );
  const table = el(
    "table",
    { class: "heat" },
    el("thead", {}, el("tr", {}, el("td"), ...top)),
    el("tbody", {}, ...rows),
  );
  const place = { class: "scroll", tabindex: "0", role: "region", "aria-label": "Cosine similarities" };
  return el("div", place, table);
}

function cell(likeness) {
  const tenth = Math.round(Math.max(0, Math.min(1, likeness)) * 10);
  return el("td", { class: `heat-${tenth}` }, likeness.toFixed(2));
}

export function cosine(first, second) {
  let [product, one, two] = [0, 0, 0];
  for (let i = 0; i < first.length; i++) {
    product += first[i] * second[i];
    one += first[i] ** 2;
    two += second[i] ** 2;
  }
  return one && two ? product / Math.sqrt(one * two) : 0;
}

/** Return the answer as JSON to open, long vectors cut. */
export function raw(answer) {
  const text = JSON.stringify(answer, (_, value) => (isVector(value) ? short(value) : value), 2);
  const code = el("pre", { tabindex: "0", "aria-label": "JSON of the answer" }, el("code", {}, text));
  return el("details", { class: "raw" }, el("summary", {}, "What the server sent"), code);
}

const isVector = (value) =>
  Array.isArray(value) && value.length > 12 && value.every((each) => typeof each === "number");
const short = (vector) =>
  `[${vector.slice(0, 6).map((each) => each.toFixed(4)).join(", ")}, … ${vector.length} numbers]`;
