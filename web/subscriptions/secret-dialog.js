// @ts-check
/** A secret that is shown this once. */
import { copyButton } from "../catalog/code-block.js";
import { make } from "../page/dom.js";

/**
 * A secret to be copied.
 * @param {string} secret
 */
export const secretBox = (secret) => make("p", { class: "secret" }, make("code", { tabindex: 0, role: "textbox", "aria-readonly": "true", "aria-label": "The secret" }, secret), copyButton(() => secret, "Copy the secret"));

/**
 * Shows a new secret until somebody says that it is kept. What must not be lost by a slip, no click beside it closes.
 * @param {string} title
 * @param {string} secret
 * @param {string} says how long what was before stays valid
 */
export function showSecret(title, secret, says) {
  const done = make("button", { type: "button", class: "button strong" }, "I have kept it");
  const dialog = make("dialog", { "aria-labelledby": "dialog-title" },
    make("form", { method: "dialog" },
      make("h2", { id: "dialog-title" }, title),
      make("p", {}, "It is shown now, and never again. Put it where the endpoint finds it."),
      secretBox(secret),
      make("p", { class: "quiet" }, says),
      make("div", { class: "answers" }, done),
    ),
  );
  done.addEventListener("click", () => dialog.close());
  dialog.addEventListener("cancel", (e) => e.preventDefault());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
