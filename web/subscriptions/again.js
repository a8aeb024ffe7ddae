// @ts-check
/** Does something again and again, while the page is looked at. */

export class Again {
  #act;
  #on = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #see = () => {
    if (!document.hidden) this.plan(0);
  };

  /** @param {() => void} act what plans itself anew */
  constructor(act) {
    this.#act = act;
  }

  start() {
    if (this.#on) return;
    this.#on = true;
    document.addEventListener("visibilitychange", this.#see);
    this.plan(0);
  }

  stop() {
    this.#on = false;
    document.removeEventListener("visibilitychange", this.#see);
    clearTimeout(this.#timer);
  }

  /**
   * Does it once, in place of what was planned.
   * @param {number} wait milliseconds
   */
  plan(wait) {
    clearTimeout(this.#timer);
    if (this.#on && !document.hidden) this.#timer = setTimeout(this.#act, wait);
  }
}
