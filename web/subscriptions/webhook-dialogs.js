// @ts-check
/** What somebody is asked before a secret is replaced, and before events are sent again. */
import { make, write } from "../page/dom.js";
import { ConfirmDialog } from "./confirm-dialog.js";
import { FromChoice } from "./from-choice.js";
import { showSecret } from "./secret-dialog.js";
import { replay, rotateSecret } from "./webhook-api.js";
import { called, events, moment } from "./words.js";

/** @typedef {import("./api.js").Subscription} Subscription */

const KEEPS = /** @type {[value: string, title: string, says: string][]} */ ([
  ["24h", "a day", "What it was before stays valid beside it for a day: messages are signed with both."],
  ["1h", "an hour", "What it was before stays valid beside it for an hour: messages are signed with both."],
  ["72h", "three days", "What it was before stays valid beside it for three days: messages are signed with both."],
  ["168h", "a week", "What it was before stays valid beside it for a week: messages are signed with both."],
  ["0s", "not at all: it is known to others", "What it was before is no longer valid."],
]);

/**
 * @param {Subscription} about
 * @param {() => void} done
 */
export function askRotate(about, done) {
  const keep = make("select", {}, ...KEEPS.map(([value, title]) => make("option", { value }, title)));
  const dialog = new ConfirmDialog(`Replace the secret of ${called(about)}`, [
    make("p", {}, "A new secret and a new public key are made. Until the old ones expire, each message is signed with both, so that nothing is missed while the endpoint is changed."),
    make("label", { class: "field" }, make("span", {}, "Keep the old one valid for"), keep),
  ], "Replace", async () => {
    const { secret } = await rotateSecret(about.id, keep.value);
    done();
    showSecret("The new secret", secret, KEEPS.find(([value]) => value === keep.value)?.[2] ?? "");
  });
  dialog.demand({ can: true, type: "" });
  dialog.show();
}

/**
 * @param {Subscription} about
 * @param {(says: string) => void} done
 */
export function askReplay(about, done) {
  const ordered = about.config?.ordering === "key";
  const effect = make("div", { class: "effect", role: "status" });
  const from = new FromChoice("Send again from", ["time", "oldest"], () => update());
  const dialog = new ConfirmDialog(`Replay ${called(about)}`, [from.element, effect], "Send again", async () => {
    const { mode, records } = await replay(about.id, from.choice === "oldest" ? { from: "oldest" } : { since: new Date(from.at).toISOString() });
    done(records === 0 ? "There is nothing since then." : `${mode === "rewind" ? "It was taken back" : "They are being sent beside the new ones"}: ${events(records)} of its streams at most.`);
  });
  const update = () => {
    const { choice, at } = from;
    const good = choice === "oldest" || (choice === "time" && at <= Date.now());
    const what = choice === "oldest" ? "All events that its streams still keep" : `All events since ${Number.isNaN(at) ? "then" : moment(at, Date.now())}`;
    const how = ordered
      ? "are sent again in their order, before any that come now: it is taken back, and what waits for its next try begins anew."
      : "are sent again, beside those that come now.";
    write(effect, choice === undefined ? "" : good ? `${what} that pass its filters ${how} The endpoint knows by their source and id which it has had.` : Number.isNaN(at) ? "Say which time." : "That time is still to come.");
    dialog.demand({ can: good, type: "" });
  };
  update();
  dialog.show();
}
