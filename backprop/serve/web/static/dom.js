// Elements made by hand: whatever a server or a person wrote becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

export const one = (selector, within = document) => within.querySelector(selector);
export const all = (selector, within = document) => [...within.querySelectorAll(selector)];

/** Return an element with attributes and children; a child that is no node becomes text. */
export function el(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

/** Return an element of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return dress(document.createElementNS(SVG, tag), attributes, children);
}

/** Return one of our icons. */
export function icon(name) {
  const shape = svg("use", { href: `/static/icons.svg#${name}` });
  return svg("svg", { class: "icon", "aria-hidden": "true" }, shape);
}

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Show a message where it belongs, or hide the place. */
export function say(place, message) {
  place.textContent = message;
  place.hidden = !message;
}

/** Have screen readers say something that others see anyway. */
export function announce(message) {
  one("#announcer").textContent = message;
}

export function seconds(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
}

/** Let buttons be used that do nothing, or the wrong thing, before their script is there. */
export function ready() {
  for (const button of all("[data-needs-script]")) button.disabled = false;
}
