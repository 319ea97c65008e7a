/**
 * Lists of segments that are no longer true. OHIF works out statistics beside the page and then puts back the list that
 * it began with: what comes back is one of these, and not what a person has done.
 * @module
 */
const MOST = 50; // lists that are remembered for a series

/** @typedef {{id: number, name: string}[]} List */

export class Superseded {
  constructor() {
    /** @type {Map<string, Set<string>>} by series */
    this.lists = new Map();
  }

  /** One list has taken the place of another. @param {string} image @param {List} before @param {List} after */
  replace(image, before, after) {
    const old = this.lists.get(image) || new Set();
    old.delete(keyOf(before));
    old.add(keyOf(before));
    old.delete(keyOf(after));
    this.lists.set(image, new Set([...old].slice(-MOST)));
  }

  /** @param {string} image @param {List} list @returns {boolean} whether it has come back */
  has(image, list) {
    return this.lists.get(image)?.has(keyOf(list)) || false;
  }

  /** What a person does next is true, also if it makes a list what it was. @param {string} image */
  forget(image) {
    this.lists.delete(image);
  }
}

/** @param {List} list @returns {string} */
function keyOf(list) {
  return JSON.stringify(list.map(({ id, name }) => [id, name]).sort(([one], [other]) => Number(one) - Number(other)));
}
