// @ts-check
/** Pieces of code in tabs. */
import { codeBlock } from "../catalog/code-block.js";
import { make } from "./dom.js";

/** @typedef {{id: string, title: string, language: "js" | "json" | "shell" | "text", text: string, note: string}} Snippet */

/**
 * A card of them. The arrow keys go from one to the next.
 * @param {HTMLElement} title
 * @param {Snippet[]} all
 * @param {string} first which is shown first, by its id
 * @param {(shown: Snippet) => void} showed
 * @param {string} [id] of the card, where a page has several
 */
export function codeTabs(title, all, first, showed, id = "code") {
  const tabs = make("div", { class: "tabs", role: "tablist", "aria-label": "Code" });
  const panel = make("div", { role: "tabpanel", id: `${id}-panel` });
  let at = 0;
  const show = (/** @type {number} */ next, focus = false) => {
    const chosen = all[next];
    if (!chosen) return;
    at = next;
    for (const tab of tabs.children) {
      const on = tab.id === `${id}-${chosen.id}`;
      tab.setAttribute("aria-selected", String(on));
      /** @type {HTMLElement} */ (tab).tabIndex = on ? 0 : -1;
      if (on && focus) /** @type {HTMLElement} */ (tab).focus();
    }
    panel.setAttribute("aria-labelledby", `${id}-${chosen.id}`);
    panel.replaceChildren(codeBlock(chosen.text, chosen.language, `code: ${chosen.title}`), make("p", { class: "note" }, chosen.note));
    showed(chosen);
  };
  all.forEach((snippet, n) => {
    const tab = make("button", { type: "button", role: "tab", id: `${id}-${snippet.id}`, "aria-controls": `${id}-panel` }, snippet.title);
    tab.addEventListener("click", () => show(n));
    tabs.append(tab);
  });
  tabs.addEventListener("keydown", (e) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (!step) return;
    e.preventDefault();
    show((at + step + all.length) % all.length, true);
  });
  show(Math.max(0, all.findIndex((s) => s.id === first)));
  title.id = `${id}-title`;
  return make("section", { class: "card snippets", id, "aria-labelledby": `${id}-title` }, make("div", { class: "bar" }, title, tabs), panel);
}
