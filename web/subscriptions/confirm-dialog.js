// @ts-check
/** A question before something that cannot be taken back. */
import { make, write } from "../page/dom.js";

/** @typedef {{can: boolean, type: string}} Demand type: what has to be typed first, "" for nothing */

export class ConfirmDialog {
  #act;
  #title;
  /** @type {Demand} */ #demand = { can: true, type: "" };
  #busy = false;
  #typed = make("input", { autocomplete: "off", spellcheck: "false", autocapitalize: "off" });
  #wanted = make("code");
  #typing = make("label", { class: "field", hidden: true }, make("span", {}, "Type ", this.#wanted, " to confirm"), this.#typed);
  #problem = make("p", { class: "notice bad", role: "alert", hidden: true });
  #yes = make("button", { type: "submit", class: "button strong" });
  #no = make("button", { type: "button", class: "button" }, "Cancel");
  #dialog;

  /**
   * @param {string} title
   * @param {(Node | string)[]} content
   * @param {string} confirm what the button says
   * @param {() => Promise<void>} act what it does; what it throws is shown
   */
  constructor(title, content, confirm, act) {
    this.#act = act;
    this.#title = confirm;
    write(this.#yes, confirm);
    const form = make("form", { novalidate: true },
      make("h2", { id: "dialog-title" }, title),
      ...content, this.#typing, this.#problem,
      make("div", { class: "answers" }, this.#no, this.#yes),
    );
    this.#dialog = make("dialog", { "aria-labelledby": "dialog-title" }, form);
    form.addEventListener("submit", (e) => {
      e.preventDefault();
      void this.#go();
    });
    this.#no.addEventListener("click", () => this.close());
    this.#typed.addEventListener("input", () => this.#update());
    this.#dialog.addEventListener("close", () => this.#dialog.remove());
    // A click beside it.
    this.#dialog.addEventListener("pointerdown", (e) => {
      if (e.target === this.#dialog && !this.#busy) this.close();
    });
  }

  get open() {
    return this.#dialog.open;
  }

  show() {
    document.body.append(this.#dialog);
    this.#dialog.showModal();
  }

  close() {
    this.#dialog.close();
  }

  /** @param {Demand} demand */
  demand(demand) {
    this.#demand = demand;
    write(this.#wanted, demand.type);
    this.#typing.hidden = demand.type === "";
    this.#update();
  }

  #update() {
    const { can, type } = this.#demand;
    this.#yes.disabled = this.#busy || !can || (type !== "" && this.#typed.value.trim() !== type);
  }

  async #go() {
    if (this.#yes.disabled) return;
    this.#busy = true;
    this.#problem.hidden = true;
    write(this.#yes, "One moment");
    this.#update();
    try {
      await this.#act();
      this.close();
    } catch (error) {
      this.#problem.hidden = false;
      write(this.#problem, error instanceof Error ? error.message : String(error));
    } finally {
      this.#busy = false;
      write(this.#yes, this.#title);
      this.#update();
    }
  }
}
