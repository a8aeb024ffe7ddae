// @ts-check
/** What the pages have in common that show what the address behind "#" names. */
import { Unanswered } from "../catalog/api.js";
import { find, make, write } from "./dom.js";

/** Seconds until a page asks again while the server is away. */
const PAUSE = 5;

/** Where such a page shows things. */
export class HashPage {
  view = find(document, "#view", HTMLElement);
  say = find(document, "#say", HTMLElement);
  #show;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #waiting;

  /** @param {() => void} show shows what the address names */
  constructor(show) {
    this.#show = show;
  }

  /** Puts something in the place of what is shown. @param {...Node} nodes */
  put(...nodes) {
    this.patient();
    this.view.removeAttribute("aria-busy");
    this.view.replaceChildren(...nodes);
  }

  /** No longer says that something is being loaded, if it has not yet. */
  patient() {
    clearTimeout(this.#waiting);
  }

  /**
   * Says that something is being loaded, unless it comes soon.
   * @param {number} milliseconds
   * @param {number} bars that stand for it meanwhile
   */
  impatient(milliseconds, bars) {
    this.patient();
    this.#waiting = setTimeout(() => {
      this.view.setAttribute("aria-busy", "true");
      const ghosts = Array.from({ length: bars }, () => make("div", { class: "ghost" }));
      this.view.replaceChildren(make("div", { class: "waiting", role: "status" }, make("p", { class: "unseen" }, "Loading"), ...ghosts));
    }, milliseconds);
  }

  /**
   * Says that the server cannot be asked, and asks again in a while.
   * @param {unknown} error
   * @param {AbortSignal} signal ends that
   */
  away(error, signal) {
    const soon = !(error instanceof Unanswered) || error.soon;
    const when = make("span", { class: "quiet" });
    const again = make("button", { type: "button", class: "button" }, "Try now");
    again.addEventListener("click", () => this.#show());
    this.put(
      make("div", { class: "state-page", role: "alert" },
        make("h1", {}, error instanceof Unanswered && error.status ? "The server cannot answer" : "The server is away"),
        make("p", {}, error instanceof Error ? error.message : String(error)),
        make("p", {}, again, " ", when),
      ),
    );
    if (!soon) return;
    let left = PAUSE;
    const tick = () => {
      if (signal.aborted) return;
      if (left === 0) {
        this.#show();
        return;
      }
      write(when, `or wait: ${left--} s`);
      setTimeout(tick, 1000);
    };
    tick();
  }

  /**
   * Follows the address, and shows what it names now.
   * @param {() => HTMLInputElement | undefined} search what the key "/" leads to
   */
  begin(search) {
    addEventListener("hashchange", () => this.#show());
    find(document, "#skip", HTMLElement).addEventListener("click", (e) => {
      e.preventDefault(); // the address is the page's own
      this.view.focus();
    });
    addEventListener("online", () => {
      if (this.view.querySelector(".state-page[role=alert]")) this.#show();
    });
    document.addEventListener("say", (e) => {
      write(this.say, "");
      write(this.say, /** @type {CustomEvent<string>} */ (e).detail);
    });
    document.addEventListener("keydown", (e) => {
      const typing = e.target instanceof Element && e.target.closest("input, textarea, select, dialog");
      if (e.key !== "/" || typing || e.ctrlKey || e.metaKey || e.altKey) return;
      const field = search();
      if (!field) return;
      e.preventDefault();
      field.focus();
      field.select();
    });
    this.#show();
  }
}
