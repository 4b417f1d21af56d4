// Several texts or pictures, each a row of the request, and how alike their vectors are.
import { all, announce, el, one } from "./dom.js";
import { Refused } from "./ask.js";
import { PictureField } from "./picture.js";
import { heatMap } from "./results.js";

const MOST = 12;

export class Items {
  constructor(form) {
    this.box = one("[data-items]", form);
    this.list = one("[data-item-list]", form);
    this.template = one("[data-item]", form);
    this.fields = this.box.dataset.fields.split(" ");
    this.items = [];
    this.adder = one("[data-add]", form);
    this.adder.addEventListener("click", () => {
      const item = this.add();
      one("textarea, input", item.element).focus();
    });
    this.add();
    this.add();
  }

  add() {
    const element = one("li", this.template.content.cloneNode(true));
    const zone = one("[data-drop]", element);
    const item = { element, picture: zone && new PictureField(zone), text: one("textarea", element) };
    one("[data-remove]", element).addEventListener("click", () => this.#remove(item));
    this.items.push(item);
    this.list.append(element);
    this.#number();
    return item;
  }

  async fill(rows) {
    for (const item of [...this.items]) this.#remove(item, false);
    const added = rows.map((row) => [this.add(), row]);
    for (const [item, row] of added) {
      if (row.text && item.text) item.text.value = row.text;
      if (row.image && item.picture) await item.picture.load(row.image);
    }
  }

  /** Return the columns of the request; a row in which everything is blank is left out. */
  async read() {
    this.used = this.items.filter((item) => item.picture?.file || item.text?.value.trim());
    if (!this.used.length) throw new Refused(`There is nothing to compare yet; add ${this.#words()}.`);
    const columns = {};
    if (this.fields.includes("text")) columns.text = this.used.map((item) => item.text.value);
    if (this.fields.includes("image")) {
      const number = this.used.findIndex((item) => !item.picture.file);
      if (number >= 0) throw new Refused(`Number ${number + 1} has no picture; add one.`);
      columns.image = await Promise.all(this.used.map((item) => item.picture.value()));
    }
    return columns;
  }

  /** Return the vectors' likeness, named by what they are of. */
  show(vectors) {
    const size = `${vectors[0].length} numbers each`;
    const heads = this.used.map((item) => () => this.#head(item));
    const title = vectors.length > 1 ? "How alike they are (cosine)" : "One vector; add another to compare";
    return [
      el("h2", {}, title),
      vectors.length > 1 ? heatMap(vectors, heads) : null,
      el("p", { class: "soft small" }, `${vectors.length} vector${vectors.length > 1 ? "s" : ""}, ${size}`),
    ];
  }

  #head(item) {
    const text = item.text?.value ?? "";
    const words = text ? el("span", { class: "clip", title: text }, text) : null;
    return el("div", {}, item.picture ? item.picture.thumbnail() : null, words);
  }

  #remove(item, isByHand = true) {
    const next = item.element.nextElementSibling ?? item.element.previousElementSibling;
    this.items = this.items.filter((each) => each !== item);
    item.element.remove();
    this.#number();
    if (!isByHand) return;
    announce("Removed");
    (next ? one("[data-remove]", next) : this.adder).focus();
  }

  #number() {
    this.adder.hidden = this.items.length >= MOST;
    for (const [i, { element, text }] of this.items.entries()) {
      text?.setAttribute("aria-label", `Text ${i + 1}`);
      one("[data-remove]", element).setAttribute("aria-label", `Remove number ${i + 1}`);
      for (const input of all("input[type=file]", element)) {
        input.setAttribute("aria-label", `Picture ${i + 1}`);
      }
    }
  }

  #words() {
    if (this.fields.length > 1) return "a picture and a text";
    return this.fields[0] === "image" ? "a picture" : "a text";
  }
}
