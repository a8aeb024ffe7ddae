// @ts-check
/**
 * Proof that nothing is lost: the publisher numbers each train's events of each stream, counting up by one. A hole in
 * the numbers would be a lost event.
 */
export class Continuity {
  /** @type {Map<string, number>} */
  #last = new Map();
  received = 0;
  lost = 0;
  repeated = 0;

  /**
   * @param {string} key a numbered row
   * @param {number} sequence
   * @returns {boolean} false for an event that came before
   */
  check(key, sequence) {
    this.received++;
    const last = this.#last.get(key);
    if (last !== undefined && sequence <= last && sequence !== 1) {
      this.repeated++;
      return false;
    }
    // A publisher that could not read where it stood begins at 1 again.
    if (last !== undefined && sequence > last + 1) this.lost += sequence - last - 1;
    this.#last.set(key, sequence);
    return true;
  }

  get rows() {
    return this.#last.size;
  }
}
