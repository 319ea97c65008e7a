/**
 * What a label map holds: the runs of its slices, voxels by label, and a number that tells it from others. Only slices
 * that have changed since the last time are worked out again, since this is done while a person paints.
 * @module
 */
import { encodeRuns, keyOf } from './runs.js';

const OFFSET = 0x811c9dc5; // of the Fowler-Noll-Vo hash with 32 bits
const PRIME = 0x01000193;

/** Looks at one label map again and again. */
export class Survey {
  constructor() {
    /** @type {Map<string, {pixels: Uint8Array, runs: number[], hash: number}>} as each slice was last time */
    this.known = new Map();
  }

  /**
   * @param {{name: import('./types').SliceName, pixels: Uint8Array}[]} slices in an order that stays the same
   * @returns {{slices: import('./types').SliceLabels[], counts: number[], hash: number}} voxels by label, 0 to 255;
   *   another label map hardly has the same hash
   */
  take(slices) {
    const counts = new Array(256).fill(0);
    let hash = OFFSET;
    const labels = slices.map(({ name, pixels }) => {
      const slice = this.look(keyOf(name), pixels);
      hash = Math.imul(hash ^ slice.hash, PRIME);
      for (let i = 0; i < slice.runs.length; i += 2) {
        counts[slice.runs[i + 1]] += slice.runs[i];
      }
      return { ...name, runs: slice.runs };
    });
    return { slices: labels, counts, hash };
  }

  /** @param {string} key @param {Uint8Array} pixels */
  look(key, pixels) {
    const before = this.known.get(key);
    if (before && same(before.pixels, pixels)) {
      return before;
    }
    const runs = encodeRuns(pixels);
    const hash = runs.reduce((sum, number) => Math.imul(sum ^ number, PRIME), OFFSET);
    const now = { pixels: pixels.slice(), runs, hash };
    this.known.set(key, now);
    return now;
  }
}

/** @param {Uint8Array} one @param {Uint8Array} other */
export function same(one, other) {
  if (one.length !== other.length) {
    return false;
  }
  for (let i = 0; i < one.length; i++) {
    if (one[i] !== other[i]) {
      return false;
    }
  }
  return true;
}
