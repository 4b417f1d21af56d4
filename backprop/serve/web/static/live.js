// The figures of the server, asked for every two seconds while somebody looks.
import { el, icon, one, say, svg } from "./dom.js";

const EVERY_MS = 2000;
const KEPT = 90;
const FEWEST = 15;
const TITLES = new Map();
const histories = new Map();
const pause = one("[data-pause]");
const error = one("[data-live-error]");
let isPaused = false;

pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.setAttribute("aria-pressed", String(isPaused));
  pause.textContent = isPaused ? "Go on" : "Pause";
});

look();
setInterval(() => isPaused || document.hidden || look(), EVERY_MS);

async function look() {
  try {
    const answer = await fetch("/stats.json");
    if (answer.status === 401) return location.assign("/login?next=/live");
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    show(await answer.json());
    say(error, "");
  } catch (fault) {
    say(error, `No figures from the server (${fault.message}); trying again.`);
  }
}

function show(stats) {
  const models = stats.models.filter((model) => model.loaded);
  const gauges = { ...stats, loaded: models.length };
  gauge("requests_per_s", stats.requests_per_s.toFixed(1));
  gauge("rss_bytes", bytes(stats.rss_bytes));
  gauge("loaded", String(models.length));
  gauge("uptime_s", time(stats.uptime_s));
  for (const place of document.querySelectorAll("[data-spark]")) {
    const name = place.dataset.spark;
    place.replaceChildren(spark([keep(name, gauges[name])], true));
  }
  one("[data-nothing]").hidden = stats.models.length > 0;
  one("[data-busy]").hidden = stats.models.length === 0;
  one("[data-latencies]").replaceChildren(...stats.models.map(latency));
  one("[data-rows]").replaceChildren(...stats.models.map(row));
}

function gauge(name, words) {
  one(`[data-gauge=${name}]`).textContent = words;
}

function keep(name, value) {
  const kept = [...(histories.get(name) ?? []), value ?? 0].slice(-KEPT);
  histories.set(name, kept);
  return kept;
}

function latency(model) {
  const name = `${model.task} ${model.name}`;
  const lines = [keep(`${name} p50`, model.p50_ms), keep(`${name} p99`, model.p99_ms)];
  const place = el("div", { class: "spark" }, model.p50_ms ? spark(lines, false) : null);
  return el(
    "li",
    { class: "card" },
    el("h3", {}, icon(model.task), title(model.task)),
    el("p", { class: "small soft mono" }, model.name),
    place,
    el(
      "p",
      { class: "times" },
      el("span", { class: "key one" }, ms(model.p50_ms)),
      el("span", { class: "key two" }, ms(model.p99_ms)),
    ),
  );
}

function row(model) {
  const numbers = [
    bytes(model.memory_bytes),
    String(model.queue),
    String(model.requests),
    ms(model.p50_ms),
    ms(model.p99_ms),
    (model.batch_mean ?? 0).toFixed(1),
  ];
  return el(
    "tr",
    {},
    el("th", { scope: "row", class: "mono" }, el("a", { href: `/catalogue/${encodeURIComponent(model.name.split("@")[0])}` }, model.name)),
    el("td", {}, title(model.task)),
    ...numbers.map((number) => el("td", { class: "number" }, number)),
  );
}

/** Return lines of the last figures; they grow from the left edge, then move. */
function spark(lines, hasArea) {
  const high = Math.max(...lines.flat()) * 1.15 || 1;
  const step = 100 / (Math.max(lines[0].length, FEWEST) - 1);
  const paths = lines.map((values) => path(values, high, step));
  const shapes = paths.map((d, i) => svg("path", { class: `line ${i ? "two" : "one"}`, d }));
  if (hasArea) {
    const end = (lines[0].length - 1) * step;
    shapes.unshift(svg("path", { class: "area", d: `${paths[0]}L${end.toFixed(2)} 40H0Z` }));
  }
  return svg("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" }, ...shapes);
}

function path(values, high, step) {
  const points = values.map((value, i) => `${(i * step).toFixed(2)} ${(39 - (value / high) * 37).toFixed(2)}`);
  return `M${points.length > 1 ? points.join("L") : `${points[0]}h1`}`;
}

function title(task) {
  if (!TITLES.size) {
    const options = JSON.parse(one("[data-live]").dataset.titles);
    for (const [name, words] of Object.entries(options)) TITLES.set(name, words);
  }
  return TITLES.get(task) ?? task;
}

const ms = (value) => (value ? (value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`) : "–");

function bytes(value) {
  if (value >= 2 ** 30) return `${(value / 2 ** 30).toFixed(2)} GB`;
  return `${Math.round(value / 2 ** 20)} MB`;
}

function time(value) {
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return value < 172800 ? `${(value / 3600).toFixed(1)} h` : `${Math.round(value / 86400)} days`;
}
