// Aliases and deletions of an uploaded model, by the same routes that any client uses.
import { all, one, ready, say } from "./dom.js";
import { ask } from "./ask.js";

const panel = one("[data-manage]");

if (panel) {
  const place = `/models/${encodeURIComponent(panel.dataset.manage)}`;
  const error = one("[data-manage-error]", panel);
  const alias = (name) => `${place}/aliases/${encodeURIComponent(name)}`;
  const point = (name, version) => ask(alias(name), { version: Number(version) }, { method: "PUT" });

  for (const form of all("[data-alias]", panel)) {
    const name = form.dataset.alias;
    form.addEventListener("submit", (event) => act(event, () => point(name, form.elements.version.value)));
    one("[data-roll-back]", form)?.addEventListener("click", (event) =>
      act(event, () => point(name, event.target.dataset.rollBack)),
    );
    one("[data-drop]", form)?.addEventListener("click", (event) =>
      act(event, () => ask(alias(name), undefined, { method: "DELETE" })),
    );
  }
  one("[data-alias-new]", panel)?.addEventListener("submit", (event) => {
    const { alias: name, version } = event.target.elements;
    act(event, () => point(name.value.trim(), version.value));
  });
  for (const button of all("[data-delete-version]", panel)) {
    const number = button.dataset.deleteVersion;
    button.addEventListener("click", (event) =>
      sure(event, `Version ${number} is deleted for good; who asks for it by number gets an error.`, async () => {
        await ask(`${place}/versions/${number}`, undefined, { method: "DELETE" });
        return all("[data-delete-version]", panel).length > 1 ? location.pathname : "/";
      }),
    );
  }
  one("[data-delete-model]", panel)?.addEventListener("click", (event) =>
    sure(event, `${panel.dataset.manage} and all its versions are deleted for good.`, async () => {
      await ask(place, undefined, { method: "DELETE" });
      return "/";
    }),
  );
  ready();

  /** Do something, then show the page as it is now. */
  async function act(event, doing) {
    event.preventDefault();
    say(error, "");
    try {
      const next = await doing();
      if (typeof next === "string") location.assign(next);
      else location.reload();
    } catch (fault) {
      say(error, fault.message);
    }
  }

  /** Ask first. */
  function sure(event, words, doing) {
    const dialog = one("[data-confirm]");
    one("[data-confirm-words]", dialog).textContent = words;
    dialog.returnValue = "no";
    dialog.addEventListener("close", () => dialog.returnValue === "yes" && act(event, doing), { once: true });
    dialog.showModal();
  }
}
