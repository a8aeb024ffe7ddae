// @ts-check
/** <theme-switch>: as the system has it, light, or dark. The choice is kept. */
import { make, write } from "./dom.js";

const KEY = "eventissuer.theme";
const NEXT = /** @type {Record<string, string>} */ ({ auto: "light", light: "dark", dark: "auto" });
const SIGN = /** @type {Record<string, string>} */ ({ auto: "◐", light: "☀", dark: "☾" });

export class ThemeSwitch extends HTMLElement {
  #button = make("button", { type: "button", class: "round" });
  #theme = "auto";

  connectedCallback() {
    try {
      this.#theme = localStorage.getItem(KEY) ?? "auto";
    } catch {
      // Without storage the choice lasts as long as the page.
    }
    this.#button.addEventListener("click", () => {
      this.#theme = NEXT[this.#theme] ?? "auto";
      try {
        localStorage.setItem(KEY, this.#theme);
      } catch {
        // As above.
      }
      this.#apply();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#apply());
    this.append(this.#button);
    this.#apply();
  }

  #apply() {
    const dark = this.#theme === "dark" || (this.#theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset["theme"] = dark ? "dark" : "light";
    write(this.#button, SIGN[this.#theme] ?? "◐");
    this.#button.setAttribute("aria-label", `Colours: ${this.#theme === "auto" ? "as the system has them" : this.#theme}. Change`);
    this.#button.title = this.#button.getAttribute("aria-label") ?? "";
    this.dispatchEvent(new CustomEvent("theme", { bubbles: true }));
  }
}
