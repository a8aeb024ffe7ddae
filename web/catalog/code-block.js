// @ts-check
/** Code to read and to copy. */
import { make, write } from "../page/dom.js";
import { tokens } from "./json-text.js";

const SCRIPT = /(\/\/[^\n]*|(?:^|(?<=\s))#[^\n]*)|("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|`[^`]*`)|\b(const|let|import|from|new|return|function|await|async|curl)\b|(\s-{1,2}\w[\w-]*)|(\d+(?:\.\d+)?)|([^])/gy;

/**
 * JSON with its parts told apart.
 * @param {string} text
 * @returns {DocumentFragment}
 */
export function coloured(text) {
  const fragment = document.createDocumentFragment();
  for (const { kind, text: part } of tokens(text)) {
    if (kind === "space" || kind === "other") fragment.append(part);
    else fragment.append(make("span", { class: `j-${kind}` }, part));
  }
  return fragment;
}

/**
 * @param {string} text
 * @param {"shell" | "js"} language
 */
function colouredScript(text, language) {
  const fragment = document.createDocumentFragment();
  let plain = "";
  const say = (/** @type {string} */ kind, /** @type {string} */ part) => {
    fragment.append(plain, make("span", { class: `j-${kind}` }, part));
    plain = "";
  };
  for (const [whole, comment, string, word, flag, number] of text.matchAll(SCRIPT)) {
    if (comment) say("comment", whole);
    else if (string) say("string", whole);
    else if (word) say("literal", whole);
    else if (flag && language === "shell") say("key", whole);
    else if (number) say("number", whole);
    else plain += whole;
  }
  fragment.append(plain);
  return fragment;
}

/**
 * @param {string} text
 * @param {"json" | "shell" | "js" | "text"} language
 * @param {string} label what it is, for who does not see it
 */
export function codeBlock(text, language, label) {
  const code = make("code");
  if (language === "json") code.append(coloured(text));
  else if (language === "text") code.append(text);
  else code.append(colouredScript(text, language));
  return make("div", { class: "code" }, make("pre", { tabindex: 0, role: "region", "aria-label": label }, code), copyButton(() => text, `Copy ${label}`));
}

/**
 * @param {() => string} text
 * @param {string} label
 * @param {string} [shown]
 */
export function copyButton(text, label, shown = "Copy") {
  const button = make("button", { type: "button", class: "copy", "aria-label": label, title: label }, shown);
  button.addEventListener("click", async (e) => {
    e.stopPropagation();
    const said = await copy(text());
    write(button, said ? "Copied" : "Not allowed");
    button.dispatchEvent(new CustomEvent("say", { bubbles: true, detail: said ? "Copied" : "Copying is not allowed here" }));
    setTimeout(() => write(button, shown), 1600);
  });
  return button;
}

/**
 * @param {string} text
 * @returns {Promise<boolean>}
 */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain HTTP from another machine there is no clipboard API: the old way still works there.
    const area = make("textarea", { class: "unseen", "aria-hidden": "true" });
    const focused = document.activeElement;
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (focused instanceof HTMLElement) focused.focus();
    return done;
  }
}
