// @ts-check
/** The fields of a form, each known by the place in the document that it is for, so that what is wrong is said where it is. */
import { make, write } from "../page/dom.js";

/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Input */
/** @typedef {{pointer?: string, message?: string}} Wrong */
/** @typedef {{input: HTMLElement, problem: HTMLElement}} Field */

let made = 0;

export class FormFields {
  /** By JSON Pointer. @type {Map<string, Field>} */ #fields = new Map();

  /**
   * A field with its name above it, and below what is to be said of it.
   * @param {string} pointer where in the document it stands
   * @param {string} title
   * @param {Input} input
   * @param {string} [says]
   */
  field(pointer, title, input, says = "") {
    const hint = says ? [make("span", { class: "quiet", id: `hint-${++made}` }, says)] : [];
    if (hint[0]) input.setAttribute("aria-describedby", hint[0].id);
    const problem = this.place(pointer, input);
    input.addEventListener("input", () => clear({ input, problem }));
    return make("div", { class: "field" }, make("label", { class: "field" }, make("span", {}, title), input), ...hint, problem);
  }

  /**
   * Has what is wrong at a place told beside an element, which is given back.
   * @param {string} pointer
   * @param {HTMLElement} input what the keyboard is led to
   */
  place(pointer, input) {
    const problem = make("p", { class: "wrong", id: `wrong-${++made}`, hidden: true });
    this.#fields.set(pointer, { input, problem });
    return problem;
  }

  /**
   * No longer knows of what is at and below a place.
   * @param {string} pointer
   */
  forget(pointer) {
    for (const key of this.#fields.keys()) if (key === pointer || key.startsWith(`${pointer}/`)) this.#fields.delete(key);
  }

  /** Nothing is wrong any more. */
  right() {
    this.#fields.forEach(clear);
  }

  /**
   * Says what is wrong where it is, or at what it is part of, and leads the keyboard to the first.
   * @param {Wrong[]} errors
   * @returns {Wrong[]} those that belong to no field that can be seen
   */
  wrong(errors) {
    this.right();
    /** @type {Wrong[]} */
    const rest = [];
    /** @type {HTMLElement[]} */
    const found = [];
    for (const error of errors) {
      const field = this.#at(error.pointer ?? "");
      if (!field) {
        rest.push(error);
        continue;
      }
      const { input, problem } = field;
      write(problem, problem.hidden ? `${error.message ?? "It is wrong."}` : `${problem.textContent} ${error.message ?? ""}`);
      problem.hidden = false;
      input.setAttribute("aria-invalid", "true");
      describe(input, problem.id, true);
      for (let at = input.closest("details"); at; at = at.parentElement?.closest("details") ?? null) at.open = true;
      found.push(input);
    }
    found.sort((a, b) => (a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1))[0]?.focus();
    return rest;
  }

  /** @param {string} pointer */
  #at(pointer) {
    for (let at = pointer; at; at = at.slice(0, at.lastIndexOf("/"))) {
      const field = this.#fields.get(at);
      if (field?.input.isConnected && !field.input.closest("[hidden]")) return field;
    }
    return undefined;
  }
}

/** @param {Field} field */
function clear({ input, problem }) {
  problem.hidden = true;
  write(problem, "");
  input.removeAttribute("aria-invalid");
  describe(input, problem.id, false);
}

/**
 * Has an element described by another, beside what describes it already, or no longer.
 * @param {HTMLElement} element
 * @param {string} id
 * @param {boolean} on
 */
function describe(element, id, on) {
  const ids = (element.getAttribute("aria-describedby") ?? "").split(" ").filter((i) => i && i !== id);
  if (on) ids.unshift(id);
  if (ids.length) element.setAttribute("aria-describedby", ids.join(" "));
  else element.removeAttribute("aria-describedby");
}

/**
 * What is wrong that no field says.
 * @param {HTMLElement} notice
 * @param {Wrong[]} rest
 * @param {string} otherwise where the server names no place
 */
export function sayRest(notice, rest, otherwise) {
  notice.hidden = rest.length === 0 && otherwise === "";
  if (rest.length) notice.replaceChildren(make("ul", {}, ...rest.map(({ pointer = "", message = "" }) => make("li", {}, make("code", {}, pointer), " ", message))));
  else notice.replaceChildren(make("p", {}, otherwise));
}
