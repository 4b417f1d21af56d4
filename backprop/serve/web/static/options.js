// The options of a task: only what was changed is sent.
import { all, one } from "./dom.js";
import { Refused } from "./ask.js";

export class Options {
  constructor(form, chips) {
    this.panel = one("[data-options]", form);
    this.fields = all("[data-option]", form);
    this.chips = chips;
  }

  /** Return the options that were set, by name; the first that is out of bounds is refused. */
  read() {
    const found = {};
    for (const field of this.fields) {
      const value = this.#value(field);
      if (value !== undefined) found[field.dataset.option] = value;
    }
    return found;
  }

  fill(values) {
    for (const field of this.fields) {
      const input = one("input, select", field);
      const value = values[field.dataset.option];
      if (input && field.dataset.kind !== "strings") input.value = value ?? "";
    }
  }

  #value(field) {
    const { kind, option } = field.dataset;
    if (kind === "strings") {
      const values = this.chips.get(option).values;
      return values.length ? values : undefined;
    }
    const input = one("input, select", field);
    const isNumber = kind === "int" || kind === "float";
    input.setAttribute("aria-invalid", String(!input.validity.valid));
    if (!input.validity.valid) {
      this.panel.open = true;
      input.focus();
      throw new Refused(`${one("label", field).textContent}: ${input.validationMessage}`);
    }
    if (!input.value) return undefined;
    if (kind === "bool") return input.value === "true";
    return isNumber ? Number(input.value) : input.value;
  }
}
