// Questions about a text, one after the other: each is sent with those before it.
import { el, one } from "./dom.js";
import { percent } from "./results.js";

const AROUND = 56;

export class Chat {
  constructor(form) {
    this.turns = one("[data-turns]", form);
    this.question = one("[data-field=question]", form);
    this.context = one("[data-field=context]", form);
    this.restart = one("[data-restart]", form);
    this.past = [];
    this.restart.addEventListener("click", () => this.clear());
  }

  read() {
    const history = this.past.length
      ? { prev_q: this.past.map((turn) => turn[0]), prev_a: this.past.map((turn) => turn[1]) }
      : {};
    // The place of the answer is wanted, to show it in the text.
    return { question: this.question.value, context: this.context.value, details: true, ...history };
  }

  show(asked, given) {
    const answer = typeof given === "string" ? { answer: given, start: -1 } : given;
    this.past.push([asked.question, answer.answer]);
    this.turns.append(
      el("li", { class: "asked" }, asked.question),
      el(
        "li",
        { class: "answered" },
        el("strong", {}, answer.answer || "The text does not say."),
        where(asked.context, answer),
      ),
    );
    this.question.value = "";
    this.question.focus();
    this.restart.hidden = false;
  }

  clear() {
    this.past = [];
    this.turns.replaceChildren();
    this.restart.hidden = true;
    this.question.focus();
  }
}

/** Return the words around an answer, and how sure the model is. */
function where(context, { start, end, score }) {
  const sure = score === undefined ? "" : `${percent(score)} sure`;
  if (!(start >= 0 && end > start)) return sure ? el("span", { class: "where" }, sure) : null;
  const letters = Array.from(context); // places are counted in whole characters
  const first = Math.max(0, start - AROUND);
  const last = Math.min(letters.length, end + AROUND);
  // A word that was cut is left out.
  const before = letters.slice(first, start).join("").replace(first ? /^\S*\s/ : "", "");
  const after = letters.slice(end, last).join("").replace(last < letters.length ? /\s\S*$/ : "", "");
  return el(
    "span",
    { class: "where" },
    first ? `… ${before}` : before,
    el("mark", {}, letters.slice(start, end).join("")),
    last < letters.length ? `${after} …` : after,
    sure ? ` · ${sure}` : "",
  );
}
