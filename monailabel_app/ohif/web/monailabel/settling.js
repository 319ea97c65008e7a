/**
 * Waits until a hand rests.
 * @module
 */

/** Does something for each name a while after it was touched last. */
export class Settling {
  /**
   * @param {(name: string) => Promise<void>} act
   * @param {number} delay in ms
   */
  constructor(act, delay) {
    this.act = act;
    this.delay = delay;
    this.timers = new Map();
  }

  /** @param {string} name */
  touch(name) {
    clearTimeout(this.timers.get(name));
    this.timers.set(name, setTimeout(() => this.end(name), this.delay));
  }

  /** @param {string} name */
  cancel(name) {
    clearTimeout(this.timers.get(name));
    this.timers.delete(name);
  }

  /** @param {string} name */
  end(name) {
    this.cancel(name);
    this.act(name).catch((error) => console.warn(`${name}: ${error.message}`));
  }

  /** Wait no longer. */
  flush() {
    [...this.timers.keys()].forEach((name) => this.end(name));
  }
}
