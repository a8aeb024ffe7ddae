// @ts-check
import { subscribe } from "../client/eventissuer.js";

/** @typedef {import("../client/eventissuer.js").SubscribeOptions} SubscribeOptions */
/** @typedef {import("../client/eventissuer.js").Subscription} Subscription */

const PAUSE = 1000;

/**
 * Subscribes to streams of the demo, which makes them when the server is ready: who comes at once is told that there are
 * none (404), or that they keep no state yet (409), and waits for them.
 * @param {SubscribeOptions} options
 * @returns {Subscription}
 */
export function subscribeWhenThere(options) {
  let opened = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ let again;
  const open = () =>
    subscribe({
      ...options,
      onState(state) {
        opened ||= state.phase === "open";
        if (!opened && state.phase === "closed" && (state.status === 404 || state.status === 409)) {
          again = setTimeout(() => (reading = open()), PAUSE);
          return;
        }
        options.onState?.(state);
      },
    });
  let reading = open();
  return {
    get cursor() {
      return reading.cursor;
    },
    get state() {
      return reading.state;
    },
    reconnect: () => reading.reconnect(),
    close() {
      clearTimeout(again);
      reading.close();
    },
  };
}
