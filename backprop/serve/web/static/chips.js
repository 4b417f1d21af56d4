// Labels as chips: type and Enter; Backspace takes the last away; each has a button too.
import { all, announce, el, one } from "./dom.js";

export class Chips {
  constructor(box) {
    this.box = box;
    this.list = one("[data-chip-list]", box);
    this.input = one("input", box);
    this.name = box.dataset.chips;
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.input.addEventListener("paste", (event) => this.#paste(event));
    box.addEventListener("click", (event) => event.target === box && this.input.focus());
  }

  /** The chips, and what was typed without Enter. */
  get values() {
    this.#take();
    return all("li", this.list).map((chip) => chip.dataset.value);
  }

  set values(values) {
    this.list.replaceChildren();
    for (const value of values) this.add(value);
  }

  add(value) {
    const label = value.trim();
    if (!label || all("li", this.list).some((chip) => chip.dataset.value === label)) return;
    const remove = el("button", { type: "button", "aria-label": `Remove ${label}` }, "✕");
    const chip = el("li", {}, el("span", {}, label), remove);
    chip.dataset.value = label;
    remove.addEventListener("click", () => this.#remove(chip));
    this.list.append(chip);
  }

  #key(event) {
    if (event.key === "Enter" && !event.isComposing) {
      // With nothing typed Enter sends the form, as in any other field.
      if (!this.input.value.trim()) return;
      event.preventDefault();
      announce(`${this.input.value.trim()} added`);
      this.#take();
    } else if (event.key === "Backspace" && !this.input.value) {
      const last = this.list.lastElementChild;
      if (last) this.#remove(last);
    }
  }

  #paste(event) {
    const lines = event.clipboardData.getData("text").split(/[\n\t;]+/);
    if (lines.length < 2) return;
    event.preventDefault();
    for (const line of lines) this.add(line);
  }

  #take() {
    this.add(this.input.value);
    this.input.value = "";
  }

  #remove(chip) {
    announce(`${chip.dataset.value} removed`);
    chip.remove();
    this.input.focus();
  }
}
