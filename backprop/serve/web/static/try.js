// The form of a task: read it, ask the server, show the answer or what was wrong, in place.
import { all, announce, el, one, ready, say, seconds } from "./dom.js";
import { ask, Refused, stream } from "./ask.js";
import { Chat } from "./chat.js";
import { Chips } from "./chips.js";
import { Items } from "./compare.js";
import { Options } from "./options.js";
import { PictureField } from "./picture.js";
import { bars, raw, texts } from "./results.js";

const form = one("[data-ask]");
const { task, answer: kind, output } = form.dataset;
const model = one("[data-model]", form);
const error = one("[data-error]", form);
const timing = one("[data-timing]", form);
const result = one("[data-result]");
const send = one("[data-send]", form);
const stop = one("[data-stop]", form);
const chips = new Map(all("[data-chips]", form).map((box) => [box.dataset.chips, new Chips(box)]));
const options = new Options(form, chips);
const items = one("[data-items]", form) ? new Items(form) : null;
const chat = one("[data-chat]", form) ? new Chat(form) : null;
const pictures = items ? [] : all("[data-drop]", form).map((zone) => new PictureField(zone));

/** Options that a stream knows, by OpenAI's names. */
const STREAMED = { max_length: "max_tokens", temperature: "temperature", top_p: "top_p", stop: "stop", seed: "seed" };

let running = null;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!running) answer();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
stop.addEventListener("click", () => running?.abort());
one("[data-fill]", form).addEventListener("click", fill);
model.addEventListener("change", () => {
  history.replaceState(null, "", `?model=${encodeURIComponent(model.value)}`);
});
ready();

async function answer() {
  running = new AbortController();
  const started = performance.now();
  busy(true);
  try {
    const input = await read();
    const given = options.read();
    if (isStreamed(given)) await write(input, given, started);
    else await once({ ...input, ...given }, started);
  } catch (fault) {
    if (fault.name === "AbortError") timing.textContent = `stopped after ${seconds(performance.now() - started)}`;
    else refuse(fault);
  } finally {
    busy(false);
  }
}

/** Return the fields of the request. */
async function read() {
  if (items) return items.read();
  if (chat) return chat.read();
  const found = {};
  for (const field of all("[data-field]", form)) found[field.dataset.field] = field.value;
  for (const picture of pictures) {
    found[picture.name] = await picture.value();
    if (!found[picture.name]) throw new Refused("There is no picture yet; choose one or drop it here.");
  }
  const labels = chips.get("labels")?.values ?? [];
  return labels.length ? { ...found, labels } : found;
}

async function once(body, started) {
  const sent = await ask(`/${task}`, { ...body, model: model.value }, { signal: running.signal });
  timing.textContent = `answered in ${seconds(performance.now() - started)}`;
  const given = sent[output];
  if (chat) chat.show(body, given);
  else show(...shown(given), raw(sent));
}

function shown(given) {
  if (kind === "vector") return items.show(given);
  if (given !== null && typeof given === "object" && !Array.isArray(given)) return [bars(given)];
  return [texts(given, task === "emotion")];
}

/** Show the words of a text as they come. */
async function write(input, given, started) {
  const named = Object.entries(given).map(([name, value]) => [STREAMED[name], value]);
  const body = { model: model.value || form.dataset.default, prompt: input.text, ...Object.fromEntries(named) };
  const text = el("p", { class: "answer-text writing" });
  // Read out whole at the end: word by word nobody could follow.
  result.setAttribute("aria-busy", "true");
  let first = 0;
  try {
    await stream(body, piece, running.signal);
  } finally {
    text.classList.remove("writing");
    result.removeAttribute("aria-busy");
  }
  if (!first) show(texts("", false));
  const whole = seconds(performance.now() - started);
  timing.textContent = first ? `first words after ${seconds(first)}, all after ${whole}` : `nothing after ${whole}`;

  function piece(words) {
    if (!first) {
      first = performance.now() - started;
      show(text);
    }
    text.append(words);
  }
}

function isStreamed(given) {
  const asked = one("[data-stream]", form)?.checked ?? false;
  return asked && Object.keys(given).every((name) => name in STREAMED);
}

function show(...parts) {
  result.replaceChildren(...parts.filter(Boolean));
  result.hidden = false;
}

function refuse(fault) {
  say(error, fault instanceof Refused ? fault.message : `Something went wrong in this page (${fault.message}).`);
  const name = /^([a-z_]+)\b/.exec(error.textContent)?.[1];
  const field = one(`[data-field="${name}"], #o-${name}`, form);
  field?.setAttribute("aria-invalid", "true");
  field?.focus();
}

function busy(is) {
  send.disabled = is;
  stop.hidden = !is;
  if (!is) {
    running = null;
    return;
  }
  say(error, "");
  timing.textContent = "asking …";
  for (const field of all("[aria-invalid]", form)) field.removeAttribute("aria-invalid");
}

async function fill() {
  const example = JSON.parse(form.dataset.example);
  const [row] = example.rows;
  if (items) await items.fill(example.rows);
  chat?.clear();
  for (const field of all("[data-field]", form)) {
    if (!items && row[field.dataset.field] !== undefined) field.value = row[field.dataset.field];
  }
  for (const picture of pictures) if (row[picture.name]) await picture.load(row[picture.name]);
  if (chips.has("labels")) chips.get("labels").values = example.labels;
  options.fill(example.options);
  announce("The form has an example now");
  send.focus();
}
