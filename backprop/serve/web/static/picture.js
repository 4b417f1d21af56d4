// A picture by drag and drop, by the file picker or pasted; shown on a canvas, sent as base64.
import { one } from "./dom.js";

const LARGEST = 900;
const MOST_BYTES = 15 * 1024 * 1024;
let count = 0;

export class PictureField {
  constructor(zone) {
    this.zone = zone;
    this.name = zone.dataset.drop;
    this.canvas = one("canvas", zone);
    this.input = one("input", zone);
    this.hint = one("[data-drop-hint]", zone);
    this.file = null;
    this.input.id = `picture-${++count}`;
    one("label", zone).htmlFor = this.input.id;
    this.input.addEventListener("change", () => this.show(this.input.files[0]));
    zone.addEventListener("dragover", (event) => this.#over(event, true));
    zone.addEventListener("dragleave", (event) => this.#over(event, false));
    zone.addEventListener("drop", (event) => {
      this.#over(event, false);
      this.show(event.dataTransfer.files[0]);
    });
    zone.addEventListener("paste", (event) => this.show(event.clipboardData.files[0]));
  }

  /** Take a file; one that is no picture is refused in place. */
  async show(file) {
    if (!file) return;
    try {
      if (file.size > MOST_BYTES) throw new Error("larger than 15 MB");
      const bitmap = await createImageBitmap(file);
      const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
      this.canvas.width = Math.max(1, Math.round(bitmap.width * scale));
      this.canvas.height = Math.max(1, Math.round(bitmap.height * scale));
      this.canvas.getContext("2d").drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
      this.canvas.hidden = false;
      this.canvas.setAttribute("aria-label", `Preview of ${file.name}`);
      this.file = file;
      this.hint.textContent = file.name;
      one("label", this.zone).textContent = "Another";
    } catch (error) {
      const why = error.message.startsWith("larger") ? error.message : "no picture this browser can read";
      this.hint.textContent = `${file.name} is ${why}`;
    }
  }

  /** Show a picture of this server's. */
  async load(name) {
    const answer = await fetch(`/static/${encodeURIComponent(name)}`);
    await this.show(new File([await answer.blob()], name));
  }

  /** The file's bytes as base64, or null. */
  async value() {
    if (!this.file) return null;
    const reader = new FileReader();
    const read = new Promise((resolve, reject) => {
      reader.onload = () => resolve(reader.result);
      reader.onerror = () => reject(reader.error);
    });
    reader.readAsDataURL(this.file);
    return (await read).split(",", 2)[1];
  }

  /** A small copy for the answer. */
  thumbnail() {
    const side = 112;
    const copy = document.createElement("canvas");
    copy.width = copy.height = side;
    copy.setAttribute("role", "img");
    copy.setAttribute("aria-label", this.file?.name ?? "picture");
    const { width, height } = this.canvas;
    const edge = Math.min(width, height);
    const [x, y] = [(width - edge) / 2, (height - edge) / 2];
    copy.getContext("2d").drawImage(this.canvas, x, y, edge, edge, 0, 0, side, side);
    return copy;
  }

  #over(event, is) {
    event.preventDefault();
    this.zone.classList.toggle("over", is);
  }
}
