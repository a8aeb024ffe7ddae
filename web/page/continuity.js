// @ts-check
/**
 * Proof that nothing is lost: the publisher numbers each train's events of each stream, counting up by one. Where every
 * event comes, a hole in the numbers is a lost event. Where only the latest comes, it is what newer ones took the place of,
 * and what can be held to the numbers is that nothing goes back.
 */
export class Continuity {
  /** @type {Map<string, number>} */
  #last = new Map();
  /** @type {Map<string, {sequence: number, time: number}>} of the rows of which the latest comes */
  #latest = new Map();
  received = 0;
  lost = 0;
  repeated = 0;
  /** events that newer ones of their row took the place of */
  leftOut = 0;

  /**
   * An event of a row of which every one comes.
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

  /**
   * An event of a row of which the latest comes.
   * @param {string} key a numbered row
   * @param {number} sequence
   * @param {number} time of the event: a publisher that began at 1 again is told by it, for the first may be left out
   * @returns {boolean} false for an event that came before, or goes back
   */
  latest(key, sequence, time) {
    this.received++;
    const last = this.#latest.get(key);
    if (last && sequence <= last.sequence && time <= last.time) {
      this.repeated++;
      return false;
    }
    if (last && sequence > last.sequence) this.leftOut += sequence - last.sequence - 1;
    this.#latest.set(key, { sequence, time });
    return true;
  }

  /** A snapshot begins: what came before is not what its events follow on. */
  begin() {
    this.#latest.clear();
  }

  get rows() {
    return this.#last.size;
  }
}
