// @ts-check
/** How an endpoint is told who calls: the fields of each kind of credential. */
import { make } from "../page/dom.js";

/** @typedef {import("./form-fields.js").FormFields} FormFields */
/** @typedef {import("./form-fields.js").Input} Input */
/** @typedef {import("./api.js").Credential} Credential */
/** @typedef {"identifier" | "header" | "tokenUrl" | "clientId" | "scopes" | "audience" | "certificate" | "secret"} Member */
/** @typedef {{member: Member, title: string, says?: string, kind?: "password" | "text" | "pem", placeholder?: string}} Part */

const KINDS = /** @type {{type: string, title: string, parts: Part[]}[]} */ ([
  { type: "", title: "the signatures alone", parts: [] },
  { type: "PLAIN", title: "Basic: a name and a password", parts: [{ member: "identifier", title: "Name" }, { member: "secret", title: "Password", kind: "password" }] },
  { type: "ACCESSTOKEN", title: "a bearer token", parts: [{ member: "secret", title: "Token", kind: "password" }] },
  { type: "APIKEY", title: "a key in a header", parts: [{ member: "header", title: "Header", placeholder: "X-Api-Key" }, { member: "secret", title: "Key", kind: "password" }] },
  {
    type: "OAUTH2", title: "OAuth 2: client credentials",
    parts: [
      { member: "tokenUrl", title: "Address for tokens", placeholder: "https://id.example.com/token" }, { member: "clientId", title: "Client id" }, { member: "secret", title: "Client secret", kind: "password" },
      { member: "scopes", title: "Scopes", says: "With spaces between them." }, { member: "audience", title: "Audience" },
    ],
  },
  { type: "JWT", title: "a short-lived token that this server signs", parts: [{ member: "audience", title: "Audience", says: "The origin of the address where it is left out. The keys are at /.well-known/jwks.json." }] },
  { type: "MTLS", title: "a client certificate", parts: [{ member: "certificate", title: "Certificate, PEM", kind: "pem", says: "With its chain, the leaf first." }, { member: "secret", title: "Key, PEM", kind: "pem" }] },
]);

const AT = "/sinkcredential";

export class CredentialFields {
  #fields;
  /** @type {Map<Member, Input>} */ #inputs = new Map();
  #type = make("select", {}, ...KINDS.map(({ type, title }) => make("option", { value: type }, title)));
  #parts = make("div", { class: "parts-of" });

  /** @param {FormFields} fields */
  constructor(fields) {
    this.#fields = fields;
    this.#type.addEventListener("change", () => this.#choose());
    this.element = make("fieldset", { class: "group" }, make("legend", {}, "Who calls"), fields.field(`${AT}/credentialtype`, "The endpoint knows it by", this.#type), this.#parts);
  }

  /** @returns {Credential | undefined} */
  get value() {
    if (!this.#type.value) return undefined;
    const given = [...this.#inputs].flatMap(([member, input]) => {
      const text = member === "secret" || member === "certificate" ? input.value : input.value.trim();
      return text === "" ? [] : [[member, member === "scopes" ? text.split(/\s+/) : text]];
    });
    return { credentialtype: this.#type.value, ...Object.fromEntries(given) };
  }

  #choose() {
    this.#inputs.clear();
    for (const member of ["identifier", "header", "tokenUrl", "clientId", "scopes", "audience", "certificate", "secret"]) this.#fields.forget(`${AT}/${member}`);
    const parts = KINDS.find(({ type }) => type === this.#type.value)?.parts ?? [];
    this.#parts.replaceChildren(...parts.map(({ member, title, says, kind = "text", placeholder }) => {
      const input = kind === "pem"
        ? make("textarea", { rows: 3, spellcheck: "false", autocomplete: "off", placeholder: "-----BEGIN …" })
        : make("input", { type: kind, autocomplete: kind === "password" ? "new-password" : "off", spellcheck: "false", placeholder });
      this.#inputs.set(member, input);
      return this.#fields.field(`${AT}/${member}`, title, input, says);
    }));
  }
}
